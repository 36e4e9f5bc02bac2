"""Which encoder, and why: a small convolutional net that keeps frequency in place, or frames or the waveform with a Transformer.

A spectrogram is no photograph: a pattern 500 Hz higher is another vowel. So the convolutional net folds its last frequency rows into
channels before it pools over time, where a mean over both axes (core's small_convnet) would forget where in frequency a pattern stood.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.encoders import Encoder, FrameStem, TokenEncoder, Transformer, TransformerConfig, WaveformStem, small_convnet
from core.errors import UserError
from core.tokens import Batch, Tokens


@dataclass(frozen=True)
class EncoderConfig:
    """Shape of the encoder.

    Attributes:
        kind: `convnet` (this module's), `transformer` (FrameStem + Transformer), `wave` (WaveformStem + Transformer), `meanpool` (core's small_convnet, as a control).
        width: channels of the first of the convnet's three stages.
        features: of each of the convnet's `segments` stretches of time.
        segments: the embedding is (segments · features,): order in time is kept.
        dim, depth, heads, stride: of the Transformer; `stride` frames make a token; causal: no token's state sees later ones.
        channels, convolutions: of the waveform's stem: (kernel, stride) of each layer; 160 samples a token, 20 ms at 8 kHz.
    """

    kind: Literal["convnet", "transformer", "wave", "meanpool"] = "convnet"
    width: int = 32
    features: int = 256
    segments: int = 4
    dim: int = 96
    depth: int = 4
    heads: int = 4
    stride: int = 4
    causal: bool = False
    channels: int = 64
    convolutions: tuple[tuple[int, int], ...] = ((10, 5), (8, 4), (4, 2), (4, 2), (2, 2))

    def __post_init__(self) -> None:
        if (
            min(self.width, self.features, self.segments, self.dim, self.depth, self.heads, self.stride, self.channels)
            < 1
        ):
            raise UserError("an encoder without size", where=self, mend="use sizes of 1 or more")

    @property
    def token(self) -> int:
        """Places of the input that make a token: frames, or samples of the waveform."""
        return math.prod(stride for _, stride in self.convolutions) if self.kind == "wave" else self.stride


class SpectrogramNet(Encoder):
    """Three strided 3×3 convolutions over log-mel (B, T, F), frequency folded into channels, means over stretches of time.

    Views are stretched to one length, so it takes no padding. Tokens are (B, T/8, features).
    """

    def __init__(self, bands: int, width: int, features: int, segments: int) -> None:
        super().__init__()
        widths = [1, width, 2 * width, 4 * width]
        self.stages = nn.ModuleList(
            nn.Sequential(nn.Conv2d(i, o, 3, 2, 1, bias=False), nn.BatchNorm2d(o), nn.ReLU(inplace=True))
            for i, o in pairwise(widths)
        )
        rows = bands
        for _ in self.stages:
            rows = -(-rows // 2)
        self.fold = nn.Sequential(
            nn.Conv1d(widths[-1] * rows, features, 1, bias=False), nn.BatchNorm1d(features), nn.ReLU(inplace=True)
        )
        self.stages.to(memory_format=torch.channels_last)
        self.bands, self.segments = bands, segments
        self.dim = features * segments

    def _stages(self, batch: Batch) -> list[Tensor]:
        mel = batch["mel"]
        if "pad" in batch:
            raise UserError(
                "this net takes log-mel of one length, not padding",
                where="encoder",
                mend="stretch the recordings first",
            )
        if mel.shape[2] != self.bands:
            raise UserError(
                f"log-mel of {mel.shape[2]} bands for a net of {self.bands}", where="mel", mend="use the run's settings"
            )
        x, maps = mel[:, None].contiguous(memory_format=torch.channels_last), []  # a quarter faster on CPUs
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps

    def forward(self, batch: Batch) -> Tokens:
        x = self._stages(batch)[-1]  # (B, C, T', F')
        return Tokens(self.fold(x.transpose(2, 3).flatten(1, 2).contiguous()).transpose(1, 2))

    def embed(self, batch: Batch) -> Tensor:
        return F.adaptive_avg_pool1d(self(batch).x.transpose(1, 2), self.segments).flatten(1)

    def layers(self, batch: Batch) -> list[Tensor]:
        return self._stages(batch)

    def layer_features(self, batch: Batch) -> list[Tensor]:
        """Of each stage mean and maximum over time, channels and frequency in place; the embedding last."""
        stages = self._stages(batch)
        flat = [x.transpose(2, 3).flatten(1, 2) for x in stages]  # (B, C·F', T')
        places = self.fold(flat[-1].contiguous())
        last = F.adaptive_avg_pool1d(places, self.segments).flatten(1)
        return [*(torch.cat([x.mean(2), x.amax(2)], 1) for x in flat), last]


def build_encoder(config: EncoderConfig, bands: int) -> Encoder:
    """An untrained encoder of log-mel with `bands` bands."""
    if config.kind == "convnet":
        return SpectrogramNet(bands, config.width, config.features, config.segments)
    if config.kind == "meanpool":
        return small_convnet(1, config.width, key="mel", norm="channel")
    trunk = TransformerConfig(
        dim=config.dim, depth=config.depth, heads=config.heads, causal=config.causal, position="sinusoidal"
    )
    if config.kind == "wave":
        stem = WaveformStem(config.dim, config.channels, config.convolutions)
        return TokenEncoder(stem, Transformer(trunk), pool="mean_max")
    return TokenEncoder(FrameStem(bands, config.dim, config.stride), Transformer(trunk), pool="mean_max")
