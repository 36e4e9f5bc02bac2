"""Puzzles and damage that domains make their pretexts of: turns, tiles, segments, replaced values, holes, lost colours.

Pure functions of a whole batch; every sample gets a draw of its own from the generator. A plane is the last two dimensions, so that
images (B, C, H, W) and spectrograms (B, T, F) are both served where the docstring says (B, …, H, W).
"""

from __future__ import annotations

import itertools
import math
from functools import lru_cache

import torch
from torch import Generator, Tensor

from core.errors import UserError
from core.masking import random_mask
from core.tokens import Batch

POOL = 20_000  # permutations looked at where there are too many to look at all
LUMA = (0.299, 0.587, 0.114)  # weights of red, green and blue in a grey value (ITU-R BT.601)


def uniform(shape: tuple[int, ...], generator: Generator, device: torch.device) -> Tensor:
    """Numbers in [0, 1) from the generator, wherever it lives."""
    return torch.rand(shape, generator=generator, device=generator.device).to(device)


def integers(low: int, high: int, shape: tuple[int, ...], generator: Generator, device: torch.device) -> Tensor:
    """Whole numbers in [low, high) from the generator."""
    return torch.randint(low, high, shape, generator=generator, device=generator.device).to(device)


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
    image: Tensor, tiles: int, orders: Tensor, generator: Generator, gap: int | None = None
) -> tuple[Tensor, Tensor]:
    """Cut each image into tiles × tiles cells, take a tile out of each and put the tiles in another order (Noroozi & Favaro 2016).

    A tile is `gap` pixels shorter than its cell and cut at a random place of it, so that edges of neighbours do not match. Pixels
    without a tile, which includes those left over where the cells do not divide the image, get the image's mean.

    Args:
        image: (B, …, H, W).
        tiles: along each side.
        orders: (P, tiles²), for example `permutations(tiles ** 2, 24)`: place i of order p shows the tile orders[p, i].
        gap: pixels; by default a fifth of a cell, at least one.

    Returns:
        Images of the same shape, and each one's order, (B,) in 0 … P − 1.

    Raises:
        UserError: cells of no more than `gap` pixels, or orders of another number of tiles.
    """
    (batch, *_, height, width), device = image.shape, image.device
    cell, (top, left), gap = _cells_of(height, width, tiles, gap)
    if min(cell) <= gap or gap < 0 or orders.shape[1] != tiles**2:
        raise UserError(
            f"images of {height}×{width} in {tiles}×{tiles} tiles with gaps of {gap} and orders of {orders.shape[1]}",
            where="jigsaw", mend="use fewer tiles, a smaller gap, and orders of tiles² pieces",
        )  # fmt: skip
    label = integers(0, len(orders), (batch,), generator, device)
    order = orders.to(device)[label]  # (B, tiles²)
    jitter = integers(0, gap + 1, (2, batch, tiles**2), generator, device)

    def axis(side: int, size: int) -> tuple[Tensor, Tensor, Tensor]:
        """Of each pixel: its cell, its place in the cell's tile, whether a tile shows there."""
        place = torch.arange(side, device=device) - (side - tiles * size) // 2
        inside = place % size - gap // 2
        shown = (place >= 0) & (place < tiles * size) & (inside >= 0) & (inside < size - gap)
        return (place // size).clamp(0, tiles - 1), inside, shown

    (row, down, shown_rows), (column, right, shown_columns) = axis(height, cell[0]), axis(width, cell[1])
    here = row[:, None] * tiles + column  # (H, W) which place of the order
    source = order[:, here]  # (B, H, W) which cell is shown
    moved = jitter.gather(2, order.expand(2, -1, -1))[:, :, here]  # (2, B, H, W)
    y = top + source // tiles * cell[0] + moved[0] + down[:, None]
    x = left + source % tiles * cell[1] + moved[1] + right
    shown = shown_rows[:, None] & shown_columns
    flat = torch.where(shown, y * width + x, 0).flatten(1)  # (B, H·W)
    return torch.where(shown, _take(image, flat), _mean(image)), label


def cells(image: Tensor, tiles: int, gap: int | None = None) -> list[Tensor]:
    """The tiles that `jigsaw` has put into an image, (B, …, h, w) each, row by row: those of the same `gap`."""
    (height, width), (top, left), gap = _cells_of(image.shape[-2], image.shape[-1], tiles, gap)
    top, left = top + gap // 2, left + gap // 2
    return [
        image[..., top + row * height :, left + column * width :][..., : height - gap, : width - gap]
        for row in range(tiles)
        for column in range(tiles)
    ]


def _cells_of(height: int, width: int, tiles: int, gap: int | None) -> tuple[tuple[int, int], tuple[int, int], int]:
    """Sides of a cell, the place of the first one's corner, and the gap."""
    cell = (height // tiles, width // tiles)
    corner = ((height - tiles * cell[0]) // 2, (width - tiles * cell[1]) // 2)
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


def grey(image: Tensor) -> Tensor:
    """Images (B, 3, H, W) of red, green and blue without their colour, in three equal channels: to be coloured (Zhang et al. 2016)."""
    if image.dim() != 4 or image.shape[1] != 3:
        raise UserError(
            f"images of shape {tuple(image.shape)} have no colours to lose", where="grey", mend="give (B, 3, H, W)"
        )
    weight = torch.tensor(LUMA, device=image.device, dtype=image.dtype).view(1, 3, 1, 1)
    return (image * weight).sum(1, keepdim=True).expand_as(image).contiguous()


def rectangles(
    batch: int, height: int, width: int, generator: Generator, device: torch.device, share: float = 0.1, count: int = 3
) -> Tensor:
    """(B, H, W) bool: `count` rectangles an image, each of `share` of its area, sides up to 2:1, anywhere; they may overlap.

    Raises:
        UserError: a share outside of (0, 1), or no rectangle.
    """
    if not 0 < share < 1 or count < 1:
        raise UserError(f"{count} rectangles of a share of {share}", where="rectangles", mend="use a share in (0, 1)")
    draw = uniform((3, batch, count, 1), generator, device)
    stretch = 2 ** (draw[0] - 0.5)
    tall = (math.sqrt(share) * stretch).clamp(max=1.0) * height
    wide = (math.sqrt(share) / stretch).clamp(max=1.0) * width

    def span(side: int, length: Tensor, at: Tensor) -> Tensor:
        length = length.round().clamp(1, side)
        start = (at * (side - length + 1)).floor()
        place = torch.arange(side, device=device)
        return (place >= start) & (place < start + length)  # (B, count, side)

    return (span(height, tall, draw[1])[..., :, None] & span(width, wide, draw[2])[..., None, :]).any(1)


def missing(
    image: Tensor, generator: Generator, share: float = 0.1, count: int = 3, outside: bool = False
) -> tuple[Tensor, Tensor]:
    """Replace rectangles by the image's mean: to be painted in again (Pathak et al. 2016).

    Args:
        image: (B, …, H, W).
        share, count: see `rectangles`.
        outside: replace all but the rectangles.

    Returns:
        The images, and what is gone, (B, H, W) bool.
    """
    gone = rectangles(image.shape[0], image.shape[-2], image.shape[-1], generator, image.device, share, count) ^ outside
    return torch.where(_wide(gone, image), _mean(image), image), gone


def bend(image: Tensor, generator: Generator, chosen: Tensor | None = None) -> Tensor:
    """Send each image's values through a rising Bézier curve of its own, from its lowest to its highest value.

    Args:
        image: (B, …, H, W), any range.
        chosen: (B,) bool, which; all by default.
    """
    batch, device = image.shape[0], image.device
    flat = image.reshape(batch, -1).float()
    low, high = flat.amin(1, keepdim=True), flat.amax(1, keepdim=True)
    value = ((flat - low) / (high - low).clamp(min=1e-8)).clamp(0, 1)
    inner = uniform((2, batch, 2), generator, device).sort(2).values  # the two inner control points, x and y
    t = torch.linspace(0, 1, 64, device=device)
    first, second = 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t)
    x, y = inner[..., :1] * first + inner[..., 1:] * second + t**3  # (B, 64) each, rising
    right = torch.searchsorted(x.contiguous(), value).clamp(1, 63)
    x0, x1, y0, y1 = (a.gather(1, at) for a in (x, y) for at in (right - 1, right))
    bent = y0 + (y1 - y0) * ((value - x0) / (x1 - x0).clamp(min=1e-8)).clamp(0, 1)
    bent = (low + bent * (high - low)).view(image.shape).to(image.dtype)
    return bent if chosen is None else torch.where(_wide(chosen, image), bent, image)


def shuffle_pixels(
    image: Tensor, generator: Generator, side: int = 4, share: float = 0.5, chosen: Tensor | None = None
) -> Tensor:
    """Shuffle the pixels inside small squares: texture is lost, the whole stays.

    Args:
        image: (B, …, H, W); all channels are moved together.
        side: of a square in pixels; the grid of squares starts at a random place.
        share: of the squares that are shuffled.
        chosen: (B,) bool, which images; all by default.
    """
    (batch, *_, height, width), device = image.shape, image.device
    start = integers(0, side, (2, batch, 1), generator, device)
    row = (torch.arange(height, device=device) + start[0]) // side  # (B, H)
    column = (torch.arange(width, device=device) + start[1]) // side
    columns = width // side + 2
    square = (row[:, :, None] * columns + column[:, None, :]).flatten(1)  # (B, H·W)
    hit = uniform((batch, (height // side + 2) * columns), generator, device) < share
    if chosen is not None:
        hit &= chosen[:, None]
    noise = uniform((batch, height * width), generator, device) * 0.5 * hit.gather(1, square)
    # sorted by square, and at random within it where it was hit: what comes there stands in the square's own places
    source = (square.double() + noise).argsort(dim=1, stable=True)
    place = square.argsort(dim=1, stable=True)
    return _take(image, torch.empty_like(place).scatter_(1, place, source))


def restore(
    image: Tensor, generator: Generator, curve: float = 0.9, shuffle: float = 0.5, paint: float = 0.9,
    outside: float = 0.5, side: int = 4,
) -> Tensor:  # fmt: skip
    """Damage to be undone, as in Models Genesis (Zhou et al. 2019): bent intensities, shuffled pixels, painted rectangles.

    Args:
        image: (B, …, H, W), any range.
        curve, shuffle, paint: probabilities of each kind of damage.
        outside: of the painted images, the share of which all but a few rectangles is painted over, with noise in the image's range.
        side: of the squares whose pixels are shuffled.

    Returns:
        (B, …, H, W) of the same range.
    """
    (batch, *_, height, width), device = image.shape, image.device
    bent, mixed, painted, outer = uniform((4, batch), generator, device) < torch.tensor(
        [[curve], [shuffle], [paint], [outside]], device=device
    )
    x = shuffle_pixels(bend(image, generator, bent), generator, side, 0.5, mixed)
    holes = rectangles(batch, height, width, generator, device, share=0.04, count=5)
    kept = rectangles(batch, height, width, generator, device, share=0.25, count=3)
    gone = torch.where(outer[:, None, None], ~kept, holes) & painted[:, None, None]
    low, high = image.flatten(1).amin(1), image.flatten(1).amax(1)
    noise = uniform(tuple(image.shape), generator, device).to(image.dtype)
    noise = _wide(low, image) + noise * _wide(high - low, image)
    return torch.where(_wide(gone, image), noise, x)


def _wide(values: Tensor, image: Tensor) -> Tensor:
    """(B,) or (B, H, W) so that it fits beside (B, …, H, W)."""
    if values.dim() == 1:
        return values.view(-1, *[1] * (image.dim() - 1))
    return values.view(len(values), *[1] * (image.dim() - 3), *values.shape[1:])


def _mean(image: Tensor) -> Tensor:
    return image.mean(tuple(range(1, image.dim())), keepdim=True)


def _take(image: Tensor, source: Tensor) -> Tensor:
    """Pixels (B, H·W) of each image's plane, the same for all channels."""
    flat = image.flatten(-2)
    return flat.gather(-1, source.view(len(source), *[1] * (flat.dim() - 2), -1).expand_as(flat)).view(image.shape)
