"""Damage to be undone: bent intensities, shuffled pixels, holes, lost colours; and the draws that damage and puzzles are made of.

Pure functions of a whole batch; every sample gets a draw of its own from the generator. `dims` last axes are those of space: 2 in
images (B, …, H, W) and spectrograms (B, T, F), 3 in volumes (B, …, D, H, W).
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from core.errors import UserError

LUMA = (0.299, 0.587, 0.114)  # weights of red, green and blue in a grey value (ITU-R BT.601)


def uniform(shape: tuple[int, ...], generator: Generator, device: torch.device) -> Tensor:
    """Numbers in [0, 1) from the generator, wherever it lives."""
    return torch.rand(shape, generator=generator, device=generator.device).to(device)


def integers(low: int, high: int, shape: tuple[int, ...], generator: Generator, device: torch.device) -> Tensor:
    """Whole numbers in [low, high) from the generator."""
    return torch.randint(low, high, shape, generator=generator, device=generator.device).to(device)


def grey(image: Tensor) -> Tensor:
    """Images (B, 3, H, W) of red, green and blue without their colour, in three equal channels: to be coloured (Zhang et al. 2016)."""
    if image.dim() != 4 or image.shape[1] != 3:
        raise UserError(
            f"images of shape {tuple(image.shape)} have no colours to lose", where="grey", mend="give (B, 3, H, W)"
        )
    weight = torch.tensor(LUMA, device=image.device, dtype=image.dtype).view(1, 3, 1, 1)
    return (image * weight).sum(1, keepdim=True).expand_as(image).contiguous()


def rectangles(
    batch: int, sides: tuple[int, ...], generator: Generator, device: torch.device, share: float = 0.1, count: int = 3
) -> Tensor:
    """(B, *sides) bool: `count` rectangles an image, or boxes a volume, each of `share` of it, sides up to 2:1, anywhere; they may
    overlap.

    Raises:
        UserError: a share outside of (0, 1), or no rectangle.
    """
    if not 0 < share < 1 or count < 1:
        raise UserError(f"{count} rectangles of a share of {share}", where="rectangles", mend="use a share in (0, 1)")
    dims = len(sides)
    draw = uniform((2 * dims - 1, batch, count, 1), generator, device)
    stretch = 2 ** (draw[: dims - 1] - 0.5)
    stretch = torch.cat([stretch, 1 / stretch.prod(0, keepdim=True)])
    lengths = (share ** (1 / dims) * stretch).clamp(max=1.0)  # as shares of the sides

    def span(axis: int) -> Tensor:
        """(B, count, side), and ones for the other axes."""
        side = sides[axis]
        length = (lengths[axis] * side).round().clamp(1, side)
        start = (draw[dims - 1 + axis] * (side - length + 1)).floor()
        place = torch.arange(side, device=device)
        inside = (place >= start) & (place < start + length)
        return inside.view(batch, count, *[side if other == axis else 1 for other in range(dims)])

    inside = span(0)
    for axis in range(1, dims):
        inside = inside & span(axis)
    return inside.any(1)


def missing(
    image: Tensor, generator: Generator, share: float = 0.1, count: int = 3, outside: bool = False, dims: int = 2
) -> tuple[Tensor, Tensor]:
    """Replace rectangles by the image's mean: to be painted in again (Pathak et al. 2016).

    Args:
        image: (B, …, H, W), or (B, …, D, H, W) where `dims` is 3.
        share, count: see `rectangles`.
        outside: replace all but the rectangles.

    Returns:
        The images, and what is gone, (B, H, W) or (B, D, H, W) bool.
    """
    sides = tuple(image.shape[-dims:])
    gone = rectangles(image.shape[0], sides, generator, image.device, share, count) ^ outside
    return torch.where(wide(gone, image), mean(image), image), gone


def bend(image: Tensor, generator: Generator, chosen: Tensor | None = None) -> Tensor:
    """Send each image's values through a rising Bézier curve of its own, from its lowest to its highest value.

    Args:
        image: (B, …), any range.
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
    return bent if chosen is None else torch.where(wide(chosen, image), bent, image)


