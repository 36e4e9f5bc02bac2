"""One side of a comparison: a process that works in rounds, so that rounds of both sides can alternate on one machine."""

from __future__ import annotations

import contextlib
import json
import resource
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any


class Rounds:
    """Waits for `go` on the standard input, times what is done until `done`, and prints one line of JSON for it."""

    def __init__(self) -> None:
        self.memory = 0.0
        self.number = -1

    def go(self) -> bool:
        """Block until the next round may begin; False where there is none."""
        if self.number < 0:
            say(ready=True)
        if sys.stdin.readline().strip() != "go":
            return False
        self.number += 1
        if self.number == 0:
            self.memory = forget_peak()
        self.wall, self.cpu = time.perf_counter(), processor_seconds()
        return True

    def done(self, count: int, more: Callable[[], dict[str, float]] = dict) -> None:
        """End the round, in which `count` things were done; `more` is asked when the time is taken, and told beside."""
        wall, cpu = time.perf_counter() - self.wall, processor_seconds() - self.cpu
        say(count=count, wall=wall, cpu=cpu, **more())

    def repeat(self, work: Callable[[], int]) -> None:
        """Rounds of `work`, which returns how many things it did, until there are no more; then finish."""
        while self.go():
            self.done(work())
        self.finish()

    def finish(self, **figures: float) -> None:
        """Print what is known at the end, with the peak memory in MB above what was held before the first round."""
        say(memory=peak() - self.memory, **figures)


def endless(loader: Iterable[Any]) -> Iterator[Any]:
    """The batches of a loader, epoch after epoch; none of one that has none."""
    some = True
    while some:
        some = False
        for batch in loader:
            some = True
            yield batch


def say(**values: Any) -> None:
    print(json.dumps(values), flush=True)


def processor_seconds() -> float:
    """Seconds of all cores that this process and those of its children that have ended spent."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + ended.ru_utime + ended.ru_stime


def forget_peak() -> float:
    """Start the peak of resident memory anew, where the system can; MB in use now."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return peak()


def peak() -> float:
    """The most resident memory so far, in MB."""
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        return float(status.split("VmHWM:")[1].split()[0]) / 1024
    except (OSError, IndexError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
