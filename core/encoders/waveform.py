"""The stem for raw audio: strided convolutions over the waveform (CPC, van den Oord et al. 2018; wav2vec 2.0, Baevski et al. 2020)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.encoders.encoder import Stem
from core.encoders.strided import Strided, quick
from core.errors import UserError
from core.norms import ChannelNorm
from core.tokens import Batch, Tokens

WAV2VEC2 = ((10, 5), (3, 2), (3, 2), (3, 2), (3, 2), (2, 2), (2, 2))  # a token every 320 samples: 20 ms at 16 kHz


class WaveformStem(Stem):
    """Samples `batch["wave"]` (B, S) -> Tokens (B, ceil(S / stride), dim), stride being the product of all.

    Each recording is first brought to mean 0 and variance 1 over its real samples. Padding (`pad` (B, S)) is zeroed before each
    layer and norms look at one place alone, so that extra padding changes nothing: a layer's window that reaches over
    the end sees zeros there, whether padding follows or not.

    Args:
        dim: width of a token.
        width: channels of the convolutions.
        convolutions: (kernel, stride) of each, in samples of the layer before; a kernel no shorter than its stride.
    """

    def __init__(self, dim: int, width: int = 64, convolutions: tuple[tuple[int, int], ...] = WAV2VEC2) -> None:
        super().__init__()
        if not convolutions or any(not 1 <= stride <= kernel for kernel, stride in convolutions):
            raise UserError(
                f"convolutions {convolutions} would leave samples out", where="convolutions",
                mend="use (kernel, stride) pairs with 1 ≤ stride ≤ kernel",
            )  # fmt: skip
        self.dim, self.width, self.convolutions = dim, width, convolutions
        self.stride = math.prod(stride for _, stride in convolutions)
        inputs = [1, *[width] * (len(convolutions) - 1)]
        # with a bias, whose channels differ, the norm of a silent place is not that of zeros, which would multiply gradients
        # by 300 a layer, beyond what half precision holds
        self.stages = nn.ModuleList(
            nn.Sequential(nn.Conv1d(i, width, kernel, stride), ChannelNorm(width), nn.GELU())
            for i, (kernel, stride) in zip(inputs, convolutions, strict=True)
        )
        self.project = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, dim))

    def layout(self, batch: Batch) -> tuple[int, Tensor | None]:
        """How many tokens a batch gives, and which are padding: a token is real where its first sample is."""
        count = (batch["wave"].shape[1] + self.stride - 1) // self.stride
        pad = batch.get("pad")
        return count, None if pad is None else pad[:, :: self.stride]

    def forward(self, batch: Batch, mask: dict[str, Tensor] | None = None) -> Tokens:
        return self.projected(self.latent(batch))

    @property
    def latent_dim(self) -> int:
        return self.width

    def projected(self, latent: Tokens) -> Tokens:
        return latent.with_x(self.project[1](latent.x))

    def latent(self, batch: Batch) -> Tokens:
        """The last convolution's channels, normalised at each place: (B, T, width)."""
        pad = batch.get("pad")
        x = normalised(batch["wave"], pad)
        if quick(x):
            return self._quickly(x, pad)
        x = x[:, None]  # (B, 1, S)
        for stage, (kernel, stride) in zip(self.stages, self.convolutions, strict=True):
            time = x.shape[2]
            count = (time + stride - 1) // stride
            x = stage(F.pad(x, (0, (count - 1) * stride + kernel - time)))
            if pad is not None:
                pad = pad[:, ::stride]
                x = x.masked_fill(pad[:, None], 0.0)
        return Tokens(self.project[0](x.transpose(1, 2)), pad)

    def _quickly(self, x: Tensor, pad: Tensor | None) -> Tokens:
        """What the rest of `latent` gives of normalised samples."""
        keep: list[Tensor | None] = []
        for _, stride in self.convolutions:
            pad = None if pad is None else pad[:, ::stride]
            keep.append(None if pad is None else (~pad)[..., None].to(x.dtype))
        parameters = [p for stage in self.stages for p in stage.parameters()]  # the convolution's, then the norm's
        learns = torch.is_grad_enabled() and any(p.requires_grad for p in parameters)
        x = Strided.apply(x, [stride for _, stride in self.convolutions], keep, learns, *parameters)
        return Tokens(self.project[0](x), pad)


def normalised(wave: Tensor, pad: Tensor | None) -> Tensor:
    """Each row (B, S) at mean 0 and variance 1 over its real samples, and 0 elsewhere; fp32. Silence stays silent."""
    wave = wave.float()
    real = torch.ones_like(wave, dtype=torch.bool) if pad is None else ~pad
    count = real.sum(1, keepdim=True).clamp(min=1)
    mean = wave.masked_fill(~real, 0.0).sum(1, keepdim=True) / count
    centred = (wave - mean).masked_fill(~real, 0.0)
    return centred * (centred.square().sum(1, keepdim=True) / count + 1e-7).rsqrt()
