"""Masks over tokens: random, span, block and suffix; and BERT's 80/10/10. Ratios are met exactly; padding is never masked.

Masks are (B, T) bool, True where a token is hidden, and are drawn from the generator passed in.
"""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor

from core import distributed
from core.codec import FIRST, MISSING
from core.errors import UserError
from core.pretext import Masked
from core.tokens import Batch


def counts(pad: Tensor, ratio: float) -> Tensor:
    """How many tokens of each row to mask (B,): `ratio` of its valid ones, rounded, at least one where any is valid."""
    if not 0 < ratio < 1:
        raise UserError(f"mask ratio {ratio} is not between 0 and 1", where="mask_ratio", mend="use for example 0.15")
    valid = (~pad).sum(1)
    return (valid.double() * ratio).round().long().clamp(min=1).minimum(valid)


def _noise(shape: tuple[int, ...], generator: Generator, device: torch.device) -> Tensor:
    return torch.rand(shape, generator=generator, device=generator.device).to(device)


def _rank(score: Tensor) -> Tensor:
    """Each place's rank in its row, the smallest score first; equal scores in the order of places."""
    return score.argsort(dim=-1, stable=True).argsort(dim=-1)


def random_mask(pad: Tensor, ratio: float, generator: Generator) -> Tensor:
    """Independent tokens (BERT, Devlin et al. 2018). `pad` is (B, T) bool, True where padding."""
    noise = _noise(pad.shape, generator, pad.device)
    return _rank(noise.masked_fill(pad, 2.0)) < counts(pad, ratio)[:, None]


def span_mask(pad: Tensor, ratio: float, length: int, generator: Generator) -> Tensor:
    """Runs of `length` tokens (wav2vec 2.0, Baevski et al. 2020), overlapping by chance, trimmed to the exact ratio.

    Every place is given the best score among the span starts that cover it; the lowest scores are taken, so whole spans
    come first, and the last one is cut after its first tokens.
    """
    if length < 1:
        raise UserError(f"span length {length} is below 1", where="span_length", mend="use 1 or more")
    reach = min(length, pad.shape[1])
    noise = _noise(pad.shape, generator, pad.device).masked_fill(pad, 2.0)
    earlier = torch.nn.functional.pad(noise, (reach - 1, 0), value=2.0)
    best = earlier.unfold(1, reach, 1).amin(-1)  # (B, T): best start among those that cover this place
    return _rank(best.masked_fill(pad, 3.0)) < counts(pad, ratio)[:, None]


def others_of_row(count: Tensor, draws: int, generator: Generator) -> Tensor:
    """For each of the places of all rows, `draws` of the other places of its row, with repetition; a place that is alone draws itself.

    Args:
        count: (B,) long, places of each row.

    Returns:
        (N, draws) long, N the sum of `count`: numbers among the row's places, from 0. They are drawn for the rows of all processes.
    """
    size = count.repeat_interleave(count)  # (N,)
    own = torch.arange(len(size), device=count.device) - (count.cumsum(0) - count).repeat_interleave(count)
    rows = distributed.sizes(len(size), count.device) if distributed.world() > 1 else [len(size)]
    first = sum(rows[: distributed.rank()])
    noise = _noise((sum(rows), draws), generator, count.device)[first : first + len(size)]
    drawn = (noise * (size - 1)[:, None]).long()
    return (drawn + (drawn >= own[:, None])).minimum((size - 1)[:, None])


