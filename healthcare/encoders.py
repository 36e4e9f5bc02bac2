"""Which network reads an image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from core.encoders import Encoder, PatchStem, TokenEncoder, Transformer, TransformerConfig, resnet, small_convnet
from core.errors import UserError
from core.tokens import Batch, Tokens


@dataclass(frozen=True)
class EncoderConfig:
    """A network for images.

    Attributes:
        kind: `small` is a strided net of four convolutions, which a CPU trains in minutes and which, at 28 px and 4,700
            images, no larger net has beaten here; `vit` is a small Transformer over patches, whose tokens masked methods can
            hide; the ResNets are for GPUs and larger images; `unet` is for segmentation: its features are a map of full size.
        width: channels of the small net's first stage: 32 gives 0.24 M parameters, 48 gives 0.54 M; of the U-Net's first stage,
            16 gives 0.5 M; or the width of a token.
        patch: side of a patch of `vit`, in pixels; it divides the image's side.
        depth, heads: blocks of `vit`, and attention heads in each; stages of the U-Net, all but the first of which halve the image.
    """

    kind: Literal["small", "resnet18", "resnet50", "vit", "unet"] = "small"
    width: int = 32
    patch: int = 4
    depth: int = 4
    heads: int = 4


class GreyPatches(PatchStem):
    """Patches of images in [0, 1], brought to about mean 0 and variance 1: raw, they would be lost beside their positions."""

    def forward(self, batch: Batch, mask: dict[str, Tensor] | None = None) -> Tokens:
        return super().forward({**batch, self.key: (batch[self.key] - 0.5) * 4}, mask)


def build_encoder(config: EncoderConfig, channels: int, size: int) -> Encoder:
    """An untrained encoder for images (B, channels, size, size).

    Raises:
        UserError: a width below 4, or patches that do not divide the image.
    """
    if config.width < 4:
        raise UserError(
            f"an encoder of width {config.width} is too narrow", where="encoder.width", mend="use 16, 32 or 48"
        )
    if config.kind == "vit":
        if config.patch < 1 or size % config.patch:
            fitting = [str(side) for side in range(2, size // 2 + 1) if size % side == 0]
            raise UserError(
                f"patches of {config.patch} px do not divide an image of {size}", where="encoder.patch",
                mend=f"use {' or '.join(fitting)}" if fitting else "choose another reading.size",
            )  # fmt: skip
        shape = TransformerConfig(dim=config.width, depth=config.depth, heads=config.heads, position="grid")
        return TokenEncoder(GreyPatches(channels, config.patch, config.width), Transformer(shape))
    if config.kind == "unet":
        from healthcare.unet import UNet

        return UNet(channels, config.width, config.depth)
    small = config.kind == "small"
    net = small_convnet(channels, config.width) if small else resnet(config.kind, channels, small=size < 64)
    return net.to(memory_format=torch.channels_last)  # 1.3 times as fast as channels-first on a CPU at 28 px
