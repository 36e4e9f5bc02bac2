"""Masked prediction, masked autoencoder and data2vec: what is hidden is not seen, padding does not count, and they learn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from core.encoders import (
    GRU,
    Field,
    FieldStem,
    FrameStem,
    GRUConfig,
    PatchStem,
    TokenEncoder,
    Transformer,
    TransformerConfig,
    WaveformStem,
    pool_tokens,
    small_convnet,
)
from core.encoders.encoder import Stem
from core.errors import UserError
from core.heads import LinearHead
from core.masking import bert, random_mask, span_mask
from core.methods import Data2Vec, Data2VecConfig, MAEConfig, MaskedAutoencoder, MaskedPrediction, Method
from core.methods.data2vec import normalised
from core.pretext import Masked
from core.tokens import Batch, Tokens

FIELDS = (Field("category", "categorical", 12), Field("amount", "numeric"))
LENGTHS, TIME = (9, 20, 14, 1), 20  # of the rows of padded data, in tokens


def drawn(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def encoder(stem: Stem, causal: bool = False, position: str = "sinusoidal", depth: int = 2) -> TokenEncoder:
    shape = TransformerConfig(dim=stem.dim, depth=depth, heads=2, causal=causal, position=position)  # type: ignore[arg-type]
    return TokenEncoder(stem, Transformer(shape))


def padding(time: int) -> Tensor:
    return torch.arange(time)[None] >= torch.tensor(LENGTHS)[:, None]


def wide(mask: Tensor, time: int) -> Tensor:
    return F.pad(mask, (0, time - mask.shape[1]))


def events(time: int = TIME) -> Batch:
    """A category tells the amount, and the one before it, so that there is something to learn."""
    start = torch.randint(0, 9, (len(LENGTHS), 1), generator=drawn(1))
    category = 3 + (start + torch.arange(time)) % 9
    amount = (category - 7) / 3 + 0.1 * torch.randn(len(LENGTHS), 40, generator=drawn(2))[:, :time]
    pad = padding(time)
    return {"category": category.masked_fill(pad, 0), "amount": amount.masked_fill(pad, 0.0), "pad": pad}


def mel(time: int = TIME, frames: int = 4) -> Batch:
    """Frames of slow waves, which neighbours tell of each other; the last token of a row is padded in part."""
    phase = 6 * torch.rand(len(LENGTHS), 1, 8, generator=drawn(3))
    steps = torch.arange(frames * time)[None, :, None]
    pad = steps[..., 0] >= frames * torch.tensor(LENGTHS)[:, None] - 1
    return {"mel": (0.15 * steps + phase).sin().masked_fill(pad[..., None], 9.0), "pad": pad}


def images(rows: int = 12) -> Batch:
    """Waves, each with its own phase: any part of an image tells the rest."""
    phase = 6 * torch.rand(rows, 1, 1, 1, generator=drawn(4))
    y, x = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="ij")
    return {"image": (0.5 * x + 0.8 * y + phase).sin()}


def hidden_fields(time: int = TIME) -> Masked:
    """80/10/10 on every field, the same draws whatever the padding."""
    batch = events()
    chosen = {f.name: random_mask(batch["pad"], 0.4, drawn(5)) for f in FIELDS}
    data = bert(batch, chosen, {"category": 12}, drawn(6))
    assert isinstance(data.mask, dict) and isinstance(data.predict, dict)
    more = time - TIME

    def longer(values: dict[str, Tensor]) -> dict[str, Tensor]:
        return {k: F.pad(v, (0, more), value=k == "pad") for k, v in values.items()}

    return Masked(longer(data.batch), longer(data.mask), longer(data.target), longer(data.predict))


def hidden_tokens(time: int = TIME) -> Masked:
    return Masked(events(time), wide(span_mask(padding(TIME), 0.4, 3, drawn(5)), time), {})


def hidden_frames(time: int = TIME) -> Masked:
    return Masked(mel(time), wide(span_mask(padding(TIME), 0.4, 3, drawn(5)), time), {})


def hidden_patches() -> Masked:
    return Masked(images(), random_mask(torch.zeros(12, 16, dtype=torch.bool), 0.5, drawn(5)), {})


def hidden_cells(time: int = TIME) -> Masked:
    """Patches of a spectrogram, two a step of time."""
    mask = random_mask(padding(TIME).repeat_interleave(2, 1), 0.5, drawn(5))
    return Masked(mel(time), wide(mask, 2 * time), {})


def codes(time: int = TIME) -> Masked:
    data = hidden_frames(time)
    return replace(data, target={"code": torch.arange(time).expand(len(LENGTHS), time) % 5})


def waves(time: int = TIME) -> Masked:
    wave = torch.randn(len(LENGTHS), 40 * 16, generator=drawn(3))[:, : time * 16]
    batch = {"wave": wave, "pad": padding(time).repeat_interleave(16, 1)}
    return Masked(batch, wide(span_mask(padding(TIME), 0.4, 3, drawn(5)), time), {})


def decoder(**change: object) -> MAEConfig:
    return replace(MAEConfig(dim=16, depth=1, heads=2), **change)  # type: ignore[arg-type]


def fields() -> TokenEncoder:
    return encoder(FieldStem(FIELDS, 16))


def with_heads() -> Method:
    net = fields()
    return MaskedPrediction(net, net.stem.heads())


CASES: dict[str, tuple[Callable[[], Method], Callable[..., Masked]]] = {
    "masked fields, 80/10/10": (with_heads, hidden_fields),
    "masked frames": (lambda: MaskedPrediction(encoder(FrameStem(8, 16)), {"code": LinearHead(16, 5)}), codes),
    "mae, patches": (lambda: MaskedAutoencoder(encoder(PatchStem(1, 4, 16)), decoder()), hidden_patches),
    "mae, spectrogram": (
        lambda: MaskedAutoencoder(encoder(PatchStem(1, (4, 4), 16, "mel"), position="grid"), decoder()), hidden_cells
    ),
    "mae, series": (
        lambda: MaskedAutoencoder(encoder(PatchStem(8, (4,), 16, "mel")), decoder(norm_target=False)), hidden_frames
    ),
    "mae, frames": (lambda: MaskedAutoencoder(encoder(FrameStem(8, 16)), decoder()), hidden_frames),
    "mae, recurrent": (
        lambda: MaskedAutoencoder(TokenEncoder(PatchStem(8, (4,), 16, "mel"), GRU(GRUConfig(16))), decoder()), hidden_frames
    ),
    "data2vec, tokens": (lambda: Data2Vec(fields()), hidden_tokens),
    "data2vec, fields": (lambda: Data2Vec(fields(), Data2VecConfig(norm="layer", layers=2, beta=2.0)), hidden_fields),
    "data2vec, waveforms": (
        lambda: Data2Vec(encoder(WaveformStem(16, 8, ((8, 4), (4, 2), (2, 2))))), waves
    ),
}  # fmt: skip
PADDED = [name for name in CASES if name != "mae, patches"]


def fresh(name: str) -> tuple[Method, Masked]:
    torch.manual_seed(0)
    method, data = CASES[name]
    return method(), data()


@pytest.mark.parametrize("name", PADDED)
def test_extra_padding_changes_neither_loss_nor_embedding(name: str) -> None:
    method, data = fresh(name)
    method.eval()
    short, long = method(data, drawn()), method(CASES[name][1](TIME + 13), drawn())
    assert short.loss > 0.01
    torch.testing.assert_close(short.loss, long.loss, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(short.embedding, long.embedding, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", CASES)
def test_zeros_give_finite_losses_and_gradients_in_half_precision(name: str, kind: torch.dtype) -> None:
    method, data = fresh(name)
    zero = {k: torch.zeros_like(v) if v.is_floating_point() else v for k, v in data.batch.items()}
    with torch.autocast("cpu", kind):
        out = method(replace(data, batch=zero), drawn())
    out.loss.backward()
    assert out.loss.dtype == torch.float32 and torch.isfinite(out.loss)
    assert all(torch.isfinite(p.grad).all() for p in method.parameters() if p.grad is not None)


@pytest.mark.parametrize("name", CASES)
def test_every_parameter_that_is_trained_gets_a_gradient(name: str) -> None:
    """Else DDP would wait for it."""
    method, data = fresh(name)
    method(data, drawn()).loss.backward()
    assert not [key for key, p in method.named_parameters() if p.requires_grad and p.grad is None]


@pytest.mark.parametrize("name", CASES)
def test_a_batch_in_which_nothing_is_hidden_or_everything_is_padding_gives_no_error(name: str) -> None:
    method, data = fresh(name)
    none = {k: torch.zeros_like(v) for k, v in data.mask.items()} if isinstance(data.mask, dict) else data.mask & False
    assert method(replace(data, mask=none, predict=None), drawn()).loss == 0
    if "pad" in data.batch:
        method(replace(data, batch={**data.batch, "pad": data.batch["pad"] | True}), drawn()).loss.backward()
        assert all(torch.isfinite(p.grad).all() for p in method.parameters() if p.grad is not None)


@pytest.mark.parametrize("name", CASES)
def test_the_loss_falls(name: str) -> None:
    torch.set_num_threads(1)
    method, data = fresh(name)
    trained = [p for p in method.parameters() if p.requires_grad]
    optimizer, losses = torch.optim.Adam(trained, 5e-3), []
    for step in range(60):
        out = method(data, drawn(step))
        optimizer.zero_grad()
        out.loss.backward()
        optimizer.step()
        method.after_step((step + 1) / 60)
        losses.append(out.loss.item())
    assert sum(losses[-5:]) / 5 < 0.6 * losses[0], losses[::6]


def test_bert_predicts_where_it_hid_replaced_or_kept() -> None:
    method, data = fresh("masked fields, 80/10/10")
    method.eval()
    asked = {name: data.asked(name) for name in ("category", "amount")}
    out = method(data, drawn())
    hidden = method.encoder.trunk(method.encoder.stem(data.batch, data.mask)).x
    for name, where in asked.items():
        wanted = method.heads[name].loss(hidden[where], events()[name][where])
        assert out.logs[f"loss_{name}"] == pytest.approx(wanted.item(), rel=1e-5)
    assert out.loss.item() == pytest.approx(sum(out.logs.values()), rel=1e-5)


def test_frames_that_are_hidden_do_not_reach_their_neighbours() -> None:
    method, data = fresh("masked frames")
    method.eval()
    hidden = data.mask.repeat_interleave(4, 1)[..., None] & torch.ones(8, dtype=torch.bool)
    changed = {**data.batch, "mel": data.batch["mel"].masked_fill(hidden, -3.0)}
    torch.testing.assert_close(method(data, drawn()).loss, method(replace(data, batch=changed), drawn()).loss)


# the masked autoencoder


@pytest.mark.parametrize("name", [n for n in CASES if n.startswith("mae")])
def test_the_encoder_sees_nothing_of_hidden_values(name: str) -> None:
    method, data = fresh(name)
    method.eval()
    key = method.encoder.stem.key
    before, values = method(data, drawn()), data.batch[key]
    known = replace(data, target={"values": method.encoder.stem.values(data.batch)})
    # other values in every hidden token, found by asking the stem which token holds each value
    marked = torch.arange(values.numel(), dtype=torch.float64).view_as(values)
    place = method.encoder.stem.values({**data.batch, key: marked})
    hidden = place[data.mask]
    changed = values.flatten().index_fill(0, hidden[~hidden.isnan()].long(), -3.0).view_as(values)
    after = method(replace(known, batch={**data.batch, key: changed}), drawn())
    assert (changed != values).any()
    torch.testing.assert_close(before.embedding, after.embedding)
    torch.testing.assert_close(before.loss, after.loss)
    assert not torch.isclose(before.loss, method(replace(data, batch={**data.batch, key: changed}), drawn()).loss)


def test_it_is_the_encoder_run_on_the_visible_tokens_alone() -> None:
    method, data = fresh("mae, spectrogram")
    method.eval()
    out = method(data, drawn())
    tokens = method.encoder.stem(data.batch)
    for row in range(len(LENGTHS)):
        kept = (tokens.valid() & ~data.mask)[row].nonzero()[:, 0]
        alone = Tokens(tokens.x[row : row + 1, kept], pos=kept[None], grid=tokens.grid)
        torch.testing.assert_close(out.embedding[row], pool_tokens(method.encoder.trunk(alone), "mean")[0])


@pytest.mark.parametrize("norm", [True, False])
def test_its_loss_is_the_mean_over_hidden_patches_of_the_squared_error_of_their_real_values(norm: bool) -> None:
    torch.manual_seed(0)
    stem = PatchStem(8, (4,), 16, "mel")
    method, data = MaskedAutoencoder(encoder(stem), decoder(norm_target=norm)).eval(), hidden_frames()
    restored: list[Tensor] = []
    method.restore.register_forward_hook(lambda module, arguments, out: restored.append(out))
    loss = method(data, drawn()).loss
    errors, length = [], (~data.batch["pad"]).sum(1)
    places = (data.mask & ~stem.layout(data.batch)[1]).nonzero().tolist()
    for guess, (row, token) in zip(restored[0], places, strict=True):
        real = data.batch["mel"][row, 4 * token : min(4 * token + 4, int(length[row]))].flatten()
        if norm:
            real = (real - real.mean()) / (real.var(unbiased=False) + 1e-6).sqrt()
        errors.append((guess[: len(real)] - real).square().mean())
    assert any(4 * token + 4 > length[row] for row, token in places)  # a patch that is padded in part is among them
    torch.testing.assert_close(loss, torch.stack(errors).mean())


def test_what_it_cannot_serve_is_refused_in_one_line() -> None:
    with pytest.raises(UserError, match="dropped and restored"):
        MaskedAutoencoder(small_convnet(1, 8))
    with pytest.raises(UserError, match="dropped and restored"):
        MaskedAutoencoder(fields())
    for method in (Data2Vec, lambda net: MaskedPrediction(net, {})):
        with pytest.raises(UserError, match="encoder of tokens"):
            method(small_convnet(1, 8))
    method, data = fresh("mae, patches")
    for mask in ({"image": data.mask}, data.mask[:, :9]):
        with pytest.raises(UserError, match="12 rows of 16 tokens"):
            method(replace(data, mask=mask), drawn())
    with pytest.raises(UserError, match="targets of 7 values"):
        method(replace(data, target={"patch": torch.zeros(12, 16, 7)}), drawn())
    with pytest.raises(UserError, match=r"a mask of \(4, 7\) does not fit 4 rows of 20 tokens"):
        Data2Vec(fields())(replace(hidden_tokens(), mask=torch.zeros(4, 7, dtype=torch.bool)), drawn())


# data2vec


def test_the_teacher_moves_after_a_step_once_and_nowhere_else() -> None:
    method, data = fresh("data2vec, tokens")
    method.train()
    first = {k: v.clone() for k, v in method.teacher.state_dict().items()}
    for _ in range(3):
        method(data, drawn()).loss.backward()
    assert all(torch.equal(v, first[k]) for k, v in method.teacher.state_dict().items())
    with torch.no_grad():
        for p in method.encoder.parameters():
            p += 1.0
    method.after_step(0.0)
    student = method.encoder.state_dict()
    for key, value in method.teacher.net.state_dict().items():
        torch.testing.assert_close(value, 0.99 * first[f"net.{key}"] + 0.01 * student[key])


@pytest.mark.parametrize("norm", ["instance", "layer"])
def test_the_target_is_the_mean_of_the_teachers_top_blocks_on_the_whole_input(norm) -> None:
    torch.manual_seed(0)
    net = encoder(FieldStem(FIELDS, 16, dropout=0.5), depth=4)
    method, data = Data2Vec(net, Data2VecConfig(top=2, norm=norm)).train(), hidden_tokens()
    with torch.no_grad():
        for p in net.parameters():
            p += 0.1 * torch.randn_like(p)  # the student is elsewhere by now
    target = method.target(data)
    everything = method.target(replace(data, mask=~data.mask))
    assert torch.equal(target, everything)  # neither mask nor dropout
    length = LENGTHS[0]  # row by row, without padding
    blocks = method.teacher.net.eval().layers({k: v[:1, :length] for k, v in data.batch.items()})
    assert len(blocks) == 4
    states = [
        F.instance_norm(x.transpose(1, 2)).transpose(1, 2) if norm == "instance" else F.layer_norm(x, (16,))
        for x in blocks[2:]
    ]
    torch.testing.assert_close(target[:1, :length], (states[0] + states[1]) / 2, rtol=1e-3, atol=1e-4)


def test_the_logs_tell_a_collapsed_teacher_or_student_from_healthy_ones() -> None:
    method, data = fresh("data2vec, tokens")
    healthy = method(data, drawn()).logs
    assert min(healthy.values()) > 0.05
    with torch.no_grad():
        for p in method.head.parameters():
            p.zero_()
    assert method(data, drawn()).logs["prediction_std"] < 1e-6 < 0.05 < method(data, drawn()).logs["target_std"]
    with torch.no_grad():  # a teacher that gives every token the same
        for block in method.teacher.net.trunk.blocks:
            for p in block.parameters():
                p.zero_()
        method.teacher.net.trunk.norm.weight.zero_()
        method.teacher.net.stem.norm.weight.zero_()
        method.teacher.net.trunk.config = replace(method.teacher.net.trunk.config, position="none")
    assert method(data, drawn()).logs["target_std"] < 1e-3


def test_where_a_state_does_not_vary_normalising_gives_zeros() -> None:
    valid = ~padding(TIME)
    same = torch.ones(4, TIME, 5) * torch.tensor([1.0, 2, 3, 4])[:, None, None]
    assert (normalised(same.masked_fill(~valid[..., None], 9.0), valid, "instance") == 0).all()
    x = normalised(torch.randn(4, TIME, 5) * 7 + 3, valid, "instance")
    assert (x[~valid] == 0).all()
    torch.testing.assert_close(x[1].mean(0), torch.zeros(5), rtol=0, atol=1e-5)
    torch.testing.assert_close(x[1].std(0, unbiased=False), torch.ones(5), rtol=0, atol=1e-4)
