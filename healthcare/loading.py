"""Reads many records, on several cores where there are many files; what a bad one raises comes back as its reason."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from core.errors import UserError
from healthcare.listing import Listing, Record
from healthcare.readers import Loaded, Reading, Unreadable
from healthcare.resizing import sized, slices

MANY = 400  # files from which starting further processes pays
CHUNK = 32  # files handed to a process at a time
T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Sized:
    """What became of one record.

    Attributes:
        images: each (C, size, size) or (C, size, size, size); empty where it was set aside.
        shape: sides in the file, before resizing.
        digest: equal where all images are.
        loaded: spacing, ids and marks; without images.
        fault: reason and detail, where it was set aside.
    """

    images: tuple[NDArray[np.float32], ...] = ()
    shape: tuple[int, ...] = ()
    digest: str = ""
    loaded: Loaded = field(default_factory=partial(Loaded, ()))
    fault: tuple[str, str] | None = None


def loaded(listing: Listing, reading: Reading) -> Iterator[Sized]:
    """What became of each record, in order."""
    work = partial(_one, reading=reading)
    if listing.files:
        return each(work, listing.records)
    return map(work, listing.records)


def each(work: Callable[[T], R], items: Sequence[T]) -> Iterator[R]:
    """`work` of every item, in order; of many, on all cores that this process may use.

    Processes are forked: they begin with what is imported, and a caller's script needs no guard. Where a system cannot fork, one reads.

    Raises:
        UserError: a process ended without a word.
    """
    count = cores()
    if len(items) < MANY or count < 2 or "fork" not in multiprocessing.get_all_start_methods():
        yield from map(work, items)
        return
    from concurrent.futures import ProcessPoolExecutor
    from concurrent.futures.process import BrokenProcessPool

    chunks = [items[start : start + CHUNK] for start in range(0, len(items), CHUNK)]
    pool = ProcessPoolExecutor(count, multiprocessing.get_context("fork"))
    try:
        for results in pool.map(partial(_chunk, work), chunks):
            yield from results
    except BrokenProcessPool as error:
        raise UserError(
            "a process that read files was ended, by the system for want of memory or by a file that crashes its decoder",
            where="data", mend="give fewer or smaller files, or lower reading.limits",
        ) from error  # fmt: skip
    finally:
        pool.shutdown(cancel_futures=True)


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _chunk(work: Callable[[T], R], items: Sequence[T]) -> list[R]:
    return [work(item) for item in items]


def _one(record: Record, reading: Reading) -> Sized:
    try:
        found = as_read(record.load(), reading)
        images = tuple(sized(image, reading.size) for image in found.images)
        if not images:
            raise Unreadable("constant", "every slice")
    except Unreadable as error:
        return Sized(fault=(error.reason, error.detail))
    return Sized(images, found.images[0].shape[1:], _digest(images), replace(found, images=()))


def as_read(values: NDArray | Loaded, reading: Reading) -> Loaded:
    """What a record gave, in the number of dimensions that was asked for.

    Raises:
        Unreadable: an image where volumes are asked for.
    """
    if not isinstance(values, Loaded):
        values = Loaded((values[None] if values.ndim == 2 else np.moveaxis(values, -1, 0),))
    images: list[NDArray[np.float32]] = []
    for image in values.images:
        if reading.dims == 3 and image.ndim == 3:
            raise Unreadable("not a volume", f"shape {image.shape[1:]}")
        images.extend(slices(image, reading) if reading.dims == 2 and image.ndim == 4 else (image,))
    return replace(values, images=tuple(images))


def _digest(images: Sequence[NDArray[np.float32]]) -> str:
    made = hashlib.blake2b(digest_size=8)
    for image in images:
        made.update(image.data)
    return made.hexdigest()
