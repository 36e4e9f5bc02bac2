"""What is timed is what it says: every side reads the same sequences and counts the targets that it teaches."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from core import benchmark
from core.codec import FIRST
from recsys import speed
from recsys.peers import PEERS, ours, read, recbole, rectools, write
from recsys.sequences import Sequences

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
    step, weights = SIDES[side](ragged, size, {**SETTINGS, "loss": loss, "batch": len(ragged)})
    # RecBole makes rows of prefixes, of long sequences too; a batch holds as many of them as there are sequences
    every = targets_of(written, 1000)
    steps = -(-every // len(ragged)) if side == "recbole" else 1
    assert sum(step() for _ in range(steps)) == (every if side == "recbole" else targets_of(written, 6))
    assert weights > 8 * size


def test_one_step_changes_our_weights_and_counts_what_it_read(written: Path) -> None:
    ragged, size = read(str(written))
    assert (ragged.lengths >= 2).all()
    step, _ = ours(ragged, size, SETTINGS)
    counts = [step() for _ in range(4)]
    assert all(8 <= count <= 8 * 6 for count in counts) and len(set(counts)) > 1


def test_a_peer_that_is_not_there_is_left_out_with_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(benchmark, "installed", lambda peer: Path(".") if peer == "rectools" else None)
    assert benchmark.beside(["ours"], PEERS) == ["ours", "rectools"]
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "RecBole is left out" in said and "make peers" in said


def test_latency_is_measured() -> None:
    rows = speed.latency(items=300, asked=12, warm=4)
    assert len(rows) == 8 and all(row["value"] > 0 for row in rows)
    assert {row["method"] for row in rows} == {"recommend_sequences", "recommend, a table"}
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
