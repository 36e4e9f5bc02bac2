"""Puzzles that domains make their pretexts of: turns, tiles, segments, replaced values. Damage stands in `core.damage`.

Pure functions of a whole batch; every sample gets a draw of its own from the generator. A plane is the last two dimensions, so that
images (B, C, H, W) and spectrograms (B, T, F) are both served where the docstring says (B, …, H, W); of volumes (B, …, D, H, W) the
last three are meant.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import torch
from torch import Generator, Tensor

from core.damage import integers, mean, take, uniform
from core.errors import UserError
from core.masking import random_mask
from core.tokens import Batch

POOL = 20_000  # permutations looked at where there are too many to look at all
TURNS = 10  # of a cube: none, and 90, 180 or 270 degrees about one of three axes


def rotate(image: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
    """Turn each square image (B, C, S, S) by 0, 90, 180 or 270 degrees, counter-clockwise (Gidaris et al. 2018).

    Returns:
        The images, and how many quarters each was turned, (B,) in 0 … 3.
    """
    if image.shape[2] != image.shape[3]:
        raise UserError(
            f"images of {image.shape[2]}×{image.shape[3]} change their shape when turned", where="rotate",
            mend="crop them to squares",
        )  # fmt: skip
    label = integers(0, 4, (image.shape[0],), generator, image.device)
    turns = torch.stack([torch.rot90(image, k, (2, 3)) for k in range(4)])
    return turns[label, torch.arange(len(label), device=label.device)], label


def turn(volume: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
    """Leave each cube (B, C, S, S, S) as it is, or turn it by 90, 180 or 270 degrees about one axis (Taleb et al. 2020).

    Returns:
        The cubes, and which of the `TURNS` it was, (B,): 0, or 3 · axis + quarters.
    """
    if len(set(volume.shape[2:])) > 1:
        raise UserError(
            f"volumes of {'×'.join(map(str, volume.shape[2:]))} change their shape when turned", where="rotate",
            mend="crop them to cubes",
        )  # fmt: skip
    label = integers(0, TURNS, (volume.shape[0],), generator, volume.device)
    turned = volume.clone()
    for axis, plane in enumerate(((3, 4), (2, 4), (2, 3))):
        for quarters in (1, 2, 3):
            rows = label == 3 * axis + quarters
            turned[rows] = torch.rot90(volume[rows], quarters, plane)
    return turned, label


@lru_cache(maxsize=32)
def permutations(length: int, count: int) -> Tensor:
    """(count, length): orders far from each other, always the same; the first one leaves all in place.

    Greedily, the next is the one whose smallest Hamming distance to those taken is largest (Noroozi & Favaro 2016).

    Raises:
        UserError: there are not so many.
    """
    if not 2 <= count <= math.factorial(length):
        raise UserError(
            f"{count} orders of {length} pieces", where="permutations", mend=f"use 2 to {math.factorial(length)}"
        )
    if math.factorial(length) <= POOL:
        pool = torch.tensor(list(itertools.permutations(range(length))))
    else:
        drawn = torch.rand(POOL + count, length, generator=torch.Generator().manual_seed(0))
        pool = torch.cat([torch.arange(length)[None], drawn.argsort(1)])
    near = torch.full((len(pool),), length + 1)
    taken = [0]
    while len(taken) < count:
        near = torch.minimum(near, (pool != pool[taken[-1]]).sum(1))
        taken.append(int(near.argmax()))
    return pool[taken]


def jigsaw(
    image: Tensor, tiles: int, orders: Tensor, generator: Generator, gap: int | None = None, dims: int = 2
) -> tuple[Tensor, Tensor]:
    """Cut each image into tiles × tiles cells, take a tile out of each and put the tiles in another order (Noroozi & Favaro 2016);
    each volume into tiles × tiles × tiles (the Rubik's cube of Zhuang et al. 2019, whose pieces are not turned here).

    A tile is `gap` pixels shorter than its cell and cut at a random place of it, so that edges of neighbours do not match. Pixels
    without a tile, which includes those left over where the cells do not divide the image, get the image's mean.

    Args:
        image: (B, …, H, W), or (B, …, D, H, W) where `dims` is 3.
        tiles: along each side.
        orders: (P, tiles^dims), for example `permutations(tiles**dims, 24)`: place i of order p shows the tile orders[p, i].
        gap: pixels; by default a fifth of a cell, at least one.

    Returns:
        Images of the same shape, and each one's order, (B,) in 0 … P − 1.

    Raises:
        UserError: cells of no more than `gap` pixels, or orders of another number of tiles.
    """
    batch, sides, device = image.shape[0], tuple(image.shape[-dims:]), image.device
    cell, corner, gap = _cells_of(sides, tiles, gap)
    pieces = tiles**dims
    if min(cell) <= gap or gap < 0 or orders.shape[1] != pieces:
        raise UserError(
            f"images of {'×'.join(map(str, sides))} in {'×'.join([str(tiles)] * dims)} tiles with gaps of {gap} and orders of "
            f"{orders.shape[1]}", where="jigsaw", mend="use fewer tiles, a smaller gap, and orders of as many pieces",
        )  # fmt: skip
    label = integers(0, len(orders), (batch,), generator, device)
    order = orders.to(device)[label]  # (B, pieces)
    jitter = integers(0, gap + 1, (dims, batch, pieces), generator, device)

    here = torch.zeros((), dtype=torch.long, device=device)  # which place of the order each pixel is in
    shown, inside = torch.ones((), dtype=torch.bool, device=device), []
    for axis, (side, size) in enumerate(zip(sides, cell, strict=True)):
        place = torch.arange(side, device=device) - (side - tiles * size) // 2
        within = place % size - gap // 2  # its tile
        seen = (place >= 0) & (place < tiles * size) & (within >= 0) & (within < size - gap)
        alone = [side if other == axis else 1 for other in range(dims)]
        here = here * tiles + (place // size).clamp(0, tiles - 1).view(alone)
        shown = shown & seen.view(alone)
        inside.append(within.view(alone).expand(sides).flatten())
    here = here.flatten()  # (pixels,)
    source = order[:, here]  # (B, pixels) which cell is shown
    moved = jitter.gather(2, order.expand(dims, -1, -1))[:, :, here]  # (dims, B, pixels)
    flat = torch.zeros_like(source)
    for axis, side in enumerate(sides):
        which = source // tiles ** (dims - 1 - axis) % tiles
        flat = flat * side + corner[axis] + which * cell[axis] + moved[axis] + inside[axis]
    flat = torch.where(shown.flatten(), flat, 0)
    return torch.where(shown, take(image, flat, dims), mean(image)), label


def cells(image: Tensor, tiles: int, gap: int | None = None, dims: int = 2) -> list[Tensor]:
    """The tiles that `jigsaw` has put into an image, (B, …, h, w) or (B, …, d, h, w) each, row by row: those of the same `gap`."""
    sides, corner, gap = _cells_of(tuple(image.shape[-dims:]), tiles, gap)
    cuts: list[list[slice]] = [
        [slice(at + gap // 2 + i * side, at + gap // 2 + (i + 1) * side - gap) for i in range(tiles)]
        for at, side in zip(corner, sides, strict=True)
    ]
    places: Iterable[Any] = itertools.product(*cuts)
    return [image[(..., *place)] for place in places]


def _cells_of(sides: tuple[int, ...], tiles: int, gap: int | None) -> tuple[tuple[int, ...], tuple[int, ...], int]:
    """Sides of a cell, the place of the first one's corner, and the gap."""
    cell = tuple(side // tiles for side in sides)
    corner = tuple((side - tiles * size) // 2 for side, size in zip(sides, cell, strict=True))
    return cell, corner, max(1, min(cell) // 5) if gap is None else gap


def orders_of(segments: int, where: str) -> tuple[tuple[str, int], ...]:
    """The one task, and how many answers it has, of telling in which order so many segments are.

    Raises:
        UserError: fewer than 2 segments, or so many that no order would be seen often.
    """
    if not 2 <= segments <= 4:
        raise UserError(f"{segments} segments", where=where, mend="use 2, 3 or 4")
    return (("order", math.factorial(segments)),)


def reorder(
    batch: Batch, pad: Tensor, segments: int, generator: Generator, orders: Tensor | None = None,
    keep: tuple[str, ...] = (), binary: bool = False,
) -> tuple[Batch, Tensor]:  # fmt: skip
    """Cut each sequence into segments of like length and put them in another order; padding stays where it is, on the right.

    Args:
        batch: every entry (B, T, …) of `pad`'s shape is moved, `pad` itself excepted.
        pad: (B, T) bool.
        segments: how many.
        orders: (P, segments), the first one leaving all in place; all of them by default.
        keep: names of entries that stay, such as times that would give the order away.
        binary: ask only whether the order was changed, which is so for about half of the rows.

    Returns:
        The batch, and labels (B,): the order's number, or 0 and 1; -100 for rows with fewer places than segments, which stay
        as they are.
    """
    orders = permutations(segments, math.factorial(segments)) if orders is None else orders
    (rows, time), device = pad.shape, pad.device
    label = integers(0, len(orders), (rows,), generator, device)
    if binary:
        changed = integers(0, 2, (rows,), generator, device)
        label = torch.where(changed == 1, label % (len(orders) - 1) + 1, 0)
    valid = (~pad).sum(1)
    label = torch.where(valid >= segments, label, 0)
    order = orders.to(device)[label]  # (B, S)
    edge = torch.arange(segments + 1, device=device) * valid[:, None] // segments  # (B, S + 1)
    length = edge.diff(dim=1).gather(1, order)  # of the segments in their new order
    end = length.cumsum(1)
    place = torch.arange(time, device=device).expand(rows, time).contiguous()
    segment = torch.searchsorted(end, place, right=True).clamp(max=segments - 1)  # (B, T) which one stands here
    source = edge.gather(1, order.gather(1, segment)) + place - (end - length).gather(1, segment)
    source = torch.where(pad, place, source)
    moved = {}
    for name, value in batch.items():
        if name != "pad" and name not in keep and value.shape[:2] == pad.shape:
            value = value[torch.arange(rows, device=device)[:, None], source]
        moved[name] = value
    answer = (label > 0).long() if binary else label
    return moved, answer.masked_fill(valid < segments, -100)


def replace(values: Tensor, pad: Tensor, ratio: float, generator: Generator) -> tuple[Tensor, Tensor]:
    """Give some places the value of another real place of the batch (in the manner of Clark et al. 2020, without a generator).

    Each new value is drawn from the real places whose value differs, so that what is called replaced is; where none differs,
    the place stays and is not called so.

    Args:
        values: ids or numbers (B, T). NaN is neither replaced nor drawn; say with `pad` that an id (such as missing) is neither.
        pad: (B, T) bool.
        ratio: share of each row's real places, met exactly.

    Returns:
        The new values, and `replaced` (B, T) bool.
    """
    real = ~pad if not values.is_floating_point() else ~pad & ~values.isnan()
    chosen = random_mask(~real, ratio, generator)
    pool = values[real].sort().values  # (N,)
    mine = values[chosen].contiguous()  # (M,)
    first, after = (
        torch.searchsorted(pool, mine),
        torch.searchsorted(pool, mine, right=True),
    )  # the block of equal values
    others = len(pool) - (after - first)
    draw = (uniform(tuple(mine.shape), generator, values.device).double() * others).long()
    draw = torch.where(draw < first, draw, draw + after - first)
    new = torch.where(others > 0, pool[draw.clamp(max=max(len(pool) - 1, 0))], mine)
    replaced = torch.zeros_like(pad).masked_scatter(chosen, others > 0)
    return values.masked_scatter(chosen, new), replaced
