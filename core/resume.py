"""The resume state of a training run: saved beside its final name first, so that a kill leaves the old one whole."""

from __future__ import annotations

import json
import math
import os
import shutil
from pathlib import Path
from typing import Any

import torch

from core.errors import UserError
from core.methods.base import Method


def save_state(
    out: Path, method: Method, optimizer: torch.optim.Optimizer, settings: dict, step: int, steps: int, seconds: float
) -> None:
    """Write `resume/state.pt` beside its final name first, so that a kill leaves the old one whole."""
    folder = out / "resume"
    folder.mkdir(parents=True, exist_ok=True)
    state = {
        "method": method.state_dict(), "optimizer": optimizer.state_dict(), "settings": json.dumps(settings),
        "step": step, "steps": steps, "seconds": seconds,
    }  # fmt: skip
    temporary = folder / "state.pt.tmp"
    try:
        torch.save(state, temporary)
        os.replace(temporary, folder / "state.pt")
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise UserError(
            f"the training state could not be saved: {error.strerror}", where=out, mend="free some space"
        ) from error


def load_state(out: Path, settings: dict, device: torch.device) -> dict[str, Any] | None:
    """The saved state in `out`, None where there is none."""
    path = out / "resume" / "state.pt"
    if not path.exists():
        if (out / "metrics.jsonl").exists():  # killed before the first save: that run left nothing to go on from
            shutil.rmtree(out)
        return None
    try:
        state = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # torch raises many kinds for a damaged file
        raise UserError(
            "the saved training state cannot be read", where=out, mend="remove that folder and start again"
        ) from error
    if json.loads(state["settings"]) != settings:
        raise UserError(
            "an unfinished run with other settings is there",
            where=out,
            mend="remove that folder, or give the same settings",
        )
    log = out / "metrics.jsonl"
    if log.exists():  # rows that were written after the state was saved will be written again
        rows = [line for line in log.read_text(encoding="utf-8").splitlines() if _step_of(line) <= state["step"]]
        log.write_text("".join(line + "\n" for line in rows), encoding="utf-8")
    return state


def _step_of(line: str) -> float:
    try:
        return json.loads(line)["step"]
    except (json.JSONDecodeError, KeyError):
        return math.inf  # a line that the kill cut short
