"""What is timed is what it says: every side of the comparison reads the same histories, trains, and counts the events it reads."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from finance.data import Transactions
from finance.estimators import FraudScorer, TransactionEncoder
from finance.histories import EventCodec
from finance.peers import SHORTEST, SLICE, ours, ptls, read, write
from finance.presets import masked
from finance.speed import online, scoring

SETTINGS = {"dim": 16, "batch": 8, "longest": 30}


@pytest.fixture(scope="module")
def written(log: Transactions, tmp_path_factory: pytest.TempPathFactory) -> Path:
    codec = EventCodec.fit(log)
    return write(tmp_path_factory.mktemp("peers") / "histories.npz", codec.encode(log).ragged, codec.fields)


@pytest.mark.parametrize("side", ["ours", "masked", "ptls"])
def test_a_side_reads_whole_batches_and_counts_events(written: Path, side: str) -> None:
    if side == "ptls" and find_spec("ptls") is None:
        pytest.skip("pytorch-lifestream is not installed; make peers does that")
    ragged, fields = read(str(written))
    assert (ragged.lengths >= SHORTEST).all()
    step, weights = ptls(ragged, fields, SETTINGS) if side == "ptls" else ours(side, ragged, fields, SETTINGS)
    counts = [step() for _ in range(4)]
    low, high = (8 * SHORTEST, 8 * 128) if side == "masked" else (2 * 8 * SLICE, 2 * 8 * 30)
    assert all(low <= count <= high for count in counts) and len(set(counts)) > 1 and weights > 1000


def test_scoring_and_online_scoring_are_measured(
    log: Transactions, monkeypatch: pytest.MonkeyPatch, one_thread: None
) -> None:
    monkeypatch.setattr("finance.speed.ONLINE", 40)
    monkeypatch.setattr("finance.speed.WARM", 10)
    recipe = replace(masked(), train=replace(masked().train, steps=2, minutes=None))
    scorer = FraudScorer(TransactionEncoder(recipe).fit(log, note=lambda line: None))
    rows = scoring(scorer, log, "log") + online(scorer, log, "log")
    assert all(row["value"] > 0 for row in rows if "memory" not in row["metric"]) and len(rows) == 7
    assert torch.get_num_threads() == 1


def test_threads_side_by_side_score_as_one_does(log: Transactions) -> None:
    recipe = replace(masked(), train=replace(masked().train, steps=2, minutes=None))
    encoder = TransactionEncoder(recipe).fit(log, note=lambda line: None)
    alone = FraudScorer(encoder).score_samples(log), encoder.transform(log)
    torch.set_num_threads(2)
    together = FraudScorer(encoder).score_samples(log), encoder.transform(log)
    assert torch.get_num_threads() == 2
    for one, two in zip(alone, together, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-5)
