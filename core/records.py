"""Where a run's figures go: metrics.jsonl always, TensorBoard where it is installed, loggers of one's own."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from core import distributed
from core.errors import UserError


class Logger(Protocol):
    """Anything that takes a row of figures: a W&B run, an MLflow wrapper, a list's owner."""

    def log(self, row: dict[str, Any], step: int) -> object: ...


class Records:
    """Rows of figures to `out/metrics.jsonl`, to TensorBoard in `out/tensorboard` where it is installed, and to `loggers`.

    The first process alone writes.
    """

    def __init__(self, out: Path | None, loggers: Sequence[Logger] = (), step: int = 0) -> None:
        first = distributed.rank() == 0
        self.out, self.loggers = (out, tuple(loggers)) if first else (None, ())
        self.board = _board(self.out, step)

    def write(self, row: Mapping[str, Any], step: int) -> None:
        """A row of plain numbers, in one line.

        Raises:
            UserError: the disk is full.
        """
        whole = {"step": step, **row}
        for logger in self.loggers:
            logger.log(dict(whole), step)
        if self.out is None:
            return
        try:
            self.out.mkdir(parents=True, exist_ok=True)
            with (self.out / "metrics.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(whole) + "\n")
        except OSError as error:
            raise UserError(
                f"metrics.jsonl cannot be written: {error.strerror}", where=self.out, mend="free some space"
            ) from error
        if self.board is not None:
            for name, value in row.items():
                if isinstance(value, int | float):
                    self.board.add_scalar(name, value, step)

    def __enter__(self) -> Records:
        return self

    def __exit__(self, *ended: object) -> None:
        if self.board is not None:
            self.board.close()


def _board(out: Path | None, step: int) -> Any:
    """TensorBoard's writer; rows of a killed run behind `step` are purged. None where it is not installed."""
    if out is None:
        return None
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(out / "tensorboard"), purge_step=step + 1)
