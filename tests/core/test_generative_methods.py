"""Generative, predictive and puzzle methods: each does what its paper says, counts no padding, and learns a toy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Generator, nn
from torch.distributions import Normal, kl_divergence

from core import damage, puzzles
from core.batches import ArrayBatches, Batches, Ragged, SequenceBatches
from core.decoders import ConvDecoder, FieldDecoder, Spread, TokenDecoder, decoder_for, value_error
from core.encoders import (
    GRU,
    Encoder,
    Field,
    FieldStem,
    FrameStem,
    GRUConfig,
    PatchStem,
    TokenEncoder,
    Transformer,
    TransformerConfig,
    WaveformStem,
    resnet,
    small_convnet,
)
from core.errors import UserError
from core.methods import (
    CPC,
    Autoregressive,
    Classifier,
    CPCConfig,
    DenoiseConfig,
    DenoisingAutoencoder,
    Method,
    PretextClassifier,
    PuzzleConfig,
    VAEConfig,
    VariationalAutoencoder,
)
from core.methods.vae import divergence
from core.pretext import Corrupted, Pieces, Pretext, Pseudo, Shifted
from core.probes import embed, knn
from core.tokens import Batch
from core.training import TrainConfig, train

FIELDS = (Field("category", "categorical", 12), Field("amount", "numeric"))


def trunk(causal: bool = False) -> Transformer:
    return Transformer(TransformerConfig(dim=16, depth=1, heads=2, causal=causal, position="sinusoidal"))


def fields(causal: bool = False) -> TokenEncoder:
    return TokenEncoder(FieldStem(FIELDS, 16), trunk(causal))


def frames(causal: bool = False) -> TokenEncoder:
    return TokenEncoder(FrameStem(6, 16), trunk(causal))


def events_of(rows: int = 6, time: int = 9, extra: int = 0) -> Batch:
    """Events of different lengths, followed by `extra` more padding; the row before the last is padding alone."""
    g = torch.Generator().manual_seed(3)
    length = torch.randint(3, time + 1, (rows,), generator=g)
    length[0], length[-2] = time, 0
    category = torch.randint(3, 12, (rows, time), generator=g)
    amount = torch.randn(rows, time, generator=g)
    amount[0, 1], category[0, 2] = float("nan"), 0  # missing
    pad = torch.arange(time + extra)[None] >= length[:, None]
    return {"category": F.pad(category, (0, extra)), "amount": F.pad(amount, (0, extra)), "pad": pad}


def mel_of(rows: int = 5, time: int = 30, extra: int = 0) -> Batch:
    """Spectrograms of 6 bands, likewise."""
    g = torch.Generator().manual_seed(4)
    length = torch.tensor([time, 21, 0, 13, 2])[:rows]
    mel = F.pad(torch.randn(rows, time, 6, generator=g), (0, 0, 0, extra), value=9.0)
    return {"mel": mel, "pad": torch.arange(time + extra)[None] >= length[:, None]}


# decoders


@pytest.mark.parametrize("height, width", [(28, 28), (33, 17), (5, 64)])
@pytest.mark.parametrize("make", [lambda: small_convnet(3, 8), lambda: resnet("resnet18", 3, small=True)])
def test_a_convolutional_decoder_gives_images_of_any_size(make: Callable[[], Encoder], height: int, width: int) -> None:
    encoder = make().eval()
    clean = {"image": torch.randn(2, 3, height, width)}
    decoder = decoder_for(encoder)
    assert isinstance(decoder, ConvDecoder)
    tokens = encoder(clean)
    assert decoder.layout(clean)[0] == tokens.grid
    assert decoder(tokens, clean).shape == clean["image"].shape


def test_each_kind_of_encoder_has_its_decoder_and_others_are_told() -> None:
    assert isinstance(decoder_for(fields()), FieldDecoder)
    assert isinstance(decoder_for(frames()), TokenDecoder)
    patched = decoder_for(TokenEncoder(PatchStem(1, (4, 4), 16), trunk()))
    assert isinstance(patched, TokenDecoder) and patched.layout({"image": torch.zeros(2, 1, 8, 12)})[0] == (2, 3)
    with pytest.raises(UserError, match="no decoder leads from TokenEncoder"):
        decoder_for(TokenEncoder(WaveformStem(16), trunk()))
    with pytest.raises(UserError, match="heads predict the fields of tokens"):
        decoder_for(small_convnet(1, 8), heads={})
    thirds = small_convnet(1, 8)
    thirds.stages[0][0].stride = (3, 3)
    with pytest.raises(UserError, match="halves its input"):
        decoder_for(thirds)


def test_looking_for_a_decoder_leaves_the_encoder_as_it_was() -> None:
    encoder = small_convnet(1, 8).train()
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    decoder_for(encoder)
    assert encoder.training and all(torch.equal(value, before[key]) for key, value in encoder.state_dict().items())


@pytest.mark.parametrize("error", ["l1", "l2"])
def test_the_error_is_a_mean_over_rows_of_each_rows_known_values(error: str) -> None:
    guess, value = torch.randn(4, 3, 2), torch.randn(4, 3, 2)
    known = torch.rand(4, 3, 2) < 0.6
    known[2] = False
    distance = {"l1": F.l1_loss, "l2": F.mse_loss}[error]
    rows = [distance(g[k], v[k]) for g, v, k in zip(guess, value, known, strict=True) if k.any()]
    torch.testing.assert_close(value_error(guess, value, known, error), torch.stack(rows).mean())  # type: ignore[arg-type]
    torch.testing.assert_close(value_error(guess, value, None, error), distance(guess, value))  # type: ignore[arg-type]


def test_what_stands_at_padding_is_never_looked_at() -> None:
    for encoder in (small_convnet(1, 8, key="mel", norm="channel"), frames()):
        batch = mel_of()
        spoilt = {**batch, "mel": batch["mel"].masked_fill(batch["pad"][..., None], float("nan"))}
        method = DenoisingAutoencoder(encoder).eval()
        a, b = (method(Corrupted(x, x), Generator()).loss for x in (batch, spoilt))
        torch.testing.assert_close(a, b)
        b.backward()
        assert all(p.grad is None or p.grad.isfinite().all() for p in method.parameters())


def test_one_vector_becomes_different_tokens_at_each_place_of_any_grid() -> None:
    spread = Spread(4, 8)
    z = torch.randn(2, 4)
    for grid in ((7,), (3, 5), (2, 3, 2)):
        x = spread(z, grid, None).x
        assert x.shape == (2, int(np.prod(grid)), 8)
        assert torch.pdist(x[0]).min() > 1e-3
    torch.testing.assert_close(spread(z, (7,), None).x, spread(z, (12,), None).x[:, :7])


# padding


def shifted(batch: Batch) -> Shifted:
    return Shifted(batch)


def restored(batch: Batch) -> Corrupted:
    return Corrupted(batch, batch)


def tokens_asked(batch: Batch) -> Pseudo:
    return Pseudo(batch, batch["category"] % 3)  # labels at padding too, which must not count


def rows_asked(batch: Batch) -> Pseudo:
    return Pseudo(batch, torch.arange(len(batch["pad"])) % 2)


PADDED: dict[str, tuple[Callable[[], Method], Callable, Callable]] = {
    "denoise, fields": (lambda: DenoisingAutoencoder(fields()), events_of, restored),
    "denoise, frames": (lambda: DenoisingAutoencoder(frames(), DenoiseConfig(error="l1")), mel_of, restored),
    "denoise, convolutions": (
        lambda: DenoisingAutoencoder(small_convnet(1, 8, key="mel", norm="channel")), mel_of, restored,
    ),
    "vae, fields": (lambda: VariationalAutoencoder(fields()), events_of, restored),
    "vae, frames": (lambda: VariationalAutoencoder(frames()), mel_of, restored),
    "vae, convolutions": (
        lambda: VariationalAutoencoder(small_convnet(1, 8, key="mel", norm="channel")), mel_of, restored,
    ),
    "cpc, batch": (lambda: CPC(fields(True)), events_of, shifted),
    "cpc, sequence": (
        lambda: CPC(TokenEncoder(FieldStem(FIELDS, 16), GRU(GRUConfig(16))), CPCConfig(negatives="sequence")), events_of, shifted,
    ),
    "cpc, frames": (lambda: CPC(frames(True)), mel_of, shifted),
    "next": (lambda: (lambda e: Autoregressive(e, e.stem.heads()))(fields(True)), events_of, shifted),
    "puzzle, tokens": (
        lambda: PretextClassifier(fields(), PuzzleConfig(classes=(("kind", 3),), per_token=True)), events_of, tokens_asked,
    ),
    "puzzle, rows": (lambda: PretextClassifier(fields(), PuzzleConfig(classes=(("order", 2),))), events_of, rows_asked),
}  # fmt: skip


@pytest.mark.parametrize("name", PADDED)
def test_extra_padding_changes_neither_loss_nor_gradient(name: str) -> None:
    make, batch, pretext = PADDED[name]
    torch.manual_seed(0)
    method = make().eval()
    method.after_step(0.5)
    found = []
    for extra in (0, 7):
        method.zero_grad()
        out = method(pretext(batch(extra=extra)), torch.Generator().manual_seed(0))
        out.loss.backward()
        found.append((out, [p.grad for p in method.parameters() if p.grad is not None]))
    (short, few), (long, many) = found
    assert short.loss.isfinite() and short.loss != 0
    torch.testing.assert_close(short.loss, long.loss)
    torch.testing.assert_close(short.embedding, long.embedding)
    torch.testing.assert_close(few, many, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", PADDED)
@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_half_precision_is_finite_on_silence_and_on_loud_input(name: str, kind: torch.dtype) -> None:
    make, batch, pretext = PADDED[name]
    for times in (0.0, 30.0):
        torch.manual_seed(0)
        method = make()
        method.after_step(0.5)
        data = {k: v * times if v.is_floating_point() else v for k, v in batch().items()}
        with torch.autocast("cpu", kind):
            out = method(pretext(data), torch.Generator().manual_seed(0))
        out.loss.backward()
        assert out.loss.dtype == torch.float32 and out.loss.isfinite()
        assert all(p.grad is None or p.grad.isfinite().all() for p in method.parameters())


# denoising


def test_fields_are_restored_at_every_known_place_by_their_heads() -> None:
    encoder = fields().eval()
    method = DenoisingAutoencoder(encoder, weights={"amount": 0.5}).eval()
    clean, damaged = events_of(), events_of()
    damaged["category"] = damaged["category"].roll(1, 0)
    out = method(Corrupted(damaged, clean), Generator())
    hidden, heads = encoder(damaged).x, method.decoder.heads
    real = ~clean["pad"]
    known = real & (clean["category"] != 0)
    category = -heads["category"].log_prob(hidden[known], clean["category"][known]).mean()
    known = real & ~clean["amount"].isnan()
    amount = -heads["amount"].log_prob(hidden[known], clean["amount"][known]).mean()
    torch.testing.assert_close(out.loss, category + 0.5 * amount)
    assert out.logs == pytest.approx({"loss_category": category.item(), "loss_amount": amount.item()})


# variational autoencoder


def vae(**settings) -> VariationalAutoencoder:
    torch.manual_seed(0)
    return VariationalAutoencoder(small_convnet(1, 8), VAEConfig(latent=6, **settings))


def test_the_divergence_is_torchs() -> None:
    mean, log_variance = 3 * torch.randn(5, 4), 2 * torch.randn(5, 4)
    theirs = kl_divergence(Normal(mean, (0.5 * log_variance).exp()), Normal(0.0, 1.0))
    torch.testing.assert_close(divergence(mean, log_variance), theirs)


def test_the_loss_is_the_evidence_lower_bound_per_value() -> None:
    method, image = vae(beta=2.0, warmup=0.0), {"image": torch.randn(4, 1, 20, 20)}
    method.variance.fill_(0.25)
    method.eval()
    out = method((image, image), torch.Generator().manual_seed(5))
    mean, log_variance = method.latent(image)
    noise = torch.randn(4, 6, generator=torch.Generator().manual_seed(5))
    tokens = method.spread(mean + (log_variance / 2).exp() * noise, (2, 2), None)
    likelihood = Normal(method.decoder(tokens, image), 0.5).log_prob(image["image"]) + 0.5 * np.log(2 * np.pi)
    bound = likelihood.sum((1, 2, 3)) - 2.0 * divergence(mean, log_variance).sum(1)
    torch.testing.assert_close(out.loss, -bound.mean() / 400)
    assert out.logs["kl"] == pytest.approx(divergence(mean, log_variance).sum(1).mean().item(), rel=1e-4)


def test_the_weight_of_the_divergence_rises_with_training_and_is_saved() -> None:
    method, weights = vae(beta=3.0, warmup=0.4), []
    for progress in (0.1, 0.2, 0.4, 0.9):
        weights.append(float(method.weight()))
        method.after_step(progress)
    assert weights == pytest.approx([0.0, 0.75, 1.5, 3.0])
    other = vae(beta=3.0, warmup=0.4)
    other.load_state_dict(method.state_dict())
    assert float(other.weight()) == pytest.approx(3.0)


def test_free_bits_are_free_and_a_dead_dimension_is_seen() -> None:
    image = {"image": torch.randn(16, 1, 16, 16)}
    for bits, wanted in ((0.0, True), (50.0, False)):
        method = vae(warmup=0.0, free_bits=bits)
        nn.init.normal_(method.posterior[1].weight, std=0.5)
        with torch.no_grad():  # the first two dimensions say nothing
            for half in method.posterior[1].weight, method.posterior[1].bias:
                half[[0, 1, 6, 7]] = 0.0
        out = method(Corrupted(image, image), torch.Generator().manual_seed(0))
        assert out.logs["usage_latent"] == pytest.approx(4 / 6)
        assert method.batch_statistics == (not wanted)
        _, log_variance = method._latent(torch.zeros(1, method.encoder.dim))
        paid = divergence(*method.latent(image)).mean(0).clamp(min=bits).sum()
        moved = torch.autograd.grad(paid, method.posterior[1].weight)[0].abs().sum() > 0
        assert bool(moved) == wanted and log_variance.shape == (1, 6)


def test_the_variance_follows_the_error_once_per_step() -> None:
    method, image = vae(), {"image": 5 * torch.randn(8, 1, 16, 16)}
    errors = []
    for seed in (0, 1):
        method(Corrupted(image, image), torch.Generator().manual_seed(seed))
        errors.append(float(method.errors[-1]))
    assert float(method.variance) == 1.0
    method.after_step(0.1)
    assert float(method.variance) == pytest.approx(np.mean(errors), rel=1e-5)
    method.after_step(0.2)
    assert float(method.variance) == pytest.approx(np.mean(errors), rel=1e-5)


# contrastive predictive coding


@pytest.mark.parametrize("negatives", ["batch", "sequence"])
@pytest.mark.parametrize("horizon", [1, 2])
def test_cpc_is_the_cross_entropy_of_the_true_place_among_the_others(negatives: str, horizon: int) -> None:
    torch.manual_seed(0)
    method = CPC(fields(True), CPCConfig(steps=3, negatives=negatives)).eval()  # type: ignore[arg-type]
    batch = events_of()
    out = method(Shifted(batch, horizon), Generator())
    target, hidden, pad = method.encoder.stem(batch).x, method.encoder(batch).x, batch["pad"]
    rows, time = pad.shape
    places = [(b, t) for b in range(rows) for t in range(time) if not pad[b, t]]
    losses = []
    for k in range(3):
        for b, t in places:
            true = (b, t + horizon + k)
            if true not in places:
                continue
            among = [p for p in places if negatives == "batch" or p[0] == b]
            guess = method.ahead[k](hidden[b, t]) / 4  # the root of the width
            scores = torch.stack([guess @ target[p] for p in among])
            losses.append(F.cross_entropy(scores, torch.tensor(among.index(true))))
    torch.testing.assert_close(out.loss, torch.stack(losses).mean())
    assert set(out.logs) == {f"accuracy_{horizon + k}" for k in range(3)}


def test_cpc_with_fewer_candidates_is_easier_and_never_takes_the_true_place_for_a_negative() -> None:
    torch.manual_seed(0)
    encoder, batch = fields(True), events_of()
    whole, few = (CPC(encoder, CPCConfig(candidates=n)).eval() for n in (1000, 4))
    few.load_state_dict(whole.state_dict())
    everything = whole(Shifted(batch), torch.Generator().manual_seed(0)).loss
    draws = [few(Shifted(batch), torch.Generator().manual_seed(s)).loss for s in range(8)]
    assert all(draw < everything for draw in draws) and len({draw.item() for draw in draws}) == 8
    with (
        torch.no_grad()
    ):  # a guess that is its target, much louder: the best candidate, unless it stands against itself
        same = {
            "category": torch.tensor([[3, 4, 5, 6, 7, 8]]),
            "amount": torch.zeros(1, 6),
            "pad": torch.zeros(1, 6).bool(),
        }
        scores = whole._batch(whole.encoder.stem(same).x, ~same["pad"], torch.Generator().manual_seed(0))
        target = whole.encoder.stem(same).x
        row, place = torch.zeros(5, dtype=torch.long), torch.arange(5)
        own, others = scores(torch.cat([target[:, 1:], target[:, :1]], 1), row, place, place + 1)
    assert others.isinf().sum() == 5 and (own > others.amax(1)).all()


def test_cpc_has_nothing_to_say_of_sequences_shorter_than_its_horizon() -> None:
    method = CPC(fields(True), CPCConfig(steps=2))
    batch = {"category": torch.full((3, 2), 4), "amount": torch.zeros(3, 2), "pad": torch.zeros(3, 2).bool()}
    out = method(Shifted(batch, 5), Generator())
    out.loss.backward()
    assert float(out.loss) == 0 and out.logs == {}


def test_predicting_the_future_needs_a_trunk_that_does_not_see_it() -> None:
    for kind in (CPC, lambda encoder: Autoregressive(encoder, encoder.stem.heads())):
        with pytest.raises(UserError, match="causal trunk"):
            kind(fields(False))
    with pytest.raises(UserError, match="steps is 0"):
        CPCConfig(steps=0)


# next step


def test_next_step_counts_known_places_of_the_future_alone() -> None:
    torch.manual_seed(0)
    encoder, batch = fields(True).eval(), events_of()
    method = Autoregressive(encoder, encoder.stem.heads()).eval()
    loss = method(Shifted(batch, 2), Generator()).loss
    hidden, parts = encoder(batch).x, []
    for name, missing in (("category", batch["category"] == -100), ("amount", batch["amount"].isnan())):
        terms = [
            -method.heads[name].log_prob(hidden[b, t][None], batch[name][b, t + 2][None])
            for b in range(6)
            for t in range(7)
            if not batch["pad"][b, t + 2] and not missing[b, t + 2]
        ]
        parts.append(torch.cat(terms).mean())
    torch.testing.assert_close(loss, parts[0] + parts[1])


def test_next_step_of_sequences_without_a_next_step_is_zero_and_a_field_without_values_is_left_out() -> None:
    encoder = fields(True)
    method, batch = Autoregressive(encoder, encoder.stem.heads()), events_of()
    short = method(Shifted(batch, 20), Generator()).loss
    short.backward()
    assert float(short) == 0
    empty = {**batch, "amount": torch.full_like(batch["amount"], float("nan"))}
    out = method(Shifted(empty), Generator())
    assert out.logs["loss_amount"] == 0 and float(out.loss.detach()) == pytest.approx(out.logs["loss_category"])
    with pytest.raises(UserError, match="predicts what is seen"):
        method(Shifted(batch, 0), Generator())


# puzzles


def test_several_tasks_add_up_and_an_ignored_label_does_not_count() -> None:
    torch.manual_seed(0)
    method = PretextClassifier(small_convnet(1, 8), PuzzleConfig(classes=(("turn", 4), ("order", 6)))).eval()
    image = {"image": torch.randn(5, 1, 16, 16)}
    label = {"turn": torch.tensor([0, 1, 2, 3, -100]), "order": torch.tensor([-100, 5, -100, 0, 1])}
    out = method(Pseudo(image, label), Generator())
    features = method.encoder.embed(image)
    parts = {name: F.cross_entropy(method.heads[name](features), label[name], ignore_index=-100) for name in label}
    torch.testing.assert_close(out.loss, parts["turn"] + parts["order"])
    guess = method.heads["turn"](features).argmax(1)
    assert out.logs["accuracy_turn"] == pytest.approx(float((guess == label["turn"])[:4].float().mean()))


def test_each_piece_is_read_alone_and_all_are_answered_for_together() -> None:
    torch.manual_seed(0)
    method = PretextClassifier(small_convnet(1, 8), PuzzleConfig(classes=(("order", 6),), pieces=3, hidden=16)).eval()
    pieces = [{"image": torch.randn(5, 1, side, side)} for side in (16, 16, 20)]
    label = torch.tensor([0, 5, -100, 2, 1])
    out = method(Pieces(pieces, label), Generator())
    features = torch.cat([method.encoder.embed(piece) for piece in pieces], 1)
    torch.testing.assert_close(out.loss, F.cross_entropy(method.heads["order"](features), label, ignore_index=-100))
    assert out.embedding is not None and out.embedding.shape == (5, method.encoder.dim)
    with pytest.raises(UserError, match="2 pieces, 3 expected"):
        method(Pieces(pieces[:2], label), Generator())
    with pytest.raises(UserError, match="needs a pretext that gives Pieces"):
        method(Pseudo(pieces[0], label), Generator())
    with pytest.raises(UserError, match="belongs to one piece"):
        PuzzleConfig(per_token=True, pieces=2)


def test_a_puzzle_that_does_not_fit_is_told() -> None:
    image = {"image": torch.randn(5, 1, 16, 16)}
    method = PretextClassifier(small_convnet(1, 8))
    with pytest.raises(UserError, match="name the same tasks"):
        method(Pseudo(image, {"order": torch.zeros(5).long()}), Generator())
    with pytest.raises(UserError, match="labels 'rotation' of shape"):
        method(Pseudo(image, torch.zeros(5, 4).long()), Generator())
    with pytest.raises(UserError, match="need an encoder of tokens"):
        PretextClassifier(small_convnet(1, 8), PuzzleConfig(per_token=True))
    with pytest.raises(UserError, match="no puzzle has the classes"):
        PuzzleConfig(classes=(("rotation", 1),))


def test_a_classifier_is_a_puzzle_with_one_answer_a_row() -> None:
    method = Classifier(small_convnet(1, 8), 3).eval()
    image, label = {"image": torch.randn(4, 1, 16, 16)}, torch.tensor([0, 2, -100, 1])
    logits = method.logits(image)
    torch.testing.assert_close(logits, method.head[1](method.encoder.embed(image)))
    torch.testing.assert_close(method(Pseudo(image, label), Generator()).loss, F.cross_entropy(logits, label))


# they learn


def shapes() -> tuple[ArrayBatches, np.ndarray]:
    """Grey images of a bright bar, upright or lying, or a disc, whose place, size and brightness vary."""
    draw = np.random.default_rng(0)
    kind = draw.integers(0, 3, 480)
    y, x = np.mgrid[:16, :16]
    at = draw.uniform(5, 10, (480, 2, 1, 1))
    dy, dx, size = y - at[:, 0], x - at[:, 1], draw.uniform(3, 5, (480, 1, 1))
    lying, upright = (np.abs(dy) < 1.5) & (np.abs(dx) < size), (np.abs(dx) < 1.5) & (np.abs(dy) < size)
    image = np.select([(kind == k)[:, None, None] for k in range(3)], [lying, upright, dy**2 + dx**2 < size**2 / 2])
    image = image * draw.uniform(0.6, 1.4, (480, 1, 1)) + 0.1 * draw.standard_normal((480, 16, 16))
    return ArrayBatches({"image": image[:, None].astype(np.float32)}, 48), kind


def noisy(batch: Batch, g: Generator) -> Corrupted:
    noise = 0.3 * torch.randn(batch["image"].shape, generator=g)
    return Corrupted({"image": damage.missing(batch["image"] + noise, g, 0.05, 2)[0]}, batch)


def as_it_is(batch: Batch, g: Generator) -> Corrupted:
    return Corrupted(batch, batch)


def turned(batch: Batch, g: Generator) -> Pseudo:
    image, label = puzzles.rotate(batch["image"] + torch.linspace(0, 1, 16)[:, None], g)
    return Pseudo({"image": image}, label)


def replaced(batch: Batch, g: Generator) -> Pseudo:
    values, label = puzzles.replace(batch["category"], batch["pad"], 0.2, g)
    return Pseudo({**batch, "category": values}, label.long())


def exchanged(batch: Batch, g: Generator) -> Corrupted:
    damaged = {name: puzzles.replace(batch[name], batch["pad"], 0.3, g)[0] for name in ("category", "amount")}
    return Corrupted({**batch, **damaged}, batch)


def next_one(batch: Batch, g: Generator) -> Shifted:
    return Shifted(batch)


# a method, what it eats, steps, and how much its loss must fall from the first quarter of them to the last
LEARNING: dict[str, tuple[Callable[[], Method], Pretext, int, float]] = {
    "denoise, images": (lambda: DenoisingAutoencoder(small_convnet(1, 8)), noisy, 80, 0.03),
    "vae, images": (lambda: VariationalAutoencoder(small_convnet(1, 8), VAEConfig(latent=8)), as_it_is, 60, 0.1),
    "rotation, images": (lambda: PretextClassifier(small_convnet(1, 8)), turned, 40, 0.3),
    "denoise, events": (lambda: DenoisingAutoencoder(fields()), exchanged, 60, 0.5),
    "vae, events": (lambda: VariationalAutoencoder(fields(), VAEConfig(latent=8)), exchanged, 60, 0.5),
    "replaced, events": (
        lambda: PretextClassifier(fields(), PuzzleConfig(classes=(("replaced", 2),), per_token=True)), replaced, 80, 0.1,
    ),
    "cpc, events": (lambda: CPC(fields(True), CPCConfig(steps=2, candidates=256)), next_one, 60, 0.3),
    "next, events": (lambda: (lambda e: Autoregressive(e, e.stem.heads()))(fields(True)), next_one, 60, 0.5),
}  # fmt: skip


@pytest.mark.parametrize("name", LEARNING)
def test_the_loss_falls(name: str, events: Ragged) -> None:
    make, pretext, steps, fall = LEARNING[name]
    torch.manual_seed(0)
    config = TrainConfig(steps=steps, lr=1e-2, log_every=steps // 4, weight_decay=0.0)
    batches: Batches = shapes()[0] if "images" in name else SequenceBatches(events, 48, max_length=24)
    losses = train(make(), batches, pretext, config, note=lambda line: None).losses
    assert losses[-1] < losses[0] - fall, losses


def test_features_of_restored_images_tell_shapes_better_than_random_ones() -> None:
    make, pretext, steps, _ = LEARNING["denoise, images"]
    batches, kind = shapes()
    known = np.arange(len(kind)) < 240

    def accuracy(encoder: Encoder) -> float:
        x = embed(encoder, batches.ordered())
        x = (x - x[known].mean(0)) / (x[known].std(0) + 1e-6)
        return float((knn(x[known], kind[known], x[~known], k=10).argmax(1) == kind[~known]).mean())

    for seed in (0, 1):
        torch.manual_seed(seed)
        method = make()
        before = accuracy(method.encoder)
        config = TrainConfig(steps=steps, lr=1e-2, weight_decay=0.0, seed=seed)
        train(method, batches, pretext, config, note=lambda line: None)
        after = accuracy(method.encoder)
        assert after > before + 0.05
