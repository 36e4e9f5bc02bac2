"""Strided convolutions over time, each with a norm over channels and GELU, as products of matrices: what a CPU does fastest.

With channels last, `stride` neighbouring places are one row of a matrix, so that a window of k places is a row and the beginning of
those after it: a product for each of these, which copies nothing. torch turns the map over twice for each norm, and the gradients of its
convolution reach half of the speed of such products (oneDNN on AVX2). A block of rows goes through product, norm and GELU before
the next one does, while it is in the cache; for the gradients only the input and the product of each layer are kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

BLOCK = 1 << 18  # numbers that each thread has in the cache at a time: 1 MB
EPSILON = 1e-5  # of the norms

gelu, gelu_backward = torch.ops.aten.gelu.out, torch.ops.aten.gelu_backward
norm, norm_backward = torch.ops.aten.native_layer_norm, torch.ops.aten.native_layer_norm_backward


def quick(x: Tensor) -> bool:
    """Whether this is the place for it: fp32 on a CPU, not for export, and nobody asks for the gradient of the input."""
    plain = x.device.type == "cpu" and x.dtype == torch.float32 and not x.requires_grad
    traced = torch.compiler.is_compiling() or torch.compiler.is_exporting() or torch.jit.is_tracing()
    return plain and not traced and not torch.is_autocast_enabled("cpu")


class Strided(torch.autograd.Function):
    """(B, S) -> (B, count, channels) of the last layer; count is ceil(places / stride), layer by layer.

    Args:
        x: what the first layer reads, 0 at padding.
        strides: of the layers.
        keep: of each layer, (B, count, 1), 1 where a place is real and 0 where it is padding, which becomes 0; None where none is.
        learns: whether gradients are wanted, for which something is kept.
        parameters: weight (O, C, k) with k ≥ stride, bias, and the norm's weight and bias, layer after layer. Windows that reach over
            the end see zeros there.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, strides: Sequence[int], keep: Sequence[Tensor | None], learns: bool, *parameters: Tensor
    ) -> Tensor:
        kept: list[Tensor] = []
        layers = [
            Layer(parameters[i : i + 4], stride)
            for i, stride in zip(range(0, len(parameters), 4), strides, strict=True)
        ]
        room = layers[0].room(x[..., None])
        for i, layer in enumerate(layers):
            count = layer.count(room)
            if i + 1 < len(layers):
                after = layers[i + 1].empty_room(room, count)
            else:
                after = room.new_empty(len(room), count, layer.outputs)
            product = layer.forward(room, after, keep[i], learns)
            kept += [] if product is None else [room, product]
            room = after
        ctx.save_for_backward(*kept, *(k for k in keep if k is not None), *parameters)
        ctx.strides, ctx.masked = strides, keep[0] is not None
        return room

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        n, saved = len(ctx.strides), list(ctx.saved_tensors)
        kept, parameters = saved[: 2 * n], saved[-4 * n :]
        keep = saved[2 * n : 3 * n] if ctx.masked else [None] * n
        found: list[Tensor] = []
        for i in reversed(range(n)):
            layer = Layer(parameters[4 * i : 4 * i + 4], ctx.strides[i])
            grad, *own = layer.backward(kept[2 * i], kept[2 * i + 1], grad, keep[i], first=i == 0)
            found = [*own, *found]
        return None, None, None, None, *found


class Layer:
    """One of them. A `room` (B, rows · stride, C) holds its input and behind it the zeros that the last windows reach over."""

    def __init__(self, parameters: Sequence[Tensor], stride: int) -> None:
        weight, self.bias, self.gain, self.shift = parameters
        self.stride = stride
        self.outputs, self.channels, self.kernel = weight.shape
        # place after place, as a window lies in memory, in parts of `stride` places: (stride·C, O) each, the last one shorter
        self.parts = weight.permute(2, 1, 0).reshape(-1, self.outputs).split(stride * self.channels)
        self.reach = len(self.parts) - 1  # rows behind its own that a window sees

    def count(self, room: Tensor) -> int:
        return room.shape[1] // self.stride - self.reach

    def empty_room(self, like: Tensor, places: int) -> Tensor:
        """Room for an input of so many places, with the zeros behind it."""
        rows = -(-places // self.stride) + self.reach
        room = like.new_empty(len(like), rows * self.stride, self.channels)
        room[:, places:] = 0.0
        return room

    def room(self, x: Tensor) -> Tensor:
        room = self.empty_room(x, x.shape[1])
        room[:, : x.shape[1]] = x
        return room

    def blocks(self, room: Tensor) -> Iterator[tuple[int, int, int, int]]:
        """Runs of windows, the last ones first: recording, from, to, and the row of the first in the room as one matrix."""
        count, size = self.count(room), max(1, BLOCK * torch.get_num_threads() // self.outputs)
        rows = room.shape[1] // self.stride
        for row in reversed(range(len(room))):
            for start in reversed(range(0, count, size)):
                yield row, start, min(start + size, count), row * rows + start

    def forward(self, room: Tensor, after: Tensor, keep: Tensor | None, learns: bool) -> Tensor | None:
        """Write norm and GELU into the beginning of `after`; what the products gave, (B, count, O), is returned where it `learns`."""
        count, flat = self.count(room), room.view(-1, self.stride * self.channels)
        product = room.new_empty(len(room), count, self.outputs) if learns else None
        for row, start, end, at in self.blocks(room):
            y = room.new_empty(end - start, self.outputs) if product is None else product[row, start:end]
            for j, part in enumerate(self.parts):
                window = flat[at + j : at + j + end - start, : len(part)]
                torch.addmm(self.bias, window, part, out=y) if j == 0 else y.addmm_(window, part)
            z, _, _ = norm(y, [self.outputs], self.gain, self.shift, EPSILON)
            own = after[row, start:end]
            gelu(z, out=own)
            if keep is not None:
                own.mul_(keep[row, start:end])
        return product

    def backward(
        self, room: Tensor, product: Tensor, grad: Tensor, keep: Tensor | None, first: bool
    ) -> tuple[Tensor, ...]:
        """Gradients of the room (nothing of it where it is the first), of weight and bias, and of the norm's."""
        flat, back = room.view(-1, self.stride * self.channels), torch.empty_like(room if not first else room[:0])
        if not first:
            back[:, self.count(room) * self.stride :] = 0.0
        whole = back.view(-1, self.stride * self.channels)
        to_parts = [torch.zeros_like(part) for part in self.parts]
        rest = [torch.zeros_like(p) for p in (self.bias, self.gain, self.shift)]
        for row, start, end, at in self.blocks(room):
            y, g = product[row, start:end], grad[row, start:end]
            z, mean, scale = norm(y, [self.outputs], self.gain, self.shift, EPSILON)
            g = gelu_backward(g if keep is None else g * keep[row, start:end], z)
            g, *own = norm_backward(g, y, [self.outputs], mean, scale, self.gain, self.shift, [True] * 3)
            for total, part in zip(rest, (g.sum(0), *own), strict=True):
                total += part
            for j, (part, to_part) in enumerate(zip(self.parts, to_parts, strict=True)):
                rows = slice(at + j, at + j + end - start)
                to_part.addmm_(flat[rows, : len(part)].T, g)
                if not first:  # the row behind this block has been written: blocks come from the end
                    into = whole[rows, : len(part)]
                    torch.mm(g, part.T, out=into) if j == 0 else into.addmm_(g, part.T)
        to_weight = torch.cat(to_parts).view(self.kernel, self.channels, self.outputs).permute(2, 1, 0)
        return back, to_weight, *rest
