"""What a recommender offers: lists of items for histories, within filters, and items like other items."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from core.codec import FIRST, UNKNOWN, Categories
from core.errors import UserError
from core.vectors import unit_rows
from recsys.ranking import exclude, first_of
from recsys.sequences import Sequences

if TYPE_CHECKING:
    from recsys.estimators import SessionRecommender

TEXT = pd.StringDtype(na_value=np.nan)  # what pandas makes of text
SEEN, DROPPED, EMPTY, SHORT = "", "unseen items dropped", "no known item: popularity", "nothing more to offer"
NOTES = np.array([SEEN, DROPPED, EMPTY, SHORT, f"{DROPPED}; {SHORT}", f"{EMPTY}; {SHORT}"], dtype=object)


@dataclass(frozen=True)
class Offer:
    """What one session is offered, best first.

    Attributes:
        items: at most `k` of the catalogue.
        scores: the log-probability of each.
        note: empty, or what is particular: items left out that training never saw, popularity for want of any known item, fewer
            than `k` to offer.
    """

    items: list[str]
    scores: list[float]
    note: str


def offer(
    model: SessionRecommender, items: Sequence[object], k: int, repeat: bool, only: Iterable[object] | None, without: Iterable[object]
) -> Offer:  # fmt: skip
    """See `SessionRecommender.recommend_session`."""
    _check(k)
    if isinstance(items, str | bytes):
        raise UserError("items is one text", where="items", mend="give a list of items")
    ids = np.array([model.catalogue_.id(item) for item in items], dtype=np.int64)
    history = Sequences(np.array([""], dtype=object), ids, np.array([0, len(ids)]), model.catalogue_)
    scores, top, note = _first(model, history, k, repeat, barred(model.catalogue_, only, without))
    places = top[0, top[0] >= 0]
    return Offer(model.catalogue_.decode(places + FIRST).tolist(), scores[0, places].tolist(), NOTES[note[0]])


def offers(
    model: SessionRecommender, history: Sequences, k: int, repeat: bool, only: Iterable[object] | None, without: Iterable[object],
    batch: int = 512,
) -> pd.DataFrame:  # fmt: skip
    """Rows `user, rank (from 1), item, score, note`; see `SessionRecommender.recommend`."""
    _check(k)
    out = barred(model.catalogue_, only, without)
    parts: list[tuple[NDArray, ...]] = []
    for start in range(0, max(len(history), 1), batch):
        rows = np.arange(start, min(start + batch, len(history)))
        block = history if len(rows) == len(history) else history.select(rows)
        scores, top, note = _first(model, block, k, repeat, out)
        row, place = np.nonzero(top >= 0)
        item = top[row, place]
        parts.append((block.keys[row], place + 1, item, scores[row, item], NOTES[note[row]]))
    users, ranks, items, values, notes = (np.concatenate(column) for column in zip(*parts, strict=True))
    names = model.catalogue_.decode(items + FIRST)
    columns = {"user": _words(users), "rank": ranks, "item": _words(names), "score": values, "note": _words(notes)}
    return pd.DataFrame(columns, pd.RangeIndex(len(items)), copy=False)


def _first(
    model: SessionRecommender, history: Sequences, k: int, repeat: bool, out: NDArray[np.bool_] | None
) -> tuple[NDArray, NDArray, NDArray]:
    """Scores (B, items), places in the catalogue of what is offered (B, k), -1 where there is nothing more, and numbers of notes (B,)."""
    scores = model.scores(history)
    if out is not None:
        scores[:, out] = -np.inf
    if not repeat:
        exclude(scores, history)
    top = first_of(scores, k)
    unknown = np.bincount(history.rows()[history.items <= UNKNOWN], minlength=len(history))
    note = np.where(unknown == history.lengths, 2, unknown > 0) + 3 * (np.count_nonzero(top >= 0, axis=1) < k)
    return scores, top, note


def _words(values: NDArray) -> Any:
    """A column of text. That it is text need not be found out: of one session's answer, that takes longer than its search."""
    return pd.array(values.astype(object, copy=False), dtype=TEXT, copy=False)


def neighbours(model: SessionRecommender, items: Sequence[object], k: int) -> pd.DataFrame:
    """Rows `item, rank (from 1), similar, cosine`; see `SessionRecommender.similar`."""
    _check(k)
    asked = numbers(model.catalogue_, items)
    vectors = unit_rows(model.item_vectors())
    cosine = vectors[asked] @ vectors.T  # (N, items)
    cosine[np.arange(len(asked)), asked] = -np.inf
    top = first_of(cosine, k)
    row, place = np.nonzero(top >= 0)
    near = top[row, place]
    return pd.DataFrame(
        {
            "item": model.catalogue_.decode(asked[row] + FIRST),
            "rank": place + 1,
            "similar": model.catalogue_.decode(near + FIRST),
            "cosine": cosine[row, near],
        }
    )


def numbers(catalogue: Categories, items: Iterable[object]) -> NDArray[np.int64]:
    """Places of items in the catalogue, from 0; `UserError` for one that is not there."""
    names = [str(item) for item in items]
    found = catalogue.encode(np.array(names, dtype=object)) - FIRST
    lost = [name for name, number in zip(names, found, strict=True) if number < 0]
    if lost:
        raise UserError(
            f"{len(lost)} of {len(names)} items are not in the run's catalogue, such as {lost[0][:60]!r}", where="items",
            mend="give items that training saw",
        )  # fmt: skip
    return found


def barred(catalogue: Categories, only: Iterable[object] | None, without: Iterable[object]) -> NDArray[np.bool_] | None:
    """(items,) what may not be recommended, None where all may; names that are not in the catalogue could not be anyway.

    Raises:
        UserError: nothing is left.
    """
    items, without = catalogue.size - FIRST, list(without)
    if only is None and not without:
        return None

    def among(names: Iterable[object]) -> NDArray[np.bool_]:
        found = catalogue.encode(np.array([str(name) for name in names], dtype=object)) - FIRST
        return np.bincount(found[found >= 0], minlength=items) > 0

    out = among(without)
    if only is not None:
        out |= ~among(only)
    if out.all():
        raise UserError(
            "the filters leave no item of the run's catalogue", where="filters", mend="allow an item that training saw"
        )
    return out


def _check(k: int) -> None:
    if k < 1:
        raise UserError(f"k is {k}", where="--k", mend="ask for 1 item or more")
