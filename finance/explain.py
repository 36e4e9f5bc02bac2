"""Reason codes: which field of a payment is odd, what was seen and what was expected there.

Each field is hidden by itself and told from all else: the card's earlier payments and the payment's other fields. Its surprise is
−log of the probability of something at least as odd (two-sided for numbers, all values no likelier for categories), so that the fields
of a payment can be ranked by it, whatever their kind.
"""

from __future__ import annotations

import math
from typing import cast

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from core.codec import FIRST, MISSING, Categories, Scale
from core.encoders import FieldStem, TokenEncoder
from core.heads import CategoricalHead, MixtureHead
from core.tokens import to_device
from finance.data import Transactions
from finance.estimators import FraudScorer
from finance.histories import EventCodec, Histories, Windows

COLUMNS = ("row", "field", "seen", "expected", "surprise")
RANGE = (0.05, 0.95)  # between which most of what was expected lies
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


def explain(scorer: FraudScorer, data: Transactions, rows: NDArray[np.bool_], batch_size: int = 32) -> pd.DataFrame:
    """Columns `row`, `field`, `seen`, `expected` and `surprise` in nats: of each payment its fields, the oddest first.

    Args:
        rows: (N,) the payments to explain.
        batch_size: payments at once.
    """
    encoder, heads = scorer.fitted()
    histories = encoder.codec_.encode(data)
    events = np.flatnonzero(histories.from_table(rows))
    windows = _ending_at(events, histories, encoder.recipe_.shape.context)
    parts = [
        _batch(encoder.encoder_, heads, encoder.codec_, histories, windows, at, encoder.device)
        for at in np.array_split(np.arange(len(events)), max(1, math.ceil(len(events) / batch_size)))
        if len(at)
    ]
    found = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=["event", *COLUMNS[1:]])
    found["row"] = data.frame["row"].to_numpy()[histories.rows[found["event"].astype(int)]]
    ordered = found.sort_values(["row", "surprise"], ascending=[True, False], kind="stable")
    return ordered[list(COLUMNS)].reset_index(drop=True)


def _ending_at(events: NDArray[np.int64], histories: Histories, context: int) -> Windows:
    """One window for each event, of which it is the last."""
    offsets = histories.ragged.offsets
    first = offsets[np.searchsorted(offsets, events, side="right") - 1]
    start = np.maximum(first, events + 1 - context)
    return Windows(start, events + 1 - start, np.ones_like(start))


@torch.no_grad()
def _batch(
    encoder: TokenEncoder, heads: nn.ModuleDict, codec: EventCodec, histories: Histories, windows: Windows,
    at: NDArray[np.int64], device: str,
) -> pd.DataFrame:  # fmt: skip
    """The fields of some payments, in the columns of `explain` but for `row`, in whose place stands `event`."""
    encoder.to(device).eval()
    heads.to(device).eval()
    batch, event = windows.batch(histories.ragged, at)
    batch = to_device(batch, device)
    last = torch.from_numpy(windows.length[at] - 1).to(device)
    rows = torch.arange(len(at), device=device)
    hidden_place = torch.zeros_like(batch["pad"])
    hidden_place[rows, last] = True
    names = [field.name for field in cast(FieldStem, encoder.stem).fields]
    parts = []
    for name in names:  # as many passes as fields: what is hidden differs
        state = encoder.trunk(encoder.stem(batch, {name: hidden_place})).x[rows, last]  # (B, D)
        value = batch[name][rows, last]
        surprise, expected = _judged(cast(MixtureHead | CategoricalHead, heads[name]), codec, name, state, value)
        parts.append(
            pd.DataFrame(
                {
                    "event": event[np.arange(len(at)), windows.length[at] - 1],
                    "field": codec.title(name),
                    "seen": [_said(codec, name, v) for v in value.tolist()],
                    "expected": expected,
                    "surprise": surprise.cpu().numpy().astype(np.float64),
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def _judged(
    head: MixtureHead | CategoricalHead, codec: EventCodec, name: str, state: Tensor, value: Tensor
) -> tuple[Tensor, list[str]]:
    """Surprise (B,), 0 where the value is missing, and in words what was expected."""
    if isinstance(head, MixtureHead):
        known = ~torch.isnan(value)
        above = head.log_survival(state, value.nan_to_num()).exp()
        tail = 2 * torch.minimum(above, 1 - above)
        low, middle, high = (head.quantile(state, share).tolist() for share in (RANGE[0], 0.5, RANGE[1]))
        said = [
            f"about {_said(codec, name, b)} ({_said(codec, name, a)} to {_said(codec, name, c)})"
            for a, b, c in zip(low, middle, high, strict=True)
        ]
        return torch.where(known, -tail.clamp(1e-30, 1).log(), 0.0), said
    chance = head.log_probs(state).exp()  # (B, size)
    chance = chance / chance.sum(1, keepdim=True)
    own = chance.gather(1, value[:, None])
    odder = torch.where(chance <= own, chance, 0.0).sum(1)
    likely = chance[:, FIRST:].argmax(1) + FIRST
    share = chance.gather(1, likely[:, None])[:, 0]
    said = [f"{_said(codec, name, v)} ({s:.0%})" for v, s in zip(likely.tolist(), share.tolist(), strict=True)]
    return torch.where(value != MISSING, -odder.clamp(1e-30, 1).log(), 0.0), said


def _said(codec: EventCodec, name: str, value: float) -> str:
    """A field's value in words."""
    if name in ("hour", "weekday"):
        return f"{int(value) - FIRST} h" if name == "hour" else DAYS[int(value) - FIRST]
    column = codec.columns[name]
    if isinstance(column, Scale):
        if math.isnan(value):
            return "missing"
        number = float(column.decode(value))
        return _duration(number) if name == "gap" else f"{number:.4g}"
    if isinstance(column, Categories):
        return str(column.decode([int(value)])[0])
    return f"bucket {int(value) - FIRST}" if value >= FIRST else "missing"


def _duration(seconds: float) -> str:
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.3g} {unit}"
    return f"{max(seconds, 0):.3g} s"
