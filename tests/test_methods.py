"""A method is written once and learns wherever a pretext feeds it: the same two classes on six kinds of data.

Each case trains for seconds on one core; the loss must fall, and a probe of frozen features must beat the same
architecture at random init. The domains' pretexts are used as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from core.batches import ArrayBatches, Batches, Ragged, SequenceBatches
from core.codec import FIRST
from core.encoders import Encoder, small_convnet
from core.methods import MaskedPrediction, Method, SimCLR, SimCLRConfig
from core.pretext import Pretext
from core.probes import embed, knn, linear
from core.training import TrainConfig, train


@dataclass(frozen=True)
class Case:
    """A method (with an encoder of fresh weights), what it eats, and what its frozen encoder is worth."""

    method: Callable[[], Method]
    batches: Batches
    pretext: Pretext
    probe: Callable[[Encoder], float]
    steps: int
    lr: float = 2e-3


def neighbours(batches: Batches, label: NDArray, train_rows: NDArray) -> Callable[[Encoder], float]:
    """Accuracy of kNN from the training rows to all others."""

    def probe(encoder: Encoder) -> float:
        x = embed(encoder, batches.ordered())
        shares = knn(x[train_rows], label[train_rows], x[~train_rows], k=5)
        return float((np.unique(label[train_rows])[shares.argmax(1)] == label[~train_rows]).mean())

    return probe


def separation(batches: Batches, label: NDArray, train_rows: NDArray) -> Callable[[Encoder], float]:
    """Auroc of a logistic regression from the training rows to all others."""

    def probe(encoder: Encoder) -> float:
        x = embed(encoder, batches.ordered())
        shares = linear(x[train_rows], label[train_rows], x[~train_rows], costs=(1e-2,))
        return float(roc_auc_score(label[~train_rows], shares[:, 1]))

    return probe


def same_card(ragged: Ragged) -> Callable[[Encoder], float]:
    """How often the nearest second half of a history is that of the same card."""
    middle = ragged.offsets[:-1] + ragged.lengths // 2

    def half(starts: NDArray, ends: NDArray) -> Ragged:
        lengths = ends - starts
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        places = np.repeat(starts - offsets[:-1], lengths) + np.arange(offsets[-1])
        return Ragged({name: values[places] for name, values in ragged.fields.items()}, offsets)

    halves = [half(ragged.offsets[:-1], middle), half(middle, ragged.offsets[1:])]

    def probe(encoder: Encoder) -> float:
        a, b = (embed(encoder, SequenceBatches(h, 64, max_length=128).ordered()) for h in halves)
        centred = [(x - x.mean(0)) / (x.std(0) + 1e-6) for x in (a, b)]
        unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in centred]
        return float(((unit[0] @ unit[1].T).argmax(1) == np.arange(len(ragged))).mean())

    return probe


def transactions(simclr: bool) -> Case:
    from finance.data import Schema, validate
    from finance.encoders import Shape, event_encoder
    from finance.histories import EventCodec
    from finance.pretext import Masks, Slices
    from finance.synthetic import World, generate

    frame = generate(World(cards=150, days=60))
    schema = Schema.from_dict(
        {"entity": "card", "time": "time", "amount": "amount", "categorical": ["terminal", "channel"]}
    )
    data = validate(frame, schema)
    codec = EventCodec.fit(data, buckets=128, max_categories=50)
    ragged = codec.encode(data).ragged

    def method() -> Method:
        encoder = event_encoder(codec, Shape(dim=32, depth=1, heads=2))
        if simclr:
            encoder.pool = "mean"
            return SimCLR(encoder, SimCLRConfig(hidden=64, out=32))
        encoder.pool = "mean"
        return MaskedPrediction(encoder, encoder.stem.heads())

    pretext = (Slices() if simclr else Masks(longest=10, others_longest=5)).bound(codec.fields)
    return Case(
        method, SequenceBatches(ragged, 50, max_length=64), pretext, same_card(ragged), steps=80 if simclr else 250
    )


def next_items(ragged: Ragged) -> Callable[[Encoder], float]:
    """How often a session's last item is among the 10 that the sessions nearest to its beginning end with."""
    last = ragged.fields["item"][ragged.offsets[1:] - 1]
    lengths = ragged.lengths - 1
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    places = np.repeat(ragged.offsets[:-1] - offsets[:-1], lengths) + np.arange(offsets[-1])
    begun = Ragged({"item": ragged.fields["item"][places]}, offsets)
    known = np.arange(len(ragged)) < len(ragged) // 2

    def probe(encoder: Encoder) -> float:
        x = embed(encoder, SequenceBatches(begun, 64, max_length=20).ordered())
        classes = np.unique(last[known])
        best = classes[np.argsort(-knn(x[known], last[known], x[~known], k=20), axis=1)[:, :10]]
        return float((best == last[~known, None]).any(1).mean())

    return probe


