"""The contract of a method: a loss over what a pretext made, and state that moves once per optimizer step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import Generator, Tensor, nn

from core.distributed import world
from core.encoders.encoder import Encoder
from core.errors import UserError
from core.tokens import Batch


@dataclass(frozen=True)
class Out:
    """What a forward pass gives.

    Attributes:
        loss: scalar, fp32.
        logs: numbers to write beside it; `usage_…` is the share, in (0, 1], of a codebook, of prototypes or of a queue
            that is in use (perplexity ÷ size), which the collapse alarm watches.
        embedding: (B, D) features of this batch, detached, for the monitors.
    """

    loss: Tensor
    logs: dict[str, float] = field(default_factory=dict)
    embedding: Tensor | None = None


class Method(nn.Module):
    """Base of all methods. `.encoder` is what is probed and exported.

    `batch_statistics`: its loss or its heads mix the rows of a batch (negatives, batch norm), so that several micro-batches
    are not the same as one large batch. `may_collapse`: its loss can fall while the features lose what they tell, so that
    the monitors watch them; labels given by a person need no watch, and may well leave one direction.
    """

    encoder: Encoder
    batch_statistics: bool = False
    may_collapse: bool = True

    def forward(self, data: Any, generator: Generator) -> Out:
        raise TypeError(f"{type(self).__name__} must define forward")

    def after_step(self, progress: float) -> None:
        """Called once per optimizer step, with the share of training done, in (0, 1]: the place where a teacher, a queue or a
        centre moves."""

    def start_epoch(self, epoch: int, embed_all: Callable[[], Tensor], generator: Generator) -> None:
        """Called before the first step of each epoch; `embed_all()` gives the features (N, D) of every row, whose places are
        the `index` of the batches."""

    def codes(self, batch: Batch) -> tuple[Tensor, int] | None:
        """Which code of each of G books the N places, or rows, of a batch fall on, (N, G) long, and how many codes a book has.

        None where the method has neither codes nor clusters. The batch is what the encoder reads, and what it carries beside
        (`index`, `unit`); nothing of it is hidden.
        """
        return None


def need(data: object, kind: type, method: str) -> None:
    """Raise `UserError` where a pretext gives a method what it cannot eat."""
    if not isinstance(data, kind):
        raise UserError(
            f"{method} needs a pretext that gives {kind.__name__}, this one gives {type(data).__name__}",
            where="method", mend="choose a pretext of the same family as the method",
        )  # fmt: skip


def need_rows(batch: Batch, method: str, least: int = 2) -> None:
    """Raise `UserError` where all processes together hold fewer rows than a method's negatives or statistics need."""
    rows = len(next(iter(batch.values())))
    if rows < least and world() == 1:
        raise UserError(
            f"{method} has no negatives or statistics in a batch of {rows}",
            where="batch_size",
            mend=f"use {least} or more",
        )
