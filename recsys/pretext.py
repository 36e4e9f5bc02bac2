"""What a batch of sequences is turned into for each family of methods: one frozen dataclass each, which a recipe holds and a run saves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from core import puzzles
from core.batches import Ragged
from core.codec import FIRST, MASKED
from core.config import shares, within
from core.masking import random_mask, suffix_mask
from core.pretext import Corrupted, Masked, Pseudo, Shifted, Views
from core.tokens import Batch


def _coins(batch: Batch, chance: float, generator: Generator) -> Tensor:
    """(B, 1) bool, true with that chance."""
    rows = len(batch["pad"])
    return torch.rand((rows, 1), generator=generator, device=generator.device).to(batch["pad"].device) < chance


@dataclass(frozen=True)
class NextItem:
    """Every item is guessed from those before it (SASRec, Kang & McAuley 2018); padding is never a target."""

    kind: Literal["next_item"] = "next_item"
    horizon: int = 1

    def __call__(self, batch: Batch, generator: Generator) -> Shifted:
        return Shifted(batch, self.horizon)


@dataclass(frozen=True)
class MaskedItems:
    """Some items are guessed from both sides (BERT4Rec, Sun et al. 2019).

    Attributes:
        ratio: share of each sequence that is hidden.
        last: share of the sequences of which only the last item is hidden: what recommending asks for.
    """

    kind: Literal["masked_items"] = "masked_items"
    ratio: float = 0.3
    last: float = 0.3

    def __post_init__(self) -> None:
        shares(self, "ratio")

    def __call__(self, batch: Batch, generator: Generator) -> Masked:
        pad = batch["pad"]
        anywhere = random_mask(pad, self.ratio, generator)
        at_end = suffix_mask(pad, 1, 1, generator)
        hidden = torch.where(_coins(batch, self.last, generator), at_end, anywhere)
        return Masked(batch, {"item": hidden}, {"item": batch["item"]})


@dataclass(frozen=True)
class SequenceViews:
    """Two views of each sequence, each by one of three changes drawn at random (CL4SRec, Xie et al. 2022).

    Attributes:
        crop: share of the sequence that a crop keeps, at a random place.
        mask: share of the items that are hidden.
        reorder: share of the sequence, at a random place, that is shuffled.
    """

    kind: Literal["sequence_views"] = "sequence_views"
    crop: float = 0.6
    mask: float = 0.3
    reorder: float = 0.6

    def __post_init__(self) -> None:
        shares(self, "crop", "mask", "reorder")

    def view(self, batch: Batch, generator: Generator) -> Batch:
        """One view; crops are moved to the left, so that padding stays on the right."""
        item, pad = batch["item"], batch["pad"]
        rows, time = pad.shape
        valid = (~pad).sum(1, keepdim=True)  # (B, 1)
        place = torch.arange(time, device=pad.device).expand(rows, time)
        draw = torch.rand((3, rows, 1), generator=generator, device=generator.device).to(pad.device)
        kept = (valid * self.crop).round().long().clamp(min=1).minimum(valid)
        start = (draw[0] * (valid - kept + 1)).long().minimum((valid - kept).clamp(min=0))
        cropped = item.gather(1, (place + start).clamp(max=time - 1)).masked_fill(place >= kept, 0)
        masked = item.masked_fill(random_mask(pad, self.mask, generator), MASKED)
        length = (valid * self.reorder).round().long()
        first = (draw[1] * (valid - length + 1)).long().minimum((valid - length).clamp(min=0))
        inside = (place >= first) & (place < first + length)
        noise = torch.rand(pad.shape, generator=generator, device=generator.device).to(pad.device)
        # places outside the stretch keep their rank, those inside share its ranks at random
        key = torch.where(inside, first + noise * length, place.to(noise.dtype))
        shuffled = item.gather(1, key.argsort(dim=1, stable=True))
        choice = (draw[2] * 3).long()
        out = torch.where(choice == 0, cropped, torch.where(choice == 1, masked, shuffled))
        return {**batch, "item": out, "pad": torch.where(choice == 0, place >= kept, pad)}

    def __call__(self, batch: Batch, generator: Generator) -> Views:
        return Views([self.view(batch, generator) for _ in range(2)])


@dataclass(frozen=True)
class SwappedItems:
    """Some items are those of other sequences; each place tells whether it is its own (ELECTRA, Clark et al. 2020).

    Attributes:
        ratio: share of each sequence that is replaced.
        task: `tell` labels each place; `mend` asks for the clean items (a denoising autoencoder).
    """

    kind: Literal["swapped_items"] = "swapped_items"
    ratio: float = 0.25
    task: Literal["tell", "mend"] = "tell"
    classes: ClassVar[tuple[tuple[str, int], ...]] = (("replaced", 2),)

    def __post_init__(self) -> None:
        shares(self, "ratio")

    def __call__(self, batch: Batch, generator: Generator) -> Pseudo | Corrupted:
        item, pad = batch["item"], batch["pad"]
        known = item >= FIRST
        new, replaced = puzzles.replace(item, pad | ~known, self.ratio, generator)
        if self.task == "mend":
            return Corrupted({**batch, "item": new}, batch)
        return Pseudo({**batch, "item": new}, replaced.long().masked_fill(pad, -100))


@dataclass(frozen=True)
class ReorderedItems:
    """The sequence is cut into segments in another order, which is to be told.

    Attributes:
        segments: how many; sequences of fewer items teach nothing.
    """

    kind: Literal["reordered_items"] = "reordered_items"
    segments: int = 3

    def __post_init__(self) -> None:
        puzzles.orders_of(self.segments, "pretext.segments")

    @property
    def classes(self) -> tuple[tuple[str, int], ...]:
        return puzzles.orders_of(self.segments, "pretext.segments")

    def __call__(self, batch: Batch, generator: Generator) -> Pseudo:
        return Pseudo(*puzzles.reorder(batch, batch["pad"], self.segments, generator))


@dataclass(frozen=True)
class SameTarget:
    """Two dropout views of a sequence cut before one of its items, and a sequence that goes on with the same item (DuoRec, Qiu et al.
    2022). Those of a batch that go on with the same item are no negatives of each other.

    Every sequence is cut before an item that is drawn anew each time, so that all of its beginnings take part. An item that no
    other place goes on with has its own beginning as the third view.

    Attributes:
        length: latest events of a beginning that are read. Fewer than the model reads, since beginnings of one batch are not of
            like length, and one long one pads them all.
    """

    kind: Literal["same_target"] = "same_target"
    length: int = 20

    def __post_init__(self) -> None:
        within(self, length=(1, 1e6))

    def bound(self, ragged: Ragged) -> SameTargetViews:
        """The pretext on the sequences whose numbers are the batches' `index`."""
        return SameTargetViews(self, ragged)


