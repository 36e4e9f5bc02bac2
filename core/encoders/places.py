"""Positions that a convolution over the tokens tells (wav2vec 2.0, Baevski et al. 2020): how far apart sounds are, not when they came."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ConvolvedPlaces(nn.Module):
    """What is added to tokens (B, T, dim): a grouped convolution over time, its weights normalised at each tap, and GELU.

    Padding must be 0: a window that reaches over the end sees zeros there, whether padding follows or not.

    Args:
        dim: width of a token, a multiple of `groups`.
        kernel: tokens that a place sees, itself and those on either side.
    """

    def __init__(self, dim: int, kernel: int, groups: int) -> None:
        super().__init__()
        self.kernel, self.groups = kernel, groups
        self.direction = nn.Parameter(torch.randn(dim, dim // groups, kernel) * (4 / (kernel * dim)) ** 0.5)
        self.scale = nn.Parameter(self.direction.detach().norm(dim=(0, 1), keepdim=True))
        self.bias = nn.Parameter(torch.zeros(dim))

    def forward(self, x: Tensor) -> Tensor:
        weight = self.direction * (self.scale / self.direction.norm(dim=(0, 1), keepdim=True))
        y = F.conv1d(x.transpose(1, 2), weight, self.bias, padding=self.kernel // 2, groups=self.groups)
        return F.gelu(y[..., : x.shape[1]].transpose(1, 2))
