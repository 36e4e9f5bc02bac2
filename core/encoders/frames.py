"""The stem for log-mel frames: neighbouring frames are stacked, so that time is shortened and padding cannot leak."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.encoders.encoder import Stem
from core.tokens import Batch, Tokens


class FrameStem(Stem):
    """Log-mel frames `batch["mel"]` (B, T, F) -> Tokens (B, ceil(T/stride), dim).

    Each token sees its own `stride` frames and one stride on either side; padding frames are zeroed first, so that extra
    padding changes nothing.
    """

    def __init__(self, bands: int, dim: int, stride: int = 4) -> None:
        super().__init__()
        self.bands, self.stride, self.dim = bands, stride, dim
        self.project = nn.Conv1d(bands, dim, kernel_size=3 * stride, stride=stride, padding=stride)
        self.mix = nn.Sequential(nn.GELU(), nn.Linear(dim, dim), nn.LayerNorm(dim))

    def layout(self, batch: Batch) -> tuple[int, Tensor | None]:
        """How many tokens a batch gives, and which are padding: a token is real where its first frame is."""
        frames = batch["mel"].shape[1]
        count = -(-frames // self.stride)
        pad = batch.get("pad")
        return count, None if pad is None else pad[:, :: self.stride]

    def forward(self, batch: Batch, mask: dict[str, Tensor] | None = None) -> Tokens:
        mel, pad = batch["mel"], batch.get("pad")
        if pad is not None:
            mel = mel.masked_fill(pad[..., None], 0.0)
        count, token_pad = self.layout(batch)
        short = count * self.stride - mel.shape[1]
        x = self.project(F.pad(mel, (0, 0, 0, short)).transpose(1, 2)).transpose(1, 2)  # (B, count, dim)
        return Tokens(self.mix(x), token_pad)

    def stacked(self, batch: Batch) -> Tensor:
        """The raw frames behind each token, (B, T', stride·F): what a quantiser of targets sees."""
        mel, pad = batch["mel"], batch.get("pad")
        if pad is not None:
            mel = mel.masked_fill(pad[..., None], 0.0)
        count, _ = self.layout(batch)
        short = count * self.stride - mel.shape[1]
        return torch.reshape(F.pad(mel, (0, 0, 0, short)), (mel.shape[0], count, self.stride * mel.shape[2]))
