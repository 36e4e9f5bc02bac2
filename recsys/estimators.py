"""What analysts import: a recommender for sessions and users, pandas in and out. The commands call it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import nn

from core.artifacts import working_folder
from core.batches import SequenceBatches
from core.codec import FIRST, UNKNOWN, Categories
from core.config import from_dict, settings, to_dict
from core.encoders import TokenEncoder
from core.errors import UserError
from core.estimator import PretrainedEncoder
from core.heads import TiedHead
from core.methods import MaskedConfig
from core.resume import goes_on
from core.tokens import Batch
from core.training import History, resolve_device
from recsys.attributes import Attributes, from_lists
from recsys.cold import with_items
from recsys.cooccurrence import start_near
from recsys.data import Columns, Limits, check_catalogue, from_frame
from recsys.encoders import build_encoder, build_heads
from recsys.methods import RANKING, build, pretext_of
from recsys.presets import FEWEST, Recipe, recipe
from recsys.reader import SessionReader
from recsys.scorer import ItemScorer
from recsys.sequences import Sequences, occurrences
from recsys.split import without_last
from recsys.states import last_states, one_state, ready

if TYPE_CHECKING:
    from recsys.offers import Offer


class SessionRecommender(PretrainedEncoder):
    """Pretrains on item sequences, recommends what comes next, and gives a vector for each sequence.

    Args:
        method: a preset: `next` (SASRec), `gsasrec`, `gru4rec`, `bert4rec`, `duorec` and those that begin with `next+` recommend; the
            others of recsys.presets give embeddings alone.
        minutes, steps: how long to train, one of them; both None takes the preset's.
        seed: of weights and batches.
        device: `cpu`, `cuda`, ….
        hold_out: last events of each user that training never sees; 2 is what `evaluate` needs, 0 is for production.
        changes: `key=value` settings of the preset.
        columns: names of the columns of the tables.
        attributes: a table of items (`item_id`) and their attributes (a list, or one a row), which `next+attributes` learns from.

    Example:
        >>> model = SessionRecommender(minutes=5).fit(clicks)      # user_id, item_id, timestamp
        >>> model.recommend(new_clicks, k=10)                      # user, rank, item, score, note
        >>> model.transform(new_clicks)                            # one vector a user
    """

    domain: ClassVar[str] = "recsys"
    encoder_: TokenEncoder
    heads_: nn.ModuleDict | None
    _scorer: ItemScorer | None = None
    _reader: SessionReader | None = None

    def __init__(
        self,
        method: str = "next",
        minutes: float | None = None,
        steps: int | None = None,
        seed: int = 0,
        device: str = "cpu",
        hold_out: int = 0,
        changes: Sequence[str] = (),
        columns: Columns | None = None,
        attributes: pd.DataFrame | None = None,
    ) -> None:
        self.method = method
        self.minutes = minutes
        self.steps = steps
        self.seed = seed
        self.device = device
        self.hold_out = hold_out
        self.changes = changes
        self.columns = columns
        self.attributes = attributes

    # fitting

    def recipe(self) -> Recipe:
        """The preset with this estimator's budget, seed, device and changes."""
        if self.minutes is not None and self.steps is not None:
            raise UserError("both minutes and steps are given", where="train", mend="give one of them")
        chosen = recipe(self.method)
        train = chosen.train
        if self.steps is not None:
            train = replace(train, steps=self.steps, minutes=None)
        if self.minutes is not None:
            train = replace(train, minutes=self.minutes, steps=None)
        if (
            self.steps is not None
            or self.minutes is not None
            or any(c.startswith(("train.steps", "train.minutes")) for c in self.changes)
        ):
            chosen = replace(chosen, epochs=0)
        train = replace(train, seed=self.seed, device=self.device)
        return settings(replace(chosen, train=train), list(self.changes))

    def fit(self, X: pd.DataFrame, y: None = None) -> Self:
        """Train on a table of interactions: user, item, time (see `recsys.data`); rows that cannot be used are set aside.

        Raises:
            UserError: see `recsys.data.from_frame`; one item only; no sequence of two events.
        """
        return self.fit_sequences(from_frame(X, self.columns).sequences)

    def fit_sequences(
        self,
        sequences: Sequences,
        out: str | Path | None = None,
        note: Callable[[str], None] | None = None,
        data: str = "",
        chosen: Recipe | None = None,
        start: SessionRecommender | None = None,
    ) -> Self:
        """Train on sequences.

        Args:
            out: the run folder to be; a run interrupted there goes on where it stopped.
            note: where progress lines go.
            data: digest of the data's file, kept so that `evaluate` knows whether it was trained on.
            chosen: a recipe to take instead of the preset and its changes.
            start: a recommender of the same shape and catalogue, whose weights are gone on from: fine-tuning.
        """
        check_catalogue(sequences)
        chosen = chosen or self.recipe()
        train = without_last(sequences, self.hold_out)
        if (train.lengths >= 2).sum() < 2:
            raise UserError(
                f"fewer than 2 sequences have 2 events or more after the last {self.hold_out} are held out",
                where="data", mend="give longer sequences, or --hold-out 0",
            )  # fmt: skip
        batches = SequenceBatches(
            train.ragged(), chosen.batch_size, chosen.train.seed, chosen.model.length + 1, chosen.crop, min_length=2
        )
        if chosen.epochs:
            steps = max(FEWEST, round(chosen.epochs * len(batches)))
            chosen = replace(chosen, epochs=0, train=replace(chosen.train, steps=steps, minutes=None))
        heads = self._prepare(chosen, sequences.catalogue, popularity(train), self.hold_out, data)
        if start is not None:
            self._go_on_from(start)
        elif chosen.model.start == "cooccurrence" and not (out and goes_on(working_folder(Path(out)))):
            start_near(self.encoder_, train, note)
        known = self._known_attributes()
        if known is not None and known.ignored and note is not None:
            note(f"attributes of {known.ignored} item{'s' * (known.ignored != 1)} not in the data are left out")
        pretext = pretext_of(chosen.pretext, chosen.auxiliary, train.ragged(), known)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(chosen.train.seed)
            labels = 0 if known is None else len(known)
            method = build(chosen.objective, chosen.pretext, self.encoder_, heads, chosen.auxiliary, labels)
        self._scorer, self._reader = None, None  # before the weights change
        self.pretrain(method, batches, pretext, chosen.train, out, note)
        if not isinstance(chosen.objective, RANKING):
            self.heads_ = None
        return self

    def _go_on_from(self, start: SessionRecommender) -> None:
        """Take another recommender's weights."""
        if start.catalogue_.values != self.catalogue_.values:
            raise UserError(
                "the run to go on from knows other items", where="start", mend="read the data over its catalogue"
            )
        try:
            self.encoder_.load_state_dict(start.encoder_.state_dict())
        except RuntimeError:
            raise UserError(
                "the run to go on from has another shape", where="start", mend="give the same model settings"
            ) from None

    def _known_attributes(self) -> Attributes | None:
        """The given attributes over the catalogue; None where none are given."""
        return None if self.attributes is None else Attributes.of(self.attributes, self.catalogue_)

    def _prepare(
        self, chosen: Recipe, catalogue: Categories, counts: NDArray, hold_out: int, data: str
    ) -> nn.ModuleDict:
        """Fresh weights of the right shapes, drawn from the recipe's seed; returns heads over the items."""
        self.recipe_, self.catalogue_, self.popularity_ = chosen, catalogue, np.asarray(counts, dtype=np.int64)
        self.hold_out_, self.data_ = hold_out, data
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(chosen.train.seed)
            self.encoder_ = build_encoder(catalogue.size, chosen.model)
            heads = build_heads(self.encoder_, chosen.model, self.popularity_)
        self.heads_ = heads if isinstance(chosen.objective, RANKING) else None
        return heads

    # the run folder

    def describe(self) -> dict[str, Any]:
        """All that `build` needs, as plain JSON: recipe, catalogue, its popularity and attributes; no user."""
        known = self._known_attributes()
        return {
            "recipe": to_dict(self.recipe_),
            "catalogue": list(self.catalogue_.values),
            "popularity": self.popularity_.tolist(),
            "attributes": {} if known is None else known.lists(self.catalogue_),
            "hold_out": self.hold_out_,
            "data": self.data_,
            "method": self.method,
            "steps": self.steps_spent(),
            "minutes": round(self.minutes_spent(), 3),
        }

    @classmethod
    def build(cls, config: dict[str, Any]) -> Self:
        chosen = from_dict(Recipe, config["recipe"])
        catalogue = Categories(tuple(config["catalogue"]))
        if len(config["popularity"]) != len(catalogue.values):
            raise UserError(
                "the run's catalogue and popularity differ in length", where="config.json", mend="pretrain again"
            )
        new = cls(method=config["method"], seed=chosen.train.seed, hold_out=config["hold_out"])
        new.attributes = from_lists(config["attributes"]) if config.get("attributes") else None
        new._prepare(chosen, catalogue, np.array(config["popularity"]), config["hold_out"], config["data"])
        new.history_ = History(steps=int(config["steps"]), seconds=60 * float(config["minutes"]))
        return new

    def steps_spent(self) -> int:
        """Optimizer steps of the training."""
        return self.history_.steps if hasattr(self, "history_") else 0

    def minutes_spent(self) -> float:
        """Wall time of the training, in minutes."""
        return self.history_.seconds / 60 if hasattr(self, "history_") else 0.0

    # use

    def example(self) -> Batch:
        """Two short sequences of unknown items."""
        shape = (2, min(8, self.recipe_.model.length))
        return {"item": torch.full(shape, UNKNOWN), "pad": torch.zeros(shape, dtype=torch.bool)}

    def sequences(self, X: pd.DataFrame) -> Sequences:
        """A table's sequences over this model's catalogue; users of whom nothing usable is left keep an empty one."""
        self._check_fitted()
        return from_frame(X, self.columns, Limits(), self.catalogue_, keep_empty=True).sequences

    def hidden(self, history: Sequences, batch: int = 256) -> NDArray[np.float32]:
        """The encoder's state after the last known item (N, dim); NaN for a sequence without any."""
        self._check_fitted()
        masked, device = isinstance(self.recipe_.objective, MaskedConfig), resolve_device(self.device)
        length = self.recipe_.model.length
        if len(history) == 1 and device.type == "cpu" and not masked:
            if self._reader is None or not self._reader.current(self.encoder_):
                self._reader = SessionReader.of(self.encoder_)
            if self._reader is not None:
                return one_state(self._reader, history, length)
        return last_states(self.encoder_, history, length, masked, device, batch)

    def item_vectors(self) -> NDArray[np.float32]:
        """The vectors of the catalogue's items (items, dim), as the encoder reads and the head compares them."""
        self._check_fitted()
        table = self.encoder_.stem.embedding
        assert isinstance(table, nn.Embedding)
        return table.weight.detach()[FIRST:].float().cpu().numpy()

    def scores(self, history: Sequences) -> NDArray[np.float32]:
        """Log-probability (N, items) of each item coming next; a sequence without a known item gets popularity's.

        Raises:
            UserError: a method that gives embeddings and no item scores.
        """
        if self.heads_ is None:
            raise UserError(
                f"{self.method} gives embeddings, no item scores", where="method", mend="pretrain with next or bert4rec"
            )
        hidden = self.hidden(history)
        empty = np.isnan(hidden[:, 0])
        if not empty.any():
            return self._log_probs(hidden)
        result = np.empty((len(hidden), self.catalogue_.size - FIRST), dtype=np.float32)
        result[empty] = np.log((self.popularity_ + 0.5) / (self.popularity_ + 0.5).sum())
        if not empty.all():
            result[~empty] = self._log_probs(hidden[~empty])
        return result

    def _log_probs(self, hidden: NDArray[np.float32]) -> NDArray[np.float32]:
        """Log-probability (N, items) of each item, from states (N, dim)."""
        assert self.heads_ is not None
        head = self.heads_["item"]
        assert isinstance(head, TiedHead)
        if self._scorer is None or self._scorer.head is not head:
            self._scorer = ItemScorer(head)
        ready(head, resolve_device(self.device))
        return self._scorer.log_probs(hidden)

    def recommend(
        self,
        X: pd.DataFrame,
        k: int = 10,
        *,
        repeat: bool = False,
        only: Iterable[object] | None = None,
        without: Iterable[object] = (),
    ) -> pd.DataFrame:
        """The `k` likeliest next items of every user in a table of interactions.

        Items that training never saw are dropped from the history; users without any known item get the most popular
        ones. Both are said in `note`, and so is an offer that ends before `k`.

        Args:
            X: user, item, time; see `recsys.data`.
            repeat: whether items of the history may be recommended again.
            only: items that may be recommended, such as what is in stock; None: all.
            without: items that may not.

        Returns:
            Rows `user, rank (from 1), item, score (log-probability), note`.
        """
        return self.recommend_sequences(self.sequences(X), k, repeat=repeat, only=only, without=without)

    def recommend_sequences(
        self,
        history: Sequences,
        k: int = 10,
        *,
        repeat: bool = False,
        only: Iterable[object] | None = None,
        without: Iterable[object] = (),
        batch: int = 512,
    ) -> pd.DataFrame:
        """As `recommend`, for sequences."""
        from recsys.offers import offers

        return offers(self, history, k, repeat, only, without, batch)

    def recommend_session(
        self,
        items: Sequence[object],
        k: int = 10,
        *,
        repeat: bool = False,
        only: Iterable[object] | None = None,
        without: Iterable[object] = (),
    ) -> Offer:
        """As `recommend`, for one session's items in the order of time, without tables: what a service answers with, in less time.

        Returns:
            `items`, `scores` (log-probability) and `note`.
        """
        from recsys.offers import offer

        self._check_fitted()
        return offer(self, items, k, repeat, only, without)

    def similar(self, items: Sequence[object], k: int = 10) -> pd.DataFrame:
        """The `k` items nearest to each of `items`, by cosine of their vectors.

        Returns:
            Rows `item, rank (from 1), similar, cosine`.

        Raises:
            UserError: an item that training never saw.
        """
        from recsys.offers import neighbours

        return neighbours(self, items, k)

    def add_items(self, attributes: pd.DataFrame, penalty: float = 1.0) -> Self:
        """A copy that also knows items which training never saw, each by the vector that its attributes tell.

        The new vectors are made as long as the trained ones on average: they are then offered like items of middling
        popularity, at the cost of some places of known items.

        Args:
            attributes: new items with their attributes, columns as in the class's `attributes`, and known ones where the recommender
                was not given theirs; new items that share none with a known one are left out.
            penalty: of the ridge regression from attributes to vectors, in items.

        Raises:
            UserError: a column is missing, or no new item shares an attribute with a known one.
        """
        self._check_fitted()
        return with_items(self, attributes, penalty)

    def transform(self, X: pd.DataFrame) -> pd.DataFrame:
        """One row a user, in the order of `sequences(X)`: its vector, columns `e0 …`; NaN where no item is known."""
        return self.embed_sequences(self.sequences(X))

    def embed_sequences(self, history: Sequences) -> pd.DataFrame:
        """As `transform`, for sequences."""
        return vector_table(history, self.hidden(history))


def vector_table(history: Sequences, vectors: NDArray[np.float32]) -> pd.DataFrame:
    """Vectors (N, D) of sequences as a table: columns `e0 …`, the sequences' keys as the index `user`."""
    names = [f"e{i}" for i in range(vectors.shape[1])]
    return pd.DataFrame(vectors, columns=names, index=pd.Index(history.keys, name="user"))


def popularity(sequences: Sequences) -> NDArray[np.int64]:
    """How often each item of the catalogue occurs, (items,)."""
    return occurrences(sequences.items, sequences.n_items)
