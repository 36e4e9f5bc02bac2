"""What analysts import: an encoder that learns from images without labels, and a classifier on top of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from core.artifacts import load_run
from core.batches import ArrayBatches
from core.config import from_dict, to_dict
from core.errors import UserError
from core.estimator import PretrainedEncoder
from core.probes import embed
from core.tokens import Batch
from core.training import History
from healthcare.batches import PatientBatches
from healthcare.data import Images, plain, resized
from healthcare.encoders import build_encoder
from healthcare.methods import build
from healthcare.metrics import SPECIFICITY, OperatingPoint
from healthcare.presets import PRESETS, Recipe, batch_for, simclr
from healthcare.probe import fit_probe
from healthcare.readers import Unreadable
from healthcare.views import fixed_views
from healthcare.volumes import CubeBatches, Volumes

CHUNK = 512  # images that are embedded at once, fewer where they are large
VALUES = 1 << 24  # pixels of them


def pixels_of(images: Images | NDArray, size: int) -> NDArray[np.float32]:
    """(N, C, size, size) in [0, 1] from read images or from an array (N, H, W) or (N, H, W, 3).

    Raises:
        UserError: an array of another shape, or one that holds an unusable image.
    """
    if isinstance(images, Images):
        if len(images) and images.pixels.shape[2] != size:
            raise UserError(
                f"images were read at {images.pixels.shape[2]} px, the encoder wants {size}", where="images",
                mend=f"read them with Reading(size={size})",
            )  # fmt: skip
        return images.pixels
    array = np.asarray(images)
    if array.ndim not in (3, 4) or (array.ndim == 4 and array.shape[3] != 3) or not len(array):
        raise UserError(f"images of shape {array.shape}", where="images", mend="give (N, H, W) or (N, H, W, 3)")
    values = []
    for row, image in enumerate(array):
        try:
            values.append(resized(plain(image), size))
        except Unreadable as error:
            raise UserError(str(error), where=f"image {row}", mend="leave it out, or use healthcare.read") from error
    return np.stack(values)


def batches_of(X: Images | Volumes | NDArray, recipe: Recipe) -> tuple[ArrayBatches | CubeBatches, tuple[int, ...]]:
    """What a recipe learns from, and the shape of one image of it, channels first.

    Raises:
        UserError: images that the recipe cannot take, or partners of a patient where none is named.
    """
    size, seed = recipe.reading.size, recipe.train.seed
    same_patient = getattr(recipe.pretext, "same_patient", False)
    if same_patient and not (isinstance(X, Images) and X.named_patients):
        raise UserError(
            "the images name no patients", where="pretext.same_patient",
            mend="give a column patient_id, or train with same_patient=false",
        )  # fmt: skip
    if isinstance(X, Volumes):
        if recipe.method == "deepcluster":
            raise UserError(
                "clusters need the same images every epoch", where="patches", mend="choose another method, or patches=0"
            )
        cubes = max(1, recipe.patches)
        return CubeBatches(X, size, cubes, batch_for(recipe, len(X) * cubes), seed), (1, size, size, size)
    pixels = pixels_of(X, size)
    arrays = {"image": pixels}
    if same_patient:
        assert isinstance(X, Images)
        return PatientBatches({**arrays, "patient": X.patient}, batch_for(recipe, len(pixels)), seed), pixels.shape[1:]
    return ArrayBatches(arrays, batch_for(recipe, len(pixels)), seed), pixels.shape[1:]


class ImageEncoder(PretrainedEncoder):
    """Learns features of images without labels.

    >>> images = healthcare.read("pneumoniamnist")
    >>> features = ImageEncoder(simclr(minutes=5)).fit(images).transform(images)

    Args:
        recipe: a preset, changed or not; SimCLR for five minutes where None.
    """

    domain: ClassVar[str] = "healthcare"
    heads_: nn.Module | None = None

    def __init__(self, recipe: Recipe | None = None) -> None:
        self.recipe = recipe

    def fit(
        self, X: Images | Volumes | NDArray, y: object = None, *, out: str | Path | None = None,
        note: Callable[[str], None] | None = None,
    ) -> Self:  # fmt: skip
        """Pretrain. Of read `Images` the training split alone is used, whatever their labels; of opened `Volumes`, random cubes.

        Args:
            out: run folder; with it an interrupted training goes on where it stopped.
            note: where progress lines go.

        Raises:
            UserError: fewer than two training images, or a method that is not known.
        """
        recipe = self.recipe or simclr()
        if recipe.method not in PRESETS:
            raise UserError(f"no method '{recipe.method}'", where="method", mend=f"choose from {', '.join(PRESETS)}")
        if isinstance(X, Images):
            X = X.select(X.rows("train"))
        batches, shape = batches_of(X, recipe)
        (channels, size, *_), dims, rows = shape, len(shape) - 1, batches.rows
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.train.seed)
            method, pretext = build(recipe.objective, recipe.pretext, recipe.encoder, channels, size, rows, dims)
            self.pretrain(method, batches, pretext, recipe.train, out, note)
        self.recipe_, self.channels_, self.dims_ = recipe, channels, dims
        self.heads_ = None  # of the pretext: nothing in this domain asks for it again
        images = recipe.train.accumulate * min(batches.batch_size, rows)  # a step
        self.views_ = round(recipe.pretext.passes(dims) * images * self.history_.steps)
        return self

    def transform(self, X: Images | Volumes | NDArray) -> NDArray[np.float32]:
        """Features (N, D), averaged over the recipe's crops; of opened volumes, over the cubes that cover them.

        Raises:
            UserError: not fitted, images of another number of channels, or volumes where it was trained on images.
        """
        self._check_fitted()
        if isinstance(X, Volumes):
            cubes = (np.stack(list(X.grid(row, self.recipe_.reading.size)))[:, None] for row in range(len(X)))
            return np.stack([self._features(cube).mean(0) for cube in cubes])
        return self._features(pixels_of(X, self.recipe_.reading.size))

    def _features(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        if pixels.shape[1] != self.channels_:
            raise UserError(
                f"images of {pixels.shape[1]} channels, the encoder was trained on {self.channels_}", where="images",
                mend="give grey images to a grey encoder, colour ones to a colour one",
            )  # fmt: skip
        if pixels.ndim - 2 != self.dims_:
            raise UserError(
                f"data of {pixels.ndim - 2} dimensions, the encoder was trained on {self.dims_}", where="images",
                mend="give images to an encoder of images, volumes to one of volumes",
            )  # fmt: skip
        if not len(pixels):
            return np.empty((0, self.encoder_.dim), np.float32)
        parts, chunk = [], min(CHUNK, max(1, VALUES // pixels[0].size))
        for start in range(0, len(pixels), chunk):
            views = fixed_views(torch.from_numpy(pixels[start : start + chunk]), self.recipe_.crop)
            features = embed(self.encoder_, iter([{"image": view} for view in views]), self.recipe_.train.device)
            parts.append(features.reshape(len(views), -1, self.encoder_.dim).mean(0))
        return np.concatenate(parts)

    def example(self) -> Batch:
        """Two black images, or volumes."""
        return {"image": torch.zeros(2, self.channels_, *[self.recipe_.reading.size] * self.dims_)}

    def on(self, device: str) -> Self:
        """The same estimator, computing on another device."""
        self._check_fitted()
        self.recipe_ = replace(self.recipe_, train=replace(self.recipe_.train, device=device))
        return self

    def describe(self) -> dict[str, Any]:
        history = getattr(self, "history_", History())
        return {
            "kind": "encoder", "recipe": to_dict(self.recipe_), "channels": self.channels_, "dims": self.dims_,
            "trained": {"steps": history.steps, "seconds": round(history.seconds, 1), "views": self.views_},
        }  # fmt: skip

    @classmethod
    def build(cls, config: dict[str, Any]) -> Self:
        estimator = cls()
        estimator._set_up(config)
        return estimator

    def _set_up(self, config: dict[str, Any]) -> None:
        self.recipe_, self.channels_ = from_dict(Recipe, config["recipe"]), int(config["channels"])
        self.dims_ = int(config.get("dims", 2))  # runs of before there were volumes do not say
        self.encoder_ = build_encoder(self.recipe_.encoder, self.channels_, self.recipe_.reading.size, self.dims_)
        self.history_ = History(config["trained"]["steps"], config["trained"]["seconds"])
        self.views_ = int(config["trained"]["views"])
        self.heads_ = None


class ImageClassifier(ImageEncoder):
    """Class probabilities from a pretrained encoder and few labels: a logistic regression on its features.

    >>> classifier = ImageClassifier.on_top_of(encoder).fit(images)
    >>> classifier.predict_proba(new_images)

    Of two classes the second is the positive one; the probability above which an image is called positive gives
    specificity 0.90 on validation images.
    """

    heads_: nn.Linear

    @classmethod
    def on_top_of(cls, encoder: ImageEncoder) -> Self:
        """A classifier, still to be fitted, that uses a fitted encoder as it is."""
        encoder._check_fitted()
        classifier = cls(encoder.recipe)
        for name in ("recipe_", "channels_", "dims_", "encoder_", "history_", "views_"):
            setattr(classifier, name, getattr(encoder, name))
        return classifier

    def fit(
        self, X: Images | Volumes | NDArray, y: object = None, *, out: str | Path | None = None,
        note: Callable[[str], None] | None = None,
    ) -> Self:  # fmt: skip
        """Fit on the labelled training images, choose the threshold on the labelled validation images.

        An array X needs labels y (N,), and gets no threshold. Without `on_top_of`, the encoder is pretrained on X first.

        Raises:
            UserError: fewer than two classes among the training labels.
        """
        if isinstance(X, Volumes):
            raise UserError(
                "volumes cut into cubes have no labels", where="label", mend="read them whole, with healthcare.read"
            )
        if not hasattr(self, "encoder_"):
            super().fit(X, out=out, note=note)
        self.threshold_: float | None = None
        if isinstance(X, Images):
            rows, held = X.rows("train", labelled=True), X.rows("val", labelled=True)
            label, groups = X.label[rows], X.patient[rows] if X.named_patients else None
            features, classes = self.transform(X.select(rows)), X.classes
        else:
            names, label = np.unique(np.asarray(y).astype(str), return_inverse=True)
            features, groups, held, classes = self.transform(X), None, np.empty(0, int), tuple(names.tolist())
        if len(np.unique(label)) < 2:
            raise UserError("the training labels hold fewer than two classes", where="label", mend="label two classes")
        self.classes_ = np.array(classes)
        model = fit_probe(features, label, groups)
        self.heads_ = _as_layer(model, len(classes))
        if isinstance(X, Images) and len(classes) == 2 and (X.label[held] == 0).any():
            guess = self.predict_proba(X.select(held))
            self.threshold_ = OperatingPoint.at_specificity(X.label[held], guess).threshold
        return self

    @torch.no_grad()
    def predict_proba(self, X: Images | NDArray) -> NDArray[np.float64]:
        """Class probabilities (N, K), in the order of `classes_`."""
        if getattr(self, "heads_", None) is None:
            raise UserError("this ImageClassifier is not fitted", mend="call fit with labelled images")
        features = torch.from_numpy(self.transform(X)).double()
        return self.heads_.double().cpu()(features).softmax(1).numpy()

    def predict(self, X: Images | NDArray) -> NDArray[np.str_]:
        """The most probable class (N,)."""
        return self.classes_[self.predict_proba(X).argmax(1)]

    def called(self, probability: NDArray[np.float64]) -> NDArray[np.bool_] | None:
        """Which images (N,) lie above the threshold; None where there is none (more classes, or no validation images)."""
        return None if self.threshold_ is None else OperatingPoint(self.threshold_).called(probability)

    def describe(self) -> dict[str, Any]:
        return {
            **super().describe(), "kind": "classifier", "classes": [str(name) for name in self.classes_],
            "threshold": self.threshold_, "specificity": SPECIFICITY,
        }  # fmt: skip

    def _set_up(self, config: dict[str, Any]) -> None:
        super()._set_up(config)
        self.classes_, self.threshold_ = np.array(config["classes"]), config["threshold"]
        self.heads_ = nn.Linear(self.encoder_.dim, len(self.classes_)).double()

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a classifier back.

        Raises:
            UserError: no run there, a damaged one, or an encoder without a classifier.
        """
        if load_run(path, cls.domain).config.get("kind") != "classifier":
            raise UserError("that run is an encoder without a classifier", where=path, mend="make one with finetune")
        return super().load(path)


def _as_layer(model: Any, classes: int) -> nn.Linear:
    """Standardisation and logistic regression of a scikit-learn pipeline as one linear layer (D → K) in float64."""
    scaler, regression = model[0], model[-1]
    weight = regression.coef_ / scaler.scale_
    bias = regression.intercept_ - weight @ scaler.mean_
    if classes == 2:  # scikit-learn keeps the positive class alone
        weight, bias = np.concatenate([0 * weight, weight]), np.concatenate([0 * bias, bias])
    layer = nn.Linear(weight.shape[1], classes).double()
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(weight))
        layer.bias.copy_(torch.from_numpy(bias))
    return layer
