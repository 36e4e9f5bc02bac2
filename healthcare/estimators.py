"""What analysts import: an encoder that learns from images without labels. The classifier on top of it: healthcare.classifier."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from core.batches import ArrayBatches
from core.config import from_dict, to_dict
from core.errors import UserError
from core.estimator import PretrainedEncoder
from core.probes import embed
from core.tokens import Batch
from core.training import History
from healthcare.batches import PatientBatches
from healthcare.clinical_card import Facts
from healthcare.data import Images, plain, resized
from healthcare.encoders import build_encoder
from healthcare.linear import FEW
from healthcare.methods import build
from healthcare.presets import PRESETS, Recipe, batch_for, simclr
from healthcare.readers import Reading, Unreadable
from healthcare.views import MILD, augment, fixed_views
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


class RecipeEncoder(PretrainedEncoder):
    """An estimator of this domain that keeps the recipe it was made by."""

    domain: ClassVar[str] = "healthcare"
    recipe_: Any

    def on(self, device: str) -> Self:
        """The same estimator, computing on another device."""
        self._check_fitted()
        self.recipe_ = replace(self.recipe_, train=replace(self.recipe_.train, device=device))
        return self

    def trained(self) -> dict[str, float]:
        """Steps and seconds of training, for `describe`."""
        history = getattr(self, "history_", History())
        return {"steps": history.steps, "seconds": round(history.seconds, 1)}


class ImageEncoder(RecipeEncoder):
    """Learns features of images without labels.

    >>> images = healthcare.read("pneumoniamnist")
    >>> features = ImageEncoder(simclr(minutes=5)).fit(images).transform(images)

    Args:
        recipe: a preset, changed or not; SimCLR for five minutes where None.
    """

    recipe_: Recipe
    heads_: nn.Module | None = None
    facts_: Facts = Facts()

    def __init__(self, recipe: Recipe | None = None) -> None:
        self.recipe = recipe

    @property
    def reading(self) -> Reading:
        """How data for it are read: as volumes where it was trained on volumes, also where its recipe left that to the data.

        Slices of a DICOM series are otherwise taken for images.
        """
        self._check_fitted()
        reading = self.recipe_.reading
        return replace(reading, dims=3) if self.dims_ == 3 else reading

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

    def transform(self, X: Images | Volumes | NDArray, *, views: int = 0) -> NDArray[np.float32]:
        """Features (N, D), averaged over the recipe's crops; of opened volumes, over the cubes that cover them.

        Args:
            views: so many mild views of each image, drawn with the recipe's seed, are averaged too (test-time augmentation).

        Raises:
            UserError: not fitted, images of another number of channels, or volumes where it was trained on images.
        """
        if isinstance(X, Volumes):
            self._check_fitted()
            cubes = (np.stack(list(X.grid(row, self.recipe_.reading.size)))[:, None] for row in range(len(X)))
            return np.stack([self._each_view(cube, views).mean((0, 1)) for cube in cubes])
        each = self.each_view(X, views)
        return each.mean(0) if each.size else each.sum(0)

    def each_view(self, X: Images | NDArray, views: int = 0) -> NDArray[np.float32]:
        """Features (V, N, D) of the image, of the recipe's crops of it, and of `views` drawn ones; see `transform`."""
        self._check_fitted()
        return self._each_view(pixels_of(X, self.recipe_.reading.size), views)

    def labelled(self, X: Images | NDArray, views: int = 0) -> NDArray[np.float32]:
        """What a probe learns from: features (V, N, D) of each view of up to `FEW` images, of more their mean (N, D); see `each_view`."""
        return self.each_view(X, views) if len(X) <= FEW else self.transform(X, views=views)

    def _each_view(self, pixels: NDArray[np.float32], views: int) -> NDArray[np.float32]:
        """As `each_view`, of pixels (N, C, H, W), or of volumes (N, C, D, H, W)."""
        if views < 0:
            raise UserError(f"{views} views", where="views", mend="give 0 or more")
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
            return np.empty((1, 0, self.encoder_.dim), np.float32)
        parts, size = [], min(CHUNK, max(1, VALUES // pixels[0].size))
        generator = torch.Generator().manual_seed(self.recipe_.train.seed)
        for start in range(0, len(pixels), size):
            chunk = torch.from_numpy(pixels[start : start + size])
            seen = fixed_views(chunk, self.recipe_.crop)
            seen += [augment(chunk, MILD, generator) for _ in range(views)]
            features = embed(self.encoder_, iter([{"image": view} for view in seen]), self.recipe_.train.device)
            parts.append(features.reshape(len(seen), -1, self.encoder_.dim))
        return np.concatenate(parts, axis=1)

    def similar(
        self, X: Images | NDArray, among: Images | NDArray, k: int = 5
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """The k most alike images of `among` for each of X: row numbers (N, k), nearest first, and their cosine (N, k).

        Raises:
            UserError: as `transform`, or k above the number of images there.
        """
        from healthcare.neighbours import nearest

        return nearest(self.transform(X), self.transform(among), k)

    def example(self) -> Batch:
        """Two black images, or volumes."""
        return {"image": torch.zeros(2, self.channels_, *[self.recipe_.reading.size] * self.dims_)}

    def describe(self) -> dict[str, Any]:
        return {
            "kind": "encoder", "recipe": to_dict(self.recipe_), "channels": self.channels_, "dims": self.dims_,
            "trained": {**self.trained(), "views": self.views_},
            "facts": to_dict(self.facts_),
        }  # fmt: skip

    @classmethod
    def build(cls, config: dict[str, Any]) -> Self:
        estimator = cls()
        estimator._set_up(config)
        return estimator

    def card(self) -> str:
        """A model card with the items of CLAIM; what nobody stated is said to be not stated."""
        from healthcare.clinical_card import clinical_card

        return super().card() + clinical_card(self)

    def _set_up(self, config: dict[str, Any]) -> None:
        self.recipe_, self.channels_ = from_dict(Recipe, config["recipe"]), int(config["channels"])
        self.dims_ = int(config.get("dims", 2))  # runs of before there were volumes do not say
        self.encoder_ = build_encoder(self.recipe_.encoder, self.channels_, self.recipe_.reading.size, self.dims_)
        self.history_ = History(config["trained"]["steps"], config["trained"]["seconds"])
        self.views_ = int(config["trained"]["views"])
        self.facts_ = from_dict(Facts, config.get("facts", {}))  # runs before 0.2 hold none
        self.heads_ = None
