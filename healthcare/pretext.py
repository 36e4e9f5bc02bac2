"""What a batch of images or volumes is turned into for each family of methods: one frozen dataclass each, which a recipe holds and a
run saves. An image is (C, H, W), a volume (C, D, H, W); where a docstring says pixels, tiles and squares, volumes have voxels and cubes.

Views stand in `healthcare.views`, crops and their places in `healthcare.places`; here is what hides, damages or reorders an image. All but the labelled ones begin with a view of
each image (`view`), so that no image is seen twice alike.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from core import damage, puzzles
from core.errors import UserError
from core.masking import block_mask, random_mask
from core.pretext import Corrupted, Masked, Pieces, Pretext, Pseudo
from core.tokens import Batch
from healthcare.encoders import EncoderConfig
from healthcare.views import ViewConfig, augment

GENTLE = ViewConfig(area=0.5, rotate=10.0, brightness=0.1, contrast=1.3, gamma=1.2, noise=0.0, blur=0.0, erase=0.0)
UPRIGHT = ViewConfig(area=0.3, rotate=0.0, brightness=0.1, contrast=1.4, gamma=1.3, noise=0.03, blur=0.5, erase=0.0)


class OnePass:
    """A pretext through which each image goes once, at its size."""

    def passes(self, dims: int = 2) -> float:
        """Images of full size that go through the network for one image."""
        return 1


@dataclass(frozen=True)
class Labelled:
    """Augmented images with their labels, for a classifier trained from scratch or further."""

    view: ViewConfig = field(default_factory=ViewConfig)

    def __call__(self, batch: Batch, generator: Generator) -> Pseudo:
        return Pseudo({"image": augment(batch["image"], self.view, generator)}, batch["label"])


@dataclass(frozen=True)
class HiddenPatches(OnePass):
    """Patches to be told from the others: MAE hides most of them, at random; data2vec hides one block.

    Attributes:
        ratio: share of the patches that is hidden, in (0, 1).
        shape: `random` patches each for itself, or one `block` (BEiT, Bao et al. 2021).
    """

    kind: Literal["patches"] = "patches"
    view: ViewConfig = GENTLE
    ratio: float = 0.75
    shape: Literal["random", "block"] = "random"

    def bound(self, encoder: EncoderConfig) -> Pretext:
        """The pretext for an encoder, whose patches are what is hidden."""
        return partial(self._hide, encoder.patch)

    def _hide(self, patch: int, batch: Batch, generator: Generator) -> Masked:
        image = augment(batch["image"], self.view, generator)
        grid = tuple(side // patch for side in image.shape[2:])
        if self.shape == "block":
            mask = block_mask(grid, self.ratio, generator, len(image))
        else:
            nothing = torch.zeros(len(image), math.prod(grid), dtype=torch.bool, device=image.device)
            mask = random_mask(nothing, self.ratio, generator)
        return Masked({"image": image}, mask, {})


@dataclass(frozen=True)
class Damaged(OnePass):
    """Images to be restored, damaged as in Models Genesis (Zhou et al. 2019): see `core.damage.restore`.

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

    def __post_init__(self) -> None:
        _odd(self.window)

    def __call__(self, batch: Batch, generator: Generator) -> Corrupted:
        clean = augment(batch["image"], self.view, generator)
        seen = damage.restore(
            clean, generator, self.curve, self.shuffle, self.paint, self.outside, self.side, clean.dim() - 2
        )
        return Corrupted({"image": seen}, {"image": detail(clean, self.window)})


@dataclass(frozen=True)
class Noisy(OnePass):
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

    def __post_init__(self) -> None:
        _odd(self.window)

    def __call__(self, batch: Batch, generator: Generator) -> Corrupted:
        clean = augment(batch["image"], self.view, generator)
        noise = torch.randn(clean.shape, generator=generator, device=clean.device)
        seen = clean + self.noise * noise
        if self.holes:
            seen, _ = damage.missing(seen, generator, self.share, self.holes, dims=clean.dim() - 2)
        return Corrupted({"image": seen}, {"image": detail(clean, self.window)})


@dataclass(frozen=True)
class Whole(OnePass):
    """Images as they are, to be told from what is remembered of them (variational autoencoder); window: as in `Damaged`."""

    kind: Literal["whole"] = "whole"
    view: ViewConfig = GENTLE
    window: int = 7

    def __post_init__(self) -> None:
        _odd(self.window)

    def __call__(self, batch: Batch, generator: Generator) -> Corrupted:
        image = augment(batch["image"], self.view, generator)
        return Corrupted({"image": image}, {"image": detail(image, self.window)})


