"""Pictures of cell nuclei with a mask of each nucleus: is a field crowded?

The Data Science Bowl 2018 (Caicedo et al., Nature Methods 2019) asks for the masks. Here they give a label that needs no expert and
that brightness alone does not tell: whether a field shows more nuclei than the median training field. (Not how large they are: views
that zoom in teach a network to take no notice of that.)
"""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray

from core.errors import UserError
from healthcare.listing import Record
from healthcare.readers import plain

KEYS = {"images", "instance_masks", "split"}
SIDE = 4  # fields along each side of an image


def records_of_nuclei(arrays: dict[str, NDArray]) -> list[Record]:
    """Sixteen fields, four by four, of every image; the fields of one image are one patient's. Classes: `few` and `many` nuclei.

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
    if min(images.shape[1:]) < 8 * SIDE:
        raise UserError(f"images of {images.shape[1:]}", where="npz", mend=f"give {8 * SIDE} pixels a side or more")
    places = _fields(*images.shape[1:])
    count = np.array([[_nuclei(mask[place]) for place in places] for mask in masks]).reshape(len(images), len(places))
    known = count[split == "train"]
    if not known.any():
        raise UserError("no nucleus in any training image", where="npz", mend="give their masks, or other data")
    middle = np.median(known)

    def record(row: int, number: int) -> Record:
        label = "many" if count[row, number] > middle else "few"
        load = partial(_field, images[row], places[number])
        return Record(f"image {row} field {number}", load, label, str(split[row]), str(row))

    return [record(row, number) for row in range(len(images)) for number in range(len(places))]


def _nuclei(mask: NDArray) -> int:
    return len(np.unique(mask[mask > 0]))


def _field(image: NDArray, place: tuple[slice, slice]) -> NDArray[np.float32]:
    wide = image.astype(np.uint16) if image.dtype == np.uint8 else image  # 8-bit values would only be divided by 255
    return plain(plain(wide)[place])


def _fields(height: int, width: int) -> list[tuple[slice, slice]]:
    rows, columns = ([slice(n * side // SIDE, (n + 1) * side // SIDE) for n in range(SIDE)] for side in (height, width))
    return [(row, column) for row in rows for column in columns]
