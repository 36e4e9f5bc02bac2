"""Fields of nuclei: four of each image, labelled by the size of what they show."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from core.errors import UserError
from healthcare.data import Reading, read


def cells(random: np.random.Generator, images: int = 12, side: int = 64) -> dict[str, np.ndarray]:
    """Square nuclei of 4 or 8 pixels, one to a quarter; the last quarter is empty. Odd images are exposed ten times as long."""
    masks = np.zeros((images, side, side), np.uint8)
    for row in range(images):
        width = 8 if row % 4 < 2 else 4
        for number, (y, x) in enumerate([(5, 5), (6, 40), (40, 6)]):
            masks[row, y : y + width, x : x + width] = number + 1
    light = random.uniform(5, 9, masks.shape) + 10.0 * (masks > 0)
    light[1::2] *= 10
    split = np.array(["train"] * (images - 4) + ["val", "val", "test", "test"])
    return {"images": light.astype(np.uint8), "instance_masks": masks, "split": split, "ids": np.arange(images)}


def test_four_fields_an_image_are_labelled_by_size_and_stay_together(
    tmp_path: Path, random: np.random.Generator
) -> None:
    np.savez(tmp_path / "cells.npz", **cells(random))  # type: ignore[arg-type]
    images = read(tmp_path / "cells.npz", Reading(size=32))
    assert images.pixels.shape == (48, 1, 32, 32) and images.named_patients
    assert images.classes == ("large", "small") and (images.label[3::4] == -1).all()
    large = np.arange(48) // 4 % 4 < 2
    shown = images.label >= 0
    assert (images.label[shown] == np.where(large[shown], 0, 1)).all()
    assert len(np.unique(images.patient)) == 12 and images.counts()["test"] == {"unlabelled": 2, "small": 6}


def test_exposure_makes_no_difference(tmp_path: Path, random: np.random.Generator) -> None:
    made = cells(random)
    made["images"][1] = made["images"][0].astype(int) * 10
    np.savez(tmp_path / "cells.npz", **made)  # type: ignore[arg-type]
    images = read(tmp_path / "cells.npz", Reading(size=32))
    np.testing.assert_allclose(images.pixels[:4], images.pixels[4:8], atol=1e-5)


@pytest.mark.parametrize(
    "name, value",
    [("instance_masks", np.zeros((3, 64, 64), np.uint8)), ("instance_masks", np.zeros((12, 64, 64), np.uint8)),
     ("instance_masks", np.ones((12, 64, 64))), ("split", np.array(["training"] * 12)), ("images", np.zeros((12, 64)))],
)  # fmt: skip
def test_arrays_that_do_not_fit_stop_with_one_line(
    name: str, value: np.ndarray, tmp_path: Path, random: np.random.Generator
) -> None:
    np.savez(tmp_path / "cells.npz", **{**cells(random), name: value})  # type: ignore[arg-type]
    with pytest.raises(UserError) as caught:
        read(tmp_path / "cells.npz")
    assert "\n" not in str(caught.value)
