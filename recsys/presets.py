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
    train: TrainConfig = field(
        default_factory=lambda: TrainConfig(minutes=10.0, lr=2e-3, weight_decay=0.0, warmup=0.02)
    )
    batch_size: int = 128
    mask_ratio: float = 0.3
    mask_last: float = 0.3


def sasrec() -> Recipe:
    """Next item, causal Transformer of one block, sampled softmax: SASRec (Kang & McAuley 2018) with the loss of later work.

    `tacit-recsys pretrain --data beauty --out runs/beauty` (10 minutes on two cores), then
    `tacit-recsys evaluate --run runs/beauty --data beauty --out reports/beauty`: ndcg@10 about .050 on Beauty (pilot of 5 minutes on
    one busy core, one seed; S3-Rec .0327, the best tuned neighbourhood .043); docs/results/recsys.json has the full runs.
    """
    return Recipe()


def bert4rec() -> Recipe:
    """Masked items, Transformer of two blocks that sees both sides: BERT4Rec (Sun et al. 2019) with a sampled softmax.

    `tacit-recsys pretrain --data beauty --method bert4rec --out runs/bert4rec`, 10 minutes on two cores. Masking gives a target to a
    third of the events alone, so it learns more slowly than guessing each next item; docs/results/recsys.json has its figures.
    """
    base = Recipe()
    return replace(base, pretext="masked", model=replace(base.model, depth=2))


PRESETS: dict[str, Callable[[], Recipe]] = {"next": sasrec, "bert4rec": bert4rec}


def recipe(method: str) -> Recipe:
    """The recipe called `method`; `UserError` where there is none."""
    if method not in PRESETS:
        raise UserError(f"no method '{method}'", where="--method", mend=f"choose from {', '.join(PRESETS)}")
    return PRESETS[method]()
