"""Pictures of cell nuclei with a mask of each nucleus: are those of a field large?

The Data Science Bowl 2018 (Caicedo et al., Nature Methods 2019) asks for the masks. Here they give a label that needs no expert and
that brightness does not tell: whether a field's nuclei are larger than those of the median training field. (How many there are is
told to an auroc of .97 by an untrained network, which leaves nothing to learn.)
"""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray

from core.errors import UserError
from healthcare.data import Record, plain

KEYS = {"images", "instance_masks", "split"}


def records_of_nuclei(arrays: dict[str, NDArray]) -> list[Record]:
    """Four fields, the quarters, of every image; the fields of one image are one patient's. A field without nuclei has no label.

    How long a fluorescent sample was exposed says nothing of it: each image is stretched between its own percentiles.

    Args:
        arrays: `images` (N, H, W), `instance_masks` (N, H, W) with 0 for background and a number for each nucleus, `split`
            (N,) of train, val and test.

    Raises:
        UserError: arrays of other shapes, other splits, or no nucleus in any training image.
    """
    images, masks, split = arrays["images"], arrays["instance_masks"], arrays["split"].astype(str)
    if images.ndim != 3 or masks.shape != images.shape or split.shape != images.shape[:1]:
        raise UserError(
            f"images {images.shape}, instance_masks {masks.shape} and split {split.shape}", where="npz",
            mend="give (N, H, W) twice, and (N,)",
        )  # fmt: skip
    if not np.issubdtype(masks.dtype, np.integer) or masks.min(initial=0) < 0:
        raise UserError(f"instance_masks of {masks.dtype}", where="npz", mend="number nuclei from 1, background 0")
    if not set(split) <= {"train", "val", "test"}:
        raise UserError(f"splits {sorted(set(split))[:4]}", where="npz", mend="use train, val and test")
    size = np.array([_sizes(mask) for mask in masks]).reshape(len(images), 4)
    known = size[split == "train"]
    if not np.isfinite(known).any():
        raise UserError("no nucleus in any training image", where="npz", mend="give their masks, or other data")
    middle = np.nanmedian(known)

    def label(row: int, number: int) -> str | None:
        if np.isnan(size[row, number]):
            return None
        return "large" if size[row, number] > middle else "small"

    return [
        Record(f"image {row} quarter {number}", partial(_field, images[row], place), label(row, number), str(split[row]), str(row))
        for row in range(len(images))
        for number, place in enumerate(_quarters(images[row]))
    ]  # fmt: skip


def _sizes(mask: NDArray) -> list[float]:
    """Median area, in pixels of the whole image, of the nuclei that each quarter shows; nan where it shows none."""
    area = np.bincount(mask.ravel())
    shown = [np.unique(mask[place]) for place in _quarters(mask)]
    return [float(np.median(area[ids[ids > 0]])) if (ids > 0).any() else float("nan") for ids in shown]


def _field(image: NDArray, place: tuple[slice, slice]) -> NDArray[np.float32]:
    wide = image.astype(np.uint16) if image.dtype == np.uint8 else image  # 8-bit values would only be divided by 255
    return plain(plain(wide)[place])


def _quarters(image: NDArray) -> list[tuple[slice, slice]]:
    half, middle = image.shape[0] // 2, image.shape[1] // 2
    return [(y, x) for y in (slice(0, half), slice(half, None)) for x in (slice(0, middle), slice(middle, None))]
