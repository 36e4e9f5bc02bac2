"""A convolution whose weights learn faster on a CPU; values, names and gradients are those of `nn.Conv2d`."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PLACES, CHANNELS = 49, 64  # from here on down in places of the output, and up in channels, ours was the faster one
CACHED = 1 << 22  # numbers of the patches that are written out at a time: 16 MB


class Conv2d(nn.Conv2d):
    """3×3, padded by one, without bias. Where maps are small and channels many, torch's gradient of the weights reaches a third
    of the speed of its forward pass (oneDNN on AVX2: 24 to 34 against 72 to 90 GFLOP/s at 4×4 with 512 channels, 53 against 98
    at 7×7 with 256). There the patches are written out and multiplied: 1.2 to 2.3 times as fast, a step of ResNet-18 at 28 px 1.15 times.
    """

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__(inputs, outputs, 3, stride, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        step = self.stride[0]
        places = -(-x.shape[2] // step) * -(-x.shape[3] // step)
        plain = x.device.type == "cpu" and x.dtype == self.weight.dtype == torch.float32
        learns = self.training and torch.is_grad_enabled() and self.weight.requires_grad
        foreign = torch.is_autocast_enabled("cpu") or torch.compiler.is_compiling() or torch.jit.is_tracing()
        if plain and learns and not foreign and places <= PLACES and self.in_channels >= CHANNELS:
            return Convolution.apply(x, self.weight, step)
        if x.device.type == "cpu" and x.shape[3] == 1 and step > 1 and not torch.compiler.is_exporting():
            # torch 2.14's gradient of the weights in bfloat16 reads memory that nothing wrote: wrong, and often not a number
            kind = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype
            with torch.autocast("cpu", enabled=False):
                return F.conv2d(x.float(), self.weight.float(), None, self.stride, self.padding).to(kind)
        return super().forward(x)


def quicken(net: nn.Module) -> None:
    """Every convolution of `net` that ours can stand for becomes one, in place: names and weights stay."""
    for part in net.modules():
        if (
            type(part) is nn.Conv2d and part.kernel_size == (3, 3) and part.padding == part.dilation == (1, 1)
            and part.groups == 1 and part.bias is None and part.stride[0] == part.stride[1] and part.padding_mode == "zeros"
        ):  # fmt: skip
            part.__class__ = Conv2d


def channels_last(module: nn.Module) -> None:
    """Weights of 2-D and 3-D convolutions with their channels last, in place: outputs follow, names and values stay."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d | nn.ConvTranspose2d | nn.Conv3d | nn.ConvTranspose3d):
            layout = torch.channels_last if part.weight.dim() == 4 else torch.channels_last_3d
            part.weight.data = part.weight.data.contiguous(memory_format=layout)


class Convolution(torch.autograd.Function):
    """torch's forward pass and gradient of the input; the gradient of the weights as a product of matrices."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, step: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.step = step
        return F.conv2d(x, weight, None, step, 1)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor, None]:
        x, weight = ctx.saved_tensors
        step = ctx.step
        to_input = None
        if ctx.needs_input_grad[0]:
            to_input = torch.ops.aten.convolution_backward(
                grad, x, weight, None, [step, step], [1, 1], [1, 1], False, [0, 0], 1, [True, False, False]
            )[0]
        return to_input, weight_gradient(x, grad, step), None


def weight_gradient(x: Tensor, grad: Tensor, step: int) -> Tensor:
    """Of a 3×3 convolution padded by one: its input (B, C, H, W) and the gradient of its output (B, O, H', W') -> (O, C, 3, 3)."""
    (n, channels), (outputs, rows, columns) = x.shape[:2], grad.shape[1:]
    grad = grad.permute(0, 2, 3, 1)  # (B, H', W', O)
    padded = F.pad(x.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1)).contiguous()
    image, row, column, _ = padded.stride()
    patches = padded.as_strided(
        (n, rows, columns, 3, 3, channels), (image, row * step, column * step, row, column, 1)
    )  # a view that overlaps itself
    total = x.new_zeros(outputs, 9 * channels)
    share = max(1, CACHED // (rows * columns * 9 * channels))
    for part, of_output in zip(patches.split(share), grad.split(share), strict=True):
        total.addmm_(of_output.reshape(-1, outputs).T, part.reshape(-1, 9 * channels))
    return total.view(outputs, 3, 3, channels).permute(0, 3, 1, 2)
