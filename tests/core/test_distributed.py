"""Several processes: they equal one, go on with another number, and end together with one line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from finance.synthetic import World, write

sys.path.insert(0, str(Path(__file__).parent))
from training_processes import interrupted, trained

ROOT = Path(__file__).parent.parent.parent
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
ALONE = {key: value for key, value in os.environ.items() if key not in ("WORLD_SIZE", "RANK", "LOCAL_RANK")}
ENVIRONMENT = {**ALONE, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes leave, of which one part was begun by one."""
    folder = tmp_path_factory.mktemp("processes")
    with pytest.raises(KeyboardInterrupt):
        trained(folder / "one", [], interrupted(3, rank=0))
    script = str(Path(__file__).parent / "training_processes.py")
    done = subprocess.run(
        [*TORCHRUN, script, str(folder)], env=ENVIRONMENT, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def alone() -> tuple[dict[str, torch.Tensor], list[float]]:
    """Weights and losses of the same training on one process."""
    learner, history = trained(None, [])
    return learner.state_dict(), history.losses


def told(folder: Path, rank: int) -> dict:
    return json.loads((folder / f"told{rank}.json").read_text())


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    for name, value in a.items():
        torch.testing.assert_close(value, b[name], rtol=1e-3, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}")


def test_two_processes_train_what_one_trains(folder: Path, alone: tuple[dict, list[float]]) -> None:
    weights = torch.load(folder / "weights.pt", weights_only=True)
    same(weights["whole"], alone[0])
    for rank in (0, 1):
        assert told(folder, rank)["losses"] == pytest.approx(alone[1], rel=1e-4)


def test_a_run_goes_on_with_another_number_of_processes(folder: Path, alone: tuple[dict, list[float]]) -> None:
    weights = torch.load(folder / "weights.pt", weights_only=True)
    same(weights["resumed"], alone[0])  # begun by one, ended by two
    assert told(folder, 0)["resumed"][0] == "resuming at step 3 of 6"
    lines: list[str] = []
    again, _ = trained(folder / "two", lines)  # begun by two, ended by one
    assert lines[0] == "resuming at step 3 of 6"
    same(again.state_dict(), alone[0])


def test_the_first_process_alone_speaks_and_writes(folder: Path) -> None:
    assert told(folder, 0)["lines"][-1].startswith("step 6/6  loss") and told(folder, 1)["lines"] == []
    rows = [json.loads(line) for line in (folder / "whole" / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "loss" in row] == [2, 4, 6]
    assert [row["step"] for row in rows if "feature_std" in row] == [0, 3, 6]


@pytest.mark.parametrize(
    ("what", "line"),
    [
        ("interrupted", "stopped at step 3; the same command goes on from there"),  # the signal reached one alone
        ("poisoned", "the loss is nan at step"),  # so did the row without a number
        ("lone", "1 rows for 2 processes (batch 0 of epoch 0); use a larger batch or fewer processes"),
    ],
)
def test_processes_end_together_and_agree_why(folder: Path, what: str, line: str) -> None:
    first, second = told(folder, 0)[what], told(folder, 1)[what]
    assert first == second and line in first


def own_lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("tacit-finance")]


def test_the_command_survives_the_death_of_a_process(tmp_path: Path) -> None:
    """Killed in the middle, it ends at once with one line; started again, it goes on and leaves a whole run."""
    write(tmp_path / "data", World(40, 60, seed=0))
    command = [*TORCHRUN, "-m", "finance", "pretrain", "--data", str(tmp_path / "data"), "--out", str(tmp_path / "run")]
    command += ["--steps", "24", "--set", "train.save_every_minutes=0.0001", "shape.dim=16", "shape.depth=1"]
    state = tmp_path / "run.partial" / "resume" / "state.pt"
    with subprocess.Popen(
        command, env=ENVIRONMENT, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as launched:
        deadline = time.monotonic() + 300
        while not state.exists() and launched.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        children = Path(f"/proc/{launched.pid}/task/{launched.pid}/children").read_text().split()
        os.kill(int(children[1]), signal.SIGKILL)
        killed = time.monotonic()
        _, errors = launched.communicate(timeout=60)
        assert launched.returncode != 0 and time.monotonic() - killed < 30
    assert own_lines(errors) == [line for line in own_lines(errors) if "another process has ended" in line]
    assert len(own_lines(errors)) == 1, errors
    done = subprocess.run(command, env=ENVIRONMENT, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("resuming at step") == 1 and done.stdout.count("run: ") == 1
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert {"config.json", "encoder.safetensors", "heads.safetensors", "card.md", "metrics.jsonl", "resume"} <= names


HELD_PROCESS = """
import os, signal, sys
from core import signals
signals.world = lambda: int(sys.argv[1])
try:
    with signals.Held():
        raise RuntimeError("Connection closed by peer")
except RuntimeError:
    os.kill(os.getpid(), signal.SIGTERM)  # torchrun's, before the process has said a word
    print("its line")
"""


@pytest.mark.parametrize(("processes", "code", "line"), [(2, 0, "its line\n"), (1, -signal.SIGTERM, "")])
def test_one_of_several_that_fails_can_say_why_before_torchrun_ends_it(processes: int, code: int, line: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", HELD_PROCESS, str(processes)], env=ENVIRONMENT, cwd=ROOT, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (code, line), done.stderr


@pytest.mark.parametrize(
    ("environment", "arguments", "line"),
    [
        ({}, ["evaluate", "--run", "r", "--data", "d", "--out", "o"], "only pretrain runs on several processes"),
        ({}, ["pretrain", "--data", "d", "--out", "o"], "RANK is '' (environment); start with torchrun"),
        ({"RANK": "1"}, ["evaluate", "--run", "r", "--data", "d", "--out", "o"], ""),
    ],
)
def test_what_several_processes_cannot_do_is_one_line(environment: dict, arguments: list[str], line: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "finance", *arguments], env={**ENVIRONMENT, "WORLD_SIZE": "2", **environment}, cwd=ROOT,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2 and line in done.stderr and done.stderr.count("\n") == bool(line)
