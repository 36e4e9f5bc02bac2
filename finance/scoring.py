"""The label-free score: how much larger an amount is than the card's older history lets one expect.

A card's recent events may be the fraud itself, so the amounts of the last `horizon` events and more are hidden from the model,
and an event's score joins its own surprise with the mean surprise of the card's past few events. Only the present and the past
are used.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from core.batches import Ragged
from core.device import on_cores
from core.encoders import FieldStem, TokenEncoder
from core.heads import Head, MixtureHead
from core.tokens import to_device
from finance.histories import Windows


@dataclass(frozen=True)
class Score:
    """How events are scored.

    Attributes:
        horizon: this many amounts before an event are hidden at least, and up to `horizon + stride - 1`; of a card with a
            history shorter than twice that, the newer half.
        stride: events scored by one window. Half of it takes twice the time: on three weeks of fdh_simulated a horizon of 30 and a
            stride of 20 have .003 more average precision, and auroc of scenarios 1 and 3 within .0005.
        memory: past events whose mean surprise is added.
    """

    horizon: int = 20
    stride: int = 40
    memory: int = 10


def surprise(
    encoder: TokenEncoder,
    heads: nn.ModuleDict,
    ragged: Ragged,
    wanted: NDArray[np.bool_],
    context: int,
    score: Score,
    *,
    begun: NDArray[np.int64] | None = None,
    all_fields: bool = False,
    device: str = "cpu",
    batch_size: int = 128,
) -> dict[str, NDArray[np.float64]]:
    """Surprise in nats of each event, nan where not wanted: for the amount −log P(as large or larger), else −log p.

    Args:
        wanted: (N,) events to score.
        begun: (C,) events of each card before those in `ragged`; see Windows.over.
        all_fields: hide and score every field of the scored events, not the amount alone.

    Returns:
        (N,) by field; `amount` alone unless `all_fields`.
    """
    encoder.to(device).eval()
    heads.to(device).eval()
    windows = Windows.over(ragged, wanted, context, score.stride, begun)
    names = [f.name for f in cast(FieldStem, encoder.stem).fields if all_fields or f.name == "amount"]
    out = {name: np.full(int(ragged.offsets[-1]), np.nan) for name in names}

    def one(part: tuple[NDArray[np.int64], int]) -> None:
        at, begin = part
        batch, event = windows.batch(ragged, at)
        batch = to_device(batch, device)
        scored = ~batch["pad"][:, begin:]
        hidden = encoder.trunk.tail(encoder.stem(batch, hide(batch["pad"], begin, score, names)), begin)[
            scored
        ]  # (M, D)
        events = event[:, begin:][event[:, begin:] >= 0]
        for name in names:
            value = batch[name][:, begin:][scored]
            out[name][events] = nats(cast(Head, heads[name]), hidden, value).cpu().numpy()

    on_cores(one, windows.batches(batch_size), device)
    for values in out.values():
        values[~wanted] = np.nan
    return out


def hide(pad: Tensor, begin: int, score: Score, names: Sequence[str]) -> dict[str, Tensor]:
    """What of windows (B, T), whose scored events begin at one place, is hidden: amounts from some earlier events on, the other
    named fields from the first scored one on."""
    place = torch.arange(pad.shape[1], device=pad.device)
    # counted from the first scored event: how many come after it must not matter
    older = begin - min(score.horizon, (begin + 1) // 2)
    return {name: (place >= (older if name == "amount" else begin)) & ~pad for name in names}


def nats(head: Head, hidden: Tensor, value: Tensor) -> Tensor:
    """Surprise (M,); 0 where the value is missing: nothing was said, nothing is odd."""
    if isinstance(head, MixtureHead):
        known = ~torch.isnan(value)
        return torch.where(known, -head.log_survival(hidden, value.nan_to_num()), 0.0)
    return torch.where(value != 0, -head.log_prob(hidden, value), 0.0)


def with_past(values: NDArray[np.float64], offsets: NDArray[np.int64], memory: int) -> NDArray[np.float64]:
    """Mean of the `memory` events before each event of a card (N,), 0 where there are none; nan events are left out."""
    known = np.isfinite(values)
    total = np.concatenate([[0.0], np.cumsum(np.where(known, values, 0.0))])
    count = np.concatenate([[0], np.cumsum(known)])
    n = np.arange(len(values))
    first = np.repeat(offsets[:-1], np.diff(offsets))
    begin = np.maximum(first, n - memory)
    seen = count[n] - count[begin]
    return np.divide(total[n] - total[begin], seen, out=np.zeros(len(values)), where=seen > 0)


def and_past(wanted: NDArray[np.bool_], offsets: NDArray[np.int64], memory: int) -> NDArray[np.bool_]:
    """Wanted events and the `memory` events before each of them, of the same card."""
    n = np.arange(len(wanted))
    first = np.repeat(offsets[:-1], np.diff(offsets))
    begin = np.maximum(first, n - memory)[wanted]
    edges = np.zeros(len(wanted) + 1, dtype=np.int64)
    np.add.at(edges, begin, 1)
    np.add.at(edges, n[wanted] + 1, -1)
    return np.cumsum(edges[:-1]) > 0
