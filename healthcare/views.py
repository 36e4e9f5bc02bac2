"""Views of an image or a volume: drawn for a whole batch at once, each image with parameters of its own.

Mild on purpose: no hue (grey images have none) and by default no flip, since left and right matter in a chest.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from core.damage import wide
from core.errors import UserError
from core.pretext import Views
from core.tokens import Batch
from healthcare import volume_views


@dataclass(frozen=True)
class ViewConfig:
    """How far a view may be from its image.

    Attributes:
        area: smallest share of the image, or of the volume, that a crop keeps; the largest is 1.
        stretch: largest ratio between the two sides of a crop; of a volume's, each side's to the mean.
        rotate: largest turn to either side, in degrees; of a volume, about each axis.
        flip: probability of a left-right flip, along the last axis.
        brightness: largest shift of all grey values, which lie in [0, 1].
        contrast, gamma: largest factor, and its inverse the smallest.
        noise: largest standard deviation of added noise.
        blur: largest share of a 3×3 mean that is mixed in.
        erase: probability that a rectangle, or a box, is replaced by the image's mean.
    """

    area: float = 0.3
    stretch: float = 1.33
    rotate: float = 15.0
    flip: float = 0.0
    brightness: float = 0.15
    contrast: float = 1.6
    gamma: float = 1.4
    noise: float = 0.05
    blur: float = 1.0
    erase: float = 0.25


MILD = ViewConfig(
    area=0.7, brightness=0.1, contrast=1.3, gamma=1.2, noise=0.02, blur=0.3, erase=0.0
)  # hides no finding


@dataclass(frozen=True)
class ImageViews:
    """The pretext of methods that compare views: two of every image `{"image": (B, C, H, W)}`, and small crops beside them; volumes
    are (B, C, D, H, W).

    Attributes:
        view: how far a view may be from its image.
        same_patient: the second view is of another image of the patient, where there is one (MICLe, Azizi et al. 2021), and in
            losses that know several positives all images of a patient are; the batch then holds `partner` and `patient`.
        local: small crops of every image (multi-crop, SwAV, Caron et al. 2020); 0 gives the two views alone.
        local_area: smallest and largest share of the image that a small crop shows.
        local_side: side of a small crop, as a share of the image's: its pixels are about as large as those of the views.
    """

    kind: Literal["views"] = "views"
    view: ViewConfig = field(default_factory=ViewConfig)
    same_patient: bool = False
    local: int = 0
    local_area: tuple[float, float] = (0.1, 0.3)
    local_side: float = 0.6

    def __post_init__(self) -> None:
        low, high = self.local_area
        if self.local < 0 or not 0 < low <= high <= 1 or not 0 < self.local_side <= 1:
            raise UserError(
                f"{self.local} small crops of {low:g} to {high:g} of the image on {self.local_side:g} of its side",
                where="pretext", mend="give local of 0 or more, and shares above 0 and at most 1",
            )  # fmt: skip

    def passes(self, dims: int = 2) -> float:
        """Images of full size, or as many pixels, that go through the network for one image; 3 dims: volumes."""
        return 2 + self.local * self.local_side**dims

    def __call__(self, batch: Batch, generator: Generator) -> Views:
        image = batch["image"]
        other = batch["partner"] if self.same_patient else image
        views = list(augment(torch.cat([image, other]), self.view, generator).chunk(2))
        if self.local:
            side = max(1, round(self.local_side * image.shape[-1]))
            views += [self._small(image, side, generator) for _ in range(self.local)]
        index = {"index": batch["index"]} if "index" in batch else {}
        return Views(
            [{"image": view, **index} for view in views], group=batch["patient"] if self.same_patient else None
        )

    def _small(self, image: Tensor, side: int, generator: Generator) -> Tensor:
        crop = geometry(image, self.view, generator, self.local_area, side)
        return intensity(crop, self.view, generator)


def augment(image: Tensor, config: ViewConfig, generator: Generator) -> Tensor:
    """(B, C, H, W) or (B, C, D, H, W) in [0, 1] to the same shape and range, changed in place and in grey values."""
    return intensity(geometry(image, config, generator), config, generator)


def geometry(
    image: Tensor, config: ViewConfig, generator: Generator, area: tuple[float, float] | None = None, side: int | None = None
) -> Tensor:  # fmt: skip
    """Crop, stretch, turn and flip (B, C, H, W) or (B, C, D, H, W) by one resampling; outside the image its border goes on.

    Args:
        area: smallest and largest share of the image that is kept; None: from `config.area` to all of it.
        side: of the result (B, C, side, side); None: that of the image.
    """
    low, high = area or (config.area, 1.0)
    if image.dim() == 5:
        turns = math.radians(config.rotate)
        return volume_views.geometry(image, generator, low, high, config.stretch, turns, config.flip, side)
    uniform = _uniform(image, generator)
    share, stretch = uniform(low, high), uniform(-1.0, 1.0) * math.log(config.stretch) / 2
    half = share.sqrt()
    width, height = (half * stretch.exp()).clamp(max=1.0), (half * (-stretch).exp()).clamp(max=1.0)
    dx, dy = uniform(-1.0, 1.0) * (1 - width), uniform(-1.0, 1.0) * (1 - height)
    angle = uniform(-1.0, 1.0) * math.radians(config.rotate)
    mirror = torch.where(uniform(0.0, 1.0) < config.flip, -1.0, 1.0)
    cos, sin = angle.cos(), angle.sin()
    theta = torch.stack(
        [
            torch.stack([cos * width * mirror, -sin * height, dx], 1),
            torch.stack([sin * width * mirror, cos * height, dy], 1),
        ],
        1,
    )  # (B, 2, 3)
    shape = list(image.shape) if side is None else [*image.shape[:2], side, side]
    grid = F.affine_grid(theta, shape, align_corners=False)
    return F.grid_sample(image, grid, mode="bilinear", padding_mode="border", align_corners=False)


def fixed_views(image: Tensor, side: float) -> list[Tensor]:
    """(B, C, H, W) itself and four crops of it, one from each corner, `side` of its width and height, at the same size; of a
    volume (B, C, D, H, W), from four of its corners.

    What a network says of a patient should not hang on how the image was framed: its answers over these are averaged, which
    moved the test auroc of every network on PneumoniaMNIST up by about .01. Equal for all images, so nothing is random.
    """
    if image.dim() == 5:
        return [image, *(volume_views.corners(image, side) if side < 1 else ())]
    views = [image]
    for x, y in ((-1, -1), (1, -1), (-1, 1), (1, 1)) if side < 1 else ():
        theta = torch.tensor([[side, 0, x * (1 - side)], [0, side, y * (1 - side)]], device=image.device)
        grid = F.affine_grid(theta.expand(len(image), 2, 3), list(image.shape), align_corners=False)
        views.append(F.grid_sample(image, grid, mode="bilinear", padding_mode="border", align_corners=False))
    return views


def intensity(image: Tensor, config: ViewConfig, generator: Generator) -> Tensor:
    """Erase, blur, contrast, brightness, gamma and noise on (B, C, H, W) or (B, C, D, H, W); the result stays in [0, 1]."""
    uniform = _uniform(image, generator)
    mean = image.mean(tuple(range(1, image.dim())), keepdim=True)
    x = image
    if config.erase:
        x = torch.where(_rectangles(x, config.erase, generator), mean, x)
    if config.blur:
        pool = F.avg_pool2d if x.dim() == 4 else F.avg_pool3d
        smooth = pool(x, 3, 1, 1, count_include_pad=False)
        x = torch.lerp(x, smooth, wide(uniform(0.0, config.blur), x))
    contrast = wide((uniform(-1.0, 1.0) * math.log(config.contrast)).exp(), x)
    x = (x - mean) * contrast + mean + wide(uniform(-config.brightness, config.brightness), x)
    if config.gamma != 1:  # before the noise: a power has no derivative trouble here, but negative values have no power
        x = x.clamp(1e-4, 1).pow(wide((uniform(-1.0, 1.0) * math.log(config.gamma)).exp(), x))
    if config.noise:
        x = x + torch.randn(x.shape, generator=generator, device=x.device) * wide(uniform(0.0, config.noise), x)
    return x.clamp(0, 1)


def _rectangles(image: Tensor, probability: float, generator: Generator) -> Tensor:
    """(B, 1, H, W) or (B, 1, D, H, W) bool: a rectangle of a fifth to a half of each side, in a share of the images."""
    uniform, sides = _uniform(image, generator), image.shape[2:]

    def span(axis: int) -> Tensor:
        extent = uniform(0.2, 0.5) * sides[axis]
        start = uniform(0.0, 1.0) * (sides[axis] - extent)
        places = torch.arange(sides[axis], device=image.device)
        inside = (places >= start[:, None]) & (places < (start + extent)[:, None])
        return inside.view(-1, *[side if other == axis else 1 for other, side in enumerate(sides)])

    inside = wide(uniform(0.0, 1.0) < probability, image)[:, 0]
    for axis in range(len(sides)):
        inside = inside & span(axis)
    return inside[:, None]


def _uniform(image: Tensor, generator: Generator) -> Callable[[float, float], Tensor]:
    """A function that draws (B,) numbers between two bounds."""

    def draw(low: float, high: float) -> Tensor:
        return torch.rand(len(image), generator=generator, device=image.device) * (high - low) + low

    return draw
