"""What analysts import: `TransactionEncoder` learns from unlabelled histories, `FraudScorer` scores payments without labels.

encoder = TransactionEncoder().fit("folder/with/schema")  # or a DataFrame: TransactionEncoder(schema=…).fit(frame)
states = encoder.transform("folder/with/schema")       # (N, D), one row a payment, from its past alone
scores = FraudScorer(encoder).score_samples("folder")   # (N,), higher = stranger
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self, cast

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, clone
from torch import nn

from core.batches import Ragged, SequenceBatches
from core.config import from_dict, to_dict
from core.device import on_cores
from core.encoders import FieldStem, TokenEncoder
from core.errors import UserError
from core.estimator import NotFitted, PretrainedEncoder
from core.methods import MaskedConfig, Method, SwAV
from core.tokens import Batch, to_device
from finance.data import Transactions
from finance.encoders import event_encoder
from finance.groups import Groups
from finance.histories import EventCodec, Windows
from finance.inputs import Data, Encoded, as_transactions, given_rows, in_order, of_frame
from finance.methods import WITH_HEADS, Plan, build
from finance.presets import Recipe
from finance.schema import Schema
from finance.scoring import and_past, surprise, with_past
from finance.split import default_split


def embed_stride(context: int) -> int:
    """Events embedded by one window of `context`: more are faster, and see a shorter past."""
    return min(32, max(1, context // 2))


class TransactionEncoder(PretrainedEncoder):
    """A causal Transformer over a card's events, pretrained without labels.

    Args:
        recipe: see finance.presets.
        schema: which column is what of a DataFrame: a Schema, its keys, or the path of a schema.toml. Results are then in the order of
            the frame's rows.
    """

    domain = "finance"
    encoder_: TokenEncoder
    heads_: nn.Module | None  # of each field, or the groups of swav

    def __init__(
        self, recipe: Recipe | None = None, schema: Schema | Mapping[str, Any] | str | Path | None = None
    ) -> None:
        self.recipe = recipe
        self.schema = schema

    def fit(
        self,
        data: Data,
        y: object = None,
        *,
        until: int | None = None,
        out: str | Path | None = None,
        note: Callable[[str], None] | None = None,
    ) -> Self:
        """Fit codecs and train on all days before `until`.

        Args:
            data: a path, a known set's name, Transactions, or a DataFrame. Labels are not looked at.
            until: first day (since 1970) that is not seen; None: the test period of finance.split.default_split.
            out: run folder in the making; an interrupted run goes on from there.

        Raises:
            UserError: unreadable data, or too little of it.
        """
        recipe = self.recipe or Recipe()
        table = self._read(data).seen_by(recipe.view)
        self.until_ = default_split(table).test if until is None else until
        past = table.where(table.day < self.until_)
        if len(past) < 2:
            raise UserError("no transaction before the test period", where="time", mend="give a longer log")
        fields = recipe.fields
        self.codec_ = EventCodec.fit(
            past,
            max_categories=fields.max_categories,
            buckets=fields.buckets,
            min_count=fields.min_count,
            words=fields.words,
            vocabulary=fields.vocabulary,
            hashed=[table.schema.counterparty] if recipe.view == "counterparty" else [],  # a run holds no card
        )
        self.trained_on_: dict[str, Any] = {
            "rows": len(past),
            "cards": len(np.unique(past.card)),
            "sha256": table.sha256,
        }
        ragged = self.codec_.encode(past).ragged
        torch.manual_seed(recipe.train.seed)
        method = self._build(recipe)
        batches = SequenceBatches(
            ragged,
            max(2, min(recipe.batch_size, int((ragged.lengths >= recipe.shortest).sum()))),
            recipe.train.seed,
            max_length=recipe.shape.context,
            min_length=recipe.shortest,
        )
        kept = self.heads_
        self.pretrain(method, batches, recipe.pretext.bound(self.codec_.fields), recipe.train, out, note)
        self.heads_ = kept  # a puzzle's own heads answer nothing that is asked later
        self.trained_on_ |= {"steps": self.history_.steps, "minutes": round(self.history_.seconds / 60, 2)}
        return self

    def encode(self, data: Data) -> Encoded:
        """The data with its histories, which every method that reads data takes in its place. Its table is in time order.

        Raises:
            UserError: unreadable data, or a column that the encoder was fitted on is missing.
        """
        self._check_fitted()
        if isinstance(data, Encoded) and data.codec is self.codec_:
            return data
        table = self.table(data)
        return Encoded(table, self.codec_.encode(table), self.codec_)

    def table(self, data: Data) -> Transactions:
        """The data's transactions as the run sees them, by card or by counterparty; arguments and errors as `encode`."""
        self._check_fitted()
        return self.seen(self._read(data))

    def _read(self, data: Data) -> Transactions:
        """Transactions, by the estimator's schema, or that of its run, where a DataFrame is given."""
        if not isinstance(data, pd.DataFrame):
            return as_transactions(data)
        if self.schema is not None:
            schema = Schema.of(self.schema)
        elif hasattr(self, "codec_"):
            schema = self.codec_.schema
        else:
            raise UserError(
                "a DataFrame needs a schema",
                where="data",
                mend="say which column is what: TransactionEncoder(schema=…)",
            )
        return of_frame(data, schema)

    def seen(self, table: Transactions) -> Transactions:
        """The table as the run sees it: by card or by counterparty, with the same rows; one that is seen so already is returned.

        Raises:
            UserError: a payment without a counterparty, where the run needs one.
        """
        if table.schema.entity == self.codec_.schema.entity:
            return table
        made = table.seen_by(self.recipe_.view)
        if len(made) < len(table):
            raise UserError(
                f"{len(table) - len(made)} payments have no counterparty", where="data",
                mend="leave them out: table.seen_by('counterparty')",
            )  # fmt: skip
        return made

    def transform(self, data: Data, rows: NDArray[np.bool_] | None = None) -> NDArray[np.float32]:
        """State after each payment (N, D), in the data's order, from that payment and earlier ones of the card alone.

        Args:
            rows: (N,) which payments to embed; the others stay nan.
        """
        encoded = self.encode(data)
        histories = encoded.histories
        wanted = given_rows(data, encoded.table, rows)
        states = self.states(histories.ragged, histories.from_table(wanted))
        states[~histories.from_table(wanted)] = np.nan
        return in_order(data, encoded.table, histories.to_table(states))

    def transform_cards(self, data: Data) -> tuple[NDArray, NDArray[np.float32]]:
        """Each card's name (C,) and its state after its last payment (C, D); each counterparty's, of a run that sees them."""
        encoded = self.encode(data)
        table = encoded.table
        last = np.zeros(len(table), bool)
        last[table.last] = True
        return table.frame["entity"].to_numpy()[last], self.transform(encoded, last)[last]

    def groups(self, data: Data) -> tuple[NDArray, NDArray[np.int64]]:
        """Each card's name (C,) and its peer group (C,), see `groups_of`."""
        names, states = self.transform_cards(data)
        return names, self.groups_of(states)

    def groups_of(self, states: NDArray[np.float32]) -> NDArray[np.int64]:
        """The peer group (N,) of embeddings (N, D): the number of the prototype that each lies nearest to.

        Raises:
            UserError: a run of another method than `swav`, which knows no groups.
        """
        self._check_fitted()
        if not isinstance(self.heads_, Groups):
            raise UserError(
                f"a run of method '{self.recipe_.method}' knows no groups", where="run", mend="use --method swav"
            )
        return self.heads_.to(self.device).nearest(torch.from_numpy(states).to(self.device)).cpu().numpy()

    @property
    def scores(self) -> bool:
        """Whether `FraudScorer` can use it: it learned to predict hidden fields."""
        return isinstance(self.recipe_.objective, MaskedConfig)

    @property
    def device(self) -> str:
        """Where the weights are."""
        return str(next(self.encoder_.parameters()).device)

    def states(
        self, ragged: Ragged, wanted: NDArray[np.bool_], begun: NDArray[np.int64] | None = None
    ) -> NDArray[np.float32]:
        """State after each wanted event (N, D); `begun` as in finance.histories.Windows.over."""
        self.encoder_.eval()
        device = self.device
        context = self.recipe_.shape.context
        windows = Windows.over(ragged, wanted, context, embed_stride(context), begun)
        states = np.full((int(ragged.offsets[-1]), self.encoder_.dim), np.nan, dtype=np.float32)

        def one(part: tuple[NDArray[np.int64], int]) -> None:
            at, begin = part
            batch, event = windows.batch(ragged, at)
            batch, event = to_device(batch, device), event[:, begin:]
            hidden = self.encoder_.trunk.tail(self.encoder_.stem(batch), begin)
            states[event[event >= 0]] = hidden[~batch["pad"][:, begin:]].float().cpu().numpy()

        on_cores(one, windows.batches(128), device)
        return states

    def example(self) -> Batch:
        """Two windows of a few events."""
        shape = (2, min(8, self.recipe_.shape.context))
        kinds = {f.name: torch.long if f.kind == "categorical" else torch.float32 for f in self.codec_.fields}
        return {name: torch.zeros(shape, dtype=kind) for name, kind in {**kinds, "pad": torch.bool}.items()}

    def _build(self, recipe: Recipe) -> Method:
        self.recipe_ = recipe
        self.encoder_ = event_encoder(self.codec_, recipe.shape)
        heads = cast(FieldStem, self.encoder_.stem).heads(components=recipe.shape.components, trim=recipe.shape.trim)
        self.heads_ = heads if isinstance(recipe.objective, WITH_HEADS) else None
        share = {
            f.table: 1 / sum(g.table == f.table for g in self.codec_.fields) for f in self.codec_.fields if f.table
        }
        weights = {
            f.name: 1.0 if f.name == "amount" else recipe.other_weight * share.get(f.table, 1.0)
            for f in self.codec_.fields
        }
        method = build(Plan(self.encoder_, heads, weights, recipe.objective, recipe.pretext, self.codec_.fields))
        if isinstance(method, SwAV):
            self.heads_ = Groups(method)
        return method

    def describe(self) -> dict[str, Any]:
        return {
            "recipe": to_dict(self.recipe_),
            "codec": self.codec_.json(),
            "until": self.until_,
            "trained_on": self.trained_on_,
        }

    @classmethod
    def build(cls, config: dict[str, Any]) -> Self:
        recipe = from_dict(Recipe, config["recipe"])
        new = cls(recipe)
        new.codec_, new.until_ = EventCodec.from_json(config["codec"]), int(config["until"])
        new.trained_on_ = dict(config["trained_on"])
        new._build(recipe)
        return new