@dataclass(frozen=True)
class Coloured(OnePass):
    """Colour images without their colours, which are asked for (Zhang et al. 2016, here by regression): how far red, green and blue lie
    from the grey value.

    Attributes:
        scale: of what is asked for, which is small where an image has few colours.
    """

    kind: Literal["coloured"] = "coloured"
    view: ViewConfig = GENTLE
    scale: float = 4.0

    def __post_init__(self) -> None:
        if not 0 < self.scale <= 100:
            raise UserError(f"a scale of {self.scale:g}", where="pretext.scale", mend="use a number from 0.1 to 100")

    def __call__(self, batch: Batch, generator: Generator) -> Corrupted:
        if batch["image"].dim() != 4 or batch["image"].shape[1] != 3:
            raise UserError(
                "there are no colours to lose in grey images or volumes", where="pretext",
                mend="give colour images, or choose another method",
            )  # fmt: skip
        clean = augment(batch["image"], self.view, generator)
        grey = damage.grey(clean)
        return Corrupted({"image": grey}, {"image": (clean - grey) * self.scale})


@dataclass(frozen=True)
class Turned(OnePass):
    """Images turned by quarters; which turn it was is asked (Gidaris et al. 2018). Volumes are turned about one of their three axes, or
    not: ten answers (Taleb et al. 2020)."""

    kind: Literal["turned"] = "turned"
    view: ViewConfig = UPRIGHT

    def classes(self, dims: int = 2) -> tuple[tuple[str, int], ...]:
        return (("rotation", 4 if dims == 2 else puzzles.TURNS),)

    def pieces(self, dims: int = 2) -> int:
        return 1

    def __call__(self, batch: Batch, generator: Generator) -> Pseudo:
        image = augment(batch["image"], self.view, generator)
        seen, label = (puzzles.rotate if image.dim() == 4 else puzzles.turn)(image, generator)
        return Pseudo({"image": seen}, label)


@dataclass(frozen=True)
class Shuffled(OnePass):
    """Images cut into tiles in another order; which order it was is asked (Noroozi & Favaro 2016). Volumes are cut into cubes, of
    which a Rubik's cube has 2 × 2 × 2 (Zhuang et al. 2019).

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

    def __post_init__(self) -> None:
        if not 2 <= self.tiles <= 8:
            raise UserError(f"{self.tiles} × {self.tiles} tiles", where="pretext.tiles", mend="use 2 to 8 a side")
        puzzles.permutations(self.tiles**2, self.orders)  # raises where there are not so many

    def classes(self, dims: int = 2) -> tuple[tuple[str, int], ...]:
        return (("order", self.orders),)

    def pieces(self, dims: int = 2) -> int:
        """How many tiles are read by themselves; 1 where the whole is."""
        return self.tiles**dims if self.alone else 1

    def __call__(self, batch: Batch, generator: Generator) -> Pseudo | Pieces:
        image = augment(batch["image"], self.view, generator)
        dims = image.dim() - 2
        orders = puzzles.permutations(self.tiles**dims, self.orders)
        seen, label = puzzles.jigsaw(image, self.tiles, orders, generator, dims=dims)
        if not self.alone:
            return Pseudo({"image": seen}, label)
        return Pieces([{"image": tile} for tile in puzzles.cells(seen, self.tiles, dims=dims)], label)


def detail(image: Tensor, window: int) -> Tensor:
    """(B, C, H, W) or (B, C, D, H, W) with mean 0 and variance 1 in the window around each pixel; the image itself where the window is 0.

    An image's error is otherwise that of its large bright and dark parts, and features that restore them tell little of what
    is in it: the reason why MAE restores patches each at mean 0 and variance 1.
    """
    if not window:
        return image
    pool = F.avg_pool2d if image.dim() == 4 else F.avg_pool3d
    mean, square = (pool(x, window, 1, window // 2, count_include_pad=False) for x in (image, image.square()))
    return (image - mean) / ((square - mean.square()).clamp(min=0) + 1e-3).sqrt()


def _odd(window: int) -> None:
    if window < 0 or (window and (window % 2 == 0 or window < 3)):
        raise UserError(
            f"a window of {window} pixels", where="pretext.window", mend="use an odd number from 3 on, or 0"
        )
