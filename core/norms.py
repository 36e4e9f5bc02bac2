"""Norms that do not depend on how a batch is spread: batch norm over all processes, layer norm over channels alone."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor, nn

from core.distributed import world


class _Sum(torch.autograd.Function):
    """Sum over processes, whose gradient is summed over processes too."""

    @staticmethod
    def forward(context, x: Tensor) -> Tensor:  # type: ignore[override]
        x = x.clone()
        dist.all_reduce(x)
        return x

    @staticmethod
    def backward(context, gradient: Tensor) -> Tensor:  # type: ignore[override]
        gradient = gradient.clone()
        dist.all_reduce(gradient)
        return gradient


class BatchNorm(nn.Module):
    """Batch norm (Ioffe & Szegedy 2015) over (N, C) or (N, C, …), with statistics over all processes, on CPUs too.

    Parameters and buffers are named as torch's, so that weights fit; torch's SyncBatchNorm refuses the CPU. Statistics are
    computed in fp32. A batch of one row has no variance: it gives the bias.
    """

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(self, channels: int, affine: bool = True, momentum: float = 0.1, eps: float = 1e-5) -> None:
        super().__init__()
        self.channels, self.momentum, self.eps = channels, momentum, eps
        self.weight = nn.Parameter(torch.ones(channels)) if affine else None
        self.bias = nn.Parameter(torch.zeros(channels)) if affine else None
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))
        self.register_buffer("num_batches_tracked", torch.tensor(0))

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or (world() == 1 and x.numel() > self.channels):
            with torch.autocast(x.device.type, enabled=False):
                if self.training:
                    self.num_batches_tracked += 1
                return nn.functional.batch_norm(
                    x.float(), self.running_mean, self.running_var, self.weight, self.bias, self.training,
                    self.momentum, self.eps,
                ).to(x.dtype)  # fmt: skip
        with torch.autocast(x.device.type, enabled=False):
            axes = [0, *range(2, x.dim())]
            wide = [1, -1, *[1] * (x.dim() - 2)]
            whole = x.float()
            count = torch.full((1,), float(x.numel() // self.channels), device=x.device)
            packed = torch.cat([whole.sum(axes), count])
            packed = _Sum.apply(packed) if world() > 1 else packed
            count = packed[-1].detach()
            average = packed[:-1] / count
            centred = whole - average.view(wide)
            squares = centred.square().sum(axes)
            squares = _Sum.apply(squares) if world() > 1 else squares
            variance = squares / count
            with torch.no_grad():
                self.num_batches_tracked += 1
                self.running_mean.lerp_(average, self.momentum)
                self.running_var.lerp_(squares / (count - 1).clamp(min=1), self.momentum)
            y = centred * (variance + self.eps).rsqrt().view(wide)
            if self.weight is not None and self.bias is not None:
                y = y * self.weight.view(wide) + self.bias.view(wide)
            return y.to(x.dtype)


def synchronised(module: nn.Module) -> nn.Module:
    """The module with every torch batch norm replaced by ours, in place; weights and names stay."""
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d):
            ours = BatchNorm(child.num_features, child.affine, child.momentum or 0.1, child.eps)
            ours.load_state_dict(child.state_dict())
            for mine, theirs in zip(ours.parameters(), child.parameters(), strict=True):
                mine.requires_grad_(theirs.requires_grad)  # a teacher's stay without gradients
            setattr(module, name, ours.to(child.weight.device if child.affine else "cpu").train(child.training))
        else:
            synchronised(child)
    return module


class ChannelNorm(nn.Module):
    """Layer norm over the channels of each place of (B, C, …) alone, so that padding cannot leak through statistics."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x.movedim(1, -1)).movedim(-1, 1)
