"""Attributes of the items of a prepared catalogue."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from core.errors import UserError
from recsys.data import ITEMS as USUAL
from recsys.data import find, named, read_table, text_ids
from recsys.prepared import ITEMS, read_prepared


def described(attributes: Path, column: str, folder: Path) -> dict[str, int]:
    """Writes the attributes of the catalogue's items; counts what was not used."""
    frame = read_table(find(attributes))
    own = named(list(frame.columns), column if column in frame.columns else "", USUAL, "item", attributes.name)
    if len(frame.columns) < 2:
        raise UserError(
            "there is no attribute beside the item", where=attributes.name, mend="give at least one more column"
        )
    frame[own] = pd.Series(text_ids(frame[own]), frame.index, dtype=object)
    frame = frame.rename(columns={own: "item_id"})
    usable = frame[frame["item_id"].notna()].drop_duplicates("item_id")
    catalogue = read_prepared(folder).catalogue.values
    chosen = usable[usable["item_id"].isin(catalogue)]
    chosen.to_parquet(folder / ITEMS, index=False)
    return {
        "rows": len(frame),
        "without an item, or of one named before": len(frame) - len(usable),
        "of items that training does not know": len(usable) - len(chosen),
        "items without attributes": len(catalogue) - len(chosen),
    }
