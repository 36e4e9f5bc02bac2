"""Ctrl-C and SIGTERM, held until a training step is whole, so that what is saved can be gone on from."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType
from typing import Any

from core.distributed import world

HELD = (signal.SIGINT, signal.SIGTERM)
SAME_SECONDS = 5.0  # torchrun passes on a signal that the terminal has already sent to every process


class Held:
    """`with Held() as held`: the first signal asks to stop (`held.asked()`), the second one stops at once.

    Outside the main thread, where Python delivers no signal, nothing is held. Where one of several processes fails, they go on being
    held: torchrun then ends the process, and it would do so before the one line that says why.
    """

    def __init__(self) -> None:
        self._since: float | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Held:
        if threading.current_thread() is threading.main_thread():
            self._before = {kind: signal.signal(kind, self._take) for kind in HELD}
        return self

    def __exit__(self, failed: type[BaseException] | None, *where: object) -> None:
        if failed is not None and world() > 1:
            return
        for kind, handler in self._before.items():
            signal.signal(kind, handler)

    def asked(self) -> bool:
        """Whether a signal has come to this process."""
        return self._since is not None

    def _take(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self._since is None:
            self._since = now
        elif world() == 1 or now - self._since > SAME_SECONDS:
            raise KeyboardInterrupt("stopped at once; the same command goes on from the last saved step")
