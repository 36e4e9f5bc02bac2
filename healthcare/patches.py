"""Random patches of images and of what is to be seen in them: what a segmenter is trained on, and a pretext learns from.

Which patches a batch holds is a pure function of (seed, epoch, number). Each is cut somewhat larger than it will be, then turned,
mirrored and scaled on the device, for the whole batch by one resampling.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Generator, Tensor

from core.config import within
from core.errors import UserError
from core.pretext import Pseudo
from core.tokens import Batch
from healthcare.audit import Audit
from healthcare.data import Images
from healthcare.masks import MaskedImages
from healthcare.views import ViewConfig, intensity

if TYPE_CHECKING:
    from healthcare.presets import Recipe

GREYS = ViewConfig(brightness=0.1, contrast=1.25, gamma=1.25, noise=0.02, blur=0.3, erase=0.0)


@dataclass(frozen=True)
class PatchView:
    """How far a patch may be from what was cut.

    Attributes:
        free: share of the patches that are turned by any angle and scaled; the others are turned by quarters, which blurs nothing.
        scale: largest factor of those, and its inverse the smallest.
        mirror: whether half of all patches are mirrored; left and right are alike to vessels and nuclei.
        greys: changes of grey values; its crops and turns are not used.
        zoom: how much larger all is shown to the network, where what is looked for is only a few pixels wide.
    """

    free: float = 0.3
    scale: float = 1.25
    mirror: bool = True
    greys: ViewConfig = GREYS
    zoom: float = 1.0

    def __post_init__(self) -> None:
        within(self, free=(0, 1), scale=(1, 4), zoom=(0.25, 8))


@dataclass(frozen=True)
class PatchBatches:
    """Patches around random places of a field of view, of all images alike, or around objects, of all objects alike.

    Args:
        images: (C, H, W) each.
        targets: (K, H, W) float in [0, 1] each.
        inside: (H, W) bool each: where targets are known; patches are centred there.
        side: of a patch as it is cut, in pixels.
        batch_size: patches a batch.
        seed: of the places.
        objects: (M, 3) number of the image, row and column of the middle of every object that patches are centred on; None
            where they are centred anywhere.
        centred: share of the patches that are centred on an object, where there are any.
        ways: (3, H, W) each, as `healthcare.instances.ways`; None where nobody asks for them.
    """

    images: list[NDArray[np.float32]]
    targets: list[NDArray[np.float32]]
    inside: list[NDArray[np.bool_]]
    side: int
    batch_size: int
    seed: int = 0
    objects: NDArray[np.int64] | None = None
    centred: float = 0.0
    ways: list[NDArray[np.float32]] | None = None
    _places: list[NDArray] = field(default_factory=list, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.images:
            raise UserError("no annotated training image", where="data", mend="give masks of some training images")
        self._places.extend(np.flatnonzero(seen).astype(np.int32) for seen in self.inside)

    @cached_property
    def padded(self) -> list[tuple[NDArray[np.float32], NDArray[np.float16]]]:
        """Image (C, H, W), and targets, where they are known, and ways (K + 1 + 3, H, W): beyond the border the image is mirrored, and nothing known.

        What is told is kept in half precision: there is much more of it than of the images.
        """
        half = self.side // 2 + 1
        edge = ((0, 0), (half, half), (half, half))
        made = []
        for number, (image, target, seen) in enumerate(zip(self.images, self.targets, self.inside, strict=True)):
            told = [target * seen, seen[None], *([] if self.ways is None else [self.ways[number] * seen])]
            made.append((np.pad(image, edge, "symmetric"), np.pad(np.concatenate(told).astype(np.float16), edge)))
        return made

    @property
    def rows(self) -> int:
        return max(self.batch_size, sum(i[0].size for i in self.images) // self.side**2)

    def __len__(self) -> int:
        return max(1, self.rows // self.batch_size)

    def at(self, rows: NDArray) -> Batch:
        """Patches of these numbers: number i always is the same patch."""
        return self._cut([np.random.default_rng([self.seed, 1, int(row)]) for row in rows])

    def batch(self, epoch: int, number: int) -> Batch:
        random = np.random.default_rng([self.seed, 0, epoch, number])
        return self._cut([random] * self.batch_size)

    def ordered(self) -> Iterator[Batch]:
        for start in range(0, self.rows, self.batch_size):
            yield self.at(np.arange(start, min(start + self.batch_size, self.rows)))

    def _cut(self, randoms: list[np.random.Generator]) -> Batch:
        images, told = [], []
        for random in randoms:
            which, row, column = self._place(random)
            top, left = row + 1, column + 1  # the padding is one wider than half a patch
            place = np.s_[:, top : top + self.side, left : left + self.side]
            images.append(self.padded[which][0][place])
            told.append(self.padded[which][1][place])
        parts = [len(self.targets[0]), 1, *([3] if self.ways else [])]
        target, known, *ways = torch.from_numpy(np.stack(told)).float().split(parts, 1)
        batch = {"image": torch.from_numpy(np.stack(images)), "target": target, "known": known}
        return batch | ({"ways": ways[0]} if ways else {})

    def _place(self, random: np.random.Generator) -> tuple[int, int, int]:
        """Image, row and column of the middle of a patch."""
        if self.objects is not None and len(self.objects) and random.random() < self.centred:
            which, row, column = self.objects[random.integers(len(self.objects))].tolist()
            return which, row, column
        which = int(random.integers(len(self.images)))
        places = self._places[which]
        row, column = divmod(int(places[random.integers(len(places))]), self.images[which].shape[2])
        return which, row, column


@dataclass(frozen=True)
class Annotated:
    """The pretext of a segmenter: patches, turned and changed, with their targets; `patch` is their side at last, in pixels."""

    patch: int
    view: PatchView

    def __call__(self, batch: Batch, generator: Generator) -> Pseudo:
        image, target, known = batch["image"], batch["target"], batch["known"]
        theta = poses(len(image), image.shape[-1], self.patch, self.view, generator, image.device)
        stack = turned(torch.cat([image, target, known], 1), theta, self.patch)
        seen, told, known = stack.split([image.shape[1], target.shape[1], 1], 1)
        label = {"target": told, "known": (known > 0.999).float()}
        if "ways" in batch:
            label["ways"] = redirected(turned(batch["ways"], theta, self.patch, "nearest"), theta, image.shape[-1])
        return Pseudo({"image": intensity(seen, self.view.greys, generator)}, label)


def cut_for(patch: int, view: PatchView) -> int:
    """The side to cut, so that a turned patch of side `patch` finds its corners; as even or odd as that, so that centres agree."""
    shown = patch / view.zoom
    side = math.ceil(shown * math.sqrt(2) * view.scale if view.free else shown)
    return side + (side - patch) % 2


def poses(rows: int, cut: int, side: int, view: PatchView, generator: Generator, device: torch.device) -> Tensor:
    """How each of so many patches is turned, mirrored and scaled about its centre: (B, 2, 3), as `affine_grid` takes it.

    Args:
        cut: side of the patches as they were cut; side: as they will be.
    """

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(rows, generator=generator, device=device)

    free = uniform(0, 1) < view.free
    quarters = torch.randint(4, (rows,), generator=generator, device=device) * (math.pi / 2)
    angle = quarters + torch.where(free, uniform(-math.pi / 4, math.pi / 4), 0.0)
    scale = torch.where(free, (uniform(-1, 1) * math.log(view.scale)).exp(), 1.0) * (side / view.zoom / cut)
    mirror = torch.where(uniform(0, 1) < 0.5 * view.mirror, -1.0, 1.0)
    cos, sin, none = angle.cos() * scale, angle.sin() * scale, torch.zeros(rows, device=device)
    return torch.stack([torch.stack([cos * mirror, -sin, none], 1), torch.stack([sin * mirror, cos, none], 1)], 1)


def turned(stack: Tensor, theta: Tensor, side: int, mode: str = "bilinear") -> Tensor:
    """Patches (B, C, S, S) in these poses, and of them the middle (B, C, side, side)."""
    grid = F.affine_grid(theta, [len(stack), stack.shape[1], side, side], align_corners=False)
    return F.grid_sample(stack, grid, mode=mode, padding_mode="zeros", align_corners=False)


def redirected(ways: Tensor, theta: Tensor, cut: int) -> Tensor:
    """Ways (B, 3, side, side) in turned patches, which still point as in those of side `cut`, as they point after the turn."""
    # from pixels of a turned patch, x before y, to those it was cut with
    back = theta[:, :, :2] * (cut / ways.shape[-1])
    way = torch.einsum("bij,bjhw->bihw", torch.linalg.inv(back), ways[:, :2].flip(1)).flip(1)
    shrunk = torch.linalg.det(back).abs().sqrt()
    return torch.cat([way, ways[:, 2:] * shrunk[:, None, None, None]], 1)


def training_images(data: str | Path, recipe: Recipe) -> Images:
    """What `pretrain` learns from: images, or, of a set with masks, patches of its training images at their own scale.

    Patches are read as the segmenter of that set reads them, but a pretext that gives back colours sees all channels.
    """
    from healthcare.data import read
    from healthcare.masks import has_masks, read_masks
    from healthcare.segment_recipes import segment_recipe

    if not has_masks(data):
        return read(data, recipe.reading)
    reading = segment_recipe(str(data)).reading
    if recipe.pretext.kind == "coloured":
        reading = replace(reading, channel="all", contrast="none")
    return patch_images(read_masks(data, reading, masks=False), recipe.reading.size, recipe.train.seed)


def patch_images(data: MaskedImages, size: int, seed: int = 0, most: int = 4000) -> Images:
    """Patches of the training images as `Images` without labels, for any pretext: half overlapping, the field of view alone.

    Args:
        size: side of a patch, in pixels.
        most: patches; more are drawn from at random.

    Raises:
        UserError: no training image as large as a patch.
    """
    found: list[NDArray[np.float32]] = []
    source: list[int] = []
    for row in data.rows("train"):
        image, inside = data.images[row], data.inside(row)
        height, width = inside.shape
        for top in _starts(height, size):
            for left in _starts(width, size):
                place = np.s_[top : top + size, left : left + size]
                if inside[place].mean() > 0.5:
                    found.append(image[:, *place])
                    source.append(int(data.patient[row]))
    if not found:
        raise UserError(
            f"no training image holds a patch of {size} pixels", where="reading.size", mend="make it smaller"
        )
    keep = np.sort(np.random.default_rng(seed).permutation(len(found))[:most])
    pixels, patient = np.stack([found[i] for i in keep]), np.array(source)[keep]
    nothing = np.full(len(keep), -1, np.int64)
    where = np.array([f"patch {i}" for i in keep], dtype=object)
    split = np.full(len(keep), "train", dtype="<U5")
    return Images(pixels, nothing, split, patient, (), where, True, data.quarantine, Audit(), data.notes)


def _starts(length: int, size: int) -> list[int]:
    if length < size:
        return []
    return sorted({*range(0, length - size + 1, max(1, size // 2)), length - size})
