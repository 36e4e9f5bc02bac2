"""How to train: one frozen dataclass, which the command line, the API and the saved run share."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args, get_type_hints

from core.errors import UserError

ABOVE_ZERO = ("steps", "minutes", "lr", "clip", "accumulate", "log_every", "save_every_minutes")
WHOLE = ("steps", "accumulate", "log_every", "monitor_every", "seed")
# where a number must lie, ends included
BOUNDS = {
    "steps": (1, 1e9), "minutes": (0, 1e6), "lr": (0, 1e4), "weight_decay": (0, 1e3), "momentum": (0, 0.9999), "warmup": (0, 1),
    "average": (0, 0.999999), "clip": (0, math.inf), "accumulate": (1, 1e6), "layer_decay": (0.01, 1), "log_every": (1, 1e9), "monitor_every": (0, 1e9),
    "save_every_minutes": (0, 1e6), "seed": (0, 2**32 - 1),
}  # fmt: skip


@dataclass(frozen=True)
class TrainConfig:
    """How to train. On several processes it means all of them together: a batch is cut into their shares.

    Attributes:
        steps: optimizer steps; or
        minutes: wall time, turned into steps after the first 20, so that schedule and resume know steps alone.
        optimizer: adamw with `betas`; lars (batches of thousands) or sgd with `momentum`.
        lr: highest learning rate; layer_decay: each block's rate is that share of the one's above, for fine-tuning.
        weight_decay: on matrices alone, not on norms, biases, tokens, positions and embeddings.
        warmup: share of the steps with rising rate; schedule: what follows.
        average: decay of a running mean of the weights, which the run ends with; 0: none. For nets without batch norm.
        clip: gradient norm, inf for none; accumulate: micro-batches an optimizer step.
        precision: bf16 runs under autocast, losses stay fp32; on a processor without instructions for it all is fp32.
        channels_last: layout of convolutions; compile: stems, trunks and convolutional nets, which takes a minute first.
        log_every, save_every_minutes: rows of metrics.jsonl, and how much a killed run can lose.
        monitor_every: steps between looks at a fixed sample; None: as often as costs below 2 % of the time; 0: never.
        on_collapse: what follows where those figures collapse (core.monitors): a line, the end, or nothing.
    """

    steps: int | None = None
    minutes: float | None = None
    optimizer: Literal["adamw", "lars", "sgd"] = "adamw"
    lr: float = 1e-3
    layer_decay: float = 1.0
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.98)
    momentum: float = 0.9
    warmup: float = 0.1
    schedule: Literal["cosine", "constant"] = "cosine"
    average: float = 0.0
    clip: float = 1.0
    accumulate: int = 1
    precision: Literal["fp32", "bf16"] = "fp32"
    channels_last: bool = False
    compile: bool = False
    seed: int = 0
    device: str = "cpu"
    log_every: int = 50
    save_every_minutes: float = 2.0
    monitor_every: int | None = None
    on_collapse: Literal["warn", "stop", "off"] = "warn"

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.minutes is None):
            raise UserError(
                "training needs steps or minutes, one of them", where="train", mend="give --steps or --minutes"
            )
        for name, (low, high) in BOUNDS.items():
            value = getattr(self, name)
            if value is None:
                continue
            if not isinstance(value, int if name in WHOLE else int | float) or isinstance(value, bool):
                raise UserError(
                    f"{name} is {value!r}", where="train", mend=f"give a {'whole ' * (name in WHOLE)}number"
                )
            if not low <= value <= high or (value == 0 and name in ABOVE_ZERO):
                least = "above 0" if name in ABOVE_ZERO else f"from {low:g}"
                raise UserError(f"{name} is {value:g}", where="train", mend=f"give a number {least} to {high:g}")
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise UserError(f"betas are {self.betas}", where="train", mend="give two numbers from 0, below 1")
        hints = get_type_hints(TrainConfig)
        for name in ("optimizer", "schedule", "precision", "on_collapse"):
            if getattr(self, name) not in get_args(hints[name]):
                known = ", ".join(get_args(hints[name]))
                raise UserError(f"{name} is '{getattr(self, name)}'", where="train", mend=f"choose from {known}")
