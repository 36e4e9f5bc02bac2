"""What is hidden from the encoder, and guessed: the next item, or masked ones."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator

from core.masking import random_mask, suffix_mask
from core.pretext import Masked, Shifted
from core.tokens import Batch


def next_item(batch: Batch, generator: Generator) -> Shifted:
    """Every item is guessed from those before it (SASRec, Kang & McAuley 2018); padding is never a target."""
    return Shifted(batch)


@dataclass(frozen=True)
class MaskedItems:
    """Some items are guessed from both sides (BERT4Rec, Sun et al. 2019).

    Attributes:
        ratio: share of each sequence that is hidden.
        last: share of the sequences of which only the last item is hidden: what recommending asks for.
    """

    ratio: float = 0.3
    last: float = 0.3

    def __call__(self, batch: Batch, generator: Generator) -> Masked:
        pad = batch["pad"]
        anywhere = random_mask(pad, self.ratio, generator)
        at_end = suffix_mask(pad, 1, 1, generator)
        end = torch.rand((len(pad), 1), generator=generator, device=generator.device).to(pad.device) < self.last
        return Masked(batch, {"item": torch.where(end, at_end, anywhere)}, {"item": batch["item"]})
