"""What has to be remembered of each card so that its next payment is judged as with its whole history at hand.

A window ends at every `stride`-th event of a card, counted from its first, and holds at most `context` events: so the events since the
next window's start are enough, with their number and time, and the last surprises that the score averages.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from core.batches import Ragged
from core.errors import UserError
from core.files import whole
from finance.data import Transactions
from finance.histories import EventCodec, Histories

FORMAT = "1"


@dataclass(frozen=True)
class Card:
    """One card.

    Attributes:
        count: its events so far.
        time: of the last one, seconds since 1970.
        ids, numbers: its last events, (K, n) of the categorical and (M, n) of the numeric fields.
        past: the surprise in nats of its last few events, (m,).
    """

    count: int
    time: int
    ids: NDArray[np.int32]
    numbers: NDArray[np.float32]
    past: NDArray[np.float64]


@dataclass(frozen=True)
class Extended:
    """A table's events, each card's behind those that are remembered of it.

    Attributes:
        names: (C,) the cards in the table.
        ragged: remembered and new events of each.
        begun: (C,) events of each card that came before those in `ragged`.
        new: (N,) the places of the table's events in `ragged`.
        histories: the table's events alone.
        time: (C,) of each card's last event.
    """

    names: list[str]
    ragged: Ragged
    begun: NDArray[np.int64]
    new: NDArray[np.int64]
    histories: Histories
    time: NDArray[np.int64]


@dataclass
class CardStates:
    """The cards of a stream of payments.

    Args:
        codec: how payments become fields.
        context, stride: of the windows, see finance.histories.Windows.
        memory: surprises remembered.
    """

    codec: EventCodec
    context: int
    stride: int
    memory: int = 0
    cards: dict[str, Card] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.categorical = tuple(f.name for f in self.codec.fields if f.kind == "categorical")
        self.numeric = tuple(f.name for f in self.codec.fields if f.kind == "numeric")

    def of(self, name: str) -> Card:
        """What is remembered of a card; nothing of one that never paid."""
        return self.cards.get(name) or Card(
            0, -(2**62), np.zeros((len(self.categorical), 0), np.int32), np.zeros((len(self.numeric), 0), np.float32),
            np.zeros(0),
        )  # fmt: skip

    def kept(self, count: int) -> int:
        """How many of a card's last events the window of its event number `count` (from 0) looks back at."""
        return count - max(0, count // self.stride * self.stride + self.stride - self.context)

    def too_early(self, table: Transactions) -> NDArray[np.bool_]:
        """(N,) payments that lie before one of their card that is known already."""
        names, number = np.unique(table.frame["entity"].to_numpy(dtype=str), return_inverse=True)
        return table.time < np.array([self.of(str(name)).time for name in names], dtype=np.int64)[number]

    def extend(self, table: Transactions) -> Extended:
        """The table's events behind the remembered ones; nothing is remembered yet, see `advance`."""
        first = np.unique(table.card, return_index=True)[1]
        names = table.frame["entity"].to_numpy()[first].tolist()
        known = [self.of(name) for name in names]
        before = np.array([card.time if card.count else math.nan for card in known])
        histories = self.codec.encode(table, before)
        kept, lengths = np.array([card.ids.shape[1] for card in known]), histories.ragged.lengths
        offsets = np.concatenate([[0], np.cumsum(kept + lengths)]).astype(np.int64)
        shift = offsets[:-1] + kept - histories.ragged.offsets[:-1]
        new = np.arange(len(table)) + np.repeat(shift, lengths)
        fields = {}
        for name, values in histories.ragged.fields.items():
            out = np.empty(offsets[-1], dtype=values.dtype)
            out[new] = values
            kind = "ids" if name in self.categorical else "numbers"
            row = (self.categorical if kind == "ids" else self.numeric).index(name)
            for card, begin, length in zip(known, offsets, kept, strict=False):
                out[begin : begin + length] = getattr(card, kind)[row]
            fields[name] = out
        begun = np.array([card.count for card in known]) - kept
        return Extended(names, Ragged(fields, offsets), begun, new, histories, table.time[table.last])

    def advance(self, extended: Extended, own: NDArray[np.float64] | None = None) -> None:
        """Remember a table's events.

        Args:
            own: (N,) surprise of each of the table's events, in the order of its histories.
        """
        ragged, new_offsets = extended.ragged, extended.histories.ragged.offsets
        ids = np.stack([ragged.fields[name].astype(np.int32) for name in self.categorical])
        numbers = np.stack([ragged.fields[name] for name in self.numeric])
        for i, name in enumerate(extended.names):
            end = int(ragged.offsets[i + 1])
            count = int(extended.begun[i]) + end - int(ragged.offsets[i])
            begin, past = end - self.kept(count), self.of(name).past
            if own is not None:
                past = self.remembered(past, own[new_offsets[i] : new_offsets[i + 1]])
            self.cards[name] = Card(
                count, int(extended.time[i]), ids[:, begin:end].copy(), numbers[:, begin:end].copy(), past
            )

    def remembered(self, past: NDArray[np.float64], own: NDArray[np.float64]) -> NDArray[np.float64]:
        """The last surprises, new ones behind old ones."""
        both = np.concatenate([past, own])
        return both[max(0, len(both) - self.memory) :]

    def save(self, path: str | Path, of: str) -> Path:
        """Write one safetensors file, whole or not at all. It holds the cards' names and their last events.

        Args:
            of: what the states belong to; `load` asks for the same.
        """
        from safetensors.numpy import save

        path, cards = Path(path), list(self.cards.values())
        names = [name.encode() for name in self.cards]
        tensors: dict[str, NDArray] = {
            "names": np.frombuffer(b"".join(names), dtype=np.uint8),
            "name_lengths": np.array([len(name) for name in names], dtype=np.int64),
            "count": np.array([c.count for c in cards], dtype=np.int64),
            "time": np.array([c.time for c in cards], dtype=np.int64),
            "past_lengths": np.array([len(c.past) for c in cards], dtype=np.int64),
            "past": np.concatenate([np.zeros(0), *(c.past for c in cards)]),
            "ids": np.concatenate([self.of("").ids[:, :0], *(c.ids for c in cards)], axis=1),
            "numbers": np.concatenate([self.of("").numbers[:, :0], *(c.numbers for c in cards)], axis=1),
        }
        content = save(tensors, metadata={"format": FORMAT, "of": of})
        with whole(path, "the cards' states") as temporary:
            temporary.write_bytes(content)
        return path

    def load(self, path: str | Path, of: str) -> None:
        """Take what `save` wrote.

        Raises:
            UserError: no such file, a damaged one, or the states of another run.
        """
        from safetensors import SafetensorError, safe_open

        path = Path(path)
        if not path.is_file():
            raise UserError("there are no saved states", where=path, mend="give the file that save wrote")
        try:
            with safe_open(path, framework="numpy") as file:
                about = file.metadata() or {}
                t = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            if about.get("format") != FORMAT:
                raise ValueError("another format")
            if about.get("of") != of:
                raise UserError("these states belong to another run", where=path, mend="give the run that made them")
            self.cards = self._cards(t)
        except (SafetensorError, OSError, KeyError, ValueError, IndexError) as error:
            raise UserError("the saved states are damaged", where=path, mend=f"build them anew: {error}") from None

    def _cards(self, t: dict[str, NDArray]) -> dict[str, Card]:
        count, text = t["count"], t["names"].tobytes()
        kept = np.array([self.kept(int(n)) for n in count], dtype=np.int64)
        ends = {key: np.cumsum(t[key]) for key in ("name_lengths", "past_lengths")} | {"kept": np.cumsum(kept)}
        sizes = {"kept": (len(t["ids"][0]), len(t["numbers"][0])), "name_lengths": (len(text),), "past_lengths": (len(t["past"]),)}  # fmt: skip
        for key, held in sizes.items():
            if len(ends[key]) != len(count) or any(size != (ends[key][-1] if len(count) else 0) for size in held):
                raise ValueError(f"{key} do not fit the others")
        if len(t["ids"]) != len(self.categorical) or len(t["numbers"]) != len(self.numeric) or (count < 1).any():
            raise ValueError("fields do not fit the run")
        made = {}
        for i in range(len(count)):
            a, b = (slice(int(ends[key][i] - size[i]), int(ends[key][i])) for key, size in (("kept", kept), ("past_lengths", t["past_lengths"])))  # fmt: skip
            name = text[int(ends["name_lengths"][i] - t["name_lengths"][i]) : int(ends["name_lengths"][i])].decode()
            made[name] = Card(int(count[i]), int(t["time"][i]), t["ids"][:, a].copy(), t["numbers"][:, a].copy(), t["past"][b].copy())  # fmt: skip
        if len(made) != len(count):
            raise ValueError("a card occurs twice")
        return made
