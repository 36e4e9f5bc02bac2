"""The classifier that analysts import: calibrated probabilities, their intervals, and when to say nothing."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit, softmax
from sklearn.base import ClassifierMixin
from torch import Tensor, nn

from core.artifacts import load_run
from core.calibration import at_prior, estimated_prior
from core.errors import UserError
from core.estimator import NotFitted
from healthcare.data import Images
from healthcare.decisions import Decision
from healthcare.estimators import ImageEncoder, pixels_of
from healthcare.findings import fewer, target_of, yes
from healthcare.linear import Linear, fit_linear, held_out, replicates
from healthcare.metrics import SPECIFICITY
from healthcare.presets import Recipe
from healthcare.supervised import SupervisedConfig, a_third, choose_rate, fit_classifier
from healthcare.volumes import Volumes

REPLICATES = 50  # bootstrap samples of the labels that a prediction's interval rests on
ENOUGH = 20  # validation labels that serve a network's calibration; below, a third of the training patients is held out
Prevalence = float | Literal["estimate"]


class Heads(nn.Module):
    """Linear layers on features: the fitted one, and those of the bootstrap samples."""

    weight: Tensor
    bias: Tensor
    weights: Tensor
    biases: Tensor

    def __init__(self, classes: int, dim: int, count: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.zeros(classes, dim, dtype=torch.float64))
        self.register_buffer("bias", torch.zeros(classes, dtype=torch.float64))
        self.register_buffer("weights", torch.zeros(count, classes, dim))
        self.register_buffer("biases", torch.zeros(count, classes))

    @classmethod
    def of(cls, linear: Linear, others: list[Linear]) -> Heads:
        classes, dim = linear.weight.shape
        heads = cls(classes, dim, len(others))
        heads.weight.copy_(torch.from_numpy(linear.weight))
        heads.bias.copy_(torch.from_numpy(linear.bias))
        for place, other in enumerate(others):
            heads.weights[place] = torch.from_numpy(other.weight)
            heads.biases[place] = torch.from_numpy(other.bias)
        return heads

    def forward(self, features: Tensor) -> Tensor:
        """Logits (N, K) of features (N, D)."""
        return features @ self.weight.to(features.dtype).T + self.bias.to(features.dtype)


@dataclass(frozen=True)
class Labelled:
    """What a classifier learns from: images (N, …) with targets, patients where they are named, and the validation ones."""

    train: Images | NDArray
    target: NDArray
    patient: NDArray[np.int64] | None
    val: Images | None
    val_target: NDArray
    classes: tuple[str, ...]


class ImageClassifier(ClassifierMixin, ImageEncoder):
    """Class probabilities, or those of several findings, from a pretrained encoder and few labels.

    >>> classifier = ImageClassifier.on_top_of(encoder).fit(images)
    >>> classifier.predict_proba(new_images)

    A logistic regression on the frozen features, or with `tune` the whole network trained further; calibration, operating points
    and the confidence below which it should say nothing come from labels that were held out (healthcare.decisions).

    Args:
        recipe: of the encoder, where it is pretrained here.
        tune: train the network further on the labels; slower, and with few labels often no better.
        views: so many drawn views of each image are averaged in beside the recipe's crops (test-time augmentation).
        seed: of folds, bootstrap samples and the order of fine-tuning.
    """

    heads_: Heads
    decision_: Decision

    def __init__(self, recipe: Recipe | None = None, tune: bool = False, views: int = 0, seed: int = 0) -> None:
        super().__init__(recipe)
        self.tune, self.views, self.seed = tune, views, seed

    @classmethod
    def on_top_of(cls, encoder: ImageEncoder, tune: bool = False, views: int = 0, seed: int = 0) -> Self:
        """A classifier, still to be fitted, that uses a fitted encoder as it is."""
        encoder._check_fitted()
        classifier = cls(encoder.recipe, tune, views, seed)
        for name in ("recipe_", "channels_", "dims_", "encoder_", "history_", "views_", "facts_"):
            setattr(classifier, name, getattr(encoder, name))
        classifier.given_ = True
        return classifier

    @classmethod
    def made(
        cls, encoder: ImageEncoder, classes: tuple[str, ...], linear: Linear, decision: Decision | None = None
    ) -> Self:
        """A fitted classifier from a regression on the encoder's features; uncalibrated without a decision."""
        classifier = cls.on_top_of(encoder)
        classifier.classes_, classifier.heads_ = np.array(classes), Heads.of(linear, [])
        classifier.decision_ = decision or Decision(several=linear.several)
        classifier.prior_, classifier.labels_, classifier.tuned_ = (1 / len(classes),) * len(classes), 0, False
        return classifier

    def fit(
        self, X: Images | Volumes | NDArray, y: object = None, *, out: str | Path | None = None,
        note: Callable[[str], None] | None = None, supervised: SupervisedConfig | None = None,
    ) -> Self:  # fmt: skip
        """Fit on the labelled training images; calibrate on held-out ones.

        An array X needs labels y (N,), or findings (N, L) of 1, 0 and −1. Without `on_top_of`, the encoder is pretrained on X first.

        Args:
            supervised: how the network is trained further, with `tune`.

        Raises:
            UserError: fewer than two classes among the training labels, or no finding with both answers.
        """
        if isinstance(X, Volumes):
            raise UserError(
                "volumes cut into cubes have no labels", where="label", mend="read them whole, with healthcare.read"
            )
        data = _labelled(X, y, self.seed)
        if data.target.ndim == 1 and len(np.unique(data.target)) < 2:
            raise UserError("the training labels hold fewer than two classes", where="label", mend="label two classes")
        if not getattr(self, "given_", False):
            super().fit(X, out=out, note=note)
        self.classes_ = np.array(data.classes)
        self.labels_, self.tuned_, several = len(data.target), self.tune, data.target.ndim == 2
        asked = yes(data.target, len(data.classes)) if several else data.target[:, None] == np.arange(len(data.classes))
        self.prior_ = tuple(
            float((column == 1).sum() / max(1, (column >= 0).sum())) for column in asked.astype(np.int8).T
        )
        if self.tune:
            self._fine_tune(data, supervised or SupervisedConfig(device=self.recipe_.train.device))
        else:
            self._probe(data)
        return self

    def _probe(self, data: Labelled) -> None:
        features = self.labelled(data.train, self.views)
        linear = fit_linear(features, data.target, len(data.classes), data.patient, self.seed)
        others = replicates(features, data.target, linear, data.patient, REPLICATES, self.seed)
        self.heads_ = Heads.of(linear, others)
        guess, target = held_out(features, data.target, linear, data.patient, self.seed), data.target
        if data.val is not None and len(data.val_target):
            guess = np.concatenate([guess, linear.predict_proba(self.transform(data.val, views=self.views))])
            target = np.concatenate([target, data.val_target])
        self.decision_ = Decision.fit(guess, target, data.classes)

    def _fine_tune(self, data: Labelled, config: SupervisedConfig) -> None:
        pixels, target = pixels_of(data.train, self.recipe_.reading.size), data.target
        patient = np.arange(len(target)) if data.patient is None else data.patient
        held = None
        if data.val is None or len(data.val_target) < ENOUGH:
            held = a_third(target, patient, len(data.classes), self.seed)
        rows = np.arange(len(target)) if held is None else held[0]
        start = self.encoder_
        fresh = partial(deepcopy, start)
        rate = choose_rate(fresh, len(data.classes), pixels[rows], target[rows], patient[rows], config, self.seed)
        method = fit_classifier(fresh, len(data.classes), pixels[rows], target[rows], config, rate, self.seed)
        self.encoder_ = method.encoder.eval()
        layer = next(part for part in method.head.modules() if isinstance(part, nn.Linear))
        weight, bias = (value.detach().cpu().double().numpy() for value in (layer.weight, layer.bias))
        linear = Linear(weight, bias, target.ndim == 2, ())
        self.heads_ = Heads.of(linear, [])
        if held is not None:
            aside = pixels_and_rows(data.train, held[1])
            self.decision_ = Decision.fit(linear.predict_proba(self.transform(aside, views=self.views)), target[held[1]], data.classes)  # fmt: skip
        elif data.val is not None and len(data.val_target):
            self.decision_ = Decision.fit(linear.predict_proba(self.transform(data.val, views=self.views)), data.val_target, data.classes)  # fmt: skip
        else:
            self.decision_ = Decision(several=target.ndim == 2)

    def predict_proba(self, X: Images | NDArray, prevalence: Prevalence | None = None) -> NDArray[np.float64]:
        """Calibrated probabilities (N, K), in the order of `classes_`; of findings, each by itself.

        Args:
            prevalence: of the second of two classes among these images, or `estimate`, which is expectation maximisation on the
                images themselves (Saerens et al. 2002). Right only where each class looks as it did in training. None: as frequent
                as among the training labels.
        """
        return self.at(self.calibrated(self.transform(X, views=self.views)), prevalence)

    def calibrated(self, features: NDArray) -> NDArray[np.float64]:
        """Probabilities (N, K) of features (N, D)."""
        self._check_classifier()
        return self.decision_(self._probability(features, self.heads_.weight, self.heads_.bias))

    def intervals(
        self, X: Images | NDArray, prevalence: Prevalence | None = None
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Lower and upper 95 % limit (N, K) of each probability; `interval_means` says of what."""
        self._check_classifier()
        each = self.each_view(X, self.views)
        if len(self.heads_.weights):
            pairs = zip(self.heads_.weights, self.heads_.biases, strict=True)
            found = [self.decision_(self._probability(each.mean(0), weight, bias)) for weight, bias in pairs]
        else:
            found = [self.calibrated(one) for one in each]
        moved = np.stack([self.at(one, prevalence) for one in found])
        return tuple(np.quantile(moved, [0.025, 0.975], axis=0)) if moved.shape[1] else (moved[0], moved[0])  # type: ignore[return-value]

    def interval_means(self) -> str:
        """What the interval of a prediction is, in words."""
        if len(self.heads_.weights):
            return (
                f"95 % of {len(self.heads_.weights)} regressions, each fitted on another bootstrap sample of the labelled patients: what "
                "other labels would have said, not how often such patients are ill"
            )
        return "95 % of the answers to the views of the image: how far framing moves them, not how often such patients are ill"

    def at(self, probability: NDArray[np.float64], prevalence: Prevalence | None) -> NDArray[np.float64]:
        """Probabilities (N, K) moved to another prevalence; see `predict_proba`.

        Raises:
            UserError: findings, or a number for other than two classes, or one outside (0, 1).
        """
        if prevalence is None:
            return probability
        if self.decision_.several:
            raise UserError("a prevalence for several findings", where="prevalence", mend="leave it out")
        old = np.clip(self.prior_, 1e-6, None)
        if prevalence == "estimate":
            return at_prior(probability, old, estimated_prior(probability, old))
        if len(old) != 2 or not 0 < float(prevalence) < 1:
            raise UserError(f"prevalence {prevalence} of {len(old)} classes", where="prevalence", mend="give 0 to 1, of two classes")  # fmt: skip
        return at_prior(probability, old, [1 - float(prevalence), float(prevalence)])

    def predict(self, X: Images | NDArray) -> NDArray:
        """The most probable class (N,); of findings, (N, L) 1 where one is likelier than not, else 0."""
        probability = self.predict_proba(X)
        if self.decision_.several:
            return (probability > 0.5).astype(np.int64)
        return self.classes_[probability.argmax(1)]

    def called(
        self, probability: NDArray[np.float64], goal: str = f"specificity={SPECIFICITY:.2f}"
    ) -> dict[str, NDArray[np.bool_]]:
        """By question (the second of two classes, each of more, each finding): which calibrated probabilities (N,) exceed the point.

        Empty where no point was chosen: without held-out labels.
        """
        from healthcare.findings import columns, scores

        score = scores(probability, self.decision_.several)
        names = columns(tuple(self.classes_.tolist()), self.decision_.several)
        points = {name: self.decision_.point(name, goal) for name in names}
        return {
            name: point.called(score[:, column])
            for column, (name, point) in enumerate(points.items())
            if point is not None
        }

    def describe(self) -> dict[str, Any]:
        self._check_classifier()
        return {
            **super().describe(), "kind": "classifier", "classes": [str(name) for name in self.classes_],
            "decision": self.decision_.json(), "replicates": len(self.heads_.weights), "prior": list(self.prior_),
            "labels": self.labels_, "tuned": self.tuned_, "drawn_views": self.views, "seed": self.seed,
        }  # fmt: skip

    def _set_up(self, config: dict[str, Any]) -> None:
        super()._set_up(config)
        self.classes_, self.decision_ = np.array(config["classes"]), Decision.from_json(config["decision"])
        self.prior_, self.labels_, self.tuned_ = tuple(config["prior"]), int(config["labels"]), bool(config["tuned"])
        self.views, self.seed, self.tune = int(config["drawn_views"]), int(config["seed"]), self.tuned_
        self.heads_ = Heads(len(self.classes_), self.encoder_.dim, int(config["replicates"]))

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a classifier back.

        Raises:
            UserError: no run there, a damaged one, or an encoder without a classifier.
        """
        if load_run(path, cls.domain).config.get("kind") != "classifier":
            raise UserError("that run is an encoder without a classifier", where=path, mend="make one with finetune")
        return super().load(path)

    def _probability(self, features: NDArray, weight: Tensor, bias: Tensor) -> NDArray[np.float64]:
        logits = features.astype(np.float64) @ weight.double().numpy().T + bias.double().numpy()
        return expit(logits) if self.decision_.several else softmax(logits, axis=1)

    def _check_classifier(self) -> None:
        self._check_fitted()
        if not hasattr(self, "decision_"):
            raise NotFitted(self, mend="call fit with labelled images")


def pixels_and_rows(X: Images | NDArray, rows: NDArray[np.int64]) -> Images | NDArray:
    """Some rows of read images or of an array."""
    return X.select(rows) if isinstance(X, Images) else np.asarray(X)[rows]


def _labelled(X: Images | NDArray, y: object, seed: int) -> Labelled:
    """Training and validation images with their labels; validation labels never outnumber training labels."""
    if isinstance(X, Images):
        rows, val = X.rows("train", labelled=True), X.rows("val", labelled=True)
        target = target_of(X)
        held = val[fewer(target[val], len(rows), seed)]
        patient = X.patient[rows] if X.named_patients else None
        return Labelled(X.select(rows), target[rows], patient, X.select(held), target[held], X.classes)
    labels = np.asarray(y)
    if y is None or labels.ndim not in (1, 2) or len(labels) != len(X):
        raise UserError(f"labels of shape {labels.shape} for {len(X)} images", where="y", mend="give one label, or a row of findings, an image")  # fmt: skip
    if labels.ndim == 2:
        if not np.isin(labels, (-1, 0, 1)).all():
            raise UserError("findings other than 1, 0 and -1", where="y", mend="use 1, 0, and -1 for unknown")
        return Labelled(X, labels.astype(np.int8), None, None, labels[:0], tuple(map(str, range(labels.shape[1]))))
    names, codes = np.unique(labels.astype(str), return_inverse=True)
    return Labelled(X, codes.astype(np.int64), None, None, codes[:0], tuple(names.tolist()))
