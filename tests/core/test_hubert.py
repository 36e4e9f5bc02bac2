"""HuBERT: the loss and gradients equal torchaudio's for the same weights, mask and units; units keep their place at other rates."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent))
from method_cases import drawn

from core.encoders import TokenEncoder, Transformer, TransformerConfig, WaveformStem
from core.encoders.waveform import normalised
from core.errors import UserError
from core.masking import span_mask
from core.methods import Hubert, HubertConfig
from core.pretext import Masked
from core.units import aligned, clustered

ROWS, SAMPLES, DIM, WIDTH, UNITS = 3, 640, 16, 12, 9


def mapped(method: Hubert) -> dict[str, Tensor]:
    """Our parameters under torchaudio's names."""
    names = {
        "mask_token": "mask_generator.mask_embedding", "head.project.": "logit_generator.final_proj.",
        "head.table": "logit_generator.label_embeddings",
        "encoder.stem.project.0.": "wav2vec2.encoder.feature_projection.layer_norm.",
        "encoder.stem.project.1.": "wav2vec2.encoder.feature_projection.projection.",
        "encoder.trunk.norm.": "wav2vec2.encoder.transformer.layer_norm.",
        "encoder.trunk.around.direction": "wav2vec2.encoder.transformer.pos_conv_embed.conv.parametrizations.weight.original1",
        "encoder.trunk.around.scale": "wav2vec2.encoder.transformer.pos_conv_embed.conv.parametrizations.weight.original0",
        "encoder.trunk.around.bias": "wav2vec2.encoder.transformer.pos_conv_embed.conv.bias",
    }  # fmt: skip
    for i in range(3):
        names[f"encoder.stem.stages.{i}.0."] = f"wav2vec2.feature_extractor.conv_layers.{i}.conv."
        names[f"encoder.stem.stages.{i}.1.norm."] = f"wav2vec2.feature_extractor.conv_layers.{i}.layer_norm."
    at = "wav2vec2.encoder.transformer.layers.0."
    names |= {
        "encoder.trunk.blocks.0.norm1.": at + "layer_norm.", "encoder.trunk.blocks.0.norm2.": at + "final_layer_norm.",
        "encoder.trunk.blocks.0.out.": at + "attention.out_proj.", "encoder.trunk.blocks.0.mlp.0.": at + "feed_forward.intermediate_dense.",
        "encoder.trunk.blocks.0.mlp.2.": at + "feed_forward.output_dense.",
    }  # fmt: skip
    found: dict[str, Tensor] = {}
    for name, value in method.named_parameters():
        start = next((key for key in names if name.startswith(key)), None)
        if start is not None:
            found[names[start] + name[len(start) :]] = value
        else:
            assert ".qkv." in name
            for part, piece in zip("qkv", value.chunk(3), strict=True):
                found[f"{at}attention.{part}_proj.{name.split('.')[-1]}"] = piece
    return found


def test_loss_and_gradients_equal_torchaudio(monkeypatch: pytest.MonkeyPatch) -> None:
    from torchaudio.models import hubert_pretrain_model

    torch.manual_seed(0)
    stem = WaveformStem(DIM, WIDTH, ((10, 5), (2, 2), (2, 2)))
    trunk = Transformer(TransformerConfig(dim=DIM, depth=1, heads=2, mlp=2, position="convolution", kernel=4, groups=2))
    method = Hubert(TokenEncoder(stem, trunk), HubertConfig(units=UNITS, out=10, unmasked=0.5)).train()
    wave = torch.randn(ROWS, SAMPLES, generator=drawn(1))
    mask = span_mask(torch.zeros(ROWS, SAMPLES // 20, dtype=torch.bool), 0.5, 4, drawn(2))
    unit = torch.randint(0, UNITS, mask.shape, generator=drawn(3))
    theirs = hubert_pretrain_model(
        extractor_mode="layer_norm", extractor_conv_layer_config=[(WIDTH, 10, 5), (WIDTH, 2, 2), (WIDTH, 2, 2)],
        extractor_conv_bias=True, encoder_embed_dim=DIM, encoder_projection_dropout=0.0, encoder_pos_conv_kernel=4,
        encoder_pos_conv_groups=2, encoder_num_layers=1, encoder_num_heads=2, encoder_attention_dropout=0.0,
        encoder_ff_interm_features=2 * DIM, encoder_ff_interm_dropout=0.0, encoder_dropout=0.0, encoder_layer_norm_first=True,
        encoder_layer_drop=0.0, mask_prob=0.5, mask_selection="static", mask_other=0.0, mask_length=4, no_mask_overlap=False,
        mask_min_space=1, mask_channel_prob=0.0, mask_channel_selection="static", mask_channel_other=0.0, mask_channel_length=4,
        no_mask_channel_overlap=False, mask_channel_min_space=1, skip_masked=False, skip_nomask=False, num_classes=UNITS,
        final_dim=10, feature_grad_mult=None,
    ).train()  # fmt: skip
    weights, own = mapped(method), dict(theirs.named_parameters())
    assert own.keys() == weights.keys()
    with torch.no_grad():
        for name, value in weights.items():
            own[name].copy_(value)

    def given(x: Tensor, padding: Tensor | None) -> tuple[Tensor, Tensor]:
        return torch.where(mask[..., None], theirs.mask_generator.mask_embedding, x), mask

    monkeypatch.setattr(theirs.mask_generator, "forward", given)
    hidden, seen, _ = theirs(torch.nn.functional.pad(normalised(wave, None), (0, 5)), unit)
    loss = -hidden.log_softmax(1)[:, 0].mean() - 0.5 * seen.log_softmax(1)[:, 0].mean()  # the first is the own unit
    loss.backward()
    ours = method(Masked({"wave": wave}, mask, {"unit": unit}), drawn(4)).loss
    ours.backward()
    assert abs(float(ours.detach()) - float(loss.detach())) <= 1e-5
    for p in method.parameters():
        assert p.grad is not None
        p.data = p.grad
    for name, gradient in mapped(method).items():
        torch.testing.assert_close(gradient, own[name].grad, rtol=1e-4, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")


def test_units_keep_their_place_at_another_rate() -> None:
    units = np.array([0, 1, 2, 3, 4, 5])
    np.testing.assert_array_equal(aligned(units, 100, 100, 6), units)
    np.testing.assert_array_equal(aligned(units, 100, 50, 3), [1, 3, 5])  # the middle of a wide place
    np.testing.assert_array_equal(aligned(units, 50, 100, 12), np.repeat(units, 2))
    np.testing.assert_array_equal(aligned(units, 100, 50, 5), [1, 3, 5, 5, 5])  # behind the end: the last
    np.testing.assert_array_equal(aligned(np.array([7, 8]), 31.25, 100, 6), [7, 7, 7, 8, 8, 8])
    with pytest.raises(UserError, match="rate"):
        aligned(units, 0, 50, 3)


def test_frames_of_planted_kinds_become_units_again() -> None:
    rng = np.random.default_rng(0)
    kind = [rng.integers(0, 4, n) for n in (30, 1, 45)]
    centre = rng.normal(size=(4, 5)) * 5
    frames = [(centre[k] + 0.1 * rng.normal(size=(len(k), 5))) for k in kind]
    found = clustered(frames, 4, seed=1)
    assert [len(f) for f in found] == [30, 1, 45]
    pairs = set(zip(np.concatenate(kind).tolist(), np.concatenate(found).tolist(), strict=True))
    assert len(pairs) == 4
    for a, b in zip(found, clustered(frames, 4, seed=1), strict=True):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(UserError, match="100 units"):
        clustered(frames, 100, seed=0)
