"""A U-Net (Ronneberger et al. 2015) on a convolutional encoder of ours: its contracting path is what pretraining gives.

`UNet` is an encoder too, whose features are the map at full resolution: a pretext that restores images then trains the expanding
path along with the contracting one, skip connections and all, as Models Genesis does (Zhou et al. 2019).
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from monai.networks.blocks import Convolution
from monai.networks.nets.basic_unet import TwoConv
from torch import Tensor, nn

from core.encoders import ConvNet
from core.errors import UserError
from core.tokens import Batch

BLOCK = ("relu", "batch", False)  # activation, norm and bias of MONAI's blocks
PROBE = 64  # side of the image that tells the channels of an encoder's maps


class Expanding(nn.Module):
    """Maps of a contracting path, finest first -> one map (B, width, H, W) of the finest one's size.

    Each step brings the coarser map to the size of the finer one, whatever that is, and lets two convolutions see both.

    Args:
        channels: of each map, finest first.
    """

    def __init__(self, channels: list[int]) -> None:
        super().__init__()
        self.width = channels[0]
        pairs = list(pairwise(channels))[::-1]
        self.narrow = nn.ModuleList(
            Convolution(2, coarse, fine, kernel_size=1, conv_only=True) for fine, coarse in pairs
        )
        self.join = nn.ModuleList(TwoConv(2, 2 * fine, fine, *BLOCK) for fine, _ in pairs)

    def forward(self, maps: list[Tensor]) -> Tensor:
        x = maps[-1]
        for narrow, join, skip in zip(self.narrow, self.join, maps[-2::-1], strict=True):
            x = F.interpolate(narrow(x), size=skip.shape[2:], mode="bilinear", align_corners=False)
            x = join(torch.cat([skip, x], 1))
        return x


class UNet(ConvNet):
    """Contracting and expanding path: `layers` gives the maps of both, and the last one, at full resolution, is the features.

    Args:
        channels: of the image.
        width: of the first stage and of the features; each later stage has twice as many channels.
        depth: stages; all but the first halve the image.
    """

    def __init__(self, channels: int = 1, width: int = 16, depth: int = 4) -> None:
        widths = [width * 2**level for level in range(depth)]
        stages: list[nn.Module] = [
            _stage(i, o, 1 + (n > 0)) for n, (i, o) in enumerate(zip([channels, *widths], widths, strict=False))
        ]
        super().__init__(stages, width)
        self.expanding = Expanding(widths).to(memory_format=torch.channels_last)

    def _maps(self, batch: Batch) -> tuple[list[Tensor], Tensor | None]:
        maps, pad = super()._maps(batch)
        return [*maps, self.expanding(maps)], pad


class Pixelwise(nn.Module):
    """What stands on an encoder for segmentation: its expanding path, where it has none of its own, and a logit per output.

    Args:
        encoder: any ConvNet whose maps are no coarser than an eighth of each other.
        channels: of the image.
        outputs: logits of each pixel.
    """

    def __init__(self, encoder: ConvNet, channels: int, outputs: int) -> None:
        super().__init__()
        if isinstance(encoder, UNet):
            self.expanding: Expanding | None = None
            width = encoder.dim
        else:
            maps = maps_of(encoder, torch.zeros(1, channels, PROBE, PROBE))
            self.expanding = Expanding([m.shape[1] for m in maps]).to(memory_format=torch.channels_last)
            width = self.expanding.width
        self.last = nn.Conv2d(width, outputs, 1)

    def forward(self, encoder: ConvNet, image: Tensor) -> Tensor:
        """Logits (B, outputs, H, W) of images (B, C, H, W), in fp32."""
        if isinstance(encoder, UNet):
            x = encoder.layers({"image": image})[-1]
        else:
            assert self.expanding is not None
            x = self.expanding(maps_of(encoder, image))
        with torch.autocast(x.device.type, enabled=False):
            return self.last(x.float())


def maps_of(encoder: ConvNet, image: Tensor) -> list[Tensor]:
    """An encoder's maps, finest first, and before them the image itself where the encoder begins by halving it.

    Raises:
        UserError: an encoder without maps.
    """
    if not isinstance(encoder, ConvNet):
        raise UserError(
            f"a U-Net cannot stand on {type(encoder).__name__}", where="encoder",
            mend="pretrain a convolutional one: --set encoder.kind=unet encoder.width=16 reading.size=64",
        )  # fmt: skip
    maps = encoder.layers({"image": image})
    return maps if maps[0].shape[2:] == image.shape[2:] else [image, *maps]


def _stage(inputs: int, outputs: int, stride: int) -> nn.Module:
    return nn.Sequential(
        Convolution(2, inputs, outputs, strides=stride, act="relu", norm="batch", bias=False),
        Convolution(2, outputs, outputs, act="relu", norm="batch", bias=False),
    )
