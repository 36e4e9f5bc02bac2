"""Convolutional encoders for images, volumes and spectrograms: torchvision's ResNets behind our contract, and a small net for CPUs."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor, nn

from core.encoders.convolution import Conv2d, channels_last, quicken
from core.encoders.encoder import Encoder, Pool, pool_tokens
from core.errors import UserError
from core.norms import ChannelNorm
from core.tokens import Batch, Tokens


class ConvNet(Encoder):
    """Stages of convolutions over `batch[key]`.

    An image is (B, C, H, W), a volume (B, C, D, H, W); a spectrogram (B, T, F) is read as a one-channel image whose rows
    are time, and its `pad` (B, T) is kept out of every stage and of the pool.

    Args:
        stages: modules applied in turn; stage maps are what `layers` gives.
        dim: channels of the last stage.
        key: the batch's key.
        pool: over the places of the last map.
        padding_safe: each stage is one convolution and a norm that cannot leak, so that padding changes nothing.
    """

    def __init__(
        self, stages: list[nn.Module], dim: int, key: str = "image", pool: Pool = "mean", padding_safe: bool = False
    ) -> None:
        super().__init__()
        self.padding_safe = padding_safe
        self.stages = nn.ModuleList(stages)
        channels_last(self.stages)  # a quarter faster on CPUs, and what tensor cores want; outputs follow the weights
        self.key, self.pool = key, pool
        self.dim = dim * (2 if pool == "mean_max" else 1)

    def _maps(self, batch: Batch) -> tuple[list[Tensor], Tensor | None]:
        x, pad = batch[self.key], batch.get("pad")
        if pad is not None and not self.padding_safe:
            raise UserError(
                "this convolutional encoder would let padding leak into its features", where="encoder",
                mend="use small_convnet(norm='channel'), or batches of one length without padding",
            )  # fmt: skip
        if x.dim() == 3:
            x = x[:, None]  # (B, 1, T, F)
        maps = []
        for stage in self.stages:
            if pad is not None:
                x = x.masked_fill(pad[:, None, :, None], 0.0)
            x = stage(x)
            if pad is not None:  # a place of the shorter map is real where the first row that it stands for is
                pad = pad[:, :: stage[0].stride[0]]  # type: ignore[index]
            maps.append(x)
        return maps, pad

    def forward(self, batch: Batch) -> Tokens:
        maps, pad = self._maps(batch)
        x = maps[-1]
        grid = tuple(x.shape[2:])
        if pad is not None:
            pad = pad.repeat_interleave(math.prod(grid[1:]), dim=1)
        return Tokens(x.flatten(2).transpose(1, 2), pad, grid=grid)

    def embed(self, batch: Batch) -> Tensor:
        return pool_tokens(self(batch), self.pool)

    def layers(self, batch: Batch) -> list[Tensor]:
        return self._maps(batch)[0]


def _stage(inputs: int, outputs: int, norm: str, dims: int) -> nn.Sequential:
    if dims == 3:
        convolution: nn.Module = nn.Conv3d(inputs, outputs, 3, 2, 1, bias=False)
        normalise: nn.Module = nn.BatchNorm3d(outputs) if norm == "batch" else ChannelNorm(outputs)
    else:
        convolution = Conv2d(inputs, outputs, stride=2)
        normalise = nn.BatchNorm2d(outputs) if norm == "batch" else ChannelNorm(outputs)
    return nn.Sequential(convolution, normalise, nn.ReLU(inplace=True))


def small_convnet(
    channels: int = 1, width: int = 32, key: str = "image", pool: Pool = "mean", norm: str = "batch", dims: int = 2
) -> ConvNet:
    """A net for CPUs: four strided convolutions, 3 a side, of width w, 2w, 4w, 4w. At w = 32 it has 0.24 M parameters for images,
    0.72 M for volumes; at 48 0.54 M for images.

    Args:
        channels: of the input.
        width: w.
        key: the batch's key.
        pool: over the places of the last map.
        norm: `channel` is for padded spectrograms, where batch statistics would let padding in.
        dims: 2 for images and spectrograms, 3 for volumes.
    """
    if norm not in ("batch", "channel"):
        raise UserError(f"norm '{norm}' is not known", where="norm", mend="use batch or channel")
    if dims not in (2, 3):
        raise UserError(f"no convolutions of {dims} axes", where="dims", mend="use 2 for images, 3 for volumes")
    widths = [width, 2 * width, 4 * width, 4 * width]
    stages: list[nn.Module] = [_stage(i, o, norm, dims) for i, o in zip([channels, *widths], widths, strict=False)]
    return ConvNet(stages, widths[-1], key, pool, padding_safe=norm == "channel")


def resnet(
    name: str = "resnet18", channels: int = 3, key: str = "image", pool: Pool = "mean", small: bool = False
) -> ConvNet:
    """One of torchvision's ResNets (He et al. 2015) without its classifier, untrained.

    Args:
        name: resnet18, resnet34, resnet50, …
        channels: of the image.
        small: the 3×3 stem without max-pooling that images below 64 px need.
    """
    import torchvision.models as models

    if not name.startswith(("resnet", "wide_resnet")) or name not in models.list_models():
        raise UserError(f"torchvision has no '{name}'", where="encoder", mend="use resnet18, resnet34 or resnet50")
    net: Any = models.get_model(name, weights=None)
    if small:
        stem = nn.Sequential(nn.Conv2d(channels, 64, 3, 1, 1, bias=False), net.bn1, net.relu)
    else:
        first = nn.Conv2d(channels, 64, 7, 2, 3, bias=False)
        stem = nn.Sequential(first, net.bn1, net.relu, net.maxpool)
    quicken(net)
    return ConvNet([nn.Sequential(stem, net.layer1), net.layer2, net.layer3, net.layer4], net.fc.in_features, key, pool)


def parameters(module: nn.Module) -> int:
    """Trainable numbers in a module."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)
