"""What a card's history can teach without labels: hidden fields, what comes next, and whose slice it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from core.encoders import Field
from core.masking import random_mask, suffix_mask
from core.pretext import Masked, Shifted, Views
from core.tokens import Batch


@dataclass(frozen=True)
class Masks:
    """What `masked_fields` hides.

    Attributes:
        longest: the amounts of a window's last n events are hidden, n uniform in [1, longest]: recent events may be the fraud
            itself, so that the score, too, is given older ones only.
        others_longest: half of the windows also lose every other field of their last m events, m uniform in [1, others_longest].
        ratio: of the events that lose one field each at random, amounts aside.
    """

    longest: int = 60
    others_longest: int = 20
    ratio: float = 0.15


def masked_fields(fields: tuple[Field, ...], masks: Masks = Masks()) -> Callable[[Batch, Generator], Masked]:
    """Masked prediction on fields (BERT, Devlin et al. 2018; TabBERT, Padhi et al. 2021), with forecasting as masking."""

    def make(batch: Batch, generator: Generator) -> Masked:
        pad = batch["pad"]
        hidden = {"amount": suffix_mask(pad, 1, masks.longest, generator)}
        forecast = suffix_mask(pad, 1, masks.others_longest, generator)
        coin = torch.rand((len(pad), 1), generator=generator, device=generator.device).to(pad.device) < 0.5
        for field in fields:
            if field.name != "amount":
                hidden[field.name] = (forecast & coin) | random_mask(pad, masks.ratio, generator)
        return Masked(batch, hidden, {field.name: target(batch[field.name]) for field in fields})

    return make


def target(values: Tensor) -> Tensor:
    """What is to be predicted (B, T): missing values (id 0, nan) are not."""
    return values if values.is_floating_point() else values.masked_fill(values == 0, -100)


def next_event(horizon: int) -> Callable[[Batch, Generator], Shifted]:
    """Each event predicts the one `horizon` later."""

    def make(batch: Batch, generator: Generator) -> Shifted:
        return Shifted(batch, horizon)

    return make


@dataclass(frozen=True)
class Slices:
    """How `event_slices` cuts: two slices of each window, each between `shortest` events and `share` of the window."""

    shortest: int = 10
    share: float = 0.6


def event_slices(slices: Slices = Slices()) -> Callable[[Batch, Generator], Views]:
    """Two random slices of a history are views of one card (CoLES, Babaev et al. 2022)."""

    def make(batch: Batch, generator: Generator) -> Views:
        return Views([_slice(batch, slices, generator) for _ in range(2)])

    return make


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
