"""Raw columns to what a stem eats, and back. Fitted on training rows, saved as JSON.

Ids of a category: 0 missing, 1 unknown (never seen in training), 2 masked, 3 and above the known values.
Numbers are standardised after an optional signed log; a missing number stays NaN.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

MISSING, UNKNOWN, MASKED, FIRST = 0, 1, 2, 3
FEW = 64  # values that are looked up one by one: a table of them takes longer to make


@dataclass(frozen=True)
class Categories:
    """A vocabulary. `size` counts the three reserved ids."""

    values: tuple[str, ...]

    @classmethod
    def fit(cls, column: ArrayLike, *, min_count: int = 1, max_size: int = 1_000_000) -> Categories:
        """The most frequent values that occur at least `min_count` times; ties in alphabetical order."""
        counts = _text(column).value_counts()
        counts = counts[counts >= min_count]
        ordered = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))[:max_size]
        return cls(tuple(str(value) for value, _ in ordered))

    @property
    def size(self) -> int:
        return len(self.values) + FIRST

    def encode(self, column: ArrayLike) -> NDArray[np.int64]:
        """Ids (N,): unknown and missing stay different."""
        if isinstance(column, np.ndarray) and column.dtype == object and len(column) <= FEW:
            return np.array([self.id(value) for value in column], dtype=np.int64)
        text = _text(column)
        ids = self._index.get_indexer(pd.Index(text, dtype=object)).astype(np.int64)
        return np.where(text.isna(), MISSING, np.where(ids < 0, UNKNOWN, ids + FIRST))

    @cached_property
    def _index(self) -> pd.Index:
        """The values as pandas finds them, made once: of a large vocabulary it takes longer than a session's answer."""
        return pd.Index(self.values, dtype=object)

    @cached_property
    def _table(self) -> NDArray:
        return np.array(["<missing>", "<unknown>", "<masked>", *self.values], dtype=object)

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {value: i + FIRST for i, value in enumerate(self.values)}

    def id(self, value: object) -> int:
        """What `encode` gives of one value, without a table."""
        if not isinstance(value, str):
            if is_missing(value):
                return MISSING
            value = as_text(value)
        return self._ids.get(value, UNKNOWN)

    def decode(self, ids: ArrayLike) -> NDArray:
        """Values (N,) as text; the reserved ids read `<missing>`, `<unknown>`, `<masked>`."""
        return self._table[np.asarray(ids)]

    def json(self) -> dict:
        return {"kind": "categories", "values": list(self.values)}


@dataclass(frozen=True)
class Scale:
    """Standardisation of a number, after `sign(x)·log(1+|x|)` where `log` is set."""

    mean: float
    std: float
    log: bool

    @classmethod
    def fit(cls, column: ArrayLike, *, log: bool = False) -> Scale:
        """Mean and standard deviation of the finite values; a constant column gets standard deviation 1."""
        values = _signed_log(np.asarray(column, dtype=np.float64), log)
        values = values[np.isfinite(values)]
        std = float(values.std()) if len(values) else 1.0
        return cls(float(values.mean()) if len(values) else 0.0, std if std > 1e-12 else 1.0, log)

    def encode(self, column: ArrayLike) -> NDArray[np.float32]:
        """Standardised values (N,); missing and infinite values become NaN."""
        values = (_signed_log(np.asarray(column, dtype=np.float64), self.log) - self.mean) / self.std
        return np.where(np.isfinite(values), values, np.nan).astype(np.float32)

    def decode(self, encoded: ArrayLike) -> NDArray[np.float64]:
        values = np.asarray(encoded, dtype=np.float64) * self.std + self.mean
        return np.sign(values) * np.expm1(np.abs(values)) if self.log else values

    def json(self) -> dict:
        return {"kind": "scale", **asdict(self)}


Codec = Categories | Scale


def from_json(data: dict) -> Codec:
    """The codec that `json()` described."""
    data = dict(data)
    kind = data.pop("kind")
    return Categories(tuple(data["values"])) if kind == "categories" else Scale(**data)


def as_text(value: object) -> str:
    """One value as text; 3 and 3.0 read the same, so that a column with gaps equals one without."""
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value)


def is_missing(value: object) -> bool:
    """None, NaN, NaT or NA."""
    return value is None or bool(pd.isna(value))


def _text(column: ArrayLike) -> pd.Series:
    """Values as text, missing kept missing; each by itself: what one reads like does not depend on the others of its column."""
    codes, values = pd.factorize(pd.Series(column))  # type: ignore[call-overload]
    table = np.array([*(as_text(v) for v in values), None], dtype=object)
    return pd.Series(table[codes], dtype=object)


def _signed_log(values: NDArray[np.float64], log: bool) -> NDArray[np.float64]:
    return np.sign(values) * np.log1p(np.abs(values)) if log else values
