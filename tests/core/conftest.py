"""Small data and encoders that the core's tests share."""

from __future__ import annotations

import errno
import os
import resource
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import numpy as np
import pytest
import torch

from core.batches import Ragged
from core.errors import UserError


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture
def events() -> Ragged:
    """Habits: each sequence has a kind; the kind decides category and amount of its events."""
    draw = np.random.default_rng(0)
    lengths = draw.integers(6, 25, 240)
    kind = np.repeat(draw.integers(0, 4, 240), lengths)
    category = (3 + (kind * 2 + draw.integers(0, 2, len(kind)))).astype(np.int64)
    amount = (kind - 1.5 + 0.3 * draw.standard_normal(len(kind))).astype(np.float32)
    return Ragged({"category": category, "amount": amount}, np.concatenate([[0], np.cumsum(lengths)]))


@pytest.fixture
def full_disk() -> Callable[[int], AbstractContextManager[None]]:
    """`with full_disk(after=100):` no file can grow beyond 100 bytes, whoever writes it: Python, torch or safetensors."""

    @contextmanager
    def full(after: int) -> Iterator[None]:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (after, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    return full


class Disk:
    """Refuses the `left`-th change of the file system from now on: a file opened for writing, a new folder, a new name."""

    left = -1

    def reached(self, work: Callable[[], object]) -> bool:
        """Whether `work` came to the change that fails; then it must have ended in `UserError`."""
        try:
            work()
        except UserError as error:
            assert "No space left" in str(error) and "\n" not in str(error)
            return True
        assert self.left >= 0, "a change failed and nobody said so"
        return False

    def hook(self, event: str, arguments: tuple) -> None:
        writes = event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+")
        makes = event == "open" and arguments[1] is None and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        folder = event == "os.mkdir" and not os.path.isdir(arguments[0])
        if self.left < 0 or not (writes or makes or folder or event == "os.rename"):
            return
        self.left -= 1
        if self.left < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


DISK = Disk()
sys.addaudithook(DISK.hook)


@pytest.fixture
def full_at() -> Callable[[int], AbstractContextManager[Disk]]:
    """`with full_at(3) as disk:` the fourth change of the file system fails; see `disk.reached`."""

    @contextmanager
    def full(changes: int) -> Iterator[Disk]:
        DISK.left = changes
        try:
            yield DISK
        finally:
            DISK.left = -1

    return full
