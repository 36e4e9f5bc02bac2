"""Fields of nuclei: sixteen of each image, labelled by how many they show."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from core.errors import UserError
from healthcare.data import Reading, read


def cells(random: np.random.Generator, images: int = 12, side: int = 64) -> dict[str, np.ndarray]:
    """Square nuclei of 4 pixels, three in some of the 16-pixel fields and one in others. Odd images are exposed ten times as long."""
    masks = np.zeros((images, side, side), np.uint8)
    for row in range(images):
        for field in range(12):  # the last four show none
            for one in range(3 if field == row % 4 else 1):
                y, x = 16 * (field // 4) + 1, 16 * (field % 4) + 1 + 5 * one
                masks[row, y : y + 4, x : x + 4] = 3 * field + one + 1
    light = random.uniform(5, 9, masks.shape) + 10.0 * (masks > 0)
    light[1::2] *= 10
    split = np.array(["train"] * (images - 4) + ["val", "val", "test", "test"])
    return {"images": light.astype(np.uint8), "instance_masks": masks, "split": split, "ids": np.arange(images)}


def test_sixteen_fields_an_image_are_labelled_by_their_nuclei_and_stay_together(
    tmp_path: Path, random: np.random.Generator
) -> None:
    np.savez(tmp_path / "cells.npz", **cells(random))  # type: ignore[arg-type]
    images = read(tmp_path / "cells.npz", Reading(size=16))
    assert images.pixels.shape == (192, 1, 16, 16) and images.named_patients
    assert images.classes == ("few", "many") and len(np.unique(images.patient)) == 12
    many = np.array([field == row % 4 for row in range(12) for field in range(16)])
    assert (images.label == many).all()
    assert images.counts()["test"] == {"few": 30, "many": 2}


def test_exposure_makes_no_difference(tmp_path: Path, random: np.random.Generator) -> None:
    made = cells(random)
    made["images"][1] = made["images"][0].astype(int) * 10
    np.savez(tmp_path / "cells.npz", **made)  # type: ignore[arg-type]
    images = read(tmp_path / "cells.npz", Reading(size=16))
    np.testing.assert_allclose(images.pixels[:16], images.pixels[16:32], atol=1e-5)


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
