"""BYOL-A's two views of log-mel (Niizumi et al. 2021), written from the paper: another sound mixed in, then a crop resized."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from core.pretext import Views
from core.tokens import Batch
from speech import augment
from speech.features import MelConfig, Norm, normalise


def mixed_in(mel: Tensor, most: float, generator: Generator) -> Tensor:
    """log((1 − λ) eˣ + λ eʸ) of raw log-mel (B, T, F), y another recording of the batch, λ uniform in [0, most) for each.

    The paper draws y from a queue of the last 2,048; here it is the batch's, so that a batch's views depend on nothing before it.
    """
    other = mel[torch.randperm(len(mel), generator=generator, device=mel.device)]
    share = augment.uniform(generator, len(mel), 0.0, most)[:, None, None].clamp(min=1e-6)
    return torch.logaddexp(mel + torch.log1p(-share), other + share.log())


def resized_crop(mel: Tensor, low: float, high: float, canvas: float, floor: float, generator: Generator) -> Tensor:
    """A random rectangle of each picture (B, T, F), brought back to (T, F) by bicubic interpolation.

    Args:
        low, high: sides of the rectangle, as shares of the picture's; above 1 it reaches beyond, up to `canvas`.
        canvas: sides of the area that it lies in, with the picture in its middle.
        floor: what stands outside the picture.
    """
    count, moves = len(mel), []
    for _ in range(2):  # bands, then time
        side = augment.uniform(generator, count, low, high).clamp(max=canvas)
        middle = augment.uniform(generator, count, -1.0, 1.0) * (canvas - side)  # in half sides of the picture
        moves.append((side, middle))
    (wide, across), (long, along) = moves
    nothing = torch.zeros_like(wide)
    warp = torch.stack(
        [torch.stack([wide, nothing, across], 1), torch.stack([nothing, long, along], 1)], 1
    )  # (B, 2, 3)
    picture = (mel - floor)[:, None]
    grid = F.affine_grid(warp, list(picture.shape), align_corners=False)
    return F.grid_sample(picture, grid, mode="bicubic", align_corners=False)[:, 0] + floor


class MixedCropViews:
    """Eats raw log-mel `{"mel": (B, T, F), "pad": (B, T)}`; gives two views of normalised (B, frames, F).

    Every recording is first stretched to `frames`, where the paper cuts a second out: words are whole.
    """

    def __init__(
        self, frames: int, mix: float, low: float, high: float, canvas: float, mel: MelConfig, norm: Norm
    ) -> None:
        self.frames, self.mix, self.low, self.high, self.canvas = frames, mix, low, high, canvas
        self.norm, self.hertz = norm, (mel.low, mel.rate / 2)
        self.floor = -mel.range_db * augment.DECIBEL

    def view(self, whole: Tensor, generator: Generator) -> Tensor:
        x = mixed_in(whole, self.mix, generator)
        return normalise(resized_crop(x, self.low, self.high, self.canvas, self.floor, generator), None, self.norm)

    def __call__(self, batch: Batch, generator: Generator) -> Views:
        whole = augment.fit_frames(batch["mel"], batch.get("pad"), self.frames, self.hertz)
        return Views([{"mel": self.view(whole, generator), "index": batch["index"]} for _ in range(2)])
