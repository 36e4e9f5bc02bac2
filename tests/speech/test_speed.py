"""What is timed is what it says: both sides train networks of one size on the same recordings, and count what they hear."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from core import benchmark as sides
from core.encoders import parameters
from core.errors import UserError
from core.optim import optimizer_for
from core.train_config import TrainConfig
from speech import benchmark, peers, speed
from speech.speed import CONTESTS, Contest

SMALL = {"dim": 32, "depth": 1, "heads": 2, "mlp": 64, "channels": 32, "batch": 2, "seconds": 1, "steps": 1}


def settings(task: str) -> dict:
    return {**SMALL, "task": task}


@pytest.fixture
def reach(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Makes a peer importable until the test ends. SpeechBrain leaves modules behind that raise when anything, such as `inspect`, looks
    at them: they go too."""

    def found(peer: str) -> None:
        place = sides.installed(peer)
        if place is not None:
            monkeypatch.syspath_prepend(str(place))
        if find_spec(peer) is None:
            pytest.skip(f"{peer} is not installed; make peers does that")

    yield found
    for name in [name for name in sys.modules if name.partition(".")[0] == "speechbrain"]:
        del sys.modules[name]


@pytest.mark.parametrize("task", ["wav2vec2", "hubert", "bestrq"])
def test_both_sides_have_one_size_and_learn(
    task: str, reach: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    peer = next(c.peer for c in CONTESTS if c.task == task)
    reach(peer)
    monkeypatch.setattr(peers, "CODES", 64)
    monkeypatch.setattr(peers, "GROUP_CODES", 8)
    sizes, heard = [], []
    for make in (peers.ours, getattr(peers, peer)):
        torch.manual_seed(0)
        model, loss = make(settings(task))
        sizes.append(parameters(model))
        optimizer = optimizer_for(model, TrainConfig(steps=1, lr=3e-3))
        losses = []
        for _ in range(8):
            made = loss()
            made.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(float(made.detach()))
        assert losses[-1] < losses[0]
        heard.append(losses[0])
    assert sizes[0] == sizes[1] if task != "bestrq" else sizes[0] > 1000
    assert 0.7 < heard[0] / heard[1] < 1.4  # the same question, as hard at the start


def test_bestrqs_sides_are_of_one_size_within_a_twentieth(reach: Callable[[str], None]) -> None:
    reach("speechbrain")
    for contest in CONTESTS:
        if contest.task == "bestrq":
            with torch.device("meta"):
                ours, theirs = (parameters(make(asdict(contest))[0]) for make in (peers.ours, peers.speechbrain))
            assert abs(ours / theirs - 1) < 0.05


class Timed:
    """A side whose rounds are timed here and not in a process of its own, which takes ten seconds to start."""

    def __init__(self) -> None:
        self.left, self.counts, self.said = 2, [], {}

    def go(self) -> bool:
        self.left -= 1
        return self.left >= 0

    def done(self, count: int) -> None:
        self.counts.append(count)

    def finish(self, **figures: float) -> None:
        self.said = {"memory": 10.0, **figures}

    def each(self, per: str) -> np.ndarray:
        return np.array(self.counts[1:]) / 2.0


def in_turns(module: str, names: list[str], rounds: int, **given: Any) -> tuple[dict[str, Timed], dict[str, dict]]:
    assert module == "speech.peers" and rounds == 1
    made = {name: Timed() for name in names}
    for name, side in made.items():
        peers.run(name, json.loads(json.dumps(given)), side)  # type: ignore[arg-type]
    return made, {name: side.said for name, side in made.items()}


def test_a_comparison_gives_its_rows_and_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = Contest("hubert", "torchaudio", 1.15, **{**SMALL, "rounds": 1, "memory": 0.0})
    lines: list[str] = []
    monkeypatch.setattr(sides, "compare", in_turns)
    monkeypatch.setattr(speed, "CONTESTS", (small, replace(small, peer="nobody"), replace(small, memory=1e9)))
    assert benchmark.bench("speed", None, benchmark.BenchConfig(), tmp_path, lines.append) == 0
    rows = json.loads((tmp_path / "results.json").read_text())
    assert [r["metric"] for r in rows if r["goal"]] == ["ratio: seconds of audio trained, to torchaudio's"]
    assert {(r["role"], r["method"]) for r in rows} == {("ours", "hubert"), ("peer", "torchaudio")} and len(rows) == 6
    assert [r["value"] for r in rows if "a core-second" in r["metric"]] == [1.0, 1.0]  # two seconds of audio in two
    assert len({r["note"] for r in rows if "a core-second" in r["metric"]}) == 1, "both have so many parameters"
    assert sum("nobody is not installed" in line for line in lines) == 1
    assert sum("of memory are free" in line for line in lines) == 1
    monkeypatch.setattr(speed, "beside", lambda contest: pytest.fail("measured again"))
    assert benchmark.bench("speed", None, benchmark.BenchConfig(), tmp_path, lines.append) == 0


def test_an_unknown_test_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="speed"):
        benchmark.bench("spee", None, benchmark.BenchConfig(), tmp_path, print)
