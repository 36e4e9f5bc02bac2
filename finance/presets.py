"""Named recipes: functions that return one frozen, nested dataclass. Every setting is reached by `--set key=value`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from core.errors import UserError
from core.training import TrainConfig
from finance.encoders import Shape
from finance.pretext import Masks, Slices
from finance.scoring import Score


@dataclass(frozen=True)
class Fields:
    """How columns become fields: see finance.histories.EventCodec.fit."""

    max_categories: int = 500
    buckets: int = 256
    min_count: int = 5


@dataclass(frozen=True)
class Recipe:
    """All settings of a pretraining run.

    Attributes:
        method: `masked` (the one that can score), `next` or `simclr`.
        batch_size: windows a step.
        shortest: cards with fewer events teach nothing.
        other_weight: weight of every field's loss but the amount's.
        horizon: of `next`: how many events ahead.
    """

    method: Literal["masked", "next", "simclr"] = "masked"
    shape: Shape = field(default_factory=Shape)
    fields: Fields = field(default_factory=Fields)
    masks: Masks = field(default_factory=Masks)
    slices: Slices = field(default_factory=Slices)
    score: Score = field(default_factory=Score)
    batch_size: int = 32
    shortest: int = 5
    other_weight: float = 0.3
    horizon: int = 1
    train: TrainConfig = field(default_factory=lambda: TrainConfig(minutes=10.0, lr=2e-3))


def masked() -> Recipe:
    """Masked fields, the default.

    `tacit-finance pretrain --data fdh_simulated --out RUN --minutes 8`, then `evaluate --run RUN --data fdh_simulated --out DIR`.
    Expected: auroc of leaked cards (scenario 3) .99 without labels on the published test week; 1.5 minutes on one core are
    enough for that. Scoring that week takes about 10 seconds of one core.
    """
    return Recipe()


def next_event() -> Recipe:
    """The next event's fields from the history (GPT); gives embeddings, no score.

    `tacit-finance pretrain --data fdh_simulated --method next --out RUN --minutes 5`
    """
    return Recipe(method="next")


def simclr() -> Recipe:
    """Two slices of a card's history attract (CoLES, Babaev et al. 2022, with SimCLR's loss); gives embeddings, no score.

    `tacit-finance pretrain --data fdh_simulated --method simclr --out RUN --minutes 5`
    """
    return Recipe(method="simclr", batch_size=128, shortest=20)


METHODS: dict[str, Callable[[], Recipe]] = {"masked": masked, "next": next_event, "simclr": simclr}


def recipe_for(method: str) -> Recipe:
    """The recipe of that name; raises UserError, listing the names, where there is none."""
    if method not in METHODS:
        raise UserError(f"unknown method '{method}'", where="--method", mend=f"choose from {', '.join(METHODS)}")
    return METHODS[method]()
