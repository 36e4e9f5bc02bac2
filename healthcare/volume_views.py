"""Crops and small turns of volumes: each with parameters of its own, one resampling for the whole batch."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

CORNERS = ((-1, -1, -1), (1, 1, -1), (1, -1, 1), (-1, 1, 1))  # of a cube, no two of them neighbours


def geometry(
    volume: Tensor, generator: Generator, low: float, high: float, stretch: float, rotate: float, flip: float,
    side: int | None = None,
) -> Tensor:  # fmt: skip
    """Crop, stretch, turn and flip (B, C, D, H, W); outside the volume its border goes on.

    Args:
        low, high: smallest and largest share of the volume that is kept.
        stretch: largest ratio of a crop's side to the mean of all three.
        rotate: largest turn about each axis, to either side, in radians.
        flip: probability of a flip along the last axis.
        side: of the result (B, C, side, side, side); None: that of the volume.
    """
    count, device = len(volume), volume.device
    drawn = torch.rand(10, count, generator=generator, device=device)
    logs = (drawn[:2] * 2 - 1) * math.log(stretch) / 2
    logs = torch.cat([logs, -logs.sum(0, keepdim=True)])  # (3, B): one volume, whatever the proportions
    half = (((high - low) * drawn[2] + low) ** (1 / 3) * logs.exp()).clamp(max=1.0)
    shift = (drawn[3:6] * 2 - 1) * (1 - half)
    turned = _turns((drawn[6:9] * 2 - 1) * rotate)
    mirror = torch.ones_like(half)
    mirror[0] = torch.where(drawn[9] < flip, -1.0, 1.0)
    theta = torch.cat([turned * (half * mirror).T[:, None, :], shift.T[..., None]], 2)  # (B, 3, 4)
    return _sampled(volume, theta, side)


def corners(volume: Tensor, side: float) -> list[Tensor]:
    """Four crops of each volume (B, C, D, H, W), at four of its corners, `side` of its sides, at the same size."""
    views = []
    for at in CORNERS:
        theta = torch.cat([side * torch.eye(3), (1 - side) * torch.tensor(at)[:, None]], 1).to(volume)
        views.append(_sampled(volume, theta.expand(len(volume), 3, 4)))
    return views


def _sampled(volume: Tensor, theta: Tensor, side: int | None = None) -> Tensor:
    shape = list(volume.shape) if side is None else [*volume.shape[:2], side, side, side]
    grid = F.affine_grid(theta, shape, align_corners=False)
    return F.grid_sample(volume, grid, mode="bilinear", padding_mode="border", align_corners=False)


def _turns(angle: Tensor) -> Tensor:
    """(3, B) angles about the axes to (B, 3, 3)."""
    turned = torch.eye(3, device=angle.device).expand(angle.shape[1], 3, 3)
    for axis, (cos, sin) in enumerate(zip(angle.cos(), angle.sin(), strict=True)):
        one, two = (axis + 1) % 3, (axis + 2) % 3
        about = torch.zeros_like(turned)
        about[:, axis, axis] = 1
        about[:, one, one], about[:, two, two] = cos, cos
        about[:, one, two], about[:, two, one] = -sin, sin
        turned = about @ turned
    return turned
