"""Reason codes: which field of a payment is odd, what was seen and what was expected there.

Each field is hidden by itself and told from all else: the card's earlier payments and the payment's other fields. Its surprise is the
log of an e-value (Vovk & Wang 2021), which says how many times likelier the value is as something odd than as what was expected, and 0
where it is no likelier: so the fields of a payment can be ranked by it, whatever their kind. Of a category it is how many times likelier
the value is among all earlier payments than here: a rare hour tells nothing where it is as rare for everyone. Of a number it is made of
the probability of one at least as odd, on both sides; of a text, which is as odd as its oddest word is among so many, alike.

To what the network says of a category is added what the card's own earlier values say (a cache, Kuhn & De Mori 1990): that a card has
never been to a place among thousands is more than a network of any size remembers.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import NamedTuple, cast

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from core.codec import FIRST, MISSING, UNKNOWN, Categories, Scale, as_text, is_missing
from core.encoders import FieldStem, TokenEncoder
from core.heads import CategoricalHead, MixtureHead
from core.tokens import to_device
from finance.estimators import Data, Encoded, FraudScorer
from finance.histories import EventCodec, Histories, Windows
from finance.inputs import given_rows

COLUMNS = ("row", "field", "seen", "expected", "surprise")
RANGE = (0.05, 0.95)  # between which most of what was expected lies
PRIOR = 10  # earlier values of a card that weigh as much as the network
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


def explain(scorer: FraudScorer, data: Data, rows: NDArray[np.bool_], batch_size: int = 32) -> pd.DataFrame:
    """Columns `row`, `field`, `seen`, `expected` and `surprise` in nats: of each payment its fields, the oddest first.

    Args:
        rows: (N,) the payments to explain.
        batch_size: payments at once.
    """
    encoder, heads = scorer.fitted()
    encoded = encoder.encode(data)
    histories = encoded.histories
    events = np.flatnonzero(histories.from_table(given_rows(data, encoded.table, rows)))
    windows = _ending_at(events, histories, encoder.recipe_.shape.context)
    before = _before(encoded, events)
    parts = [
        _batch(encoder.encoder_, heads, encoded, before, windows, at, encoder.device)
        for at in np.array_split(np.arange(len(events)), max(1, math.ceil(len(events) / batch_size)))
        if len(at)
    ]
    found = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=["event", *COLUMNS[1:]])
    found["row"] = encoded.table.frame["row"].to_numpy()[histories.rows[found["event"].astype(int)]]
    ordered = found.sort_values(["row", "surprise"], ascending=[True, False], kind="stable")
    return ordered[list(COLUMNS)].reset_index(drop=True)


def _ending_at(events: NDArray[np.int64], histories: Histories, context: int) -> Windows:
    """One window for each event, of which it is the last."""
    offsets = histories.ragged.offsets
    first = offsets[np.searchsorted(offsets, events, side="right") - 1]
    start = np.maximum(first, events + 1 - context)
    return Windows(start, events + 1 - start, np.ones_like(start))


@torch.inference_mode()
def _batch(
    encoder: TokenEncoder, heads: nn.ModuleDict, encoded: Encoded, before: NDArray[np.bool_], windows: Windows,
    at: NDArray[np.int64], device: str,
) -> pd.DataFrame:  # fmt: skip
    """The fields of some payments, in the columns of `explain` but for `row`, in whose place stands `event`."""
    encoder.to(device).eval()
    heads.to(device).eval()
    batch, event = windows.batch(encoded.histories.ragged, at)
    batch = to_device(batch, device)
    last = torch.from_numpy(windows.length[at] - 1).to(device)
    rows = torch.arange(len(at), device=device)
    hidden_place = torch.zeros_like(batch["pad"])
    hidden_place[rows, last] = True
    windowed = [part[: length - 1] for part, length in zip(event, windows.length[at], strict=True)]
    explained = event[np.arange(len(at)), windows.length[at] - 1]
    parts = []
    columns: dict[str, list[str]] = {}  # a field each, or the words of a text
    for field in cast(FieldStem, encoder.stem).fields:
        columns.setdefault(field.table or field.name, []).append(field.name)
    for names in columns.values():  # as many passes as columns: what is hidden differs
        state = encoder.trunk(encoder.stem(batch, dict.fromkeys(names, hidden_place))).x[rows, last]  # (B, D)
        name = names[0]
        value, head = batch[name][rows, last], heads[name]
        if isinstance(head, MixtureHead):
            surprise, expected = _number(head, encoded.codec, name, state, value)
            seen = [_said(encoded.codec, name, v) for v in value.tolist()]
        elif name.startswith("word"):
            chances = [cast(CategoricalHead, heads[n]).log_probs(state) for n in names]  # (B, size) each
            ids = torch.stack([batch[n] for n in names], -1)  # (B, T, words)
            here = ids[rows, last]  # (B, words)
            odder = torch.stack([_category(c, i)[0] for c, i in zip(chances, here.T, strict=True)], -1)
            surprise = _oddest(odder, here != MISSING)
            expected = _likeliest_text(encoded, chances, ids, windowed)
            seen = [_text(encoded, at) for at in explained]
        else:
            log_probs = cast(CategoricalHead, head).log_probs(state)
            _, likely, share = _category(log_probs, value)
            common = Common.of(encoded.histories.ragged.fields[name][before], encoded.values(name)[before])
            network = log_probs.exp().gather(1, value[:, None])[:, 0].cpu().numpy()
            network = network / common.id(value.cpu().numpy(), log_probs.shape[1])
            ratio = _mixed(network, [_habit(encoded, common, name, event) for event in explained])
            surprise = torch.from_numpy(np.where(value.cpu() != MISSING, np.log(1 / ratio.clip(1e-30, 1)), 0.0))
            words = [_named(encoded, name, v, earlier) for v, earlier in zip(likely, windowed, strict=True)]
            expected = [
                f"{word} ({', '.join([f'{p:.0%}', *notes])})" for (word, notes), p in zip(words, share, strict=True)
            ]
            words = [_named(encoded, name, v, explained[i : i + 1]) for i, v in enumerate(value.tolist())]
            seen = [f"{word} ({', '.join(notes)})" if notes else word for word, notes in words]
        told = {"event": explained, "field": encoded.codec.title(name), "seen": seen, "expected": expected}
        parts.append(pd.DataFrame({**told, "surprise": surprise.cpu().numpy().astype(np.float64)}))
    return pd.concat(parts, ignore_index=True)


def _number(head: MixtureHead, codec: EventCodec, name: str, state: Tensor, value: Tensor) -> tuple[Tensor, list[str]]:
    """Surprise (B,), 0 where the value is missing, and in words what was expected."""
    above = head.log_survival(state, value.nan_to_num()).exp()
    tail = 2 * torch.minimum(above, 1 - above)
    low, middle, high = (head.quantile(state, share).tolist() for share in (RANGE[0], 0.5, RANGE[1]))
    said = [
        f"about {_said(codec, name, b)} ({_said(codec, name, a)} to {_said(codec, name, c)})"
        for a, b, c in zip(low, middle, high, strict=True)
    ]
    return torch.where(torch.isnan(value), 0.0, _evidence(tail)), said


def _evidence(odder: Tensor) -> Tensor:
    """Log of the e-value (B,) of a probability of something at least as odd, not below 0: the calibrator that needs no setting, which is
    the mean over κ of κp^(κ − 1) (Vovk & Wang 2021, section 2)."""
    p = odder.double().clamp(1e-30, 1 - 1e-6)
    return ((1 - p + p * p.log()) / (p * p.log().square())).log().clamp(min=0).to(odder.dtype)


def _category(log_probs: Tensor, value: Tensor) -> tuple[Tensor, list[int], list[float]]:
    """Of log-probabilities (B, size): probability of a value no likelier (B,); the likeliest id of each payment, and its probability."""
    chance = log_probs.exp()
    chance = chance / chance.sum(1, keepdim=True)
    own = chance.gather(1, value[:, None])
    odder = torch.where(chance <= own, chance, 0.0).sum(1)
    likely = chance[:, FIRST:].argmax(1) + FIRST
    share = chance.gather(1, likely[:, None])[:, 0]
    return odder, likely.tolist(), share.tolist()


class Common(NamedTuple):
    """How often each value of a category occurs among all payments before those that are explained.

    Attributes:
        ids: times that each id of the codec does.
        values: and each value, which several may share an id.
    """

    ids: NDArray[np.int64]
    values: NDArray[np.int64]

    @classmethod
    def of(cls, ids: NDArray[np.int64], values: NDArray[np.int64]) -> Common:
        return cls(np.bincount(ids), np.bincount(values[values >= 0]))

    def id(self, which: NDArray[np.int64], size: int) -> NDArray[np.float64]:
        """Share of payments with an id, of so many that there can be; one more of each than were seen."""
        return (_at(self.ids, which) + 1) / (self.ids.sum() + size)

    def value(self, which: NDArray[np.int64]) -> NDArray[np.float64]:
        """Share of payments with a value; one more of each than were seen."""
        return (_at(self.values, which) + 1) / (self.values.sum() + len(self.values) + 1)


def _at(counts: NDArray[np.int64], which: NDArray[np.int64]) -> NDArray[np.int64]:
    """Counts of numbers, 0 of those that lie beyond."""
    return np.where(which < len(counts), counts[np.minimum(which, len(counts) - 1)] if len(counts) else 0, 0)


def _before(encoded: Encoded, events: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Events (N,) before the first of those that are explained."""
    rows = encoded.histories.rows
    time = encoded.table.time[rows]
    return time < time[events].min() if len(events) else np.zeros(len(rows), bool)


