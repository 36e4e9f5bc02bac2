"""wav2vec 2.0: equal to transformers' own for the same weights, mask and negatives; negatives stay in their recording."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent))
from method_cases import drawn

from core.encoders import TokenEncoder, Transformer, TransformerConfig, WaveformStem
from core.encoders.waveform import normalised
from core.errors import UserError
from core.losses import contrast_within
from core.masking import others_of_row, span_mask
from core.methods import Wav2Vec2, Wav2Vec2Config
from core.pretext import Masked
from core.quantiser import gumbel

ROWS, SAMPLES, DIM, WIDTH = 3, 640, 16, 12
CONFIG = Wav2Vec2Config(groups=2, codes=6, width=8, out=10, negatives=7)


def made() -> tuple[Wav2Vec2, Masked]:
    torch.manual_seed(0)
    stem = WaveformStem(DIM, WIDTH, ((10, 5), (2, 2), (2, 2)))
    trunk = Transformer(TransformerConfig(dim=DIM, depth=2, heads=2, mlp=2, position="convolution", kernel=4, groups=2))
    method = Wav2Vec2(TokenEncoder(stem, trunk), CONFIG)
    wave = torch.randn(ROWS, SAMPLES, generator=drawn(1))
    mask = span_mask(torch.zeros(ROWS, SAMPLES // 20, dtype=torch.bool), 0.5, 4, drawn(2))
    return method.train(), Masked({"wave": wave}, mask, {})


def mapped(method: Wav2Vec2) -> dict[str, Tensor]:
    """Our parameters under their names in transformers; those of several in one are cut apart."""
    ours = dict(method.named_parameters())
    names = {
        "mask_token": "wav2vec2.masked_spec_embed",
        "encoder.stem.project.0.": "wav2vec2.feature_projection.layer_norm.",
        "encoder.stem.project.1.": "wav2vec2.feature_projection.projection.",
        "encoder.trunk.norm.": "wav2vec2.encoder.layer_norm.",
        "encoder.trunk.around.direction": "wav2vec2.encoder.pos_conv_embed.conv.parametrizations.weight.original1",
        "encoder.trunk.around.scale": "wav2vec2.encoder.pos_conv_embed.conv.parametrizations.weight.original0",
        "encoder.trunk.around.bias": "wav2vec2.encoder.pos_conv_embed.conv.bias",
        "quantiser.score.": "quantizer.weight_proj.",
        "project_context.": "project_hid.",
        "project_code.": "project_q.",
    }
    for i in range(3):
        names[f"encoder.stem.stages.{i}.0."] = f"wav2vec2.feature_extractor.conv_layers.{i}.conv."
        names[f"encoder.stem.stages.{i}.1.norm."] = f"wav2vec2.feature_extractor.conv_layers.{i}.layer_norm."
    for i in range(2):
        at = f"wav2vec2.encoder.layers.{i}."
        names |= {
            f"encoder.trunk.blocks.{i}.norm1.": at + "layer_norm.", f"encoder.trunk.blocks.{i}.norm2.": at + "final_layer_norm.",
            f"encoder.trunk.blocks.{i}.out.": at + "attention.out_proj.",
            f"encoder.trunk.blocks.{i}.mlp.0.": at + "feed_forward.intermediate_dense.",
            f"encoder.trunk.blocks.{i}.mlp.2.": at + "feed_forward.output_dense.",
        }  # fmt: skip
    found: dict[str, Tensor] = {}
    for name, value in ours.items():
        start = next((key for key in names if name.startswith(key)), None)
        if start is not None:
            found[names[start] + name[len(start) :]] = value
        elif ".qkv." in name:
            layer, kind = name.split(".")[3], name.split(".")[-1]
            for part, piece in zip("qkv", value.chunk(3), strict=True):
                found[f"wav2vec2.encoder.layers.{layer}.attention.{part}_proj.{kind}"] = piece
        else:
            assert name == "quantiser.book"
            found["quantizer.codevectors"] = value.flatten(0, 1)[None]
    return found


def test_loss_and_gradients_equal_transformers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    transformers = pytest.importorskip("transformers", reason="the oracle of this test, in the dev extra")
    method, data = made()
    theirs = transformers.Wav2Vec2ForPreTraining(
        transformers.Wav2Vec2Config(
            hidden_size=DIM, num_hidden_layers=2, num_attention_heads=2, intermediate_size=2 * DIM, conv_dim=(WIDTH,) * 3,
            conv_kernel=(10, 2, 2), conv_stride=(5, 2, 2), conv_bias=True, feat_extract_norm="layer", num_feat_extract_layers=3,
            do_stable_layer_norm=True, num_codevectors_per_group=6, num_codevector_groups=2, codevector_dim=8, proj_codevector_dim=10,
            hidden_dropout=0.0, attention_dropout=0.0, activation_dropout=0.0, feat_proj_dropout=0.0, feat_quantizer_dropout=0.0,
            final_dropout=0.0, layerdrop=0.0, num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2,
            contrastive_logits_temperature=CONFIG.temperature, diversity_loss_weight=CONFIG.diversity,
        )
    ).train()  # fmt: skip
    weights = mapped(method)
    own = dict(theirs.named_parameters())
    assert own.keys() == weights.keys()
    with torch.no_grad():
        for name, value in weights.items():
            own[name].copy_(value)
    theirs.set_gumbel_temperature(CONFIG.start)
    mask = data.mask
    assert isinstance(mask, Tensor)
    count, time = mask.sum(1), mask.shape[1]
    generator = drawn(4)  # in the order in which the method draws: noise, then negatives
    noise = torch.zeros(ROWS, time, 2, 6)
    noise[mask] = gumbel(noise[mask], generator)
    places = [row.nonzero()[:, 0] for row in mask]
    negatives = torch.zeros(ROWS, time, CONFIG.negatives, dtype=torch.long)
    drawn_places = others_of_row(count, CONFIG.negatives, generator).split(count.tolist())
    for row, (at, picked) in enumerate(zip(places, drawn_places, strict=True)):
        negatives[row, at] = row * time + at[picked]

    def with_noise(logits: Tensor, tau: float, hard: bool) -> Tensor:
        soft = ((logits + noise.view_as(logits)) / tau).softmax(-1)
        return torch.zeros_like(soft).scatter_(-1, soft.argmax(-1, keepdim=True), 1.0) - soft.detach() + soft

    monkeypatch.setattr(torch.nn.functional, "gumbel_softmax", with_noise)
    wave = torch.nn.functional.pad(normalised(data.batch["wave"], None), (0, 5))  # where our stem pads by itself
    loss = theirs(wave, mask_time_indices=mask, sampled_negative_indices=negatives).loss / int(mask.sum())
    loss.backward()
    ours = method(data, drawn(4)).loss
    ours.backward()
    assert abs(float(ours.detach()) - float(loss.detach())) <= 1e-5
    for p in method.parameters():
        p.data = torch.zeros_like(p) if p.grad is None else p.grad
    gradients = mapped(method)
    largest = max(float(p.detach().abs().max()) for p in gradients.values())
    assert largest > 1e-2
    for name, gradient in gradients.items():
        theirs_gradient = torch.zeros_like(gradient) if own[name].grad is None else own[name].grad
        torch.testing.assert_close(gradient, theirs_gradient, rtol=1e-4, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")


def test_negatives_are_other_places_of_the_same_row() -> None:
    count = torch.tensor([5, 1, 0, 3])
    drawn_places = others_of_row(count, 200, drawn())
    assert drawn_places.shape == (9, 200)
    for own, (size, picked) in enumerate(zip([5] * 5, drawn_places[:5], strict=True)):
        assert set(picked.tolist()) == set(range(size)) - {own}
    assert (drawn_places[5] == 0).all()  # nothing but itself: no negative
    assert set(drawn_places[6].tolist()) == {1, 2}


def test_a_place_alone_in_its_row_costs_nothing() -> None:
    x = torch.randn(1, 4, generator=drawn())
    losses, _ = contrast_within(
        x, x, torch.zeros(1, 2, dtype=torch.long), torch.tensor([1]), torch.zeros(1, 3, dtype=torch.long)
    )
    assert float(losses) == pytest.approx(0.0, abs=1e-6)


def test_the_temperature_falls_to_its_end() -> None:
    method, _ = made()
    method.after_step(0.5)
    assert float(method.tau) == pytest.approx(1.0)
    method.after_step(1.0)
    assert float(method.tau) == pytest.approx(CONFIG.end)


def test_diversity_keeps_codes_in_use() -> None:
    """With the term codes come into even use, without it they stay as they are."""
    shares = []
    for weight in (0.0, 20.0):
        method, data = made()
        method.config = replace(CONFIG, diversity=weight)
        optimizer = torch.optim.Adam(method.parameters(), 1e-2)
        for step in range(12):
            optimizer.zero_grad()
            out = method(data, drawn(step))
            out.loss.backward()
            optimizer.step()
        shares.append(out.logs["usage_softmax"])
    assert shares[1] > shares[0] + 0.05


def test_codes_that_do_not_divide_are_one_line() -> None:
    with pytest.raises(UserError, match="groups"):
        Wav2Vec2Config(groups=3, width=64)
