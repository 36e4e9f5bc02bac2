"""A recurrent trunk: gated recurrent units (Cho et al. 2014) over tokens."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.config import SIZE, within
from core.encoders.encoder import Trunk
from core.tokens import Tokens


@dataclass(frozen=True)
class GRUConfig:
    """dim: width; depth: layers, one above the other; dropout: between layers."""

    dim: int = 64
    depth: int = 1
    dropout: float = 0.0

    def __post_init__(self) -> None:
        within(self, dim=SIZE, depth=(1, 1000), dropout=(0, 0.99))


class GRU(Trunk):
    """`Tokens -> Tokens` of width `dim`, from first to last: a token sees itself and earlier ones only.

    Padding stands on the right, where no real token looks. Order is known from the recurrence: positions are not read.
    """

    def __init__(self, config: GRUConfig) -> None:
        super().__init__()
        self.config, self.dim, self.causal = config, config.dim, True
        self.cells = nn.ModuleList(nn.GRU(config.dim, config.dim, batch_first=True) for _ in range(config.depth))
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, tokens: Tokens) -> Tokens:
        return tokens.with_x(self.layers(tokens)[-1])

    def layers(self, tokens: Tokens) -> list[Tensor]:
        """Hidden states of each layer, (B, T, D) each, in fp32: rounding errors would add up along the sequence."""
        exporting, x = torch.compiler.is_exporting(), tokens.x
        by_hand = x.device.type == "cpu" and not exporting and not torch.compiler.is_compiling()
        run = _scanned if exporting else _run
        if by_hand:
            run = _Packed.of(tokens).run
        states: list[Tensor] = []
        with nullcontext() if exporting else torch.autocast(tokens.x.device.type, enabled=False):
            for cell in self.cells:
                states.append(run(cast(nn.GRU, cell), self.dropout(states[-1]) if states else tokens.x.float()))
        return states


def _run(cell: nn.GRU, x: Tensor) -> Tensor:
    return cell(x)[0]


@dataclass(frozen=True)
class _Packed:
    """The real tokens of a batch, step after step, the longest row first.

    torch's own cell works for every row until the longest ends, and its gradients are made of a dozen small operations a step.

    Attributes:
        place: (N,) where each token stands in the flattened batch (B · T).
        active: how many rows reach each of the T steps, falling.
    """

    place: Tensor
    active: list[int]

    @classmethod
    def of(cls, tokens: Tokens) -> _Packed:
        valid = tokens.valid()
        time = valid.shape[1]
        step = torch.arange(time, device=valid.device)
        length = (valid * (step + 1)).amax(1)
        order = length.argsort(descending=True, stable=True)
        real = step[:, None] < length[order]  # (T, B)
        return cls((order * time + step[:, None])[real], [k for k in real.sum(1).tolist() if k])

    def run(self, cell: nn.GRU, x: Tensor) -> Tensor:
        """What the cell gives (B, T, D), zeros behind a row's end."""
        outer, inner = cast(Tensor, cell.weight_ih_l0), cast(Tensor, cell.weight_hh_l0)
        outer_bias, inner_bias = cast(Tensor, cell.bias_ih_l0), cast(Tensor, cell.bias_hh_l0)
        given = F.linear(x.flatten(0, 1).index_select(0, self.place), outer, outer_bias)  # (N, 3D)
        made = _Recurrence.apply(given, inner, inner_bias, self.active) if self.active else given[:, : cell.hidden_size]
        return made.new_zeros(x.shape).flatten(0, 1).index_copy(0, self.place, made).view(x.shape)


class _Recurrence(torch.autograd.Function):
    """h' = n + z (h − n) with r, z = σ(given + W h + b) and n = tanh(given + r (W h + b)), from zeros; and its gradient."""

    @staticmethod
    def forward(ctx, given: Tensor, weight: Tensor, bias: Tensor, active: list[int]) -> Tensor:  # type: ignore[override]
        dim = weight.shape[1]
        gate, inner, fresh, states = (given.new_empty(len(given), width) for width in (2 * dim, dim, dim, dim))
        start = given[:, : 2 * dim] + bias[: 2 * dim]
        to_gates, to_fresh, before = weight[: 2 * dim].t(), weight[2 * dim :].t(), given.new_zeros(active[0], dim)
        parts = (start, given[:, 2 * dim :], gate, gate[:, :dim], gate[:, dim:], inner, fresh, states)
        for a, new, g, r, z, i, n, h in zip(*(p.split(active) for p in parts), strict=True):
            before = before[: len(a)]
            torch.addmm(a, before, to_gates, out=g).sigmoid_()
            torch.addmm(bias[2 * dim :], before, to_fresh, out=i)
            torch.addcmul(new, r, i, out=n).tanh_()
            before = torch.lerp(n, before, z, out=h)
        ctx.save_for_backward(gate, inner, fresh, states, weight)
        ctx.active = active
        return states

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, outward: Tensor):  # type: ignore[override]
        gate, inner, fresh, states, weight = ctx.saved_tensors
        active, dim = ctx.active, weight.shape[1]
        reset, keep = gate[:, :dim], gate[:, dim:]
        steps = states.split(active)
        earlier = [h[:k] for h, k in zip(steps[:-1], active[1:], strict=True)]
        before = torch.cat([states.new_zeros(active[0], dim), *earlier])  # (N, D)
        to_fresh = (1 - keep) * (1 - fresh * fresh)
        to_keep = (before - fresh) * keep * (1 - keep)
        to_reset = inner * reset * (1 - reset)
        product, new = states.new_empty(len(states), 3 * dim), torch.empty_like(states)
        onward = states.new_zeros(active[0], dim)
        wide = (product[:, :dim], product[:, dim : 2 * dim], product[:, 2 * dim :])
        parts = (outward, to_fresh, to_keep, to_reset, reset, keep, new, product, *wide)
        split = [p.split(active) for p in parts]
        for t in range(len(active) - 1, -1, -1):
            out, f, k, r, g, z, here, by, by_reset, by_keep, by_fresh = (s[t] for s in split)
            at = onward[: len(out)]
            at += out
            torch.mul(at, f, out=here)
            torch.mul(here, r, out=by_reset)
            torch.mul(at, k, out=by_keep)
            torch.mul(here, g, out=by_fresh)
            at.mul_(z).addmm_(by, weight)
        given = torch.cat([product[:, : 2 * dim], new], -1)
        return given, product.t() @ before, product.sum(0), None


def _scanned(cell: nn.GRU, x: Tensor) -> Tensor:
    """What the cell gives, (B, T, D), as one loop of torch.export, where torch's own GRU is unrolled to the example's length."""
    from torch._higher_order_ops.scan import scan  # not public yet; nothing else exports a loop

    inner, outer = cast(Tensor, cell.weight_hh_l0), cast(Tensor, cell.weight_ih_l0)
    inner_bias, outer_bias = cast(Tensor, cell.bias_hh_l0), cast(Tensor, cell.bias_ih_l0)

    def step(before: Tensor, given: Tensor) -> tuple[Tensor, Tensor]:
        reset, keep, new = given.chunk(3, -1)
        r, k, n = F.linear(before, inner, inner_bias).chunk(3, -1)
        fresh = torch.tanh(new + torch.sigmoid(reset + r) * n)
        after = fresh + torch.sigmoid(keep + k) * (before - fresh)
        return after, after.clone()

    given = F.linear(x, outer, outer_bias).transpose(0, 1)  # (T, B, 3D)
    return scan(step, x.new_zeros(x.shape[0], cell.hidden_size), given)[1].transpose(0, 1)