def shuffle_pixels(
    image: Tensor, generator: Generator, side: int = 4, share: float = 0.5, chosen: Tensor | None = None, dims: int = 2
) -> Tensor:
    """Shuffle the pixels inside small squares, or cubes: texture is lost, the whole stays.

    Args:
        image: (B, …, H, W), or (B, …, D, H, W) where `dims` is 3; all channels are moved together.
        side: of a square in pixels; the grid of squares starts at a random place.
        share: of the squares that are shuffled.
        chosen: (B,) bool, which images; all by default.
    """
    batch, sides, device = image.shape[0], image.shape[-dims:], image.device
    start = integers(0, side, (dims, batch, 1), generator, device)
    square, squares = torch.zeros(batch, 1, dtype=torch.long, device=device), 1
    for axis, length in enumerate(sides):
        row = (torch.arange(length, device=device) + start[axis]) // side  # (B, length)
        square = (square[:, :, None] * (length // side + 2) + row[:, None, :]).flatten(1)
        squares *= length // side + 2
    hit = uniform((batch, squares), generator, device) < share
    if chosen is not None:
        hit &= chosen[:, None]
    noise = uniform((batch, square.shape[1]), generator, device) * 0.5 * hit.gather(1, square)
    # sorted by square, and at random within it where it was hit: what comes there stands in the square's own places
    source = (square.double() + noise).argsort(dim=1, stable=True)
    place = square.argsort(dim=1, stable=True)
    return take(image, torch.empty_like(place).scatter_(1, place, source), dims)


def restore(
    image: Tensor, generator: Generator, curve: float = 0.9, shuffle: float = 0.5, paint: float = 0.9,
    outside: float = 0.5, side: int = 4, dims: int = 2,
) -> Tensor:  # fmt: skip
    """Damage to be undone, as in Models Genesis (Zhou et al. 2019): bent intensities, shuffled pixels, painted rectangles.

    Args:
        image: (B, …, H, W), or (B, …, D, H, W) where `dims` is 3; any range.
        curve, shuffle, paint: probabilities of each kind of damage.
        outside: of the painted images, the share of which all but a few rectangles is painted over, with noise in the image's range.
        side: of the squares whose pixels are shuffled.

    Returns:
        The same shape and range.
    """
    batch, sides, device = image.shape[0], tuple(image.shape[-dims:]), image.device
    bent, mixed, painted, outer = uniform((4, batch), generator, device) < torch.tensor(
        [[curve], [shuffle], [paint], [outside]], device=device
    )
    x = shuffle_pixels(bend(image, generator, bent), generator, side, 0.5, mixed, dims)
    holes = rectangles(batch, sides, generator, device, share=0.04, count=5)
    kept = rectangles(batch, sides, generator, device, share=0.25, count=3)
    gone = torch.where(wide(outer, holes), ~kept, holes) & wide(painted, holes)
    low, high = image.flatten(1).amin(1), image.flatten(1).amax(1)
    noise = uniform(tuple(image.shape), generator, device).to(image.dtype)
    noise = wide(low, image) + noise * wide(high - low, image)
    return torch.where(wide(gone, image), noise, x)


def wide(values: Tensor, image: Tensor) -> Tensor:
    """(B,) or (B, *sides) so that it fits beside (B, …, *sides)."""
    return values.view(len(values), *[1] * (image.dim() - values.dim()), *values.shape[1:])


def mean(image: Tensor) -> Tensor:
    """Of each sample, with as many axes as it has."""
    return image.mean(tuple(range(1, image.dim())), keepdim=True)


def take(image: Tensor, source: Tensor, dims: int = 2) -> Tensor:
    """Pixels (B, H·W) of each image's plane, or (B, D·H·W) of its volume, the same for all channels."""
    flat = image.flatten(-dims)
    return flat.gather(-1, source.view(len(source), *[1] * (flat.dim() - 2), -1).expand_as(flat)).view(image.shape)
