"""Batches bounded by seconds: never more sound than that, nobody alone, everybody once; a killed run goes on to the same weights."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from core import distributed
from core.batches import Ragged, SequenceBatches, runs
from core.errors import UserError
from core.training import TrainConfig
from speech import bounds
from speech.data import Recordings
from speech.estimators import AudioEncoder
from speech.presets import Recipe, recipe

BOUND = 30.0  # seconds


def settings(name: str = "bestrq", **more) -> Recipe:
    chosen = recipe(name)
    net = replace(chosen.encoder, dim=16, depth=1, heads=2, channels=8)
    train = TrainConfig(steps=6, lr=1e-3, log_every=1)
    return replace(chosen, encoder=net, batch_size=64, max_frames=6000, max_seconds=BOUND, train=train, **more)


def made(seconds: list[float], wave: bool = False, seed: int = 0) -> Recordings:
    """Recordings of these lengths, of noise."""
    draw, count = np.random.default_rng(seed), len(seconds)
    shapes = [(round(s * 8000),) if wave else (round(s * 100), 40) for s in seconds]
    none = np.full(count, "", dtype=object)
    return Recordings(
        names=np.array([f"{i:03}" for i in range(count)], dtype=object), seconds=np.array(seconds), label=none, speaker=none, split=none,
        signals=[-5 * draw.random(shape, dtype=np.float32) for shape in shapes],
        digest=np.array([f"{i:016}" for i in range(count)], dtype=object),
    )  # fmt: skip


ONE_LONG = [60.0, *[1.0] * 25, 2.5, 3.0]


@pytest.mark.parametrize("wave", [False, True])
def test_one_long_recording_among_short_ones_trains_within_the_bound(wave: bool) -> None:
    chosen = settings("wav2vec2" if wave else "bestrq")
    recordings, seen, lines = made(ONE_LONG, wave), [], []
    encoder, key = AudioEncoder(chosen), "wave" if wave else "mel"
    places = 8000 if wave else 100  # a second
    batches = encoder.batches(recordings)
    for epoch in range(3):
        rows = []
        for number in range(len(batches)):
            batch = batches.batch(epoch, number)
            assert len(batch["pad"]) >= 2 and batch["pad"].numel() <= BOUND * places
            rows += batch["index"].tolist()
            if 0 in batch["index"]:  # the long one: a third of the bound, from anywhere in it
                long = batch[key][batch["index"].tolist().index(0)]
                assert len(long) == BOUND / 3 * places
                seen.append(float(long.flatten()[0]))
        assert sorted(rows) == list(range(len(ONE_LONG)))
    assert len(set(seen)) == 3
    largest = max(len(batches.batch(0, number)["pad"]) for number in range(len(batches)))
    assert largest >= 20, "short ones come together, whatever the length of the long one"
    encoder.fit(recordings, note=lines.append)
    assert sum("1 of 28 recordings are longer than 10 s" in line for line in lines) == 1
    features = encoder.transform(recordings)
    alone = encoder.transform(recordings.select(np.array([0])))
    np.testing.assert_allclose(features[:1], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("seed", range(6))
def test_whatever_the_lengths_batches_keep_the_bound_and_nobody_is_alone(seed: int) -> None:
    draw = np.random.default_rng(seed)
    least = 2 + seed % 3
    for count in (least, 5, 41, 120):
        lengths = (
            draw.integers(1, 100, count)
            if seed % 2
            else np.minimum(draw.geometric(0.03, count) + draw.integers(0, 2), 90)
        )
        longest = int(lengths.max())
        tokens = (2 * least - 1) * longest + int(draw.integers(0, 2 * longest))
        ragged = Ragged({"x": np.arange(lengths.sum())}, np.concatenate([[0], np.cumsum(lengths)]))

        def data(seed: int, ragged: Ragged = ragged, tokens: int = tokens) -> SequenceBatches:
            return SequenceBatches(ragged, 40, seed, max_length=100, max_tokens=tokens, least=least)

        one, other = data(seed), data(seed)
        for epoch in (0, 3):
            parts = [one.batch(epoch, i) for i in range(len(one))]
            assert sorted(torch.cat([part["index"] for part in parts]).tolist()) == list(range(count))
            assert all(part["pad"].numel() <= tokens and least <= len(part["pad"]) <= 40 for part in parts)
            for i in reversed(range(len(one))):  # in any order
                assert torch.equal(other.batch(epoch, i)["index"], parts[i]["index"])


def test_a_killed_run_ends_with_the_weights_of_one_that_was_not(tmp_path, monkeypatch) -> None:
    chosen, recordings = settings(), made(ONE_LONG)
    whole = AudioEncoder(chosen).fit(recordings, note=lambda line: None)
    given, real = [], SequenceBatches.batch

    def killed(self: SequenceBatches, epoch: int, number: int):
        given.append((epoch, number))
        if len(given) == 5:
            raise KeyboardInterrupt
        return real(self, epoch, number)

    often = replace(chosen, train=replace(chosen.train, save_every_minutes=1e-9))
    with monkeypatch.context() as patched:
        patched.setattr(SequenceBatches, "batch", killed)
        with pytest.raises(KeyboardInterrupt):
            AudioEncoder(often).fit(recordings, out=tmp_path / "run", note=lambda line: None)
    lines: list[str] = []
    resumed = AudioEncoder(often).fit(recordings, out=tmp_path / "run", note=lines.append)
    assert any("resuming at step" in line for line in lines)
    for one, other in zip(whole.encoder_.parameters(), resumed.encoder_.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("count", [2, 4])
def test_every_process_has_its_share_of_every_batch(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "world", lambda: count)
    monkeypatch.setattr(distributed, "world", lambda: count)
    recordings = made([*ONE_LONG, *np.random.default_rng(1).uniform(0.5, 12, 20)])
    batches = AudioEncoder(settings()).batches(recordings)
    for number in range(len(batches)):
        batch, heard = batches.batch(0, number), []
        for rank in range(count):
            monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
            share = distributed.shard(batch)["index"].tolist()
            assert share
            heard += share
        assert sorted(heard) == sorted(batch["index"].tolist()) and batch["pad"].numel() <= BOUND * 100


def test_what_is_only_read_keeps_the_bound_too_and_its_order() -> None:
    lengths = np.array([100, 100, 6000, 100, 100, 1400, 1500, 10])
    assert [rows.tolist() for rows in runs(lengths, 3, 3000)] == [[0, 1], [2], [3, 4], [5, 6], [7]]
    assert [rows.tolist() for rows in runs(lengths, 3)] == [[0, 1, 2], [3, 4, 5], [6, 7]]
    chosen = settings()
    read = list(AudioEncoder(chosen).in_order(made([1.0, 1.0, 60.0, 1.0])))
    assert [batch["index"].tolist() for batch in read] == [[0, 1], [2], [3]]
    assert [batch["pad"].shape[1] for batch in read] == [100, 6000, 100]
    ordered = AudioEncoder(chosen).batches(made(ONE_LONG)).ordered()
    assert max(batch["pad"].numel() for batch in ordered) <= BOUND * 100
    free = replace(chosen, max_seconds=None)
    assert bounds.window(free) == 6000 and bounds.told(free, [9000]) is None and bounds.told(chosen, [1000]) is None


@pytest.mark.parametrize(
    ("name", "seconds"), [("simclr", 30.0), ("bestrq", 0.1), ("bestrq", -1.0), ("bestrq", float("nan"))]
)
def test_a_bound_that_cannot_be_is_one_line(name: str, seconds: float) -> None:
    with pytest.raises(UserError, match="max_seconds is"):
        replace(recipe(name), max_seconds=seconds)
