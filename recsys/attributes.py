"""Item attributes (categories, brand, tags): read, and lined up with a catalogue."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from core.codec import FIRST, Categories
from core.errors import UserError
from recsys.data import ITEMS

NAMES = ("attributes", "attribute", "category", "categories", "tags")
MOST = 64  # attributes of one item, the commonest
NONE = -100


@dataclass(frozen=True)
class Attributes:
    """The attributes of a catalogue's items.

    Attributes:
        table: (ids, K) numbers of each id's attributes, filled up with -100; the reserved ids and items of which nothing is known
            have none.
        names: the attributes, from common to rare.
        ignored: how many items have attributes and are not in the catalogue.
    """

    table: NDArray[np.int64]
    names: Categories
    ignored: int = 0

    @classmethod
    def of(cls, frame: pd.DataFrame, catalogue: Categories) -> Attributes:
        """From a table of items with their lists of attributes, or with one attribute a row.

        Raises:
            UserError: a column is missing, or no item of the catalogue has an attribute.
        """
        pairs = pairs_of(frame)
        ids = catalogue.encode(pairs["item"])
        ignored = pairs["item"][ids < FIRST].nunique()
        pairs, ids = pairs[ids >= FIRST], ids[ids >= FIRST]
        if not len(pairs):
            raise UserError(
                "no item of the data has an attribute", where="attributes", mend="give the item ids that the data hold"
            )
        names = Categories.fit(pairs["attribute"])
        found = pd.DataFrame({"id": ids, "number": names.encode(pairs["attribute"]) - FIRST}).drop_duplicates()
        found = found.sort_values(["id", "number"])  # from common to rare
        place = found.groupby("id").cumcount()
        found, place = found[place < MOST], place[place < MOST]
        table = np.full((catalogue.size, int(place.max()) + 1), NONE, dtype=np.int64)
        table[found["id"], place] = found["number"]
        return cls(table, names, ignored)

    def __len__(self) -> int:
        return len(self.names.values)

    @property
    def known(self) -> NDArray[np.bool_]:
        """(ids,) whether an id has any."""
        return (self.table != NONE).any(1)

    def lists(self, catalogue: Categories) -> dict[str, list[str]]:
        """The attributes of every item that has any, as text: what a run keeps."""
        values = self.names.values
        rows = ([values[number] for number in row if number != NONE] for row in self.table[FIRST:])
        return {item: found for item, found in zip(catalogue.values, rows, strict=True) if found}

    def matrix(self) -> sparse.csr_matrix:
        """(ids, attributes) sparse: 1 where an id has an attribute."""
        row, place = np.nonzero(self.table != NONE)
        ones = np.ones(len(row), dtype=np.float64)
        return sparse.csr_matrix((ones, (row, self.table[row, place])), shape=(len(self.table), len(self)))


def from_lists(lists: dict[str, list[str]]) -> pd.DataFrame:
    """The table that `Attributes.lists` came from."""
    return pd.DataFrame({"item_id": list(lists), "attributes": list(lists.values())})


def joined(known: pd.DataFrame | None, new: pd.DataFrame) -> pd.DataFrame:
    """Both tables as one, one attribute a row."""
    pairs = [pairs_of(frame) for frame in (known, new) if frame is not None]
    return pd.concat(pairs, ignore_index=True).drop_duplicates()


def pairs_of(frame: pd.DataFrame) -> pd.DataFrame:
    """Item and attribute, as text, one pair a row; without those that miss one of them."""
    columns = [next((name for name in usual if name in frame.columns), None) for usual in (ITEMS, NAMES)]
    for column, what, usual in zip(columns, ("item", "attributes"), (ITEMS, NAMES), strict=True):
        if column is None:
            raise UserError(
                f"no {what} column among: {', '.join(map(str, frame.columns[:12]))}", where="attributes",
                mend=f"call it {' or '.join(usual[:2])}",
            )  # fmt: skip
    pairs = frame[columns].set_axis(["item", "attribute"], axis=1).explode("attribute").dropna()
    text = [Categories.fit(pairs[name]) for name in pairs]
    return pd.DataFrame(
        {name: codec.decode(codec.encode(pairs[name])) for name, codec in zip(pairs, text, strict=True)}
    )
