"""What is timed is what it says: every side reads the same sequences and counts the targets that it teaches."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from core import benchmark
from core.codec import FIRST, Categories
from recsys import pace, speed
from recsys.peers import PEERS, ours, read, read_questions, recbole, rectools, write, write_questions
from recsys.sequences import Sequences
from recsys.split import Examples

SETTINGS = {"loss": "full", "dim": 8, "heads": 2, "negatives": 4, "chunk": 16, "batch": 8, "length": 6, "dropout": 0.2}
SIDES = {"ours": ours, "rectools": rectools, "recbole": recbole}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    random = np.random.default_rng(0)
    lists = [random.integers(0, 30, length) for length in (1, *random.integers(2, 12, 40))]
    return write(tmp_path_factory.mktemp("peers") / "train.npz", Sequences.of(lists))


def targets_of(path: Path, most: int) -> int:
    """Real interactions that can be taught in an epoch: all but the first of each sequence, the last `most` of it."""
    ragged, _ = read(str(path))
    return int(np.minimum(ragged.lengths - 1, most).sum())


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("loss", ["sampled", "full"])
def test_a_side_teaches_every_interaction_once_an_epoch(written: Path, side: str, loss: str) -> None:
    if side in PEERS and find_spec(side) is None:
        pytest.skip(f"{PEERS[side]} is not installed; make peers does that")
    torch.manual_seed(0)
    ragged, size = read(str(written))
    taught = SIDES[side](ragged, size, {**SETTINGS, "loss": loss, "batch": len(ragged)})
    # RecBole makes rows of prefixes, of long sequences too; a batch holds as many of them as there are sequences
    every = targets_of(written, 1000)
    steps = -(-every // len(ragged)) if side == "recbole" else 1
    assert sum(taught.step() for _ in range(steps)) == (every if side == "recbole" else targets_of(written, 6))
    assert taught.weights > 8 * size


def test_one_step_changes_our_weights_and_counts_what_it_read(written: Path) -> None:
    ragged, size = read(str(written))
    assert (ragged.lengths >= 2).all()
    taught = ours(ragged, size, SETTINGS)
    counts = [taught.step() for _ in range(4)]
    assert all(8 <= count <= 8 * 6 for count in counts) and len(set(counts)) > 1


@pytest.mark.parametrize("side", SIDES)
def test_a_side_learns_what_always_comes_next_and_ranks_our_items(tmp_path: Path, side: str) -> None:
    if side in PEERS and find_spec(side) is None:
        pytest.skip(f"{PEERS[side]} is not installed; make peers does that")
    torch.manual_seed(0)
    names = Categories(tuple("012345z"))  # of which no training sequence holds the last
    train = Sequences.of([[(start + place) % 6 for place in range(4)] for start in range(6)] * 4, names)
    path = write(tmp_path / "train.npz", train)
    settings = {**SETTINGS, "batch": 16, "dropout": 0.0, "questions": "asked"}
    taught = SIDES[side](*read(str(path)), settings)
    for _ in range(150 if side == "ours" else 500):  # the peers learn at a third of our rate
        taught.step()
    asked = Examples.of(train.last(2).select(np.arange(6)), (train.items[3:24:4] - FIRST + 1) % 6 + FIRST)
    again = read_questions(str(write_questions(tmp_path / "asked.npz", asked)), names.size)
    scores = taught.scores(again.history)
    assert scores.shape == (6, 7) and (scores.argmax(1) == again.target - FIRST).all()
    assert taught.scores(again.history)[0, 0] == scores[0, 0]  # asking teaches nothing, and drops nothing


def rounds_of(*ndcg: float, cpu: float) -> Any:
    return SimpleNamespace(rounds=[{"ndcg": value, "cpu": cpu, "count": 10} for value in ndcg])


def test_pace_compares_the_time_to_the_peers_best_not_to_its_end() -> None:
    theirs = rounds_of(0.01, 0.03, 0.02, cpu=30.0)
    rows = {row["metric"]: row for row in pace._rows(rounds_of(0.02, 0.025, 0.03, 0.04, cpu=3.0), theirs, "RecBole")}
    assert rows["processor seconds to its best ndcg"]["value"] == 60
    assert rows["processor seconds to RecBole's best ndcg"]["value"] == 9
    ratio = rows["ratio: processor seconds to RecBole's best ndcg, RecBole's to ours"]
    assert ratio["value"] == 60 / 9 and ratio["goal"] == 2 and "90 processor seconds" in ratio["note"]


def test_pace_says_where_the_peers_best_was_not_reached() -> None:
    rows = pace._rows(rounds_of(0.01, 0.02, cpu=3.0), rounds_of(0.05, cpu=30.0), "RecBole")
    ratio = next(row for row in rows if row["metric"].startswith("ratio"))
    assert ratio["value"] is None and "not reached within 6 processor seconds; best 0.0200" in ratio["note"]


def test_a_peer_that_is_not_there_is_left_out_with_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(benchmark, "installed", lambda peer: Path(".") if peer == "rectools" else None)
    assert benchmark.beside(["ours"], PEERS) == ["ours", "rectools"]
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "RecBole is left out" in said and "make peers" in said


def test_latency_is_measured() -> None:
    rows = speed.latency(items=300, asked=20, warm=1, widths=(16,))
    assert len(rows) == 12 and all(row["value"] > 0 for row in rows)
    assert {row["method"] for row in rows} == {"recommend_session", "recommend_sequences", "recommend, a table"}
    assert {row["method"] for row in rows if row.get("goal") is not None} == {"recommend_session"}
    for metric in ("ms a session", "processor ms a session"):
        p50, p99 = (next(r["value"] for r in rows if r["metric"] == f"{metric}, p{share}") for share in (50, 99))
        assert p50 <= p99


@pytest.mark.slow
def test_training_over_a_large_catalogue_is_measured_in_its_own_process(tmp_path: Path) -> None:
    rows = speed.catalogue(tmp_path, items=2000, heads=(("chunked", 4),))
    assert [row["metric"] for row in rows] == [
        "peak memory of training, GiB", "processor seconds a step", "seconds a step"
    ]  # fmt: skip
    assert 0.05 < rows[0]["value"] < 4 and all(row["value"] > 0 for row in rows) and not list(tmp_path.iterdir())


def test_generated_sessions_are_of_known_items() -> None:
    log = speed.sessions(50, 20, 7)
    assert (log.lengths == 7).all() and log.items.min() >= FIRST and log.items.max() < log.catalogue.size
    assert log.n_items == 50 and np.array_equal(log.items, speed.sessions(50, 20, 7).items)
