"""Images with masks: what is read, and what is set aside with which reason."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from core.errors import UserError
from healthcare import mask_sources
from healthcare.masks import MaskReading, from_arrays, has_masks, labels_of, read_masks, read_plain, scan_masks
from healthcare.readers import Limits, Unreadable
from healthcare.synthetic_masks import SceneConfig, scenes, write_scenes

RANDOM = np.random.default_rng(0)
GREY = RANDOM.integers(0, 255, (20, 24), dtype=np.uint8)
MARKED = (GREY > 200).astype(np.uint8) * 255


def png(path: Path, array: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)
    return path


def manifest(folder: Path, *lines: str, header: str = "path,mask,split") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "manifest.csv").write_text("\n".join([header, *lines]) + "\n")
    return folder / "manifest.csv"


def test_a_manifest_and_folders_give_the_same(tmp_path: Path) -> None:
    write_scenes(tmp_path, SceneConfig(images=6), seed=3)
    by_row = read_masks(tmp_path, MaskReading(objects=True))
    (tmp_path / "manifest.csv").unlink()
    by_name = read_masks(tmp_path, MaskReading(objects=True))
    assert len(by_row) == len(by_name) == 6 and by_row.split.tolist() == [
        "train",
        "test",
        "train",
        "val",
        "train",
        "test",
    ]
    for a, b, (image, mask) in zip(by_row.images, by_name.images, scenes(SceneConfig(images=6), 3), strict=True):
        assert np.array_equal(a, b) and np.allclose(a[0], image / 255)
        assert any(np.array_equal(mask, known) for known in by_row.masks)
    assert len({image.shape for image in by_row.images}) > 1, "the sizes vary"
    assert by_name.notes and has_masks(tmp_path)


BAD = {
    "another size": (MARKED[:-1], "mask of another size than its image"),
    "several values": (np.where(MARKED > 0, GREY, 0), "mask with more than two values"),
    "colours": (np.stack([MARKED, GREY, GREY], -1), "coloured mask"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_mask_is_set_aside(case: str, tmp_path: Path) -> None:
    mask, reason = BAD[case]
    png(tmp_path / "images/a.png", GREY), png(tmp_path / "images/b.png", GREY)
    png(tmp_path / "masks/a.png", mask), png(tmp_path / "masks/b.png", MARKED)
    found = scan_masks(tmp_path)
    assert len(found) == 1 and found.quarantine.counts() == {reason: 1}
    assert found.quarantine.records[0][0] == "images/a.png"


def test_what_else_is_wrong_with_files(tmp_path: Path) -> None:
    for name in "abcdefg":
        png(tmp_path / f"{name}.png", GREY)
    png(tmp_path / "m.png", MARKED), png(tmp_path / "tiny.png", GREY[:9, :9])
    (tmp_path / "broken.png").write_bytes(b"\x89PNG not really")
    (tmp_path / "empty.png").write_bytes(b"")
    np.save(tmp_path / "float.npy", GREY / 7.0)
    np.save(tmp_path / "nan.npy", np.full(GREY.shape, np.nan))
    np.save(tmp_path / "negative.npy", -MARKED.astype(np.int16))
    np.save(tmp_path / "object.npy", np.array([None, 1], dtype=object), allow_pickle=True)
    png(tmp_path.parent / f"{tmp_path.name}-outside.png", MARKED)
    path = manifest(
        tmp_path,
        "a.png,m.png,train", "b.png,nowhere.png,train", "c.png,broken.png,train", "d.png,float.npy,train", "e.png,nan.npy,train",
        f"f.png,../{tmp_path.name}-outside.png,train", "broken.png,m.png,train", "a.png,m.png,test", ",m.png,train",
        "g.png,m.png,elsewhere", "tiny.png,m.png,train", "nowhere.png,m.png,train", "./b.png,negative.npy,train",
        "./c.png,object.npy,train", "./d.png,empty.png,train", "./e.png,m.txt,train", "./f.png,,train",
    )  # fmt: skip
    found = scan_masks(path)
    reasons = {where: reason for where, reason, _ in found.quarantine.records}
    assert found.where.tolist() == ["row 2", "row 18"] and found.masks[1] is None, (
        "an image without a mask is not annotated"
    )
    assert len(reasons) == 15
    assert (
        reasons["row 3"] == "missing mask"
        and reasons["row 4"] == "unreadable"
        and reasons["row 7"] == "outside the data folder"
    )
    assert reasons["row 5"] == reasons["row 6"] == "mask with values that are not whole numbers"
    assert (
        reasons["row 9"] == "path listed twice"
        and reasons["row 10"] == "no path"
        and reasons["row 11"] == "unknown split"
    )
    assert reasons["row 12"] == "too small" and reasons["row 13"] == "missing file"
    assert reasons["row 14"] == "mask with values below 0" and reasons["row 15"] == "unreadable mask"
    assert reasons["row 16"] == "unusable mask" and reasons["row 17"] == "missing mask"


def test_folders_whose_names_do_not_meet(tmp_path: Path) -> None:
    png(tmp_path / "train/images/a.png", GREY), png(tmp_path / "train/masks/a_mask.png", MARKED)
    png(tmp_path / "train/images/b.png", GREY), png(tmp_path / "train/masks/c.png", MARKED)
    found = scan_masks(tmp_path)
    assert found.split.tolist() == ["train"]
    assert found.quarantine.counts() == {"no mask of that name": 1, "mask without an image": 1}


def test_too_large_pictures_are_not_decoded(tmp_path: Path) -> None:
    few = Limits(pixels=100)
    with pytest.raises(Unreadable, match="too large"):
        mask_sources.read_mask(png(tmp_path / "m.png", MARKED), few)
    with pytest.raises(Unreadable, match="too large"):
        mask_sources.read_colour(png(tmp_path / "c.png", np.stack([GREY] * 3, -1)), few)


@pytest.mark.parametrize(
    "make",
    [
        lambda f: manifest(f, "a.png", header="path"),
        lambda f: (f / "manifest.csv").write_text("") or f,
        lambda f: png(f / "images/a.png", GREY) and f,
        lambda f: (f / "x.tar").write_bytes(b"no tar") and f,
        lambda f: np.savez(f / "x.npz", images=np.zeros((1, 20, 20), np.uint8)) or f,
        lambda f: manifest(f, "a.png,b.png,train"),
        lambda f: (f / "x.txt").write_text("x") and f / "x.txt",
    ],
)  # fmt: skip
def test_data_of_no_shape_is_one_line(make, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    made = make(tmp_path)
    with pytest.raises(UserError) as error:
        read_masks(made if isinstance(made, Path) else tmp_path)
    assert "\n" not in str(error.value)


def test_a_patient_in_two_splits_is_refused(tmp_path: Path) -> None:
    for name in "ab":
        png(tmp_path / f"{name}.png", GREY)
    png(tmp_path / "m.png", MARKED)
    manifest(tmp_path, "a.png,m.png,train,P1", "b.png,m.png,test,P1", header="path,mask,split,patient_id")
    with pytest.raises(UserError, match="more than one split"):
        read_masks(tmp_path)


def test_numbers_of_objects_lose_their_gaps_and_regions_become_one() -> None:
    mask = np.array([[0, 5], [9, 5]])
    assert labels_of(mask, (2, 2), True, "mask").tolist() == [[0, 1], [2, 1]]
    assert labels_of(np.array([[0, 255], [0, 0]]), (2, 2), False, "mask").tolist() == [[0, 1], [0, 0]]
    assert labels_of(np.array([[7, 7], [7, 7]]), (2, 2), False, "mask").tolist() == [[1, 1], [1, 1]], (
        "all of it is marked"
    )


def test_a_tar_of_drives_names(tmp_path: Path) -> None:
    colours = RANDOM.integers(0, 255, (20, 24, 3), dtype=np.uint8)
    with tarfile.open(tmp_path / "drive.tar", "w") as archive:
        for name, array in {
            "train/images/21_training.png": colours, "train/1st_manual/21_manual1.png": MARKED, "train/mask/21_training_mask.png": MARKED * 0 + 255,
            "test/images/01_test.png": colours, "test/1st_manual/01_manual1.png": MARKED, "test/2nd_manual/01_manual2.png": MARKED,
            "test/mask/01_test_mask.png": MARKED, "../escape.png": MARKED,
        }.items():  # fmt: skip
            content = io.BytesIO()
            Image.fromarray(array).save(content, "PNG")
            entry = tarfile.TarInfo(name)
            entry.size = len(content.getvalue())
            archive.addfile(entry, io.BytesIO(content.getvalue()))
    found = read_masks(tmp_path, MaskReading(channel="green"))
    assert found.split.tolist() == ["test", "train"] and found.channels == 1
    assert np.allclose(found.images[0][0], colours[..., 1] / 255)
    assert found.inside(0).sum() == (MARKED > 0).sum() and found.seconds[0] is not None and found.seconds[1] is None
    assert not (tmp_path.parent / "escape.png").exists()


def test_new_images_need_no_masks(tmp_path: Path) -> None:
    png(tmp_path / "scans/a.png", GREY), png(tmp_path / "scans/b.png", np.zeros((20, 20), np.uint8))
    found = read_plain(tmp_path / "scans", MaskReading())
    assert found.where.tolist() == ["a.png"] and found.masks == [None] and found.quarantine.counts() == {"constant": 1}
    assert len(read_plain(tmp_path / "scans/a.png", MaskReading())) == 1


def test_arrays_are_checked_too() -> None:
    assert from_arrays([GREY], [MARKED]).masks[0].max() == 1  # type: ignore[union-attr]
    with pytest.raises(UserError, match="image 1"):
        from_arrays([GREY, GREY], [MARKED, MARKED[1:]])
    with pytest.raises(UserError, match="2 images but 1 masks"):
        from_arrays([GREY, GREY], [MARKED])


def test_evened_contrast_stays_in_range() -> None:
    colours = np.stack([GREY] * 3, -1)
    image = from_arrays([colours], None, MaskReading(contrast="clahe")).images[0]
    assert image.shape == (3, 20, 24) and image.min() >= 0 and image.max() <= 1


def test_exposure_is_evened_and_the_seam_between_bright_nuclei_stays() -> None:
    image = np.full((64, 64), 10, np.uint8)
    image[20:30, 20:25], image[20:30, 26:31], image[20:30, 25] = (
        90,
        80,
        70,
    )  # two nuclei of 2 % of the image, and their seam
    image[40:50, 40:50] = 30
    mask = (image > 20).astype(np.uint8)
    reading = MaskReading(contrast="root")
    dim, bright = from_arrays([image, image * 2], [mask, mask], reading).images
    np.testing.assert_allclose(dim, bright, atol=1e-6)
    assert dim.max() == 1 and dim[0, 25, 25] < dim[0, 25, 28] < dim[0, 25, 22]
