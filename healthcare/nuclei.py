"""Pictures of cell nuclei with a mask of each nucleus: does a field of view hold many of them?

The Data Science Bowl 2018 (Caicedo et al., Nature Methods 2019) asks for the masks; here they give a label that needs no
expert: more nuclei than the median field of the training images, or not.
"""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray

from core.errors import UserError
from healthcare.data import Record, plain

KEYS = {"images", "instance_masks", "split"}
CLASSES = ("few", "many")


def records_of_nuclei(arrays: dict[str, NDArray]) -> list[Record]:
    """Four fields, the quarters, of every image; the fields of one image are one patient's.

    How long a fluorescent sample was exposed says nothing of it: each image is stretched between its own percentiles.

    Args:
        arrays: `images` (N, H, W), `instance_masks` (N, H, W) with 0 for background and a number for each nucleus, `split`
            (N,) of train, val and test.

    Raises:
        UserError: arrays of other shapes, other splits, or no training image.
    """
    images, masks, split = arrays["images"], arrays["instance_masks"], arrays["split"].astype(str)
    if images.ndim != 3 or masks.shape != images.shape or split.shape != images.shape[:1]:
        raise UserError(
            f"images {images.shape}, instance_masks {masks.shape} and split {split.shape}", where="npz",
            mend="give (N, H, W) twice, and (N,)",
        )  # fmt: skip
    if not set(split) <= {"train", "val", "test"} or not (split == "train").any():
        raise UserError(f"splits {sorted(set(split))}", where="npz", mend="use train, val and test, and some of train")
    fields = [
        (row, number, place)
        for row in range(len(images))
        for number, place in enumerate(_quarters(images.shape[1], images.shape[2]))
    ]
    nuclei = np.array([np.count_nonzero(np.unique(masks[row][place])) for row, _, place in fields])
    middle = np.median([count for count, (row, _, _) in zip(nuclei, fields, strict=True) if split[row] == "train"])
    return [
        Record(
            f"image {row} quarter {number}", partial(_field, images[row], place), CLASSES[int(count > middle)],
            str(split[row]), str(row),
        )
        for count, (row, number, place) in zip(nuclei, fields, strict=True)
    ]  # fmt: skip


def _field(image: NDArray, place: tuple[slice, slice]) -> NDArray[np.float32]:
    wide = image.astype(np.uint16) if image.dtype == np.uint8 else image  # 8-bit values would only be divided by 255
    return plain(plain(wide)[place])


def _quarters(height: int, width: int) -> list[tuple[slice, slice]]:
    half, middle = height // 2, width // 2
    return [(y, x) for y in (slice(0, half), slice(half, None)) for x in (slice(0, middle), slice(middle, None))]
