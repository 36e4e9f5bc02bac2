"""Several objectives on one encoder (multi-task learning, Caruana 1997): a main one and auxiliaries, each loss with its weight."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal, cast

import torch
from torch import Generator, Tensor, nn

from core.config import within
from core.errors import UserError
from core.methods.base import Method, Out, need
from core.pretext import Joined


@dataclass(frozen=True)
class JointConfig:
    """What a run remembers of its parts, so that one with others does not go on from it.

    Attributes:
        weights: of each part's loss, by its name.
        parts: each method's own settings.
    """

    kind: Literal["joint"] = "joint"
    weights: dict[str, float] = field(default_factory=dict)
    parts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Part:
    """A method of a `Joint`, and how much its loss counts, from 0 to 1000."""

    method: Method
    weight: float = 1.0

    def __post_init__(self) -> None:
        within(self, weight=(0, 1e3))


class Joint(Method):
    """Eats `Joined`: each part's method eats what the pretext of its name made; the loss is the weighted sum of theirs.

    All parts hold the same encoder, which each reads by itself: its views, masks and dropout are its own. The first part is the
    main one: its heads and its embedding are the whole's.

    Args:
        parts: by name, in their order; the names are the pretext's.

    Raises:
        UserError: no part, or parts with encoders of their own.
    """

    def __init__(self, parts: Mapping[str, Part]) -> None:
        super().__init__()
        methods = [part.method for part in parts.values()]
        if not methods or any(method.encoder is not methods[0].encoder for method in methods):
            raise UserError(
                "several objectives need one encoder", where="method", mend="make every part's method with the same one"
            )
        self.encoder = methods[0].encoder
        self.parts = nn.ModuleDict({name: part.method for name, part in parts.items()})
        self.weights = {name: part.weight for name, part in parts.items()}
        self.config = JointConfig(
            weights=self.weights,
            parts={name: getattr(part.method, "config", type(part.method).__name__) for name, part in parts.items()},
        )
        self.batch_statistics = any(method.batch_statistics for method in methods)
        self.may_collapse = any(method.may_collapse for method in methods)

    @property
    def methods(self) -> dict[str, Method]:
        return {name: cast(Method, method) for name, method in self.parts.items()}

    @property
    def heads(self) -> nn.Module | None:
        """Those of the main part; None where it has none."""
        return getattr(next(iter(self.methods.values())), "heads", None)

    def forward(self, data: Joined, generator: Generator) -> Out:
        need(data, Joined, "joint")
        if data.parts.keys() != self.weights.keys():
            raise UserError(
                f"pretexts {sorted(data.parts)} for the objectives {sorted(self.weights)}", where="pretext",
                mend="name the same parts",
            )  # fmt: skip
        outs = {name: method(data.parts[name], generator) for name, method in self.methods.items()}
        logs = {f"loss_{name}": float(out.loss.detach()) for name, out in outs.items()}
        for name, out in outs.items():  # the prefix stays: collapse alarms read it
            logs |= {key if key.endswith(f"_{name}") else f"{key}_{name}": value for key, value in out.logs.items()}
        loss = torch.stack([self.weights[name] * out.loss for name, out in outs.items()]).sum()
        return Out(loss, logs, next(iter(outs.values())).embedding)

    def after_step(self, progress: float) -> None:
        for method in self.methods.values():
            method.after_step(progress)

    def start_epoch(self, epoch: int, embed_all: Callable[[], Tensor], generator: Generator) -> None:
        once = cache(embed_all)  # parts that cluster share one pass over the data
        for method in self.methods.values():
            method.start_epoch(epoch, once, generator)
