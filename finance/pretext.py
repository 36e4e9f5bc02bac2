"""What a card's history can teach without labels: hidden or swapped fields, what comes next, whose slice it is, in which order.

Each is a frozen dataclass, which a recipe holds and a run saves; `bound(fields)` is the pretext for an encoder of those fields.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Generator, Tensor

from core import puzzles
from core.config import shares, within
from core.encoders import Field
from core.masking import bert, random_mask, suffix_mask
from core.pretext import Corrupted, Masked, Pretext, Pseudo, Shifted, Views
from core.tokens import Batch

BELOW_ONE = (0.0, 1 - 1e-9)


@dataclass(frozen=True)
class Masks:
    """Fields are hidden and predicted (BERT, Devlin et al. 2018; TabBERT, Padhi et al. 2021), with forecasting as masking.

    Attributes:
        longest: the amounts of a window's last n events are hidden, n uniform in [1, longest]: recent events may be the fraud
            itself, so that the score, too, is given older ones only.
        others_longest: half of the windows also lose every other field of their last m events, m uniform in [1, others_longest].
        ratio: of the events that lose one field each at random, amounts aside.
        events: share of a window's events that lose all their fields, the amount among them.
        columns: share of a batch's windows that lose a field in all events; drawn anew for each field.
        words: of the descriptions, beside those that are hidden whole, that lose one word each at random.
        replace: of the places to be predicted, hide eight in ten alone; one is replaced by another event's value, one left as it
            is (BERT's 80/10/10). The score needs all of them hidden.
    """

    kind: Literal["masks"] = "masks"
    longest: int = 60
    others_longest: int = 20
    ratio: float = 0.15
    events: float = 0.0
    columns: float = 0.0
    words: float = 0.15
    replace: bool = False

    def __post_init__(self) -> None:
        within(self, events=BELOW_ONE, columns=BELOW_ONE, words=BELOW_ONE)

    def bound(self, fields: tuple[Field, ...]) -> Pretext:
        def make(batch: Batch, generator: Generator) -> Masked:
            pad = batch["pad"]
            hidden = {"amount": suffix_mask(pad, 1, self.longest, generator)}
            forecast = suffix_mask(pad, 1, self.others_longest, generator)
            coin = torch.rand((len(pad), 1), generator=generator, device=generator.device).to(pad.device) < 0.5
            column = {
                field.name: field.table or field.name for field in fields
            }  # the words of a text are hidden together
            alone = {
                c: random_mask(pad, self.ratio, generator) for c in dict.fromkeys(column.values()) if c != "amount"
            }
            hidden |= {name: (forecast & coin) | alone[column[name]] for name in column if name != "amount"}
            if self.events:
                event = random_mask(pad, self.events, generator)
                hidden = {name: mask | event for name, mask in hidden.items()}
            if self.columns:
                lost = {c: _windows(pad, self.columns, generator) & ~pad for c in dict.fromkeys(column.values())}
                hidden = {name: mask | lost[column[name]] for name, mask in hidden.items()}
            for field in fields:
                if field.table and self.words:
                    hidden[field.name] |= random_mask(pad | (batch[field.name] == 0), self.words, generator)
            if self.replace:
                sizes = {f.name: f.size for f in fields if f.kind == "categorical"}
                return bert(batch, hidden, sizes, generator)
            return Masked(batch, hidden, {field.name: target(batch[field.name]) for field in fields})

        return make


@dataclass(frozen=True)
class NextEvent:
    """Each event predicts the one `horizon` later."""

    kind: Literal["next_event"] = "next_event"
    horizon: int = 1

    def bound(self, fields: tuple[Field, ...]) -> Pretext:
        return lambda batch, generator: Shifted(batch, self.horizon)


@dataclass(frozen=True)
class Slices:
    """Two random slices of a history are views of one card (CoLES, Babaev et al. 2022).

    Attributes:
        shortest, share: each slice has between `shortest` events and `share` of the window.
    """

    kind: Literal["slices"] = "slices"
    shortest: int = 10
    share: float = 0.6

    def bound(self, fields: tuple[Field, ...]) -> Pretext:
        return lambda batch, generator: Views([_slice(batch, self, generator) for _ in range(2)])


@dataclass(frozen=True)
class Swaps:
    """Some values of each field are those of other cards' events (in the manner of Clark et al. 2020).

    Attributes:
        ratio: share of a window's events that lose their value, drawn anew for each field.
        task: `tell` asks of each event and field whether its value was swapped; `mend` asks for the clean values (a denoising
            autoencoder, Vincent et al. 2008).
    """

    kind: Literal["swaps"] = "swaps"
    ratio: float = 0.15
    task: Literal["tell", "mend"] = "tell"
    per_token: ClassVar[bool] = True

    def __post_init__(self) -> None:
        shares(self, "ratio")

    def classes(self, fields: tuple[Field, ...]) -> tuple[tuple[str, int], ...]:
        return tuple((f.name, 2) for f in fields)

    def bound(self, fields: tuple[Field, ...]) -> Pretext:
        def make(batch: Batch, generator: Generator) -> Pseudo | Corrupted:
            pad, swapped, label = batch["pad"], dict(batch), {}
            for field in fields:
                value = batch[field.name]
                unknown = torch.isnan(value) if value.is_floating_point() else value == 0
                swapped[field.name], replaced = puzzles.replace(value, pad | unknown, self.ratio, generator)
                label[field.name] = replaced.long().masked_fill(pad | unknown, -100)
            return Corrupted(swapped, batch) if self.task == "mend" else Pseudo(swapped, label)

        return make


@dataclass(frozen=True)
class Segments:
    """The window is cut into segments in another order, which is to be told.

    Attributes:
        count: segments.
    """

    kind: Literal["segments"] = "segments"
    count: int = 3
    per_token: ClassVar[bool] = False

    def __post_init__(self) -> None:
        puzzles.orders_of(self.count, "pretext.count")

    def classes(self, fields: tuple[Field, ...]) -> tuple[tuple[str, int], ...]:
        return puzzles.orders_of(self.count, "pretext.count")

    def bound(self, fields: tuple[Field, ...]) -> Pretext:
        return lambda batch, generator: Pseudo(*puzzles.reorder(batch, batch["pad"], self.count, generator))


def target(values: Tensor) -> Tensor:
    """What is to be predicted (B, T): missing values (id 0, nan) are not."""
    return values if values.is_floating_point() else values.masked_fill(values == 0, -100)


def _windows(pad: Tensor, share: float, generator: Generator) -> Tensor:
    """`share` of the windows, rounded; (B, 1) bool."""
    noise = torch.rand(len(pad), generator=generator, device=generator.device).to(pad.device)
    return (noise.argsort().argsort() < round(share * len(pad)))[:, None]


def _slice(batch: Batch, slices: Slices, generator: Generator) -> Batch:
    """One contiguous slice of each row, moved to the left; (B, T') with T' the longest slice."""
    pad = batch["pad"]
    valid = (~pad).sum(1)  # (B,)
    draw = torch.rand((2, len(pad)), generator=generator, device=generator.device).to(pad.device)
    low = valid.clamp(max=slices.shortest)
    high = torch.maximum((valid * slices.share).long(), low)
    length = low + (draw[0] * (high - low + 1)).long().clamp(max=high - low)
    start = (draw[1] * (valid - length + 1)).long().minimum(valid - length)
    place = torch.arange(int(length.max()), device=pad.device)[None]
    out = place >= length[:, None]
    at = (start[:, None] + place).clamp(max=pad.shape[1] - 1)
    cut = {}
    for name, values in batch.items():
        if name == "index":
            cut[name] = values
        elif name != "pad":
            cut[name] = values.gather(1, at).masked_fill(out, 0)
    return {**cut, "pad": out}
