"""How far a run is: a bar on a terminal, lines in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from core import distributed

NOTE_SECONDS = 10  # between two progress lines in a log; metrics.jsonl has every one
Note = Callable[[str], None]


class Progress:
    """A bar on a terminal; in a log, a line every ten seconds instead."""

    def __init__(self, note: Note, steps: int | None, step: int) -> None:
        self.note, self.bar, self.said = note, None, time.monotonic()
        if sys.stderr.isatty() and distributed.rank() == 0:
            from tqdm import tqdm

            self.bar = tqdm(total=steps, initial=step, unit="step", leave=False)

    def move(self, step: int, steps: int | None) -> None:
        if self.bar is not None:
            self.bar.total = steps
            self.bar.update(step - self.bar.n)

    def line(self, step: int, steps: int | None, loss: float, seconds: float) -> None:
        now = time.monotonic()
        if self.bar is None and (step == steps or now - self.said >= NOTE_SECONDS):
            self.note(f"step {step}{f'/{steps}' if steps else ''}  loss {loss:.4f}  {seconds:.0f} s")
            self.said = now

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *ended: object) -> None:
        if self.bar is not None:
            self.bar.close()
