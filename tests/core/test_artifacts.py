"""Run folders: written whole or not at all, and refused where they cannot be trusted."""

from __future__ import annotations

import hashlib
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from core import artifacts
from core.artifacts import check_place, load_run, save_run
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


def trained(folder: Path) -> Path:
    """A working folder as training leaves it."""
    (folder / "run.partial" / "resume").mkdir(parents=True)
    (folder / "run.partial" / "resume" / "state.pt").write_bytes(b"state")
    (folder / "run.partial" / "metrics.jsonl").write_text("{}\n")
    return folder / "run"


def test_metrics_and_resume_state_move_into_the_run(tmp_path: Path) -> None:
    run = save_run(trained(tmp_path), "finance", {"n": 1}, net())
    assert (run / "resume" / "state.pt").read_bytes() == b"state" and (run / "metrics.jsonl").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize("after", [0, 10, 150])  # bytes: of the first file, of it and of config.json
def test_a_full_disk_leaves_run_and_working_folder_whole(after: int, tmp_path: Path, full_disk: Callable) -> None:
    save_run(tmp_path / "run", "finance", {"n": 1}, net())
    trained(tmp_path)
    before = contents(tmp_path)
    with full_disk(after=after), pytest.raises(UserError, match="the run could not be written: File too large"):
        save_run(tmp_path / "run", "finance", {"n": 2, "long": "x" * 200}, net(5))
    assert contents(tmp_path) == before


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_no_change_of_the_disk_that_fails_loses_anything(tmp_path: Path, full_at: Callable) -> None:
    for changes in range(99):
        folder = tmp_path / str(changes)
        save_run(folder / "run", "finance", {"n": 1}, net())
        trained(folder)
        with full_at(changes) as disk:
            if disk.reached(lambda folder=folder: save_run(folder / "run", "finance", {"n": 2}, net(5))):
                assert load_run(folder / "run", "finance").config["n"] in (1, 2)
                assert sum(content == b"state" for content in contents(folder).values()) == 1
            else:
                break
    assert changes >= 9
    assert load_run(folder / "run", "finance").config["n"] == 2


def test_a_place_without_permission_is_refused_before_the_training(tmp_path: Path, full_at: Callable) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match="that is a file, and a run is a folder"):
        check_place(tmp_path / "file")
    with pytest.raises(UserError, match="could not be written: Not a directory"):
        check_place(tmp_path / "file" / "run")
    with full_at(0), pytest.raises(UserError, match="could not be written: No space left"):
        check_place(tmp_path / "run")
    assert [p.name for p in tmp_path.iterdir()] == ["file"] and (tmp_path / "file").read_text() == "mine"


def test_a_kill_at_any_rename_leaves_a_whole_run(tmp_path: Path) -> None:
    for call in range(99):
        folder = tmp_path / str(call)
        save_run(folder / "run", "finance", {"n": 1}, net())
        trained(folder)
        child = os.fork()
        if child == 0:
            die_at(call)
            save_run(folder / "run", "finance", {"n": 2}, net())
            os._exit(0)
        killed = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        assert load_run(folder / "run", "finance").config["n"] in ((1, 2) if killed else (2,))
        assert sum(content == b"state" for content in contents(folder).values()) == 1
        save_run(folder / "run", "finance", {"n": 3}, net())
        assert load_run(folder / "run", "finance").config["n"] == 3
        if not killed:
            break
    assert 6 <= call < 99


def die_at(call: int) -> None:
    """Kill this process at the given rename or removal of core.artifacts."""
    left = iter([False] * call + [True])

    def deadly(change: Callable) -> Callable:
        def wrapped(*arguments: object, **options: object) -> object:
            if next(left, False):
                os.kill(os.getpid(), signal.SIGKILL)
            return change(*arguments, **options)

        return wrapped

    artifacts.os.replace, artifacts.shutil.rmtree = deadly(os.replace), deadly(artifacts.shutil.rmtree)


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
    for forged in (b"\xff" * 64, b"", (10**12).to_bytes(8, "little") + b"{}"):  # by who also forges the hash
        (run / "encoder.safetensors").write_bytes(forged)
        hashes = {**config["sha256"], "encoder.safetensors": hashlib.sha256(forged).hexdigest()}
        (run / "config.json").write_text(json.dumps({**config, "sha256": hashes}))
        with pytest.raises(UserError, match="truncated or was changed"):
            load_run(run, "finance")
    (run / "config.json").write_text(json.dumps({**config, "sha256": ["?"]}))
    with pytest.raises(UserError, match="truncated or was changed"):
        load_run(run, "finance")
    (run / "config.json").write_text(json.dumps({**config, "format": artifacts.FORMAT + 1}))
    with pytest.raises(UserError, match="newer version"):
        load_run(run, "finance")
    for broken in ("{", "[]", '{"format": "x"}', "[" * 100_000, "\udcff"):
        (run / "config.json").write_text(broken, encoding="utf-8", errors="surrogateescape")
        with pytest.raises(UserError, match=r"config\.json"):
            load_run(run, "finance")


def test_a_folder_that_is_no_run_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.txt").write_text("years of work")
    with pytest.raises(UserError, match="no run"):
        save_run(tmp_path / "thesis", "finance", {}, net())
    assert (tmp_path / "thesis" / "chapter1.txt").read_text() == "years of work"
