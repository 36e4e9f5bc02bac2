"""SimCLR's augmentations of images, for a whole batch at once on its device, each image with parameters of its own.

The operations, their order, probabilities and ranges are those of lightly's `SimCLRTransform` (Chen et al. 2020, appendix A): crop and
resize, flip, colour jitter in an order of each image's own, grey, blur, normalise. Each equals torchvision's on float images (tested).
Where the outcome differs from that transform's: values are not rounded to 1/255 between operations, and the blur is a Gaussian, where
Pillow runs three box filters that come near one. Images that are not RGB have no hue, saturation or grey.

How it is fast without a loop over images: crop, resize and flip are two batched matrix products, and so is the blur; brightness,
contrast and saturation are one expression, `a·x + b·grey + c`, whose numbers differ by image; images go through in groups that turn
their hue at the same place of the order and fit the processor's cache; grey and blur are computed for those that drew them alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from functools import lru_cache

import torch
from torch import Generator, Tensor

from core.errors import UserError
from core.pretext import Views
from core.tokens import Batch

BRIGHTNESS, CONTRAST, SATURATION, HUE, NOTHING = range(5)
LUMA = (0.2989, 0.587, 0.114)  # red, green, blue: torchvision's grey
TRIES = 10  # crops drawn until one fits into the image, as torchvision does
CACHED = 1 << 19  # numbers of a group of images on a CPU: 2 MB
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@dataclass(frozen=True)
class AugmentConfig:
    """How far a view may be from its image; the defaults are SimCLR's, as in lightly's `SimCLRTransform`.

    Attributes:
        size: side of the square view in pixels; None for the image's own height and width.
        area: bounds of the share of the image that a crop keeps; ratio: bounds of a crop's width over its height, drawn in logs.
        flip: probability of a left-right flip.
        jitter: probability of colour jitter, which is the next four together, in a random order.
        brightness, contrast, saturation: factors lie within 1 ± this, not below 0.
        hue: largest turn to either side, in turns, at most 0.5.
        grey: probability that the colour is dropped.
        blur: probability of a Gaussian blur; sigma: bounds of its standard deviation, in pixels.
        mean, std: of each channel, subtracted and divided by at the end (`IMAGENET` holds ImageNet's); None leaves values in [0, 1].
    """

    size: int | None = None
    area: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: float = 0.5
    jitter: float = 0.8
    brightness: float = 0.8
    contrast: float = 0.8
    saturation: float = 0.8
    hue: float = 0.2
    grey: float = 0.2
    blur: float = 0.5
    sigma: tuple[float, float] = (0.1, 2.0)
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        wrong = [name for name in ("flip", "jitter", "grey", "blur") if not 0 <= getattr(self, name) <= 1]
        wrong += [name for name in ("brightness", "contrast", "saturation") if getattr(self, name) < 0]
        wrong += ["hue"] if not 0 <= self.hue <= 0.5 else []
        wrong += ["size"] if self.size is not None and self.size < 1 else []
        wrong += ["area"] if not 0 < self.area[0] <= self.area[1] <= 1 else []
        wrong += [name for name in ("ratio", "sigma") if not 0 < getattr(self, name)[0] <= getattr(self, name)[1]]
        if wrong:
            raise UserError(
                f"{wrong[0]} of {getattr(self, wrong[0])} is out of range", where="views",
                mend="probabilities and shares lie in [0, 1], hue in [0, 0.5], bounds are (low, high) above 0",
            )  # fmt: skip
        if (self.mean is None) != (self.std is None):
            raise UserError("mean and std belong together", where="views", mend="give both or neither")


@dataclass(frozen=True)
class Parameters:
    """What was drawn for B images.

    Attributes:
        box: (B, 4) top, left, height and width of the crop, whole pixels.
        flip: (B,) bool.
        order: (B, 4) the operations `BRIGHTNESS … HUE` in the order in which they come; two columns where there is no colour.
        factor: (B, 4) of each operation, by its number; 1, and 0 for hue, where it changes nothing.
        grey: (B,) bool.
        sigma: (B,) of the blur in pixels; 0 where there is none.
    """

    box: Tensor
    flip: Tensor
    order: Tensor
    factor: Tensor
    grey: Tensor
    sigma: Tensor

    def rows(self, rows: Tensor) -> Parameters:
        return replace(self, **{f.name: getattr(self, f.name).index_select(0, rows) for f in fields(self)})


@torch.no_grad()
def augment(image: Tensor, generator: Generator, config: AugmentConfig = AugmentConfig()) -> Tensor:
    """(B, C, H, W) to (B, C, size, size) in fp32: a view of each image.

    Args:
        image: floats in [0, 1], or uint8, whose 255 is 1.
        generator: of the image's device; all that is random comes from it.

    Raises:
        UserError: other shapes, or means for another number of channels.
    """
    if image.dim() != 4:
        raise UserError(f"images of shape {tuple(image.shape)}", where="views", mend="give (B, C, H, W)")
    if config.mean is not None and len(config.mean) != image.shape[1]:
        raise UserError(
            f"{len(config.mean)} means for images of {image.shape[1]} channels",
            where="views",
            mend="give one a channel",
        )
    return apply(image, draw(image, generator, config), config)


def views(
    batch: Batch, generator: Generator, config: AugmentConfig = AugmentConfig(), n_global: int = 2, n_local: int = 0,
    local_size: int | None = None, local_area: tuple[float, float] = (0.05, 0.25), key: str = "image",
) -> Views:  # fmt: skip
    """Multi-crop (SwAV, Caron et al. 2020): `n_global` views of each image of `batch[key]`, then `n_local` smaller ones of less area.

    Args:
        local_size: side of the small views in pixels; None for half of the large ones'.
        local_area: bounds of the share of the image that a small view keeps.
    """
    image = batch[key]
    side = config.size if config.size is not None else min(image.shape[2:])
    local = replace(config, size=max(1, side // 2) if local_size is None else local_size, area=local_area)
    kinds = [config] * n_global + [local] * n_local
    return Views([{key: augment(image, generator, kind)} for kind in kinds], n_global)


def draw(image: Tensor, generator: Generator, config: AugmentConfig) -> Parameters:
    """Parameters for each image of (B, C, H, W), all from `generator`."""
    n, channels, height, width = image.shape

    def uniform(columns: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        return torch.rand(n, columns, generator=generator, device=image.device) * (high - low) + low

    operations = 4 if channels == 3 else 2
    strength = (config.brightness, config.contrast, config.saturation)
    factor = torch.cat(
        [uniform(1, max(0.0, 1 - s), 1 + s) for s in strength] + [uniform(1, -config.hue, config.hue)], 1
    )
    box = boxes(uniform(TRIES, *config.area), uniform(TRIES, *map(math.log, config.ratio)).exp(), uniform(2), height, width, config.ratio)  # fmt: skip
    return Parameters(
        box,
        flip=uniform(1)[:, 0] < config.flip,
        order=uniform(operations).argsort(1),
        factor=torch.where(uniform(1) < config.jitter, factor, nothing(image.device)),
        grey=uniform(1)[:, 0] < config.grey,
        sigma=uniform(1, *config.sigma)[:, 0] * (uniform(1)[:, 0] < config.blur),
    )


def boxes(
    area: Tensor, ratio: Tensor, place: Tensor, height: int, width: int, bounds: tuple[float, float]
) -> Tensor:  # fmt: skip
    """(B, 4) crops as torchvision's `RandomResizedCrop` draws them.

    Args:
        area: (B, tries) shares of the image's area; ratio: (B, tries) of width to height. The first try that fits is taken, else
            the middle of the image, cut to the `bounds` of the ratio.
        place: (B, 2) in [0, 1): where between the top and the bottom, the left and the right.
    """
    pixels = area * (height * width)
    w, h = (pixels * ratio).sqrt().round(), (pixels / ratio).sqrt().round()
    fits = (w > 0) & (w <= width) & (h > 0) & (h <= height)
    first = fits.byte().argmax(1, keepdim=True)
    w, h, found = (x.gather(1, first)[:, 0] for x in (w, h, fits))
    whole_w, whole_h = min(width, round(height * bounds[1])), min(height, round(width / bounds[0]))
    top, left = (place[:, 0] * (height - h + 1)).floor(), (place[:, 1] * (width - w + 1)).floor()
    middle = torch.tensor([(height - whole_h) // 2, (width - whole_w) // 2, whole_h, whole_w], device=w.device)
    return torch.where(found[:, None], torch.stack([top, left, h, w], 1), middle.float())


def apply(image: Tensor, parameters: Parameters, config: AugmentConfig) -> Tensor:
    """The views of (B, C, H, W) that `parameters` describe."""
    n, channels, height, width = image.shape
    size = (height, width) if config.size is None else (config.size, config.size)
    out = torch.empty(n, channels, *size, device=image.device)
    step = max(1, CACHED // (channels * max(height * width, size[0] * size[1]))) if image.device.type == "cpu" else n
    with torch.autocast(image.device.type, enabled=False):
        for hue_at, rows in groups(parameters, step):
            part = parameters.rows(rows)
            x = resample(image.index_select(0, rows), part.box, part.flip, size)
            if hue_at < NOTHING:
                x = jitter(x, part.order, part.factor, hue_at)
            if channels == 3:
                drop_colour(x, part.grey)
            blur(x, part.sigma, config.sigma[1])
            if config.mean is not None and config.std is not None:
                x.sub_(numbers(config.mean, x.device)).div_(numbers(config.std, x.device))
            out.index_copy_(0, rows, x)
    return out


def groups(parameters: Parameters, step: int) -> Iterator[tuple[int, Tensor]]:
    """Row numbers, at most `step` at a time, of images whose hue is turned at the same place of their order, with that place;
    `NOTHING` for those that no operation changes. Where there is no colour, the place is 0 for all that change."""
    hue = parameters.order == HUE
    at = torch.where((parameters.factor == nothing(hue.device)).all(1), NOTHING, hue.byte().argmax(1))
    for place, group in enumerate(at.argsort().split(at.bincount(minlength=NOTHING + 1).tolist())):
        yield from ((place, rows) for rows in group.split(step) if len(rows))


def resample(image: Tensor, box: Tensor, flip: Tensor, size: tuple[int, int]) -> Tensor:
    """Crop, resize with a triangle filter that widens where pixels are merged (Pillow's, torchvision's with antialias), and flip."""
    image = image.float().div_(255) if image.dtype == torch.uint8 else image.float()
    top, left, h, w = box[:, :, None].unbind(1)  # (B, 1) each
    down = triangles(top, h, image.shape[2], size[0])
    along = triangles(left, w, image.shape[3], size[1], flip)
    return filtered(image, down, along)


def filtered(x: Tensor, down: Tensor, along: Tensor) -> Tensor:
    """(B, C, H, W) by a matrix (B, outputs, inputs) down its columns and one along its rows."""
    n, channels, height, width = x.shape
    x = torch.bmm(x.reshape(n, channels * height, width), along.transpose(1, 2)).view(n, channels, height, -1)
    out = x.new_empty(n, channels, down.shape[1], along.shape[1])
    for channel in range(channels):
        out[:, channel] = torch.bmm(down, x[:, channel])
    return out


def triangles(start: Tensor, length: Tensor, inputs: int, outputs: int, flip: Tensor | None = None) -> Tensor:
    """(B, outputs, inputs): how much of each input an output takes, along one axis, of `length` pixels from `start` on, (B, 1)."""
    scale = length / outputs
    place = torch.arange(0.5, outputs, device=start.device)
    centre = start - 0.5 + place * scale
    if flip is not None:
        centre = torch.where(flip[:, None], centre.flip(1), centre)
    pixel = torch.arange(0.0, inputs, device=start.device)
    inside = (pixel >= start) & (pixel < start + length)
    weight = (pixel - centre[:, :, None]).abs_().mul_(-1 / scale.clamp(min=1)[:, :, None]).add_(1.0).clamp_(0.0)
    weight *= inside[:, None]
    return weight.div_(weight.sum(2, keepdim=True))


def jitter(x: Tensor, order: Tensor, factor: Tensor, hue_at: int) -> Tensor:
    """Brightness, contrast, saturation and hue of (B, C, H, W) in [0, 1], each image in its own order but for hue, which is
    turned at the same place in all of them."""
    f = factor.gather(1, order)
    b, c = ((1 - f) * (order == kind) for kind in (SATURATION, CONTRAST))
    for place in range(order.shape[1]):
        fp, bp, cp = (v[:, place, None, None, None] for v in (f, b, c))
        if x.shape[1] == 3 and place == hue_at:
            x = turn_hue(x, fp)
            continue
        grey = luma(x)
        mean = grey.mean((2, 3), keepdim=True).mul_(cp)
        x.mul_(fp).add_(grey.mul_(bp).add_(mean) if x.shape[1] == 3 else mean).clamp_(0.0, 1.0)
    return x


def luma(x: Tensor) -> Tensor:
    """(B, 3, H, W) to grey (B, 1, H, W); of other images, the mean of their channels."""
    n, channels, height, width = x.shape
    weight = numbers(LUMA if channels == 3 else (1 / channels,) * channels, x.device).view(1, 1, -1)
    return torch.bmm(weight.expand(n, 1, channels), x.view(n, channels, height * width)).view(n, 1, height, width)


def turn_hue(x: Tensor, turn: Tensor) -> Tensor:
    """Hue of (B, 3, H, W) turned by (B, 1, 1, 1) turns, through HSV.

    Written with arithmetic where one would write conditions, which are several times slower on a CPU.
    """
    high, low = x.amax(1, keepdim=True), x.amin(1, keepdim=True)
    chroma = high - low
    r, g, b = x.split(1, 1)
    is_r = r.clone().ge_(high)
    is_g = g.clone().ge_(high).mul_(1 - is_r)
    is_b = 1 - is_r - is_g
    # in sixths of a turn: the distance from the primary that is the highest, and where that one stands
    hue = (g - b).mul_(is_r).addcmul_(b - r, is_g).addcmul_(r - g, is_b).div_(chroma.clamp(min=1e-12))
    hue.add_(is_g, alpha=2).add_(is_b, alpha=4).add_(6 * turn)
    hue.sub_((hue / 6).floor_(), alpha=6)
    # how much of the chroma each channel has: red between 5 and 1, green between 1 and 3, blue between 3 and 5
    centre, slope, level = (numbers(v, x.device) for v in ((3.0, 2.0, 4.0), (1.0, -1.0, -1.0), (-1.0, 2.0, 2.0)))
    share = (hue - centre).abs_().mul_(slope).add_(level).clamp_(0.0, 1.0)
    return share.mul_(chroma).add_(low)


def drop_colour(x: Tensor, chosen: Tensor) -> None:
    """Grey in all three channels of the images that `chosen` (B,) names, in place."""
    rows = chosen.nonzero()[:, 0]
    if len(rows):
        x.index_copy_(0, rows, luma(x.index_select(0, rows)).expand(-1, 3, -1, -1))


def blur(x: Tensor, sigma: Tensor, highest: float) -> None:
    """Gaussian blur of (B, C, H, W), in place, where sigma (B,) is above 0; beyond an edge its pixels go on, as in Pillow."""
    rows = sigma.nonzero()[:, 0]
    if not len(rows):
        return
    radius = math.ceil(3 * highest)
    offset = torch.arange(-radius, radius + 1, device=x.device, dtype=torch.float32)
    kernel = torch.exp(-0.5 * (offset / sigma[rows, None]) ** 2)
    kernel /= kernel.sum(1, keepdim=True)
    height, width = x.shape[2:]
    along = (kernel @ spread(width, radius, x.device)).view(-1, width, width)
    down = along if height == width else (kernel @ spread(height, radius, x.device)).view(-1, height, height)
    x.index_copy_(0, rows, filtered(x.index_select(0, rows), down, along))


@lru_cache(maxsize=32)
def spread(size: int, radius: int, device: torch.device) -> Tensor:
    """(2·radius + 1, size·size): makes a kernel into the matrix that filters an axis, with the edge's pixels going on beyond it."""
    place, offset = torch.arange(size), torch.arange(-radius, radius + 1)
    source = (place[None] + offset[:, None]).clamp(0, size - 1)  # (offsets, outputs)
    return torch.nn.functional.one_hot(source, size).flatten(1).float().to(device)


@lru_cache(maxsize=32)
def numbers(values: tuple[float, ...], device: torch.device) -> Tensor:
    """One number a channel, (C, 1, 1)."""
    return torch.tensor(values, device=device)[:, None, None]


@lru_cache(maxsize=8)
def nothing(device: torch.device) -> Tensor:
    """The factors that change nothing."""
    return torch.tensor([1.0, 1.0, 1.0, 0.0], device=device)
