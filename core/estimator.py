"""The scikit-learn face of a pretrained encoder: domains subclass it, commands call them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.exceptions import NotFittedError
from torch import nn

from core import distributed
from core.artifacts import check_place, load_run, save_run, working_folder
from core.batches import Batches
from core.encoders import parameters
from core.encoders.encoder import Encoder
from core.errors import UserError
from core.export import export
from core.features import Prepare
from core.methods.base import Method
from core.pretext import Pretext
from core.records import Logger
from core.tokens import Batch
from core.training import History, TrainConfig, train


class NotFitted(UserError, NotFittedError):
    """What was asked needs `fit` first: a line for people, and what scikit-learn expects."""

    def __init__(self, estimator: object, mend: str = "call fit first, or load a run") -> None:
        super().__init__(f"this {type(estimator).__name__} is not fitted", mend=mend)


class PretrainedEncoder(TransformerMixin, BaseEstimator):
    """Base of the domains' estimators.

    A subclass gives `domain`, `describe()` (plain JSON: all that `build` needs), `build(config)` (an estimator whose
    `encoder_` and `heads_` have the right shapes and fresh weights), `example()`, `fit` and `transform`.
    """

    domain: ClassVar[str] = ""
    encoder_: Encoder
    heads_: nn.Module | None
    history_: History

    def describe(self) -> dict[str, Any]:
        raise TypeError(f"{type(self).__name__} must define describe")

    @classmethod
    def build(cls, config: dict[str, Any]) -> Self:
        raise TypeError(f"{cls.__name__} must define build")

    def example(self) -> Batch:
        """A small batch, of any values, like those that `encoder_` reads: what `export` is traced with."""
        raise TypeError(f"{type(self).__name__} must define example")

    def export(self, path: str | Path) -> Path:
        """Write encoder and pool to `path`, as .onnx or .pt2.

        Raises:
            UserError: see core.export.
        """
        self._check_fitted()
        return export(self.encoder_, self.example(), path)

    def pretrain(
        self, method: Method, batches: Batches, pretext: Pretext, config: TrainConfig, out: str | Path | None = None,
        note: Callable[[str], None] | None = None, prepare: Prepare | None = None, labels: ArrayLike | None = None,
        loggers: Sequence[Logger] = (),
    ) -> History:  # fmt: skip
        """Train `method` and keep its encoder and heads; with `out`, an interrupted run goes on where it stopped.

        Args:
            prepare, labels, loggers: see core.training.train.
        """
        folder = None if out is None else working_folder(Path(out))
        if out is not None and distributed.rank() == 0:
            check_place(Path(out))
        told: Callable[[str], None] = note or partial(print, file=sys.stderr)
        self.history_ = train(method, batches, pretext, config, folder, told, prepare, labels, loggers)
        self.encoder_, self.heads_ = method.encoder, getattr(method, "heads", None)
        return self.history_

    def untrained(self, seed: int = 0) -> Self:
        """The same estimator with fresh random weights: the floor that pretraining has to beat."""
        self._check_fitted()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            twin = type(self).build(self.describe())
        twin.encoder_.eval()
        return twin

    def save(self, out: str | Path) -> Path:
        """Write the run folder; see core.artifacts. Of several processes the first one writes, and all wait for it."""
        self._check_fitted()
        if distributed.rank() == 0:
            save_run(Path(out), self.domain, self.describe(), self.encoder_, self.heads_, self.card())
        distributed.barrier()
        return Path(out)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a run folder back.

        Raises:
            UserError: see core.artifacts.load_run.
        """
        run = load_run(path, cls.domain)
        update = f"update tacit: {run.config.get('tacit')} wrote the run" if run.newer else ""
        try:
            estimator = cls.build(run.config)
            estimator.encoder_.load_state_dict(run.encoder)
            if estimator.heads_ is not None:
                estimator.heads_.load_state_dict(run.heads)
        except UserError as error:
            place = f"{path}, {error.where}" if error.where else path
            raise UserError(error.what, where=place, mend=update or error.mend) from error
        except (
            ArithmeticError,
            AttributeError,
            LookupError,
            MemoryError,
            RuntimeError,
            TypeError,
            ValueError,
        ) as error:
            raise UserError(
                "the run's settings and weights do not fit together", where=path, mend=update or "pretrain again"
            ) from error
        estimator.encoder_.eval()
        return estimator

    def card(self) -> str:
        """A model card: what the run is, without ids or paths."""
        history = getattr(self, "history_", None)
        lines = [
            f"# Tacit {self.domain} encoder", "",
            f"- parameters: {parameters(self.encoder_):,}, features: {self.encoder_.dim}",
        ]  # fmt: skip
        if history is not None:
            lines.append(f"- training: {history.steps} steps in {history.seconds / 60:.1f} minutes")
        for key, value in self.describe().get("recipe", {}).items():
            lines.append(f"- {key}: {value}")
        lines += [
            "",
            "Use: research and analysis by the data's owner. Evaluate on your own labels before relying on it.",
            "",
        ]
        return "\n".join(lines)

    def _check_fitted(self) -> None:
        if not hasattr(self, "encoder_"):
            raise NotFitted(self)
