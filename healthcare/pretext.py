"""What a batch of images is turned into for each family of methods: one frozen dataclass each, which a recipe holds and a run saves.

Views stand in `healthcare.views`; here is what hides, damages or reorders an image. All but the labelled ones begin with a view of
each image (`view`), so that no image is seen twice alike.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from core import puzzles
from core.errors import UserError
from core.masking import block_mask, random_mask
from core.pretext import Corrupted, Masked, Pieces, Pretext, Pseudo
from core.tokens import Batch
from healthcare.encoders import EncoderConfig
from healthcare.views import ViewConfig, augment

GENTLE = ViewConfig(area=0.5, rotate=10.0, brightness=0.1, contrast=1.3, gamma=1.2, noise=0.0, blur=0.0, erase=0.0)
UPRIGHT = ViewConfig(area=0.3, rotate=0.0, brightness=0.1, contrast=1.4, gamma=1.3, noise=0.03, blur=0.5, erase=0.0)


@dataclass(frozen=True)
class Labelled:
    """Augmented images with their labels, for a classifier trained from scratch or further."""

    view: ViewConfig = field(default_factory=ViewConfig)

    def __call__(self, batch: Batch, generator: Generator) -> Pseudo:
        return Pseudo({"image": augment(batch["image"], self.view, generator)}, batch["label"])


@dataclass(frozen=True)
class HiddenPatches:
    """Patches to be told from the others: MAE hides most of them, at random; data2vec hides one block.

    Attributes:
        ratio: share of the patches that is hidden, in (0, 1).
        shape: `random` patches each for itself, or one `block` (BEiT, Bao et al. 2021).
    """

    kind: Literal["patches"] = "patches"
    view: ViewConfig = GENTLE
    ratio: float = 0.75
    shape: Literal["random", "block"] = "random"
    passes: ClassVar[float] = 1

    def bound(self, encoder: EncoderConfig) -> Pretext:
        """The pretext for an encoder, whose patches are what is hidden."""
        return partial(self._hide, encoder.patch)

    def _hide(self, patch: int, batch: Batch, generator: Generator) -> Masked:
        image = augment(batch["image"], self.view, generator)
        grid = image.shape[2] // patch, image.shape[3] // patch
        if self.shape == "block":
            mask = block_mask(grid, self.ratio, generator, len(image))
        else:
            nothing = torch.zeros(len(image), grid[0] * grid[1], dtype=torch.bool, device=image.device)
            mask = random_mask(nothing, self.ratio, generator)
        return Masked({"image": image}, mask, {})


@dataclass(frozen=True)
class Damaged:
    """Images to be restored, damaged as in Models Genesis (Zhou et al. 2019): see `core.puzzles.restore`.

    Attributes:
        curve, shuffle, paint: probabilities of bent intensities, shuffled pixels, painted rectangles.
        outside: of the painted images, the share of which all but a few rectangles is painted over.
        side: of the squares whose pixels are shuffled.
        window: what is restored is each pixel's `detail` in a window of so many pixels; 0 for the grey values themselves.
    """

    kind: Literal["damaged"] = "damaged"
    view: ViewConfig = GENTLE
    window: int = 7
    curve: float = 0.9
    shuffle: float = 0.5
    paint: float = 0.9
    outside: float = 0.5
    side: int = 4
    passes: ClassVar[float] = 1

    def __post_init__(self) -> None:
        _odd(self.window)

    def __call__(self, batch: Batch, generator: Generator) -> Corrupted:
        clean = augment(batch["image"], self.view, generator)
        seen = puzzles.restore(clean, generator, self.curve, self.shuffle, self.paint, self.outside, self.side)
        return Corrupted({"image": seen}, {"image": detail(clean, self.window)})


@dataclass(frozen=True)
class Noisy:
    """Images under noise and with holes (Vincent et al. 2008; Pathak et al. 2016), to be restored.

    Attributes:
        noise: standard deviation of what is added; grey values lie in [0, 1].
        share, holes: how large each hole is, as a share of the image, and how many there are; holes may be 0.
        window: as in `Damaged`.
    """

    kind: Literal["noisy"] = "noisy"
    view: ViewConfig = GENTLE
    window: int = 7
    noise: float = 0.2
    share: float = 0.1
    holes: int = 3
    passes: ClassVar[float] = 1

    def __post_init__(self) -> None:
        _odd(self.window)

    def __call__(self, batch: Batch, generator: Generator) -> Corrupted:
        clean = augment(batch["image"], self.view, generator)
        noise = torch.randn(clean.shape, generator=generator, device=clean.device)
        seen = clean + self.noise * noise
        if self.holes:
            seen, _ = puzzles.missing(seen, generator, self.share, self.holes)
        return Corrupted({"image": seen}, {"image": detail(clean, self.window)})


@dataclass(frozen=True)
class Whole:
    """Images as they are, to be told from what is remembered of them (variational autoencoder); window: as in `Damaged`."""

    kind: Literal["whole"] = "whole"
    view: ViewConfig = GENTLE
    window: int = 7
    passes: ClassVar[float] = 1

    def __post_init__(self) -> None:
        _odd(self.window)

    def __call__(self, batch: Batch, generator: Generator) -> Corrupted:
        image = augment(batch["image"], self.view, generator)
        return Corrupted({"image": image}, {"image": detail(image, self.window)})


@dataclass(frozen=True)
class Turned:
    """Images turned by quarters; which turn it was is asked (Gidaris et al. 2018)."""

    kind: Literal["turned"] = "turned"
    view: ViewConfig = UPRIGHT
    passes: ClassVar[float] = 1
    pieces: ClassVar[int] = 1

    @property
    def classes(self) -> tuple[tuple[str, int], ...]:
        return (("rotation", 4),)

    def __call__(self, batch: Batch, generator: Generator) -> Pseudo:
        seen, label = puzzles.rotate(augment(batch["image"], self.view, generator), generator)
        return Pseudo({"image": seen}, label)


@dataclass(frozen=True)
class Shuffled:
    """Images cut into tiles in another order; which order it was is asked (Noroozi & Favaro 2016).

    Attributes:
        tiles: along each side.
        orders: how many orders there are, as far from each other as can be.
        alone: the network reads each tile by itself, so that it cannot compare edges: as in the paper.
    """

    kind: Literal["shuffled"] = "shuffled"
    view: ViewConfig = UPRIGHT
    tiles: int = 2
    orders: int = 24
    alone: bool = True
    passes: ClassVar[float] = 1

    def __post_init__(self) -> None:
        if not 2 <= self.tiles <= 8:
            raise UserError(f"{self.tiles} × {self.tiles} tiles", where="pretext.tiles", mend="use 2 to 8 a side")
        puzzles.permutations(self.tiles**2, self.orders)  # raises where there are not so many

    @property
    def classes(self) -> tuple[tuple[str, int], ...]:
        return (("order", self.orders),)

    @property
    def pieces(self) -> int:
        """How many tiles are read by themselves; 1 where the whole is."""
        return self.tiles**2 if self.alone else 1

    def __call__(self, batch: Batch, generator: Generator) -> Pseudo | Pieces:
        orders = puzzles.permutations(self.tiles**2, self.orders)
        image = augment(batch["image"], self.view, generator)
        seen, label = puzzles.jigsaw(image, self.tiles, orders, generator)
        if not self.alone:
            return Pseudo({"image": seen}, label)
        return Pieces([{"image": tile} for tile in puzzles.cells(seen, self.tiles)], label)


def detail(image: Tensor, window: int) -> Tensor:
    """(B, C, H, W) with mean 0 and variance 1 in the window around each pixel; the image itself where the window is 0.

    An image's error is otherwise that of its large bright and dark parts, and features that restore them tell little of what
    is in it: the reason why MAE restores patches each at mean 0 and variance 1.
    """
    if not window:
        return image
    mean, square = (F.avg_pool2d(x, window, 1, window // 2, count_include_pad=False) for x in (image, image.square()))
    return (image - mean) / ((square - mean.square()).clamp(min=0) + 1e-3).sqrt()


def _odd(window: int) -> None:
    if window < 0 or (window and (window % 2 == 0 or window < 3)):
        raise UserError(
            f"a window of {window} pixels", where="pretext.window", mend="use an odd number from 3 on, or 0"
        )
