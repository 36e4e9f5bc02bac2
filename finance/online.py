"""Scores of payments as they arrive, equal to those of the whole log at once, from what is remembered of each card.

online = OnlineScorer.from_history(FraudScorer.load("run"), "folder/with/schema")
online.score({"card": "c17", "time": "2024-12-31T10:00:00", "amount": 12.5, …}).score
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self, cast

import numpy as np
import torch
from numpy.typing import NDArray

from core.encoders import FieldStem
from core.errors import UserError
from core.heads import Head
from finance.data import Transactions
from finance.estimators import Data, FraudScorer
from finance.payment import Payment
from finance.scoring import and_past, hide, nats, surprise, with_past
from finance.state import Card, CardStates


@dataclass(frozen=True)
class Scored:
    """A payment's score in nats, higher = stranger, and its two parts.

    Attributes:
        own: the payment's own surprise.
        past: the mean surprise of the card's past payments.
        reasons: surprise of each field, by the column's name; None where they were not asked for.
    """

    score: float
    own: float
    past: float
    reasons: dict[str, float] | None = None


class OnlineScorer:
    """Scores one payment after the other, each once.

    Scores are those that `FraudScorer.score_samples` gives of all these payments in one table, but for rounding (1e-5 of the score),
    however cards take turns. Payments of a card come in order of time; of equal times, the one that comes first is first. Of a card
    no more than the network's window is remembered.

    Args:
        scorer: fitted.
        new_cards: whether a card may pay that never paid before; else that is refused.
    """

    def __init__(self, scorer: FraudScorer, new_cards: bool = True) -> None:
        encoder, self._heads = scorer.fitted()
        self.scorer, self.new_cards = scorer, new_cards
        self._codec, self._network, self._device = encoder.codec_, encoder.encoder_.eval(), encoder.device
        self._heads.eval()
        self._score, context = encoder.recipe_.score, encoder.recipe_.shape.context
        self.states = CardStates(encoder.codec_, context, self._score.stride, self._score.memory)

    @classmethod
    def from_history(cls, scorer: FraudScorer, data: Data, new_cards: bool = True) -> Self:
        """After the payments of a log."""
        made = cls(scorer)
        table = made.scorer.fitted()[0].table(data)
        made._advance(table, np.zeros(len(table), bool))
        made.new_cards = new_cards
        return made

    @torch.inference_mode()
    def score(self, payment: Mapping[str, object], reasons: bool = False) -> Scored:
        """The score of the card's next payment, which is remembered.

        Args:
            payment: the schema's columns; a label is not looked at.
            reasons: say the surprise of each field too, as `FraudScorer.reasons`; takes twice the time.

        Raises:
            UserError: a payment that cannot be read, that lies before the card's last one, or of a card that may not be new; nothing
                of it is remembered.
        """
        given = Payment.read(payment, self._codec.schema)
        card = self.states.of(given.card)
        if not card.count and not self.new_cards:
            raise UserError("the card never paid before", where="payment", mend="use new_cards=True to allow it")
        if given.time < card.time:
            raise UserError(
                "the payment lies before the card's last one", where="payment",
                mend="give a card's payments in order of time",
            )  # fmt: skip
        event = self._codec.encode_one(given.time, given.amount, card.time if card.count else None, given.others)
        s = self.states
        ids = np.column_stack([card.ids, np.array([event[name] for name in s.categorical], np.int32)])
        numbers = np.column_stack([card.numbers, np.array([event[name] for name in s.numeric], np.float32)])
        own = self._surprise(card, ids, numbers, ["amount"])["amount"]
        past = float(with_past(np.append(card.past, own), np.array([0, len(card.past) + 1]), s.memory)[-1])
        why = None
        if reasons:
            names = [field.name for field in cast(FieldStem, self._network.stem).fields]
            why = self._codec.by_title(self._surprise(card, ids, numbers, names))
        kept = ids.shape[1] - s.kept(card.count + 1)
        s.cards[given.card] = Card(
            card.count + 1, given.time, ids[:, kept:], numbers[:, kept:], s.remembered(card.past, np.array([own]))
        )
        return Scored(own + past, own, past, why)

    def _surprise(
        self, card: Card, ids: NDArray[np.int32], numbers: NDArray[np.float32], names: list[str]
    ) -> dict[str, float]:
        """Surprise in nats of the last event of a card's window, by field."""
        s, last = self.states, ids.shape[1] - 1
        batch = {name: torch.from_numpy(ids[i : i + 1].astype(np.int64)) for i, name in enumerate(s.categorical)}
        batch |= {name: torch.from_numpy(numbers[i : i + 1]) for i, name in enumerate(s.numeric)}
        batch["pad"] = torch.zeros((1, last + 1), dtype=torch.bool)
        batch = {name: values.to(self._device) for name, values in batch.items()}
        mask = hide(batch["pad"], last - card.count % s.stride, self._score, names)
        hidden = self._network.trunk.tail(self._network.stem(batch, mask), last)[:, 0]
        return {name: float(nats(cast(Head, self._heads[name]), hidden, batch[name][:, last])) for name in names}

    def score_table(self, table: Transactions) -> NDArray[np.float64]:
        """Many payments at once, all remembered: (N, 3) as `FraudScorer.parts`, in the table's order.

        Raises:
            UserError: a payment that lies before its card's last one, or of a card that may not be new; none is remembered.
        """
        return self._advance(self.scorer.fitted()[0].seen(table), np.ones(len(table), bool))

    def _advance(self, table: Transactions, wanted: NDArray[np.bool_]) -> NDArray[np.float64]:
        early = self.states.too_early(table)
        if early.any():
            raise UserError(
                f"{int(early.sum())} payments lie before their card's last one", where="payments",
                mend="give a card's payments in order of time",
            )  # fmt: skip
        new = set() if self.new_cards else set(table.frame["entity"]) - set(self.states.cards)
        if new:
            raise UserError(f"{len(new)} cards never paid before", where="payments", mend="use new_cards=True")
        if not len(table):
            return np.zeros((0, 3))
        memory, extended = self._score.memory, self.states.extend(table)
        histories, offsets = extended.histories, extended.histories.ragged.offsets
        chosen = histories.from_table(wanted)
        last = np.arange(len(table)) >= np.repeat(offsets[1:], histories.ragged.lengths) - memory
        asked = np.zeros(int(extended.ragged.offsets[-1]), bool)
        asked[extended.new] = and_past(chosen, offsets, memory) | last
        own = surprise(
            self._network, self._heads, extended.ragged, asked, self.states.context, self._score,
            begun=extended.begun, device=self._device,
        )["amount"][extended.new]  # fmt: skip
        past = self._past(extended.names, own, offsets)
        self.states.advance(extended, own)
        parts = np.column_stack([own + past, own, past])
        parts[~chosen] = np.nan
        return histories.to_table(parts)

    def _past(self, names: list[str], own: NDArray[np.float64], offsets: NDArray[np.int64]) -> NDArray[np.float64]:
        """Mean surprise of each card's payments before each new one (N,), remembered ones among them."""
        remembered = [self.states.of(name).past for name in names]
        shift = np.cumsum([len(r) for r in remembered])
        place = np.arange(len(own)) + np.repeat(shift, np.diff(offsets))
        both = np.full(len(own) + int(shift[-1]), np.nan)
        both[place] = own
        whole = offsets + np.concatenate([[0], shift])
        for begin, values in zip(whole, remembered, strict=False):
            both[begin : begin + len(values)] = values
        return with_past(both, whole, self._score.memory)[place]

    def save(self, path: str | Path) -> Path:
        """Write what is remembered, one safetensors file: card names and their last events, so keep it as safe as the log.

        Raises:
            UserError: the place cannot be written.
        """
        return self.states.save(path, self._fingerprint())

    @classmethod
    def load(cls, scorer: FraudScorer, path: str | Path, new_cards: bool = True) -> Self:
        """Go on where `save` was called.

        Raises:
            UserError: no such file, a damaged one, or the states of another run.
        """
        made = cls(scorer, new_cards)
        made.states.load(path, made._fingerprint())
        return made

    def _fingerprint(self) -> str:
        """What states depend on: weights, codecs and how events are scored."""
        encoder, _ = self.scorer.fitted()
        about = encoder.describe()
        digest = hashlib.sha256(json.dumps([about["recipe"]["score"], about["codec"]], sort_keys=True).encode())
        for module in (self._network, self._heads):
            for name, values in sorted(module.state_dict().items()):
                digest.update(name.encode() + values.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()
