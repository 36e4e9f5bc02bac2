"""Labels for recordings, with an encoder: a linear layer on frozen features, or all weights, and which of the two."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import nn

from core.cli import say
from core.config import from_dict, to_dict
from core.errors import UserError
from core.estimator import PretrainedEncoder
from core.layers import LayerProbe, layer_model, probabilities, stacked
from core.methods import Classifier
from core.training import TrainConfig
from speech.data import Recordings
from speech.encoders import build_encoder
from speech.estimators import AudioEncoder, Note
from speech.fronted import Fronted
from speech.presets import Recipe
from speech.pretext import Labelled, LogMelViews
from speech.probes import COSTS, probe_groups
from speech.readout import UnitHead, linear_head, unit_head
from speech.tuning import RATES, chosen_rate, shortened

LABELLED_BATCH = 64  # recordings in a step of supervised training


class AudioClassifier(PretrainedEncoder):
    """Labels for recordings: an encoder and a linear layer.

    Args:
        encoder: a fitted AudioEncoder.
        tune: `probe` fits the linear layer alone, by logistic regression; `layers` the same on a weighted sum of all layers, whose
            weights are learned from the same labels (SUPERB, Yang et al. 2021; Transformers alone); `all` trains everything on views of the labelled
            recordings, from the encoder's weights; `scratch` the same from fresh weights; `few` is for few labels: a linear layer on frozen
            features of unit length, or `all` from that layer on (LP-FT, Kumar et al. 2022), whichever tells labels held back better.
        train: of `all`, `scratch` and `few`; None for 100 steps at the recipe's learning rate.
        rates: of learning, between which `few` chooses; 0 leaves the encoder as it is. What it took is `rate_`.
    """

    domain: ClassVar[str] = "speech"

    def __init__(
        self, encoder: AudioEncoder | None = None, *, tune: str = "probe", train: TrainConfig | None = None,
        rates: tuple[float, ...] = RATES,
    ) -> None:  # fmt: skip
        self.encoder, self.tune, self.train, self.rates = encoder, tune, train, rates

    def fit(self, X: str | Path | Recordings, y: ArrayLike | None = None, *, note: Note | None = None) -> Self:
        """Fit on labelled recordings; those without a label are left out, but `few` takes the features' mean and spread of all.

        Args:
            y: (N,) labels; None for the recordings' own.

        Raises:
            UserError: fewer than two classes are labelled, or a class has one recording only.
        """
        if self.encoder is None or self.tune not in ("probe", "layers", "all", "few", "scratch"):
            raise UserError(
                "give an encoder and a way to tune it", where=self.tune, mend="use probe, layers, all, few or scratch"
            )
        if not self.rates or min(self.rates) < 0:
            raise UserError(f"rates are {self.rates}", where="rates", mend="give one or more, of 0 or above")
        recordings = self.encoder.read(X)
        label = recordings.label if y is None else np.asarray(y).astype(str).astype(object)
        if len(label) != len(recordings):
            raise UserError(
                f"{len(label)} labels for {len(recordings)} recordings", where="y", mend="give one for each"
            )
        known = label != ""
        self.classes_ = np.unique(label[known].astype(str))
        if len(self.classes_) < 2:
            raise UserError(
                f"{len(self.classes_)} class among the labels", where="label", mend="label at least two classes"
            )
        self.recipe_, self.device = self.encoder.recipe_, self.encoder.device
        if self.tune == "probe":
            self._fit_probe(recordings.select(known), label[known].astype(str))
        elif self.tune == "layers":
            self._fit_layers(recordings.select(known), label[known].astype(str))
        elif self.tune == "few":
            self._fit_few(recordings, known, label[known].astype(str), note)
        else:
            self._fit_all(recordings.select(known), label[known].astype(str), self._training(), note)
        return self

    def _training(self) -> TrainConfig:
        return self.train or replace(self.recipe_.train, steps=100, minutes=None)

    def _fit_probe(self, recordings: Recordings, label: NDArray) -> None:
        """Logistic regression on frozen features, as one linear layer."""
        assert self.encoder is not None
        features = self.encoder.transform(recordings)
        self.encoder_, self.heads_ = self.encoder.encoder_, linear_head(features, label, probe_groups(recordings))

    def _fit_layers(self, recordings: Recordings, label: NDArray) -> None:
        """A linear layer on a weighted sum of the layers, both learned from the labels."""
        assert self.encoder is not None
        layers = stacked(self.encoder.transform_layers(recordings))
        self.encoder_, self.heads_ = (
            self.encoder.encoder_,
            layer_model(layers, label, probe_groups(recordings), COSTS),
        )

    def _fit_few(self, recordings: Recordings, known: NDArray[np.bool_], label: NDArray, note: Note | None) -> None:
        """A linear layer on frozen features, or all weights on from there, at the rate for which labels held back speak."""
        assert self.encoder is not None
        every, config = self.encoder.transform(recordings), self._training()
        labelled, features = recordings.select(known), every[known]

        def fitted(rate: float, rows: NDArray, train: TrainConfig, note: Note | None) -> AudioClassifier:
            """This classifier at one rate, fitted to the labels `rows`."""
            assert self.encoder is not None
            one = AudioClassifier(self.encoder, tune="few", train=train)
            one.recipe_, one.device, one.classes_ = self.recipe_, self.device, self.classes_
            one.encoder_, one.heads_ = self.encoder.encoder_, unit_head(features[rows], label[rows], every)
            if rate:
                one._fit_all(labelled.select(rows), label[rows], replace(train, lr=rate), note, one.heads_)
            return one

        def tell(rate: float, own: NDArray, asked: NDArray) -> NDArray[np.float64]:
            one = fitted(rate, own, shortened(config), lambda line: None)
            return one.predict_proba(labelled.select(asked)) if rate else one._read_off(features[asked])

        self.rate_ = chosen_rate(self.rates, label, probe_groups(labelled), config.seed, tell)
        (note or say)("the encoder stays as it is" if not self.rate_ else f"fine-tuned at a rate of {self.rate_:g}")
        one = fitted(self.rate_, np.arange(len(label)), config, note)
        self.encoder_, self.heads_ = one.encoder_, one.heads_
        if self.rate_:
            self.history_ = one.history_

    def _fit_all(
        self, recordings: Recordings, label: NDArray, config: TrainConfig, note: Note | None, head: nn.Module | None = None
    ) -> None:  # fmt: skip
        """All weights, from those of the encoder, and of `head` where one is given, or from fresh ones."""
        assert self.encoder is not None
        settings = self.recipe_
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            start = build_encoder(settings.encoder, settings.mel.bands)
            method = Classifier(start, len(self.classes_))
        if head is not None:
            method.head[1] = head
        if self.tune != "scratch":
            start.load_state_dict(self.encoder.encoder_.state_dict())
        target = torch.from_numpy(np.searchsorted(self.classes_, label).astype(np.int64))
        views = LogMelViews(settings.views, settings.mel, settings.norm) if settings.stretched else None
        pretext = Labelled(target, views, Fronted(start, settings).prepare)
        batches = self.encoder.batches(recordings, min(settings.batch_size, LABELLED_BATCH))
        self.pretrain(method, batches, pretext, config, None, note)
        self.heads_ = method.head[1]  # type: ignore[assignment]

    def predict_proba(self, X: str | Path | Recordings) -> NDArray[np.float64]:
        """(N, C) probabilities in the order of `classes_`."""
        twin = self._features()
        assert self.heads_ is not None
        if isinstance(self.heads_, LayerProbe):
            return probabilities(self.heads_, stacked(twin.transform_layers(X)))
        return self._read_off(twin.transform(X))

    def _read_off(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """Probabilities (N, C) by the linear layer, of features (N, D) of this classifier's encoder."""
        assert self.heads_ is not None
        with torch.no_grad():
            logits = self.heads_.cpu()(torch.from_numpy(features))
        return logits.double().softmax(1).numpy()

    def predict(self, X: str | Path | Recordings) -> NDArray:
        """(N,) labels."""
        place = self.predict_proba(X).argmax(1)  # first, since it tells whether there is anything fitted
        return self.classes_[place]

    def transform(self, X: str | Path | Recordings) -> NDArray[np.float32]:
        """Embeddings (N, D), those of the tuned encoder."""
        return self._features().transform(X)

    def read(self, data: str | Path | Recordings) -> Recordings:
        """As AudioEncoder.read."""
        return self._features().read(data)

    def _features(self) -> AudioEncoder:
        self._check_fitted()
        twin = AudioEncoder(self.recipe_, device=getattr(self, "device", "cpu"))
        twin.recipe_, twin.encoder_ = self.recipe_, self.encoder_
        return twin

    @property
    def layer_weights_(self) -> NDArray[np.float64]:
        """How much each layer counts, (L,), from the stem's to the last; they sum to 1.

        Raises:
            UserError: the classifier reads the last layer alone.
        """
        head = getattr(self, "heads_", None)
        if not isinstance(head, LayerProbe):
            raise UserError("this classifier weighs no layers", where=self.tune, mend="fit it with tune='layers'")
        return head.weights.double().numpy()

    def describe(self) -> dict[str, Any]:
        layers = len(self.heads_.score) if isinstance(self.heads_, LayerProbe) else 1
        return {
            "kind": "classifier",
            "recipe": to_dict(self.recipe_),
            "classes": self.classes_.tolist(),
            "tune": self.tune,
            "layers": layers,
        } | ({"rate": self.rate_} if self.tune == "few" else {})

    @classmethod
    def build(cls, config: dict[str, Any]) -> Self:
        if config.get("kind") != "classifier":
            raise UserError("the run has no classifier", where="run", mend="make one with tacit-speech finetune")
        estimator = cls(None, tune=config.get("tune", "probe"))
        estimator.recipe_ = from_dict(Recipe, config["recipe"])
        estimator.classes_ = np.array(config["classes"])
        estimator.encoder_ = build_encoder(estimator.recipe_.encoder, estimator.recipe_.mel.bands)
        dim, classes = estimator.encoder_.dim, len(estimator.classes_)
        if estimator.tune == "layers":
            estimator.heads_ = LayerProbe(int(config["layers"]), dim, classes).requires_grad_(False)
        elif estimator.tune == "few":
            estimator.heads_, estimator.rate_ = UnitHead(dim, classes), float(config["rate"])
        else:
            estimator.heads_ = nn.Linear(dim, classes)
        return estimator