def _habit(encoded: Encoded, common: Common, name: str, event: int) -> tuple[float, int]:
    """By all earlier values of the card alone, how many times likelier this event's value is for it than for all; and how many they are.

    A new value is any that others have, and the next one is new with the probability of Good (1953): the share of those that occurred once.
    """
    values = encoded.values(name)
    offsets = encoded.histories.ragged.offsets
    past = values[offsets[np.searchsorted(offsets, event, side="right") - 1] : event]
    if not len(past):
        return 1.0, 0
    counts = np.unique(past, return_counts=True)[1]
    new = max(int((counts == 1).sum()), 1) / (len(past) + 1)
    own = float((past == values[event]).mean())
    return new + (1 - new) * own / float(common.value(values[event : event + 1])[0]), len(past)


def _mixed(network: NDArray[np.float64], own: list[tuple[float, int]]) -> NDArray[np.float64]:
    """Both ratios (B,), the card's own the more, the more values it has."""
    habit, count = (np.array(part) for part in zip(*own, strict=True))
    weight = count / (count + PRIOR)
    return (1 - weight) * network + weight * habit


def _oddest(odder: Tensor, known: Tensor) -> Tensor:
    """Surprise of texts (B,), 0 where there is none, by the probability that the oddest of so many words is at least so odd (Šidák 1967).

    Args:
        odder: (B, words) the probability of a word no likelier than the text's own.
        known: (B, words) where there is a word.
    """
    rarest = odder.masked_fill(~known, 1.0).amin(-1).clamp(max=1 - 1e-7)
    some = -torch.expm1(known.sum(-1) * torch.log1p(-rarest))
    return torch.where(known.any(-1), _evidence(some), 0.0)


