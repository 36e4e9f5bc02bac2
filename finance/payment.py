"""One payment as it arrives, a mapping of columns to values, read as a table of it would be: or one clear line."""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from core.codec import as_text, is_missing
from core.errors import UserError
from core.patterns import FAR
from finance.columns import moments, number
from finance.schema import Schema

PLAIN = (str, bool, int, float, np.generic, datetime.date, type(None), type(pd.NA), type(pd.NaT))


@dataclass(frozen=True)
class Payment:
    """card: whose it is; time: seconds since 1970; others: the schema's categorical, numeric and text columns."""

    card: str
    time: int
    amount: float
    others: dict[str, object]

    @classmethod
    def read(cls, given: Mapping[str, object], schema: Schema) -> Payment:
        """A payment by the column names of the schema; columns that it does not name, labels among them, are not looked at.

        Raises:
            UserError: no mapping, a column that is not there, or a value that a table's `check` would set aside.
        """
        if not isinstance(given, Mapping):
            raise _refused(f"{type(given).__name__} is no payment", "give a mapping of columns to values")
        text = [schema.text] if schema.text else []
        for name in (schema.entity, schema.time, schema.amount, *schema.categorical, *schema.numeric, *text):
            if name not in given:
                raise _refused(f"the payment has no '{name}'", "give every column of the schema; None where missing")
            if not isinstance(given[name], PLAIN):
                raise _refused(f"'{name}' is neither text nor a number", "give plain values")
        if is_missing(given[schema.entity]):
            raise _refused(f"the card is missing ('{schema.entity}')")
        card = as_text(given[schema.entity])
        if isinstance(given[schema.entity], float | np.floating) and not card.isdecimal():
            raise _refused(f"the card is a fraction ('{schema.entity}')", "give it as text or a whole number")
        amount = _number(given[schema.amount])
        if not math.isfinite(amount):
            raise _refused(f"the amount is not a finite number ('{schema.amount}')")
        others = {name: given[name] for name in schema.categorical}
        for name in schema.numeric:
            value = others[name] = _number(given[name])
            said_nan = isinstance(given[name], str) and str(given[name]).lower() == "nan"
            if math.isinf(value) or (math.isnan(value) and not is_missing(given[name]) and not said_nan):
                raise _refused(f"the number is infinite or unreadable ('{name}')")
        for name in text:
            said = None if is_missing(given[name]) or given[name] == "" else as_text(given[name])
            if said is not None and len(said) > schema.max_text:
                raise _refused(f"the text is longer than {schema.max_text} characters ('{name}')")
            others[name] = said
        return cls(card, _time(given[schema.time], schema), amount, others)


def _refused(what: str, mend: str = "") -> UserError:
    return UserError(what, where="payment", mend=mend)


def _number(value: object) -> float:
    """A float; NaN where it is missing or no number. Text is read as columns of text are."""
    if isinstance(value, bool | int | float | np.number | np.bool_):
        try:
            return float(value)
        except OverflowError:  # an int beyond any float
            return math.inf
    return float(number(pd.Series([value], dtype=object))[0][0]) if isinstance(value, str) else math.nan


def _time(value: object, schema: Schema) -> int:
    if isinstance(value, int | float | np.number) and not isinstance(value, bool):
        moment = _number(value)
        if abs(moment) < FAR:  # as finance.columns.moments; nan is not
            return math.floor(moment)
    elif not is_missing(value) and not isinstance(value, bool | np.bool_):
        read = moments(pd.Series([value]), schema.zone)
        if read.readable[0]:
            return int(read.seconds[0])
    raise _refused(f"the time is missing or unreadable ('{schema.time}')", "give ISO 8601, or seconds since 1970")
