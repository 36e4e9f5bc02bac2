"""Named recipes. Each is a function that returns one frozen dataclass: the Python argument, `--set`, and the saved JSON."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from core.errors import UserError
from core.methods import SimCLRConfig
from core.training import TrainConfig
from healthcare.data import Reading
from healthcare.encoders import EncoderConfig
from healthcare.methods import Objective, Pretext
from healthcare.views import ImageViews


@dataclass(frozen=True)
class Recipe:
    """Everything that a pretraining run is made of.

    Attributes:
        method: the preset's name.
        objective: the method's own settings.
        pretext: what it learns from: views, hidden patches, damage to repair, puzzles.
        batch: images a step; for many methods every other image of it is a negative. None: a sixteenth of the training images,
            64 to 256, since few images in large batches are few steps.
        crop: features are averaged over an image and four crops of this share of its sides; 1 is the image alone.
    """

    method: str
    objective: Objective
    train: TrainConfig
    pretext: Pretext = field(default_factory=ImageViews)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    reading: Reading = field(default_factory=Reading)
    batch: int | None = None
    crop: float = 0.875


def simclr(minutes: float | None = 5.0, steps: int | None = None, seed: int = 0, device: str = "cpu") -> Recipe:
    """SimCLR (Chen et al. 2020) with batched, mild augmentation.

    Command: `tacit-healthcare pretrain --data pneumoniamnist --method simclr --out run --minutes 8`, then `evaluate`.
    Expected on PneumoniaMNIST: test auroc .949 with 10 % of the labels after 277 steps of 256 (seed 0, five label draws; about
    two minutes of one undisturbed core), raw pixels .916. `bench` gives the figures of the full length.
    """
    train = TrainConfig(
        steps=steps,
        minutes=None if steps is not None else minutes,
        lr=2e-3,
        weight_decay=1e-4,
        seed=seed,
        device=device,
    )
    return Recipe("simclr", SimCLRConfig(), train)


PRESETS: dict[str, Callable[..., Recipe]] = {"simclr": simclr}


def preset(
    name: str, minutes: float | None = None, steps: int | None = None, seed: int = 0, device: str = "cpu"
) -> Recipe:
    """The recipe of that name; its own length where neither minutes nor steps are given.

    Raises:
        UserError: no such method; the known ones are listed.
    """
    if name not in PRESETS:
        raise UserError(f"no method '{name}'", where="--method", mend=f"choose from {', '.join(PRESETS)}")
    recipe = PRESETS[name](seed=seed, device=device)
    return recipe if minutes is None and steps is None else timed(recipe, minutes, steps)


def batch_for(recipe: Recipe, images: int) -> int:
    """Images a step for a training set of this size."""
    return recipe.batch if recipe.batch is not None else min(256, max(64, images // 16))


def timed(recipe: Recipe, minutes: float | None, steps: int | None) -> Recipe:
    """The recipe with another budget: steps where given, else minutes."""
    return replace(recipe, train=replace(recipe.train, steps=steps, minutes=None if steps is not None else minutes))
