"""What a pretext hands to a method. A pretext is any callable `(batch, generator) -> one of these`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Generator, Tensor

from core.tokens import Batch


@dataclass(frozen=True)
class Views:
    """Augmented views of the same samples, for contrastive and bootstrap methods.

    Attributes:
        views: batches of B rows each; the first `n_global` are full views, later ones small crops.
        group: (B,) long; rows of one group are positives of each other (slices of one card, images of one patient).
    """

    views: list[Batch]
    n_global: int = 2
    group: Tensor | None = None


@dataclass(frozen=True)
class Masked:
    """A batch, what to hide of it, and what to predict there.

    Attributes:
        batch: the unmasked batch.
        mask: (B, T) bool to hide whole tokens, or one (B, T) per field to hide that field's value alone.
        target: per field (B, T): class ids (-100 ignores a place) or numbers (NaN ignores it).
    """

    batch: Batch
    mask: Tensor | dict[str, Tensor]
    target: dict[str, Tensor]


@dataclass(frozen=True)
class Corrupted:
    """A damaged batch and the clean one to restore."""

    batch: Batch
    clean: Batch


@dataclass(frozen=True)
class Pseudo:
    """A batch with a label (B,): made up by a pretext (rotation, order), or given by a person."""

    batch: Batch
    label: Tensor


@dataclass(frozen=True)
class Shifted:
    """A batch whose own future is the target: position t predicts position t + `horizon`."""

    batch: Batch
    horizon: int = 1


PretextOutput = Views | Masked | Corrupted | Pseudo | Shifted
Pretext = Callable[[Batch, Generator], PretextOutput]
