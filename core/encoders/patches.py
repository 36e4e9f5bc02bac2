"""The stem that cuts images, volumes, spectrograms and series into patches (ViT, Dosovitskiy et al. 2020)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.encoders.encoder import ValueStem
from core.errors import UserError
from core.tokens import Batch, Tokens


class PatchStem(ValueStem):
    """Patches of `batch[key]` -> Tokens (B, T, dim), row by row, with their grid.

    The number of sides in `patch` says what is cut:

    - two: images (B, C, H, W), or spectrograms (B, T, F) whose rows are time;
    - three: volumes (B, C, D, H, W);
    - one: series (B, T, C), whose patches hold all channels.

    Spectrograms and series may be padded (`pad` (B, T)): a patch of padding alone is padding, and in a patch that is padded in
    part those values are zero. Their length need not be a multiple of the patch; every other side must be.

    Args:
        channels: C; 1 for spectrograms.
        patch: side of a patch along each axis; one number is a square.
        dim: width of a token.
        key: the batch's key.
    """

    def __init__(self, channels: int, patch: int | tuple[int, ...], dim: int, key: str = "image") -> None:
        super().__init__()
        self.patch = (patch, patch) if isinstance(patch, int) else tuple(patch)
        if not self.patch or min(self.patch) < 1:
            raise UserError(f"patches of {_times(self.patch)} values", where="patch", mend="use sides of 1 or more")
        self.channels, self.dim, self.key = channels, dim, key
        self.size = channels * math.prod(self.patch)
        self.project = nn.Linear(self.size, dim)

    def _places(self, batch: Batch) -> tuple[Tensor, bool]:
        """The values (B, *axes, C), and whether the first axis is time, of any length."""
        x, rank = batch[self.key], len(self.patch)
        timed = x.dim() == rank + 1 or rank == 1
        if x.dim() == rank + 1:
            x = x[..., None]
        elif x.dim() == rank + 2 and rank > 1:
            x = x.movedim(1, -1)
        if x.dim() != rank + 2 or x.shape[-1] != self.channels:
            raise UserError(
                f"'{self.key}' of shape {tuple(batch[self.key].shape)} has no patches of {_times(self.patch)} with "
                f"{self.channels} channels", where="patch", mend="give one side for each axis, and the data's channels",
            )  # fmt: skip
        return x, timed

    def grid(self, batch: Batch) -> tuple[int, ...]:
        """How many patches along each axis."""
        x, timed = self._places(batch)
        sides = x.shape[1:-1]
        if any(side % p for side, p in list(zip(sides, self.patch, strict=True))[int(timed) :]):
            raise UserError(
                f"patches of {_times(self.patch)} do not divide '{self.key}' of {_times(sides)}", where="patch",
                mend="choose patches that divide every side",
            )  # fmt: skip
        return tuple((side + p - 1) // p for side, p in zip(sides, self.patch, strict=True))

    def layout(self, batch: Batch) -> tuple[int, Tensor | None]:
        """How many tokens a batch gives, and which are padding (None in images and volumes)."""
        grid, pad = self.grid(batch), self._pad(batch)
        if pad is not None:
            pad = F.pad(pad, (0, grid[0] * self.patch[0] - pad.shape[1]), value=True)
            pad = pad.unflatten(1, (grid[0], self.patch[0])).all(-1).repeat_interleave(math.prod(grid[1:]), 1)
        return math.prod(grid), pad

    def _pad(self, batch: Batch) -> Tensor | None:
        return batch.get("pad") if self._places(batch)[1] else None

    def _cut(self, batch: Batch, fill: float) -> Tensor:
        """(B, T, size), with `fill` at values of padding."""
        (x, _), pad, grid = self._places(batch), self._pad(batch), self.grid(batch)
        if pad is not None:
            x = x.masked_fill(pad.view(*pad.shape, *[1] * (x.dim() - 2)), fill)
        x = F.pad(x, [0, 0] * (x.dim() - 2) + [0, grid[0] * self.patch[0] - x.shape[1]], value=fill)
        for axis, (count, p) in enumerate(zip(grid, self.patch, strict=True)):
            x = x.unflatten(1 + 2 * axis, (count, p))
        rank = len(grid)
        x = x.permute(0, *range(1, 2 * rank, 2), *range(2, 2 * rank + 1, 2), 2 * rank + 1)
        return x.reshape(x.shape[0], math.prod(grid), self.size)

    def values(self, batch: Batch) -> Tensor:
        """The raw values of each patch (B, T, size), channels last; NaN where a value is padding."""
        return self._cut(batch, float("nan"))

    def forward(self, batch: Batch, mask: dict[str, Tensor] | None = None) -> Tokens:
        patches = self._cut(batch, 0.0)
        if mask and self.key in mask:
            patches = patches.masked_fill(mask[self.key][..., None], 0.0)
        return Tokens(self.project(patches), self.layout(batch)[1], grid=self.grid(batch))


def _times(sides: tuple[int, ...] | torch.Size) -> str:
    return "×".join(map(str, sides))
