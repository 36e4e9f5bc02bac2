"""Data in memory as batches. What a batch holds is a pure function of (seed, epoch, number): so training resumes from its step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from core.codec import MISSING
from core.errors import UserError
from core.tokens import Batch

T = TypeVar("T")
Crop = Literal["last", "random"]
WIDENING = 1.15  # between the edges of length buckets: at most so much of a batch is padding, and about half of that is


class Batches(Protocol):
    """What the training loop reads from."""

    def __len__(self) -> int:
        """Batches an epoch."""

    def batch(self, epoch: int, number: int) -> Batch:
        """Batch `number` of `epoch`, on the CPU."""

    def ordered(self) -> Iterator[Batch]:
        """Every row once, in order, for embedding."""

    def at(self, rows: NDArray) -> Batch:
        """The rows of these numbers, in that order."""

    @property
    def rows(self) -> int:
        """How many rows there are."""


def _once(orders: dict[int, T], epoch: int, make: Callable[[], T]) -> T:
    """The order of an epoch, made once; only the newest is kept."""
    if epoch not in orders:
        orders.clear()
        orders[epoch] = make()
    return orders[epoch]


def _check(rows: int, batch_size: int) -> None:
    if rows < 2:
        raise UserError(
            f"{rows} usable row{'s' * (rows != 1)}: nothing to learn from", where="data", mend="give at least 2"
        )
    if batch_size < 2:
        raise UserError(f"batch size {batch_size} is below 2", where="batch_size", mend="use 2 or more")


@dataclass(frozen=True)
class ArrayBatches:
    """Rows of equally long arrays.

    Args:
        arrays: (N, …) each; a batch holds their rows as tensors, and `index` (B,), the row numbers.
        batch_size: rows a batch; fewer rows than that make one smaller batch.
        seed: of the order.
    """

    arrays: dict[str, NDArray]
    batch_size: int
    seed: int = 0
    _orders: dict[int, NDArray] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        lengths = {name: len(array) for name, array in self.arrays.items()}
        if len(set(lengths.values())) != 1:
            raise UserError(f"arrays of different lengths {lengths}", where="data", mend="give equally many rows")
        _check(self.rows, self.batch_size)

    @property
    def rows(self) -> int:
        return len(next(iter(self.arrays.values())))

    def __len__(self) -> int:
        return max(1, self.rows // self.batch_size)

    def at(self, rows: NDArray) -> Batch:
        batch = {name: torch.from_numpy(np.ascontiguousarray(array[rows])) for name, array in self.arrays.items()}
        return {**batch, "index": torch.from_numpy(rows)}

    def batch(self, epoch: int, number: int) -> Batch:
        order = _once(self._orders, epoch, lambda: np.random.default_rng([self.seed, epoch]).permutation(self.rows))
        return self.at(order[number * self.batch_size : (number + 1) * self.batch_size])

    def ordered(self) -> Iterator[Batch]:
        for start in range(0, self.rows, self.batch_size):
            yield self.at(np.arange(start, min(start + self.batch_size, self.rows)))


@dataclass(frozen=True)
class Ragged:
    """Sequences of different lengths, one after the other.

    Args:
        fields: values (total,) or (total, F) of each field, sequence after sequence.
        offsets: (N + 1,); sequence i is `[offsets[i], offsets[i + 1])`.
    """

    fields: dict[str, NDArray]
    offsets: NDArray

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> NDArray:
        return np.diff(self.offsets)

    @classmethod
    def of(cls, sequences: list[NDArray], name: str) -> Ragged:
        """One field from a list of arrays."""
        offsets = np.concatenate([[0], np.cumsum([len(s) for s in sequences])]).astype(np.int64)
        return cls({name: np.concatenate(sequences)}, offsets)

    def select(self, rows: NDArray) -> Ragged:
        """The sequences `rows`, in that order."""
        rows = np.asarray(rows)
        lengths = self.lengths[rows]
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        places = np.repeat(self.offsets[rows] - offsets[:-1], lengths) + np.arange(offsets[-1])
        return Ragged({name: values[places] for name, values in self.fields.items()}, offsets)

    def padded(self, rows: NDArray, max_length: int, starts: NDArray | None = None) -> Batch:
        """Sequences `rows` as a batch with `pad` (B, T), padded on the right.

        Args:
            max_length: longer sequences are cut to a window.
            starts: where each window begins; None keeps the last `max_length` places.
        """
        rows = np.asarray(rows)
        lengths = np.minimum(self.lengths[rows], max_length)
        if starts is None:
            starts = self.lengths[rows] - lengths
        time = int(lengths.max())
        place = np.arange(time)[None]
        pad = place >= lengths[:, None]
        at = np.where(pad, 0, self.offsets[rows][:, None] + starts[:, None] + place)  # (B, T)
        batch = {}
        for name, values in self.fields.items():
            taken = values[at]
            taken[pad] = 0.0 if np.issubdtype(values.dtype, np.floating) else MISSING
            batch[name] = torch.from_numpy(taken)
        return {**batch, "pad": torch.from_numpy(pad), "index": torch.from_numpy(rows)}


def runs(lengths: NDArray, most: int, max_tokens: int | None = None) -> Iterator[NDArray]:
    """Numbers of rows, in order, that are read together: `most` of them, or as many as keep rows × longest within `max_tokens`; one that is
    longer than that by itself.

    Args:
        lengths: (N,) of all rows.
    """
    start, widest = 0, 0
    for row, length in enumerate(lengths):
        widest = max(widest, int(length))
        full = max_tokens is not None and row > start and (row - start + 1) * widest > max_tokens
        if full or row - start == most:
            yield np.arange(start, row)
            start, widest = row, int(length)
    yield np.arange(start, len(lengths))


@dataclass(frozen=True)
class SequenceBatches:
    """Batches of sequences of like length, so that little is spent on padding.

    Args:
        ragged: the sequences.
        batch_size: sequences a batch; the most of them where `max_tokens` is given.
        seed: of the order and of random crops.
        max_length: longer sequences are cut to a window.
        crop: the last places, or a window at a random start.
        min_length: shorter sequences are left out of training.
        bucket: put sequences of like length together.
        max_tokens: bound of sequences × longest, padding included: short sequences then come in larger batches than long
            ones. Every sequence comes once an epoch, the batches of one length are equally large but for one row, and an
            epoch has the same number of batches each time.
        least: sequences that a batch holds where `max_tokens` is given. The bound, and `batch_size`, must be that of 2·least - 1 of the
            longest, since as many and one more would otherwise leave some alone.
    """

    ragged: Ragged
    batch_size: int
    seed: int = 0
    max_length: int = 128
    crop: Crop = "random"
    min_length: int = 1
    bucket: bool = True
    max_tokens: int | None = None
    least: int = 2
    _orders: dict[int, list[NDArray]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _check(len(self._usable), self.batch_size)
        longest = min(int(self.ragged.lengths.max()), self.max_length)
        few = 2 * self.least - 1
        if self.max_tokens is not None and self.max_tokens < few * longest:
            raise UserError(
                f"{self.max_tokens} tokens are fewer than {few} sequences of {longest}", where="max_tokens",
                mend=f"use {few * longest} or more, or a smaller max_length",
            )  # fmt: skip
        if self.max_tokens is not None and (self.batch_size < few or len(self._usable) < self.least):
            raise UserError(
                f"batches of {self.least} or more sequences, of {len(self._usable)}, at most {self.batch_size} a batch",
                where="batch_size", mend=f"use {few} or more, and give more data",
            )  # fmt: skip

    @property
    def rows(self) -> int:
        return len(self.ragged)

    @cached_property
    def _usable(self) -> NDArray:
        return np.flatnonzero(self.ragged.lengths >= max(self.min_length, 1))

    def __len__(self) -> int:
        if self.max_tokens is None:
            return max(1, len(self._usable) // self.batch_size)
        return sum(count for _, count in self._buckets)

    def _most(self, length: int) -> int:
        """How many sequences of that length make a batch."""
        assert self.max_tokens is not None
        return min(self.batch_size, self.max_tokens // length)

    def _edges(self, lengths: NDArray) -> NDArray:
        """Longest sequence of each bucket, rising; every bucket but the first holds a whole batch or more, and that one no fewer sequences
        than the batches of the next."""
        longest, edges = int(lengths[-1]), [int(lengths[-1])]
        above = len(lengths)  # sequences up to the last edge
        while self.bucket:
            start = int(np.searchsorted(lengths, longest / WIDENING, "right"))
            # a bucket too small for a batch reaches further down, to shorter sequences
            start = min(start, above - self._most(longest))
            start = int(np.searchsorted(lengths, lengths[start], "left")) if start > 0 else 0
            if start == 0 or start < self._most(longest):
                break
            longest, above = int(lengths[start - 1]), start
            edges.append(longest)
        return np.array(edges[::-1])

    @cached_property
    def _buckets(self) -> list[tuple[NDArray, int]]:
        """The rows of each bucket, and how many batches they make."""
        lengths = np.minimum(self.ragged.lengths[self._usable], self.max_length)
        edges = self._edges(np.sort(lengths))
        place = np.searchsorted(edges, lengths)
        rows = [self._usable[place == i] for i in range(len(edges))]
        return [(r, -(-len(r) // self._most(int(edge)))) for r, edge in zip(rows, edges, strict=True)]

    def _order(self, epoch: int) -> list[NDArray]:
        """Row numbers of each batch: shuffled, put together by length, and the batches shuffled."""
        generator = np.random.default_rng([self.seed, epoch])
        size, lengths = self.batch_size, self.ragged.lengths
        if self.max_tokens is not None:
            cut = [part for rows, count in self._buckets for part in np.array_split(generator.permutation(rows), count)]
            return [cut[i] for i in generator.permutation(len(cut))]
        rows = generator.permutation(self._usable)
        if self.bucket and len(rows) > size:
            rows = rows[np.argsort(np.minimum(lengths[rows], self.max_length), kind="stable")]
            whole = len(rows) // size * size
            # the rest of an uneven epoch is dropped at a random place, so that no length is dropped for ever
            skip = generator.integers(0, len(rows) - whole + 1)
            batches = rows[skip : skip + whole].reshape(-1, size)
            rows = batches[generator.permutation(len(batches))].reshape(-1)
        return [rows[i * size : (i + 1) * size] for i in range(len(self))]

    def batch(self, epoch: int, number: int) -> Batch:
        rows = _once(self._orders, epoch, lambda: self._order(epoch))[number]
        starts = None
        if self.crop == "random":
            room = np.maximum(self.ragged.lengths[rows] - self.max_length, 0)
            starts = np.random.default_rng([self.seed, epoch, number]).integers(0, room + 1)
        return self.ragged.padded(rows, self.max_length, starts)

    def at(self, rows: NDArray) -> Batch:
        return self.ragged.padded(rows, self.max_length)

    def ordered(self) -> Iterator[Batch]:
        for rows in runs(np.minimum(self.ragged.lengths, self.max_length), self.batch_size, self.max_tokens):
            yield self.at(rows)
