"""The contract of a method: a loss over what a pretext made, and state that moves once per optimizer step."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Generator, Tensor, nn

from core.encoders.encoder import Encoder
from core.errors import UserError


@dataclass(frozen=True)
class Out:
    """What a forward pass gives.

    Attributes:
        loss: scalar, fp32.
        logs: numbers to write beside it.
        embedding: (B, D) features of this batch, detached, for the monitors.
    """

    loss: Tensor
    logs: dict[str, float] = field(default_factory=dict)
    embedding: Tensor | None = None


class Method(nn.Module):
    """Base of all methods. `.encoder` is what is probed and exported."""

    encoder: Encoder

    def forward(self, data: Any, generator: Generator) -> Out:
        raise TypeError(f"{type(self).__name__} must define forward")

    def after_step(self, progress: float) -> None:
        """Called once per optimizer step, with the share of training done, in (0, 1]."""


def need(data: object, kind: type, method: str) -> None:
    """Raise `UserError` where a pretext gives a method what it cannot eat."""
    if not isinstance(data, kind):
        raise UserError(
            f"{method} needs a pretext that gives {kind.__name__}, this one gives {type(data).__name__}",
            where="method", mend="choose a pretext of the same family as the method",
        )  # fmt: skip
