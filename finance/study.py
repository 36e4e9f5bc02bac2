"""A log up to the end of its test days, with what every method is given."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from core.errors import UserError
from finance.data import Transactions
from finance.features import Features, handbook_features
from finance.handmade import handmade_features
from finance.metrics import Panel
from finance.split import Rows, Split, require_both_classes, rows

Array = NDArray[np.float64]
Cards = Literal["unknown", "all"]


@dataclass(frozen=True)
class Study:
    """A log up to the end of its test days, with what every method is given.

    Raises (on `checked`):
        UserError: one class only among training or test labels.
    """

    data: Transactions
    split: Split

    @classmethod
    def checked(cls, data: Transactions, split: Split, cards: Cards = "unknown") -> Study:
        if not data.labelled:
            raise UserError(
                "the data has no labels", where="schema", mend="name the label column: evaluate needs some labels"
            )
        study = cls(data.where(data.day < split.end), split)
        require_both_classes(study.data.label[study.rows.train], "training days")
        require_both_classes(
            study.data.label[study.tested(cards)], f"test days, {cards} cards; --cards all keeps known ones"
        )
        return study

    @cached_property
    def rows(self) -> Rows:
        return rows(self.data, self.split)

    @cached_property
    def features(self) -> Features:
        """The Handbook's."""
        return handbook_features(self.data)

    @cached_property
    def handmade(self) -> Features:
        """The Handbook's and more."""
        return handmade_features(self.data, self.features)

    def tested(self, cards: Cards) -> NDArray[np.bool_]:
        return self.rows.test if cards == "all" else self.rows.unknown

    def panel(self, cards: Cards, resamples: int) -> Panel:
        at, d = self.tested(cards), self.data
        return Panel(d.label[at], d.scenario[at], d.card[at], d.day[at], draws=resamples)

    def on(self, cards: Cards, scores: Array) -> Array:
        """Scores of all test rows -> those of the tested cards."""
        return scores[self.tested(cards)[self.rows.test]]
