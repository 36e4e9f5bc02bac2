"""Run folders: written whole or not at all, and refused where they cannot be trusted."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from core import artifacts
from core.artifacts import load_run, save_run
from core.errors import UserError


def net(seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    return torch.nn.Linear(3, 2)


def test_a_run_reads_back_as_written(tmp_path: Path) -> None:
    save_run(tmp_path / "run", "finance", {"recipe": {"dim": 3}}, net(), net(1), "# card")
    run = load_run(tmp_path / "run", "finance")
    assert run.config["recipe"] == {"dim": 3} and torch.equal(run.encoder["weight"], net().weight)
    assert torch.equal(run.heads["weight"], net(1).weight)
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == [
        "card.md",
        "config.json",
        "encoder.safetensors",
        "heads.safetensors",
    ]


def test_a_full_disk_leaves_the_old_run_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_run(tmp_path / "run", "finance", {"n": 1}, net())

    def full(*args: object, **kwargs: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(UserError, match="No space left"):
        save_run(tmp_path / "run", "finance", {"n": 2}, net(5))
    assert load_run(tmp_path / "run", "finance").config["n"] == 1
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize("call", range(4))
def test_a_kill_at_any_rename_leaves_a_whole_run(tmp_path: Path, call: int) -> None:
    save_run(tmp_path / "run", "finance", {"n": 1}, net())
    script = f"""
import os, signal, torch
from core import artifacts
calls = 0
def deadly(kind):
    def wrapped(*a, **k):
        global calls
        if calls == {call}:
            os.kill(os.getpid(), signal.SIGKILL)
        calls += 1
        return kind(*a, **k)
    return wrapped
artifacts.os.replace = deadly(os.replace)
artifacts.shutil.rmtree = deadly(artifacts.shutil.rmtree)
artifacts.save_run(artifacts.Path({str(tmp_path / "run")!r}), "finance", {{"n": 2}}, torch.nn.Linear(3, 2))
"""
    done = subprocess.run([sys.executable, "-c", script], check=False, env={**os.environ, "PYTHONPATH": os.getcwd()})
    assert done.returncode == -signal.SIGKILL
    assert load_run(tmp_path / "run", "finance").config["n"] in (1, 2)
    save_run(tmp_path / "run", "finance", {"n": 3}, net())
    assert load_run(tmp_path / "run", "finance").config["n"] == 3


def test_what_cannot_be_trusted_is_refused(tmp_path: Path) -> None:
    run = save_run(tmp_path / "run", "finance", {}, net())
    with pytest.raises(UserError, match="no run there"):
        load_run(tmp_path / "nothing", "finance")
    with pytest.raises(UserError, match="belongs to finance"):
        load_run(run, "speech")
    weights = (run / "encoder.safetensors").read_bytes()
    for damaged in (weights[:-4], weights[:-1] + bytes([weights[-1] ^ 1]), b""):
        (run / "encoder.safetensors").write_bytes(damaged)
        with pytest.raises(UserError, match="truncated or was changed"):
            load_run(run, "finance")
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps({**config, "format": artifacts.FORMAT + 1}))
    with pytest.raises(UserError, match="newer version"):
        load_run(run, "finance")
    for broken in ("{", "[]", '{"format": "x"}'):
        (run / "config.json").write_text(broken)
        with pytest.raises(UserError, match=r"config\.json"):
            load_run(run, "finance")


def test_a_folder_that_is_no_run_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.txt").write_text("years of work")
    with pytest.raises(UserError, match="no run"):
        save_run(tmp_path / "thesis", "finance", {}, net())
    assert (tmp_path / "thesis" / "chapter1.txt").read_text() == "years of work"
