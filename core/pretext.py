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
        alike: (B,) long; rows of one value are no negatives of each other (sequences that go on with the same item).
    """

    views: list[Batch]
    n_global: int = 2
    group: Tensor | None = None
    alike: Tensor | None = None


@dataclass(frozen=True)
class Masked:
    """A batch, what to hide of it, and what to predict there.

    Attributes:
        batch: what is read; the method hides what the mask says, a teacher sees all of it.
        mask: (B, T) bool to hide whole tokens, or one (B, T) per field to hide that field's value alone.
        target: per field (B, T): class ids (-100 ignores a place) or numbers (NaN ignores it); (B, T, P) for the values of
            a patch. Empty where a teacher makes the targets.
        predict: where to predict, like `mask`; None for where the mask hides. BERT also predicts places that it left as they
            were or replaced at random (the 10/10 of 80/10/10).
    """

    batch: Batch
    mask: Tensor | dict[str, Tensor]
    target: dict[str, Tensor]
    predict: Tensor | dict[str, Tensor] | None = None

    def asked(self, name: str = "") -> Tensor:
        """(B, T) bool: where the field `name` is predicted."""
        where = self.mask if self.predict is None else self.predict
        return where[name] if isinstance(where, dict) else where


@dataclass(frozen=True)
class Corrupted:
    """A damaged batch and the clean one to restore."""

    batch: Batch
    clean: Batch


@dataclass(frozen=True)
class Pseudo:
    """A batch with labels: made up by a pretext (rotation, order, replaced values), or given by a person.

    Attributes:
        batch: what is read.
        label: (B,) one a row, (B, T) one a token, (B, T, K) a set for each token, or several tasks by name; -100 ignores a place.
    """

    batch: Batch
    label: Tensor | dict[str, Tensor]


@dataclass(frozen=True)
class Pieces:
    """Pieces of the same samples, each read by itself, and a question about all of them together (such as their order).

    Attributes:
        pieces: batches of B rows each.
        label: (B,), or several tasks by name; -100 ignores a row.
    """

    pieces: list[Batch]
    label: Tensor | dict[str, Tensor]


@dataclass(frozen=True)
class Placed:
    """Crops of the same samples, and where each lies among base crops that tile its sample.

    Attributes:
        bases: one batch of B rows for each of n places, the same place in every row.
        crops: batches of B rows each, cut anywhere.
        overlap: (B, crops, n), the share of a crop that each base covers; sums to 1 where the bases leave no gap.
    """

    bases: list[Batch]
    crops: list[Batch]
    overlap: Tensor


@dataclass(frozen=True)
class Shifted:
    """A batch whose own future is the target: position t predicts position t + `horizon`."""

    batch: Batch
    horizon: int = 1


PretextOutput = Views | Masked | Corrupted | Pseudo | Pieces | Placed | Shifted


@dataclass(frozen=True)
class Joined:
    """What several pretexts made of the same batch, by name."""

    parts: dict[str, PretextOutput]


Pretext = Callable[[Batch, Generator], PretextOutput | Joined]


@dataclass(frozen=True)
class Together:
    """Several pretexts on one batch, one after the other; each draws its own."""

    pretexts: dict[str, Callable[[Batch, Generator], PretextOutput]]

    def __call__(self, batch: Batch, generator: Generator) -> Joined:
        return Joined({name: pretext(batch, generator) for name, pretext in self.pretexts.items()})
