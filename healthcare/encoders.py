"""Which network reads an image or a volume."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from core.encoders import (
    ConvNet,
    Encoder,
    PatchStem,
    TokenEncoder,
    Transformer,
    TransformerConfig,
    resnet,
    small_convnet,
)
from core.errors import UserError
from core.tokens import Batch, Tokens


@dataclass(frozen=True)
class EncoderConfig:
    """A network for images, or for volumes, whose convolutions and patches then have three axes: the data says which.

    Attributes:
        kind: `small` is a strided net of four convolutions, which a CPU trains in minutes and which, at 28 px and 4,700
            images, no larger net has beaten here; `vit` is a small Transformer over patches, whose tokens masked methods can
            hide; the ResNets are for GPUs and larger images (torchvision's; of volumes MONAI's); `unet` is for segmentation of
            images: its features are a map of full size.
        width: channels of the small net's first stage: 32 gives 0.24 M parameters (0.72 M for volumes), 48 gives 0.54 M; of the
            U-Net's first stage, 16 gives 0.5 M; or the width of a token.
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


def build_encoder(config: EncoderConfig, channels: int, size: int, dims: int = 2) -> Encoder:
    """An untrained encoder for images (B, channels, size, size), or where `dims` is 3 volumes (B, channels, size, size, size).

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
                f"patches of {config.patch} px do not divide an image of {size} a side", where="encoder.patch",
                mend=f"use {' or '.join(fitting)}" if fitting else "choose another reading.size",
            )  # fmt: skip
        shape = TransformerConfig(dim=config.width, depth=config.depth, heads=config.heads, position="grid")
        return TokenEncoder(GreyPatches(channels, (config.patch,) * dims, config.width), Transformer(shape))
    if config.kind == "unet":
        from healthcare.unet import UNet

        if dims != 2:
            raise UserError(
                "the U-Net reads images alone", where="encoder.kind", mend="use small or resnet18 for volumes"
            )
        return UNet(channels, config.width, config.depth)
    if config.kind == "small":
        return small_convnet(channels, config.width, dims=dims)
    return resnet3d(config.kind, channels, size < 64) if dims == 3 else resnet(config.kind, channels, small=size < 64)


def resnet3d(name: str, channels: int, small: bool) -> ConvNet:
    """MONAI's ResNet for volumes (Hara et al. 2018) without its classifier, untrained.

    Args:
        name: resnet18 or resnet50.
        channels: of the volume.
        small: the stem without stride and max-pooling that volumes below 64 voxels a side need.
    """
    from monai.networks import nets

    net: Any = getattr(nets, name)(
        spatial_dims=3, n_input_channels=channels, num_classes=1, conv1_t_size=3 if small else 7,
        conv1_t_stride=1 if small else 2, no_max_pool=small,
    )  # fmt: skip
    stem = [net.conv1, net.bn1, net.act, *([] if small else [net.maxpool])]
    return ConvNet([torch.nn.Sequential(*stem, net.layer1), net.layer2, net.layer3, net.layer4], net.fc.in_features)
