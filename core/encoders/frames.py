"""The stem for log-mel frames: neighbouring frames are stacked, so that time is shortened and padding cannot leak."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from core.encoders.encoder import ValueStem
from core.errors import UserError
from core.tokens import Batch, Tokens


class FrameStem(ValueStem):
    """Log-mel frames `batch["mel"]` (B, T, F) -> Tokens (B, ceil(T/stride), dim).

    Each token sees its own `stride` frames and one stride on either side; padding frames are zeroed first, so that extra
    padding changes nothing.
    """

    key = "mel"

    def __init__(self, bands: int, dim: int, stride: int = 4) -> None:
        super().__init__()
        if min(bands, dim, stride) < 1:
            raise UserError(
                f"{bands} bands, width {dim}, stride {stride}", where="frames", mend="use numbers of 1 or more"
            )
        self.bands, self.stride, self.dim, self.size = bands, stride, dim, stride * bands
        self.project = nn.Conv1d(bands, dim, kernel_size=3 * stride, stride=stride, padding=stride)
        self.mix = nn.Sequential(nn.GELU(), nn.Linear(dim, dim), nn.LayerNorm(dim))

    def layout(self, batch: Batch) -> tuple[int, Tensor | None]:
        """How many tokens a batch gives, and which are padding: a token is real where its first frame is."""
        frames = batch["mel"].shape[1]
        count = (frames + self.stride - 1) // self.stride
        pad = batch.get("pad")
        return count, None if pad is None else pad[:, :: self.stride]

    def _frames(self, batch: Batch, fill: float) -> Tensor:
        """(B, T'·stride, F): as many frames as the tokens stand for, with `fill` where a frame is padding."""
        mel, pad = batch["mel"], batch.get("pad")
        if pad is not None:
            mel = mel.masked_fill(pad[..., None], fill)
        count, _ = self.layout(batch)
        return F.pad(mel, (0, 0, 0, count * self.stride - mel.shape[1]), value=fill)

    def forward(self, batch: Batch, mask: dict[str, Tensor] | None = None) -> Tokens:
        mel = self._frames(batch, 0.0)
        if mask and self.key in mask:
            mel = mel.masked_fill(mask[self.key].repeat_interleave(self.stride, 1)[..., None], 0.0)
        x = self.project(mel.transpose(1, 2)).transpose(1, 2)  # (B, T', dim)
        return Tokens(self.mix(x), self.layout(batch)[1])

    def values(self, batch: Batch) -> Tensor:
        """The raw frames behind each token, (B, T', stride·F); NaN where a frame is padding."""
        mel = self._frames(batch, float("nan"))
        return mel.reshape(mel.shape[0], mel.shape[1] // self.stride, self.size)
