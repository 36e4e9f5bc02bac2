"""Item sequences, one after the other: what data.py gives and everything else reads."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from core.codec import FIRST, UNKNOWN, Categories

if TYPE_CHECKING:  # core.batches needs torch, which floors and checks do not
    from core.batches import Ragged


def occurrences(items: NDArray[np.int64], n_items: int) -> NDArray[np.int64]:
    """How often each item of a catalogue is among the ids, (n_items,); reserved ids do not count."""
    return np.bincount(items[items >= FIRST] - FIRST, minlength=n_items)


@dataclass(frozen=True)
class Sequences:
    """N sequences over one catalogue, each in time order.

    Attributes:
        keys: (N,) user or session, as text.
        items: (total,) ids as in core.codec: 1 is an unknown item, 3 and above are the catalogue's.
        offsets: (N + 1,); sequence i is `items[offsets[i]:offsets[i + 1]]`.
        catalogue: the items.
    """

    keys: NDArray
    items: NDArray[np.int64]
    offsets: NDArray[np.int64]
    catalogue: Categories

    @classmethod
    def of(cls, lists: Iterable[Iterable[object]], catalogue: Categories | None = None) -> Sequences:
        """From lists of items; items outside a given catalogue become unknown."""
        parts = [[str(item) for item in one] for one in lists]
        flat = np.array([item for one in parts for item in one], dtype=object)
        catalogue = catalogue or Categories.fit(flat)
        offsets = np.concatenate([[0], np.cumsum([len(one) for one in parts])]).astype(np.int64)
        return cls(
            np.array([str(i) for i in range(len(parts))], dtype=object), catalogue.encode(flat), offsets, catalogue
        )

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        return self.offsets[1:] - self.offsets[:-1]  # np.diff takes longer than a session's other sums

    @property
    def n_items(self) -> int:
        """Items in the catalogue, the reserved ids left out."""
        return self.catalogue.size - FIRST

    def rows(self) -> NDArray[np.int64]:
        """Sequence number of each event, (total,)."""
        if len(self) == 1:  # asked twice for each answer of one session
            return np.zeros(len(self.items), dtype=np.int64)
        return np.repeat(np.arange(len(self)), self.lengths)

    def over(self, catalogue: Categories) -> Sequences:
        """The same sequences over another catalogue; items that it does not hold become unknown."""
        return replace(self, items=self.ids(catalogue)[self.items], catalogue=catalogue)

    def ids(self, catalogue: Categories) -> NDArray[np.int64]:
        """(size,) the id in another catalogue of each id of this one."""
        if catalogue.values == self.catalogue.values:
            return np.arange(catalogue.size)
        return np.concatenate([np.arange(FIRST), catalogue.encode(np.array(self.catalogue.values, dtype=object))])

    def select(self, rows: NDArray) -> Sequences:
        """The sequences `rows`, in that order."""
        rows = np.asarray(rows, dtype=np.int64)
        return self.window(self.offsets[rows], self.offsets[rows + 1], self.keys[rows])

    def window(self, starts: NDArray, ends: NDArray, keys: NDArray | None = None) -> Sequences:
        """Sequences made of the events `[starts[i], ends[i])`, as counted over all sequences."""
        lengths = ends - starts
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        places = np.repeat(starts - offsets[:-1], lengths) + np.arange(offsets[-1])
        return replace(self, keys=self.keys if keys is None else keys, items=self.items[places], offsets=offsets)

    def last(self, count: int) -> Sequences:
        """At most the last `count` events of each sequence."""
        ends = self.offsets[1:]
        return self.window(np.maximum(self.offsets[:-1], ends - count), ends)

    def known(self) -> Sequences:
        """The same sequences without unknown items; some may become empty."""
        keep = self.items > UNKNOWN
        lengths = np.bincount(self.rows()[keep], minlength=len(self))
        return replace(self, items=self.items[keep], offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))

    def matrix(self, values: NDArray | None = None) -> sparse.csr_matrix:
        """(N, items) sparse: 1, or the largest of `values` (total,), where a sequence holds an item."""
        known = self.items >= FIRST
        data = np.ones(len(self.items), np.float32) if values is None else np.asarray(values, np.float32)
        rows, columns, data = self.rows()[known], self.items[known] - FIRST, data[known]
        order = np.lexsort((-data, columns, rows))  # the largest value of each (row, column) first
        rows, columns, data = rows[order], columns[order], data[order]
        first = np.ones(len(rows), dtype=bool)
        first[1:] = (np.diff(rows) != 0) | (np.diff(columns) != 0)
        return sparse.csr_matrix((data[first], (rows[first], columns[first])), shape=(len(self), self.n_items))

    def ragged(self) -> Ragged:
        """As core's batches read them, under the field `item`."""
        from core.batches import Ragged

        return Ragged({"item": self.items}, self.offsets)
