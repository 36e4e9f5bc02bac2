"""The resume state of a training run: saved beside its final name first, so that a kill leaves the old one whole."""

from __future__ import annotations

import io
import json
import math
import os
import shutil
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from core import distributed
from core.averaging import Average
from core.errors import UserError
from core.files import cannot_write, whole
from core.methods.base import Method

# what may differ when a run goes on: how it is computed and watched, not what it computes
FREE = ("device", "compile", "channels_last", "log_every", "save_every_minutes", "monitor_every", "on_collapse")


@dataclass
class Place:
    """How far a run is.

    Attributes:
        step: optimizer steps taken; steps: of the whole run, None until `minutes` are turned into steps.
        seconds: spent up to here.
        best, told: of the collapse monitor.
    """

    step: int = 0
    steps: int | None = None
    seconds: float = 0.0
    best: dict[str, float] = field(default_factory=dict)
    told: list[str] = field(default_factory=list)


def save_state(
    out: Path, method: Method, optimizer: torch.optim.Optimizer, settings: dict, place: Place, average: Average | None = None
) -> None:  # fmt: skip
    """Write `resume/state.pt` beside its final name first; the state is the same on every process, the first one writes.

    Raises:
        UserError: the disk is full; the older state stays whole.
    """
    if distributed.rank() > 0:
        return
    path = _state(out)
    temporary = path.with_name("state.pt.tmp")
    state = {
        "method": method.state_dict(), "optimizer": optimizer.state_dict(), "settings": json.dumps(settings),
        "place": asdict(place), "average": None if average is None else average.weights,
    }  # fmt: skip
    content = io.BytesIO()  # through memory: Python says why it cannot write, torch's own writer does not
    torch.save(state, content)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(content.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise cannot_write("the training state", out, error) from error


def goes_on(out: Path) -> bool:
    """Whether a training in `out` would read saved weights over those that it is given. The first process looks for all."""
    return distributed.any_of(distributed.rank() == 0 and _state(out).exists())[0]


def load_state(out: Path, settings: dict, device: torch.device) -> dict[str, Any] | None:
    """The saved state in `out`, with its `Place`; None where there is none. The first process reads it for all.

    Raises:
        UserError: it cannot be read, or belongs to a run of other settings.
    """
    path = _state(out)
    content = None
    if distributed.rank() == 0:
        if path.exists():
            content = path.read_bytes()
        elif (out / "metrics.jsonl").exists():  # killed before the first save: that run left nothing to go on from
            (out / "metrics.jsonl").unlink()
            shutil.rmtree(out / "tensorboard", ignore_errors=True)
    content = distributed.broadcast_bytes(content)
    if content is None:
        return None
    try:
        state = torch.load(io.BytesIO(content), map_location=device, weights_only=True)
        before, place = json.loads(state["settings"]), Place(**state["place"])
    except Exception as error:  # torch raises many kinds for a damaged file
        raise UserError(
            "the saved training state cannot be read", where=out, mend="remove that folder and start again"
        ) from error
    other = sorted(k for k in settings.keys() | before.keys() if k not in FREE and settings.get(k) != before.get(k))
    if other:
        raise UserError(
            f"an unfinished run with other settings is there: {', '.join(other)}", where=out,
            mend="remove that folder, or give the same settings",
        )  # fmt: skip
    if distributed.rank() == 0:
        _forget_after(out / "metrics.jsonl", place.step)
    return {**state, "place": place}


def _state(out: Path) -> Path:
    return out / "resume" / "state.pt"


def _forget_after(log: Path, step: int) -> None:
    """Drop rows that were written after the state was saved: they will be written again."""
    if log.exists():
        rows = [line for line in log.read_text(encoding="utf-8").splitlines() if _step_of(line) <= step]
        with whole(log, "metrics.jsonl") as temporary:
            temporary.write_text("".join(line + "\n" for line in rows), encoding="utf-8")


def _step_of(line: str) -> float:
    try:
        return json.loads(line)["step"]
    except (json.JSONDecodeError, KeyError):
        return math.inf  # a line that the kill cut short