def items() -> Case:
    from recsys.data import from_frame
    from recsys.encoders import ModelConfig, build_encoder, build_heads
    from recsys.pretext import MaskedItems
    from recsys.synthetic import World, generate

    sequences = from_frame(generate(World(users=1500))).sequences
    ragged, config = sequences.ragged(), ModelConfig(dim=32, dropout=0.1, causal=False)
    counts = np.bincount(sequences.items - FIRST, minlength=sequences.catalogue.size - FIRST)

    def method() -> Method:
        encoder = build_encoder(sequences.catalogue.size, config)
        return MaskedPrediction(encoder, build_heads(encoder, config, counts))

    batches = SequenceBatches(ragged, 64, max_length=20)
    return Case(method, batches, MaskedItems(), next_items(ragged), steps=300, lr=4e-3)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory):
    from speech.data import read
    from speech.features import MelConfig, log_mel
    from speech.synthetic import SynthConfig, generate

    folder: Path = tmp_path_factory.mktemp("speech") / "data"
    return read(generate(folder, SynthConfig(size=300, speakers=6)), keep=log_mel(MelConfig()))


def audio(recordings, simclr: bool) -> Case:
    from speech.encoders import EncoderConfig
    from speech.estimators import AudioEncoder
    from speech.methods import pretext_for
    from speech.presets import recipe

    settings = recipe("simclr" if simclr else "bestrq")
    _, pretext = pretext_for(settings, 10)
    known = recordings.split == "train"
    estimator = AudioEncoder(settings)
    assert settings.encoder.kind == ("convnet" if simclr else "transformer") and EncoderConfig().width

    def method() -> Method:
        return pretext_for(settings, 10)[0]

    batches = estimator.batches(recordings, 64)
    return Case(method, batches, pretext, prepared(settings, batches, recordings, known), steps=60 if simclr else 150)


def prepared(settings, batches: Batches, recordings, known: NDArray) -> Callable[[Encoder], float]:
    from speech.estimators import Fronted

    plain = neighbours(batches, recordings.label, known)
    return lambda encoder: plain(encoder if isinstance(encoder, Fronted) else Fronted(encoder, settings))


def images() -> Case:
    from healthcare.synthetic import CohortConfig, generate
    from healthcare.views import ImageViews

    cohort = generate(CohortConfig(images=900))
    batches = ArrayBatches({"image": (cohort.pixels[:, None] / 255).astype(np.float32)}, 128)
    known = cohort.split == "train"
    return Case(
        lambda: SimCLR(small_convnet(1, 24)),
        batches,
        ImageViews(),
        separation(batches, cohort.label, known),
        steps=100,
    )


CASES = {
    "masked prediction on transactions": lambda recordings: transactions(simclr=False),
    "masked prediction on items": lambda recordings: items(),
    "masked prediction on audio frames": lambda recordings: audio(recordings, simclr=False),
    "simclr on images": lambda recordings: images(),
    "simclr on event slices": lambda recordings: transactions(simclr=True),
    "simclr on log-mel views": lambda recordings: audio(recordings, simclr=True),
}


@pytest.mark.parametrize("name", CASES)
def test_it_learns(name: str, recordings) -> None:
    torch.set_num_threads(1)
    case = CASES[name](recordings)
    scores = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        method = case.method()
        untrained = case.probe(method.encoder)
        every = case.steps // 5
        config = TrainConfig(steps=case.steps, lr=case.lr, log_every=every, seed=seed, weight_decay=1e-4)
        history = train(method, case.batches, case.pretext, config, note=lambda line: None)
        assert history.losses[-1] < history.losses[0] - 0.05
        scores.append((untrained, case.probe(method.encoder)))
    print(name, [f"{before:.3f} -> {after:.3f}" for before, after in scores])
    gains = [after - before for before, after in scores]
    assert min(gains) > 0.02, scores
