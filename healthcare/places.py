"""Where in its image or volume a crop lies: the pretext of position contrast (VoCo, Wu et al. 2024)."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from core.errors import UserError
from core.pretext import Placed
from core.tokens import Batch
from healthcare.views import ViewConfig, geometry, intensity

PLACED = ViewConfig(area=0.5, rotate=10.0, brightness=0.1, contrast=1.3, gamma=1.2, blur=0.5, erase=0.0)


@dataclass(frozen=True)
class Places:
    """Base crops that tile a view of each image, and crops of the same size anywhere in it, each with grey values of its own.

    Attributes:
        view: how far the view, and the grey values of each crop, may be from the image.
        tiles: base crops along each side: 2 gives four of an image, eight of a volume.
        crops: how many there are beside them.
    """

    kind: Literal["places"] = "places"
    view: ViewConfig = PLACED
    tiles: int = 2
    crops: int = 4

    def __post_init__(self) -> None:
        if not 2 <= self.tiles <= 4 or not 1 <= self.crops <= 64:
            raise UserError(
                f"{self.tiles} base crops a side and {self.crops} crops", where="pretext", mend="use 2 to 4 tiles, and 1 to 64 crops"
            )  # fmt: skip

    def passes(self, dims: int = 2) -> float:
        return 1 + self.crops / self.tiles**dims

    def __call__(self, batch: Batch, generator: Generator) -> Placed:
        image = geometry(batch["image"], self.view, generator)
        rows, dims, half = len(image), image.dim() - 2, 1 / self.tiles
        line = torch.arange(self.tiles, device=image.device) * 2 * half + half - 1  # centres, in [-1, 1]
        base = torch.tensor(list(itertools.product(line.tolist(), repeat=dims)), device=image.device)  # (n, dims)
        centre = torch.rand(rows, self.crops, dims, generator=generator, device=image.device) * 2 - 1
        centre = centre * (1 - half)
        apart = (centre[:, :, None] - base).abs()  # (B, crops, n, dims)
        overlap = (1 - apart / (2 * half)).clamp(min=0).prod(-1)
        side = max(8, round(image.shape[-1] / self.tiles))

        def crop(at: Tensor) -> Batch:
            return {"image": intensity(window(image, at, half, side), self.view, generator)}

        return Placed(
            [crop(at.expand(rows, -1)) for at in base], [crop(centre[:, k]) for k in range(self.crops)], overlap
        )


def window(image: Tensor, centre: Tensor, half: float, side: int) -> Tensor:
    """The square of (B, C, H, W), or the cube of (B, C, D, H, W), around each centre, resampled to `side` pixels a side.

    Args:
        centre: (B, 2) or (B, 3) in [-1, 1], in the order of the image's axes.
        half: of its side, where that of the image is 1.
    """
    dims = image.dim() - 2
    scale = half * torch.eye(dims, device=image.device).expand(len(image), dims, dims)
    theta = torch.cat([scale, centre.flip(1)[..., None]], 2)  # torch counts axes from the last
    grid = F.affine_grid(theta, [*image.shape[:2], *[side] * dims], align_corners=False)
    return F.grid_sample(image, grid, mode="bilinear", padding_mode="border", align_corners=False)
