"""The benchmark of speed: sides in turns, what is not there is left out with a line, and the page shows the record."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from core import benchmark
from core.benchmark import ROOT, Benchmark, Side, compare, documented, faster, median
from core.errors import UserError
from core.peers import gpu, mae
from core.peers.rounds import Rounds


def test_sides_work_in_turns_and_say_what_they_did() -> None:
    shape = {"batch": 2, "length": 8, "dim": 8, "depth": 1, "heads": 2, "padded": True, "steps": 3}
    sides, last = compare("trunk", ["ours", "torch"], 2, **shape)
    for name in ("ours", "torch"):
        assert [r["count"] for r in sides[name].rounds] == [3, 3, 3] and last[name]["memory"] > 0
        assert len(sides[name].each("cpu")) == 2  # the first round warms up
        assert sides[name].process.poll() == 0
    assert faster(sides, "torch", "wall").value > 0


def test_a_side_that_dies_is_one_clear_line() -> None:
    with pytest.raises(UserError, match="the peer 'nobody' of 'views' ended with code 1"):
        Side("views", "nobody", {"size": 8, "images": 2, "batch": 2})


def test_a_side_that_ended_by_itself_is_still_heard() -> None:
    """One that counts its rounds is gone before it is told to stop, when the other side does the last round."""
    side = Side(
        "trunk", "ours", {"batch": 2, "length": 8, "dim": 8, "depth": 1, "heads": 2, "padded": True, "steps": 1}
    )
    side.round()
    side.tell("stop")
    side.process.wait()
    assert side.finish()["memory"] > 0


def test_the_median_has_an_interval() -> None:
    estimate = median(np.array([1.0, 2.0, 3.0, 2.0, 100.0]))
    assert estimate.value == 2 and 1 <= estimate.low <= 2 <= estimate.high <= 100


def test_both_masked_autoencoders_have_one_shape_and_learn() -> None:
    s = {
        "size": 16,
        "patch": 4,
        "channels": 1,
        "dim": 24,
        "depth": 2,
        "heads": 3,
        "decoder_dim": 12,
        "decoder_depth": 1,
    }
    x = torch.rand(4, 1, 16, 16)
    sizes = []
    for side in (mae.ours, mae.monai):
        model, loss = side(s)
        sizes.append(sum(p.numel() for p in model.parameters()))
        before = loss(x)
        before.backward()
        assert 0.05 < float(before) < 5 and all(
            torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None
        )
    assert abs(sizes[0] / sizes[1] - 1) < 0.1


def test_without_a_gpu_its_test_is_skipped_with_a_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    Benchmark(only="gpu", out=tmp_path).run()
    assert "gpu is skipped: no GPU is visible here" in capsys.readouterr().err
    assert json.loads((tmp_path / "results.json").read_text()) == []


def test_the_gpus_step_runs_on_any_device(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    s = {
        "batch": 2,
        "dim": 12,
        "depth": 1,
        "heads": 2,
        "image": 32,
        "device": "cpu",
        "compile": False,
        "steps": 1,
        "matrix": 64,
    }
    for side in ("ours", "torch"):
        monkeypatch.setattr(sys, "stdin", iter_lines(["go", "stop"]))
        gpu.run(side, s, Rounds())
        last = json.loads(capsys.readouterr().out.splitlines()[-1])
        assert last["peak"] > 0 and last["utilisation"] > 0


class iter_lines:
    def __init__(self, lines: list[str]) -> None:
        self.lines = lines

    def readline(self) -> str:
        return self.lines.pop(0) + "\n" if self.lines else ""


def test_an_unknown_test_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no test 'speed'"):
        Benchmark(only="speed", out=tmp_path).run()


def test_the_page_shows_the_record() -> None:
    page = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    assert documented(page, ROOT / "docs" / "results") == page


def test_the_table_says_what_was_missed(tmp_path: Path) -> None:
    row = {
        "test": "t", "data": "d", "method": "m", "role": "ours", "metric": "ratio", "value": 0.5, "low": None, "high": None,
        "goal": 1.0, "note": "", "commit": "c", "machine": "a machine",
    }  # fmt: skip
    (tmp_path / "core.json").write_text(json.dumps([row]))
    text = documented(f"before {benchmark.START} old {benchmark.END} after", tmp_path)
    assert (
        "0.500 | ≥ 1, missed | c |" in text
        and "old" not in text
        and text.startswith("before")
        and text.endswith("after")
    )
