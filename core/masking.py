"""Masks over tokens: random, span, block and suffix. Ratios are met exactly; padding is never masked.

All return (B, T) bool, True where a token is hidden, and draw from the generator passed in.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from core.errors import UserError


def counts(pad: Tensor, ratio: float) -> Tensor:
    """How many tokens of each row to mask (B,): `ratio` of its valid ones, rounded, at least one where any is valid."""
    if not 0 < ratio < 1:
        raise UserError(f"mask ratio {ratio} is not between 0 and 1", where="mask_ratio", mend="use for example 0.15")
    valid = (~pad).sum(1)
    return (valid * ratio).round().long().clamp(min=1).minimum(valid)


def _take(score: Tensor, count: Tensor) -> Tensor:
    """Mark the `count[b]` smallest scores of each row; (B, T) bool."""
    rank = score.argsort(1).argsort(1)
    return rank < count[:, None]


def random_mask(pad: Tensor, ratio: float, generator: Generator) -> Tensor:
    """Independent tokens (BERT, Devlin et al. 2018). `pad` is (B, T) bool, True where padding."""
    noise = torch.rand(pad.shape, generator=generator, device=generator.device).to(pad.device)
    return _take(noise.masked_fill(pad, 2.0), counts(pad, ratio))


def span_mask(pad: Tensor, ratio: float, length: int, generator: Generator) -> Tensor:
    """Runs of `length` tokens (wav2vec 2.0, Baevski et al. 2020), overlapping by chance, trimmed to the exact ratio.

    Every place is given the best rank among the span starts that cover it; the lowest ranks are taken, so whole
    spans come first and only the last one is cut short.
    """
    if length < 1:
        raise UserError(f"span length {length} is below 1", where="span_length", mend="use 1 or more")
    batch, time = pad.shape
    noise = torch.rand((batch, time), generator=generator, device=generator.device).to(pad.device)
    reach = min(length, time)
    padded = torch.nn.functional.pad(noise, (reach - 1, 0), value=2.0)
    best = padded.unfold(1, reach, 1).amin(-1)  # (B, T): best start among those that cover this place
    # the tie inside one span is broken by place, so that a cut span keeps its beginning
    order = best + torch.arange(time, device=pad.device) * 1e-9
    return _take(order.double().masked_fill(pad, 3.0), counts(pad, ratio))


def block_mask(grid: tuple[int, int], ratio: float, generator: Generator, batch: int) -> Tensor:
    """One rectangle a row of a (rows, columns) grid, grown or trimmed at random to the exact ratio (BEiT, Bao et al. 2021)."""
    rows, columns = grid
    pad = torch.zeros(batch, rows * columns, dtype=torch.bool)
    device = generator.device
    centre = torch.rand((batch, 2), generator=generator, device=device).cpu()
    aspect = torch.exp((torch.rand((batch, 1), generator=generator, device=device).cpu() - 0.5) * 2 * 0.9)
    y = torch.arange(rows).repeat_interleave(columns)[None] - centre[:, :1] * (rows - 1)
    x = torch.arange(columns).repeat(rows)[None] - centre[:, 1:] * (columns - 1)
    distance = torch.maximum(y.abs() * aspect, x.abs() / aspect)
    jitter = torch.rand(distance.shape, generator=generator, device=device).cpu() * 1e-3
    return _take(distance + jitter, counts(pad, ratio))


def suffix_mask(pad: Tensor, low: int, high: int, generator: Generator) -> Tensor:
    """The last n valid tokens of each row, n uniform in [low, high], at least one token kept: forecasting as masking."""
    valid = (~pad).sum(1)
    drawn = torch.randint(low, high + 1, (pad.shape[0],), generator=generator, device=generator.device).to(pad.device)
    count = drawn.minimum((valid - 1).clamp(min=0))
    place = torch.arange(pad.shape[1], device=pad.device)[None]
    return (place >= (valid - count)[:, None]) & (place < valid[:, None])
