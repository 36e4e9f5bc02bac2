"""What analysts import: `AudioEncoder` learns from recordings without labels; speech.classifier labels them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray

from core.batches import Ragged, SequenceBatches, runs
from core.cli import say
from core.config import from_dict, to_dict
from core.device import one_thread
from core.errors import UserError
from core.estimator import PretrainedEncoder
from core.layers import embed_layers
from core.probes import embed
from core.tokens import Batch
from core.training import TrainConfig
from speech import bounds
from speech.audio import Wave
from speech.codebooks import census
from speech.data import Recordings, read
from speech.encoders import build_encoder
from speech.features import log_mel, samples_at
from speech.fronted import Fronted
from speech.hubert import pretrained_twice
from speech.methods import pretext_for
from speech.presets import Recipe, recipe
from speech.tasks import Units, read_as_it_is

Note = Callable[[str], None]


def heard_as(settings: Recipe) -> Callable[[Wave], NDArray[np.float32]]:
    """A function from a wave to what the recipe's batches are made of: log-mel (T, bands), or samples (S,) at its rate."""
    return samples_at(settings.mel.rate) if settings.encoder.kind == "wave" else log_mel(settings.mel)


class AudioEncoder(PretrainedEncoder):
    """A self-supervised encoder of recordings.

    `AudioEncoder("simclr", minutes=2).fit("recordings/")`, then `.transform("more/")` gives (N, D).

    Args:
        method: a recipe's name (see speech.presets) or a Recipe.
        steps, minutes: how long to train, one of them; None for the recipe's own.
        seed, device: of the training; None for the recipe's own seed.
    """

    domain: ClassVar[str] = "speech"

    def __init__(
        self, method: str | Recipe = "simclr", *, steps: int | None = None, minutes: float | None = None,
        seed: int | None = None, device: str = "cpu",
    ) -> None:  # fmt: skip
        self.method, self.steps, self.minutes, self.seed, self.device = method, steps, minutes, seed, device

    def settings(self) -> Recipe:
        """The recipe with this estimator's own budget, seed and device."""
        settings = recipe(self.method) if isinstance(self.method, str) else self.method
        train = replace(settings.train, device=self.device)
        if self.steps is not None or self.minutes is not None:
            train = replace(train, steps=self.steps, minutes=self.minutes)
        if self.seed is not None:
            train = replace(train, seed=self.seed)
        return replace(settings, train=train)

    def read(self, data: str | Path | Recordings) -> Recordings:
        """Recordings with log-mel (T, bands) as signals, or samples where the encoder reads those; what was read before comes back as it is."""
        settings = getattr(self, "recipe_", None) or self.settings()
        if isinstance(data, Recordings):
            return data
        with one_thread():
            return read(data, settings.read, keep=heard_as(settings), trim=settings.trimming)

    def fit(
        self, X: str | Path | Recordings, y: object = None, *, out: str | Path | None = None, fold: int | None = None,
        note: Note | None = None,
    ) -> Self:  # fmt: skip
        """Pretrain on recordings; labels are never looked at.

        Args:
            X: a path, a known name, or what `read` gave.
            out: with it, an interrupted run of the same settings goes on where it stopped.
            fold: noted in the run, so that `evaluate` holds out the same recordings.
        """
        recordings = self.read(X)
        self.recipe_ = self.settings()
        self.fold_ = fold
        self.seen_ = sorted(digest[:16] for digest in recordings.digest)
        line = bounds.told(self.recipe_, [len(signal) for signal in recordings.signals])
        if line:
            (note or say)(line)
        if isinstance(self.recipe_.pretext, Units):
            pretrained_twice(self, recordings, self.recipe_.pretext, out, note)
        else:
            self.learn(self.recipe_.train, self.batches(recordings), out, note)
        self.heads_ = None
        return self

    def learn(self, train: TrainConfig, batches: SequenceBatches, out: str | Path | None, note: Note | None) -> None:
        """One training from fresh weights."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(train.seed)
            method, pretext = pretext_for(self.recipe_, batches.rows)
        prepare = partial(read_as_it_is, self.recipe_)
        self.pretrain(method, batches, pretext, train, out, note, prepare)
        self.books_ = census(method, pretext, batches, prepare)

    def batches(
        self, recordings: Recordings, size: int | None = None, units: list[NDArray] | None = None
    ) -> SequenceBatches:
        """Batches `{"mel" or "wave", "pad", "index"}` of all recordings; `units`, one a frame, are cut as the frames are.

        With the recipe's `max_seconds` they hold so much sound at most, padding included, whatever their number.
        """
        s = getattr(self, "recipe_", None) or self.settings()
        ragged = self._ragged(recordings)
        if units is not None:
            ragged = Ragged({**ragged.fields, "unit": np.concatenate(units)}, ragged.offsets)
        # the negatives of views should differ in more than their length, so it takes no buckets
        return SequenceBatches(
            ragged, size or s.batch_size, s.train.seed, bounds.window(s), bucket=not s.stretched, max_tokens=bounds.bound(s),
            least=bounds.least(),
        )  # fmt: skip

    def in_order(self, recordings: Recordings, most: int = 256, cut: bool = True) -> Iterator[Batch]:
        """Batches of all recordings in order, for reading alone: `most` at a time, or fewer where `max_seconds` holds no more.

        Args:
            cut: to the last `max_frames`.
        """
        s, ragged = getattr(self, "recipe_", None) or self.settings(), self._ragged(recordings)
        longest = bounds.longest(s) if cut else int(ragged.lengths.max())
        for rows in runs(np.minimum(ragged.lengths, longest), most, bounds.bound(s)):
            yield ragged.padded(rows, longest)

    def longest(self) -> int:
        """Frames, or samples, that a recording is cut to."""
        return bounds.longest(getattr(self, "recipe_", None) or self.settings())

    def _ragged(self, recordings: Recordings) -> Ragged:
        """What the encoder reads of all recordings, raw."""
        s = getattr(self, "recipe_", None) or self.settings()
        wave = s.encoder.kind == "wave"
        if (recordings.signals[0].ndim == 1) != wave:
            raise UserError(
                "these recordings were read for another encoder", where="recordings", mend="read them with .read"
            )
        width = s.mel.bands if wave else recordings.signals[0].shape[-1]
        if width != s.mel.bands:
            raise UserError(
                f"log-mel of {width} bands where the run has {s.mel.bands}",
                where="recordings",
                mend="read them with .read",
            )
        return Ragged.of(recordings.signals, "wave" if wave else "mel")

    def transform(self, X: str | Path | Recordings) -> NDArray[np.float32]:
        """Embeddings (N, D) in the order of `read`."""
        return embed(*self._frozen(X), self.device)

    def transform_layers(self, X: str | Path | Recordings) -> list[NDArray[np.float32]]:
        """Embeddings (N, D) of each layer, from the stem's, or the first stage's, to the last, in the order of `read`."""
        return embed_layers(*self._frozen(X), self.device)

    def _frozen(self, X: str | Path | Recordings) -> tuple[Fronted, Iterator[Batch]]:
        self._check_fitted()
        recordings = self.read(X)
        return Fronted(self.encoder_, self.recipe_), self.in_order(recordings)

    def example(self) -> Batch:
        """Two recordings of silence, as the encoder reads it: prepared by the recipe."""
        frames, bands = 96, self.recipe_.mel.bands
        if self.recipe_.encoder.kind == "wave":
            samples = 20 * self.recipe_.encoder.token
            return {"wave": torch.zeros(2, samples), "pad": torch.zeros(2, samples, dtype=torch.bool)}
        silence = {"mel": torch.zeros(2, frames, bands), "pad": torch.zeros(2, frames, dtype=torch.bool)}
        return Fronted(self.encoder_, self.recipe_).prepare(silence)

    def saw(self, recordings: Recordings) -> NDArray[np.bool_]:
        """Which recordings pretraining saw, (N,) bool: the leak audit."""
        seen = set(getattr(self, "seen_", ()))
        return np.array([digest[:16] in seen for digest in recordings.digest], dtype=bool)

    def describe(self) -> dict[str, Any]:
        return {
            "kind": "encoder",
            "recipe": to_dict(self.recipe_),
            "fold": self.fold_,
            "seen": self.seen_,
            "history": self._history(),
        }

    def _history(self) -> dict[str, Any]:
        history = getattr(self, "history_", None)
        if history is None:
            return dict(getattr(self, "trained_", {"steps": 0, "seconds": 0.0}))
        return {"steps": history.steps, "seconds": round(history.seconds, 1), "codebooks": self.books_}

    def books(self) -> list[dict[str, Any]]:
        """How much of each codebook was in use when the training was done: see speech.codebooks.census."""
        return list(self._history().get("codebooks", ()))

    def counted(self) -> bool:
        """Whether codes were looked for: older runs say nothing of them."""
        return "codebooks" in self._history()

    def steps_done(self) -> int:
        """Optimizer steps of the pretraining."""
        return int(self._history().get("steps", 0))

    def seconds(self) -> float:
        """Wall time of the pretraining."""
        return float(self._history().get("seconds", 0.0))

    @classmethod
    def build(cls, config: dict[str, Any]) -> Self:
        if config.get("kind") != "encoder":
            raise UserError("the run holds a classifier", where="run", mend="give the run that `pretrain` wrote")
        settings = from_dict(Recipe, config["recipe"])
        estimator = cls(settings)
        estimator.recipe_ = settings
        estimator.encoder_, estimator.heads_ = build_encoder(settings.encoder, settings.mel.bands), None
        estimator.fold_, estimator.seen_ = config.get("fold"), list(config.get("seen", []))
        estimator.trained_ = dict(config.get("history", {}))
        return estimator
