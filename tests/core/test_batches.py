"""Batches: pure functions of (seed, epoch, number) that waste little on padding."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from core.batches import ArrayBatches, Ragged, SequenceBatches
from core.errors import UserError


def batches(events: Ragged) -> SequenceBatches:
    return SequenceBatches(events, 32, max_length=16)


def test_batches_are_a_pure_function_of_seed_epoch_and_number(events: Ragged) -> None:
    a, b = batches(events), batches(events)
    a.batch(5, 1), a.batch(2, 0)
    for key, value in a.batch(3, 2).items():
        assert torch.equal(value, b.batch(3, 2)[key])
    assert not torch.equal(a.batch(0, 0)["index"], a.batch(1, 0)["index"])


def test_an_epoch_holds_no_row_twice_and_buckets_waste_little(events: Ragged) -> None:
    data = SequenceBatches(events, 16, max_length=64)
    epoch = [data.batch(0, i) for i in range(len(data))]
    rows = torch.cat([b["index"] for b in epoch])
    assert len(set(rows.tolist())) == len(rows) == len(data) * 16
    wasted = sum(int(b["pad"].sum()) for b in epoch) / sum(b["pad"].numel() for b in epoch)
    assert wasted < 0.1
    seen = torch.cat([b["index"] for b in data.ordered()])
    assert seen.tolist() == list(range(len(events)))


def test_windows_hold_consecutive_events_of_one_sequence(events: Ragged) -> None:
    ragged = Ragged({"place": np.concatenate([np.arange(n) for n in events.lengths])}, events.offsets)
    batch = SequenceBatches(ragged, 32, max_length=5).batch(0, 0)
    steps = batch["place"].diff(dim=1)[~batch["pad"][:, 1:]]
    assert (steps == 1).all()
    last = ragged.padded(np.arange(8), 5)
    assert (last["place"].amax(1).numpy() == events.lengths[:8] - 1).all()
    part = ragged.select(np.array([7, 2]))
    assert part.lengths.tolist() == events.lengths[[7, 2]].tolist()


def test_batches_are_bounded_by_tokens_and_hold_every_sequence_once(events: Ragged) -> None:
    for seed in range(4):
        draw = np.random.default_rng(seed)
        lengths = draw.integers(1, 90, 150) if seed % 2 else np.minimum(draw.geometric(0.05, 150), 200)
        ragged = Ragged({"x": np.arange(lengths.sum())}, np.concatenate([[0], np.cumsum(lengths)]))
        data = SequenceBatches(ragged, 40, seed, max_length=64, max_tokens=400)
        for epoch in (0, 1):
            made = [data.batch(epoch, i) for i in range(len(data))]
            assert sorted(torch.cat([batch["index"] for batch in made]).tolist()) == list(range(150))
            assert all(batch["pad"].numel() <= 400 and 2 <= len(batch["pad"]) <= 40 for batch in made)
            padded = sum(int(batch["pad"].sum()) for batch in made) / sum(batch["pad"].numel() for batch in made)
            assert padded < 0.2
        again = SequenceBatches(ragged, 40, seed, max_length=64, max_tokens=400)
        assert torch.equal(again.batch(1, 3)["index"], data.batch(1, 3)["index"])
        assert not torch.equal(data.batch(0, 3)["index"], data.batch(1, 3)["index"])
    with pytest.raises(UserError, match="60 tokens are fewer than 3 sequences of 24"):
        SequenceBatches(events, 16, max_length=64, max_tokens=60)


def test_rows_are_found_by_number(events: Ragged) -> None:
    assert batches(events).rows == len(events)
    rows = np.array([5, 3, 9])
    assert batches(events).at(rows)["index"].tolist() == [5, 3, 9]
    assert ArrayBatches({"x": np.arange(20)}, 4).at(rows)["x"].tolist() == [5, 3, 9]