class SameTargetViews:
    """`SameTarget`, with the places of every item.

    Args:
        ragged: the training sequences, field `item`.
    """

    def __init__(self, settings: SameTarget, ragged: Ragged) -> None:
        item = np.asarray(ragged.fields["item"])
        target = np.ones(len(item), dtype=bool)
        target[ragged.offsets[:-1][ragged.lengths > 0]] = False  # nothing stands before a first item
        target &= item >= FIRST
        places = np.flatnonzero(target)
        places = places[np.argsort(item[places], kind="stable")]  # by item
        rank = np.zeros(len(item), dtype=np.int64)
        rank[places] = np.arange(len(places))
        first = np.searchsorted(item[places], np.arange(item.max(initial=0) + 2))
        row = np.repeat(np.arange(len(ragged)), ragged.lengths)
        self.length = settings.length
        self.tables = {
            "item": torch.from_numpy(item), "places": torch.from_numpy(places), "rank": torch.from_numpy(rank),
            "first": torch.from_numpy(first), "begin": torch.from_numpy(np.asarray(ragged.offsets)[row]),
            "offsets": torch.from_numpy(np.asarray(ragged.offsets)),
        }  # fmt: skip

    def before(self, place: Tensor) -> Batch:
        """What stands before each place (B,), counted over all sequences, of its own sequence; padded on the right."""
        begin = torch.maximum(self.tables["begin"][place], place - self.length)
        length = (place - begin)[:, None]
        step = torch.arange(int(length.max()), device=place.device)[None]
        pad = step >= length
        item = self.tables["item"][torch.where(pad, 0, begin[:, None] + step)].masked_fill(pad, 0)
        return {"item": item, "pad": pad}

    def partner(self, place: Tensor, draw: Tensor) -> Tensor:
        """Another place (B,) of the same item, by the numbers drawn (B,) in [0, 1); the same one where there is no other."""
        item, rank = self.tables["item"][place], self.tables["rank"][place]
        first = self.tables["first"][item]
        others = self.tables["first"][item + 1] - first - 1
        at = first + (draw * others).long().clamp(max=others - 1)
        found = self.tables["places"][torch.where(at >= rank, at + 1, at).clamp(0, len(self.tables["places"]) - 1)]
        return torch.where((others > 0) & (item >= FIRST), found, place)

    def __call__(self, batch: Batch, generator: Generator) -> Views:
        index, device = batch["index"], batch["pad"].device
        self.tables = {name: table.to(device) for name, table in self.tables.items()}  # once; then they are there
        draw = torch.rand((2, len(index)), generator=generator, device=generator.device).to(device)
        begin, end = self.tables["offsets"][index], self.tables["offsets"][index + 1]
        place = begin + 1 + (draw[0] * (end - begin - 1)).long().clamp(max=end - begin - 2)
        own, other = self.before(place), self.before(self.partner(place, draw[1]))
        return Views([own, own, other], n_global=3, alike=self.tables["item"][place])


@dataclass(frozen=True)
class ItemAttributes:
    """Each item tells its attributes (associated attributes in S3-Rec, Zhou et al. 2020). Which they are comes with the data."""

    kind: Literal["item_attributes"] = "item_attributes"

    def bound(self, table: NDArray[np.int64]) -> ItemLabels:
        """The pretext with the attributes (ids, K) of every id of the catalogue, -100 where there is none."""
        return ItemLabels(table)


class ItemLabels:
    """`ItemAttributes`, with the table."""

    def __init__(self, table: NDArray[np.int64]) -> None:
        self.table = torch.from_numpy(table)

    def __call__(self, batch: Batch, generator: Generator) -> Pseudo:
        self.table = self.table.to(batch["item"].device)
        return Pseudo(batch, self.table[batch["item"]])
