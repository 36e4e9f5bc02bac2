"""The stem that cuts images into square patches (ViT, Dosovitskiy et al. 2020)."""

from __future__ import annotations

from torch import Tensor, nn

from core.encoders.encoder import Stem
from core.errors import UserError
from core.tokens import Batch, Tokens


class PatchStem(Stem):
    """Images `batch["image"]` (B, C, H, W) -> Tokens (B, H/p · W/p, dim), row by row, with their grid."""

    def __init__(self, channels: int, patch: int, dim: int) -> None:
        super().__init__()
        self.patch, self.dim = patch, dim
        self.project = nn.Conv2d(channels, dim, patch, patch)

    def layout(self, batch: Batch) -> tuple[int, Tensor | None]:
        """How many tokens a batch gives, and which are padding (none)."""
        rows, columns = self.grid(batch)
        return rows * columns, None

    def grid(self, batch: Batch) -> tuple[int, int]:
        height, width = batch["image"].shape[-2:]
        if height % self.patch or width % self.patch:
            raise UserError(
                f"patches of {self.patch} do not divide an image of {height}×{width}", where="patch",
                mend="choose a patch that divides both sides",
            )  # fmt: skip
        return height // self.patch, width // self.patch

    def forward(self, batch: Batch, mask: dict[str, Tensor] | None = None) -> Tokens:
        grid = self.grid(batch)
        return Tokens(self.project(batch["image"]).flatten(2).transpose(1, 2), grid=grid)
