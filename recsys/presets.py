"""Named recipes. Each is a function that returns one frozen dataclass; `--set key=value` changes any part of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal

from core.errors import UserError
from core.training import TrainConfig
from recsys.encoders import ModelConfig


@dataclass(frozen=True)
class Recipe:
    """All that a run depends on, but for the data.

    Attributes:
        pretext: guess the next item, or masked ones.
        model: shape of the encoder.
        train: schedule.
        batch_size: sequences a step.
        mask_ratio, mask_last: see `recsys.pretext.MaskedItems`.
    """

    pretext: Literal["next", "masked"] = "next"
    model: ModelConfig = field(default_factory=ModelConfig)
    train: TrainConfig = field(default_factory=lambda: TrainConfig(minutes=10.0, weight_decay=0.0, warmup=0.02))
    batch_size: int = 128
    mask_ratio: float = 0.3
    mask_last: float = 0.3


def sasrec() -> Recipe:
    """Next item, causal Transformer, sampled softmax."""
    return Recipe()


def bert4rec() -> Recipe:
    """Masked items, Transformer that sees both sides, sampled softmax."""
    base = Recipe()
    return replace(base, pretext="masked", model=replace(base.model, depth=2))


PRESETS: dict[str, Callable[[], Recipe]] = {"next": sasrec, "bert4rec": bert4rec}


def recipe(method: str) -> Recipe:
    """The recipe called `method`; `UserError` where there is none."""
    if method not in PRESETS:
        raise UserError(f"no method '{method}'", where="--method", mend=f"choose from {', '.join(PRESETS)}")
    return PRESETS[method]()