class FraudScorer(BaseEstimator):
    """Scores payments without labels: how much larger the amount is than the card's older history lets one expect.

    Args:
        encoder: of method `masked`; a fitted one is used as it is, until `fit` fits a copy of it. None for one of default settings.

    Attributes:
        encoder_: what `fit` fitted.
    """

    encoder_: TransactionEncoder

    def __init__(self, encoder: TransactionEncoder | None = None) -> None:
        self.encoder = encoder

    @classmethod
    def load(cls, run: str | Path) -> Self:
        """The scorer of a run folder."""
        scorer = cls(TransactionEncoder.load(run))
        scorer.fitted()
        return scorer

    def fit(self, data: Data, y: object = None, *, until: int | None = None) -> Self:
        """Pretrain a copy of the encoder on all days before `until`; see TransactionEncoder.fit."""
        self.encoder_ = clone(self.encoder or TransactionEncoder()).fit(data, until=until)
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "encoder_") or hasattr(self.encoder, "encoder_")

    def score_samples(self, data: Data, rows: NDArray[np.bool_] | None = None) -> NDArray[np.float64]:
        """Score (N,) in nats, higher = stranger, in the data's order; nan where `rows` is False."""
        return self.parts(data, rows)[:, 0]

    def parts(self, data: Data, rows: NDArray[np.bool_] | None = None) -> NDArray[np.float64]:
        """(N, 3): the score, the payment's own surprise, and the mean surprise of the card's past payments."""
        encoder, heads = self.fitted()
        score, encoded = encoder.recipe_.score, encoder.encode(data)
        histories = encoded.histories
        offsets = histories.ragged.offsets
        wanted = histories.from_table(given_rows(data, encoded.table, rows))
        own = surprise(
            encoder.encoder_,
            heads,
            histories.ragged,
            and_past(wanted, offsets, score.memory),
            encoder.recipe_.shape.context,
            score,
            device=encoder.device,
        )["amount"]
        past = with_past(own, offsets, score.memory)
        parts = np.column_stack([own + past, own, past])
        parts[~wanted] = np.nan
        return in_order(data, encoded.table, histories.to_table(parts))

    def reasons(self, data: Data, rows: NDArray[np.bool_] | None = None) -> dict[str, NDArray[np.float64]]:
        """Surprise of every field (N,) in nats, by the column's own name: −log P(as large or larger) of the amount, −log p else.

        All fields of an event are hidden at once: each is judged by the card's older history, not by the others. The words of a
        text are judged each by itself, and summed.
        """
        encoder, heads = self.fitted()
        encoded = encoder.encode(data)
        histories = encoded.histories
        wanted = histories.from_table(given_rows(data, encoded.table, rows))
        found = surprise(
            encoder.encoder_,
            heads,
            histories.ragged,
            wanted,
            encoder.recipe_.shape.context,
            encoder.recipe_.score,
            all_fields=True,
            device=encoder.device,
        )
        return {
            title: in_order(data, encoded.table, histories.to_table(values))
            for title, values in encoder.codec_.by_title(found).items()
        }

    def fitted(self) -> tuple[TransactionEncoder, nn.ModuleDict]:
        """The encoder and its head of each field; `UserError` where it is not fitted, or by a method that gives no score."""
        encoder = self.encoder_ if hasattr(self, "encoder_") else self.encoder
        if encoder is None or not hasattr(encoder, "encoder_"):
            raise NotFitted(self)
        method, heads = encoder.recipe_.method, encoder.heads_
        if not encoder.scores or not isinstance(heads, nn.ModuleDict):
            raise UserError(f"a run of method '{method}' gives no score", where="run", mend="use --method masked")
        return encoder, heads
