"""Named recipes. Each is a function that returns one frozen dataclass: the Python argument, `--set`, and the saved JSON."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from core.errors import UserError
from core.training import TrainConfig
from healthcare.data import Reading
from healthcare.encoders import EncoderConfig
from healthcare.pretext import ViewConfig


@dataclass(frozen=True)
class Recipe:
    """Everything that a pretraining run is made of.

    Attributes:
        method: its name; only simclr so far.
        batch: images a step; every other image of it is a negative.
        temperature, hidden, out: of the contrastive loss and the projection head.
        crop: features are averaged over an image and four crops of this share of its sides; 1 is the image alone.
    """

    method: str
    train: TrainConfig
    reading: Reading = field(default_factory=Reading)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    views: ViewConfig = field(default_factory=ViewConfig)
    batch: int = 256
    temperature: float = 0.2
    hidden: int = 256
    out: int = 128
    crop: float = 0.875


def simclr(minutes: float | None = 5.0, steps: int | None = None, seed: int = 0, device: str = "cpu") -> Recipe:
    """SimCLR (Chen et al. 2020) with batched, mild augmentation.

    Command: `tacit-healthcare pretrain --data pneumoniamnist --method simclr --out run --minutes 5`
    """
    train = TrainConfig(steps=steps, minutes=None if steps is not None else minutes, lr=2e-3, weight_decay=1e-4, seed=seed, device=device)
    return Recipe("simclr", train)


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


def timed(recipe: Recipe, minutes: float | None, steps: int | None) -> Recipe:
    """The recipe with another budget: steps where given, else minutes."""
    return replace(recipe, train=replace(recipe.train, steps=steps, minutes=None if steps is not None else minutes))