def block_mask(
    grid: tuple[int, ...], ratio: float, generator: Generator, batch: int, pad: Tensor | None = None
) -> Tensor:
    """One box a row, a rectangle of (rows, columns) or its like on a grid of any rank (BEiT, Bao et al. 2021).

    A box grows around a random real place until the exact ratio is met, with sides in proportions drawn for each row.

    Args:
        grid: how many patches along each axis; their product is T.
        batch: rows to draw.
        pad: (B, T) bool, True where a patch is padding.
    """
    device = generator.device if pad is None else pad.device
    if pad is None:
        pad = torch.zeros(batch, math.prod(grid), dtype=torch.bool, device=device)
    place = torch.stack(torch.meshgrid(*(torch.arange(side, device=device) for side in grid), indexing="ij"), -1)
    place = place.view(-1, len(grid)).float()  # (T, rank)
    centre = _noise(pad.shape, generator, device).masked_fill(pad, 2.0).argmin(1)
    stretch = (_noise((batch, len(grid)), generator, device) - 0.5) * 1.8  # of each axis, in logs
    stretch = (stretch - stretch.mean(1, keepdim=True)).exp()[:, None]  # one volume, whatever the proportions
    away = ((place - place[centre][:, None]).abs() * stretch).amax(-1)  # (B, T)
    jitter = _noise(pad.shape, generator, device) * 1e-3  # so that the last layer is taken in no order
    return _rank((away + jitter).masked_fill(pad, float("inf"))) < counts(pad, ratio)[:, None]


def suffix_mask(pad: Tensor, low: int, high: int, generator: Generator) -> Tensor:
    """The last n valid tokens of each row, n uniform in [low, high], at least one token kept: forecasting as masking."""
    if not 0 <= low <= high:
        raise UserError(f"no length lies between {low} and {high}", where="suffix", mend="use 0 ≤ low ≤ high")
    valid = (~pad).sum(1)
    drawn = torch.randint(low, high + 1, (pad.shape[0],), generator=generator, device=generator.device).to(pad.device)
    count = drawn.minimum((valid - 1).clamp(min=0))
    return ~pad & ((~pad).cumsum(1) > (valid - count)[:, None])


def eighty_ten_ten(chosen: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
    """BERT's treatment of the places that are to be predicted (Devlin et al. 2018).

    So that the encoder cannot rely on seeing which places are asked about, only 80 % of the chosen places are hidden; 10 %
    get a random value, and 10 % stay as they are. Of the n chosen places of the whole batch, round(0.8 n) are
    hidden and round(0.9 n) − round(0.8 n) replaced.

    Args:
        chosen: (B, T) bool, where to predict; never padding.

    Returns:
        (hide, replace): (B, T) bool each, disjoint parts of `chosen`.
    """
    noise = _noise(chosen.shape, generator, chosen.device).masked_fill(~chosen, 2.0)
    rank, n = _rank(noise.flatten()).view(chosen.shape), chosen.sum().double()
    hidden, touched = (n * 0.8).round(), (n * 0.9).round()
    return rank < hidden, (rank >= hidden) & (rank < touched)


def bert(batch: Batch, chosen: dict[str, Tensor], sizes: dict[str, int], generator: Generator) -> Masked:
    """`Masked` with 80/10/10 on every field of `chosen`: predicted at all chosen places, of which some are not hidden.

    Args:
        batch: per field ids as in core.codec, or numbers (NaN where missing); `pad` (B, T) where there is padding.
        chosen: (B, T) bool per field, where to predict; padding is left out.
        sizes: ids of each categorical field, the reserved ones counted; other fields are numbers, which are replaced by the
            field's values at other places of the batch.
    """
    seen, hide, target, predict = dict(batch), {}, {}, {}
    for name, where in chosen.items():
        value = batch[name]
        real = ~batch["pad"] if "pad" in batch else torch.ones_like(where)
        predict[name] = where & real
        hide[name], replace = eighty_ten_ten(predict[name], generator)
        if name in sizes:
            target[name] = value.masked_fill(value == MISSING, -100)
            drawn = torch.randint(
                FIRST, max(sizes[name], FIRST + 1), value.shape, generator=generator, device=generator.device
            ).to(value.device)
            seen[name] = torch.where(replace & (sizes[name] > FIRST), drawn, value)
        else:
            target[name] = value
            others = value[real & ~torch.isnan(value)]
            if len(others):
                at = _noise(value.shape, generator, value.device) * len(others)
                seen[name] = torch.where(replace, others[at.long().clamp(max=len(others) - 1)], value)
    return Masked(seen, hide, target, predict)
