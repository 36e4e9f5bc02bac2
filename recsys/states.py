"""States of an encoder after histories: what comes next is asked of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from core.codec import MASKED, UNKNOWN
from core.encoders import TokenEncoder
from core.tokens import to_device
from recsys.encoders import read
from recsys.reader import SessionReader
from recsys.sequences import Sequences


def last_states(
    encoder: TokenEncoder, history: Sequences, length: int, masked: bool, device: torch.device, batch: int = 256
) -> NDArray[np.float32]:
    """The encoder's state after the last known item (N, dim); NaN for a sequence without any.

    Args:
        length: latest known items that are read.
        masked: the encoder was trained to tell hidden items, so it is asked at a masked one behind the last.
        batch: sequences read at once; those of like length are read together.
    """
    ready(encoder, device)
    known = history.known().last(length)
    result = np.full((len(known), encoder.dim), np.nan, dtype=np.float32)
    order = np.argsort(known.lengths, kind="stable")
    order = order[known.lengths[order] > 0]
    ragged = (_with_mask(known) if masked else known).ragged()
    with torch.inference_mode():
        for start in range(0, len(order), batch):
            rows = order[start : start + batch]
            given = to_device(ragged.padded(rows, length + 1), device)
            even = known.lengths[rows[0]] == known.lengths[rows[-1]]
            result[rows] = read(encoder, given, even).float().cpu().numpy()
    return result


def one_state(reader: SessionReader, history: Sequences, length: int) -> NDArray[np.float32]:
    """`last_states` of one sequence, (1, dim)."""
    known = history.items[history.items > UNKNOWN][-length:]
    if not len(known):
        return np.full((1, reader.dim), np.nan, dtype=np.float32)
    return reader.state(known)[None]


def ready(module: nn.Module, device: torch.device) -> None:
    """Put a module on the device, for reading; where it is already, ask no part of it: that takes as long as a session's answer."""
    weight = next(module.parameters(), None)
    if module.training or (weight is not None and weight.device != device):
        module.to(device).eval()


def _with_mask(sequences: Sequences) -> Sequences:
    """Each sequence with a masked item behind it: the place that a masked model is asked about."""
    ends = sequences.offsets[1:]
    return replace(
        sequences, items=np.insert(sequences.items, ends, MASKED), offsets=sequences.offsets + np.arange(len(ends) + 1)
    )