def _likeliest_text(
    encoded: Encoded, chances: list[Tensor], ids: Tensor, windowed: list[NDArray[np.int64]]
) -> list[str]:
    """The likeliest of the card's own earlier texts, with its probability."""
    # (B, T, words): log-probability of the words of every event, 0 where there is none
    log_prob = torch.stack([c.gather(1, ids[..., i]) for i, c in enumerate(chances)], -1).masked_fill(
        ids == MISSING, 0.0
    )
    total = log_prob.sum(-1).masked_fill((ids == MISSING).all(-1), -math.inf)
    said = []
    for row, earlier in zip(total.cpu().numpy(), windowed, strict=True):
        best = int(row[: len(earlier)].argmax()) if len(earlier) else 0
        known = len(earlier) > 0 and math.isfinite(row[best])
        said.append(f"{_text(encoded, earlier[best])} ({math.exp(row[best]):.0%})" if known else "no text is known yet")
    return said


def _text(encoded: Encoded, event: int) -> str:
    """An event's text as it stands in the data."""
    text = encoded.table.frame["text"].iloc[encoded.histories.rows[event]]
    return "missing" if is_missing(text) else str(text)


def _said(codec: EventCodec, name: str, value: float) -> str:
    """A number in words."""
    if math.isnan(value):
        return "missing"
    number = float(cast(Scale, codec.columns[name]).decode(value))
    return _duration(number) if name == "gap" else f"{number:.4g}"


def _named(encoded: Encoded, name: str, value: int, events: NDArray[np.int64]) -> tuple[str, list[str]]:
    """A category in words, and what has to be said about it.

    Hashed values have no names of their own, and unknown ones are not in the vocabulary: both are called what they are called in the
    data, most often among those `events` that have that id.
    """
    if name in ("hour", "weekday"):
        return f"{value - FIRST} h" if name == "hour" else DAYS[value - FIRST], []
    if value == MISSING:
        return "missing", []
    codec = encoded.codec.columns[name]
    if isinstance(codec, Categories) and value != UNKNOWN:
        return str(codec.decode([value])[0]), []
    events = events[encoded.histories.ragged.fields[name][events] == value]
    found = Counter(
        as_text(v) for v in encoded.table.frame[encoded.codec.title(name)].iloc[encoded.histories.rows[events]]
    )
    note = "unknown" if isinstance(codec, Categories) else "hashed"
    if found:
        return found.most_common(1)[0][0], [note]
    return "a value that the card has not had", [note] if note == "unknown" else [f"{note}, bucket {value - FIRST}"]


def _duration(seconds: float) -> str:
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.3g} {unit}"
    return f"{max(seconds, 0):.3g} s"
