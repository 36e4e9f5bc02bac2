"""Hostile files: each becomes one quarantine record with a reason, none a traceback, none slips through."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom.data import get_testdata_file

from healthcare.readers import Limits, Unreadable, read_image, unit


def grey(random: np.random.Generator, side: int = 20) -> np.ndarray:
    return random.integers(0, 256, (side, side), dtype=np.uint8)


def reason(path: Path, limits: Limits | None = None) -> str:
    with pytest.raises(Unreadable) as caught:
        read_image(path, limits)
    assert str(path) not in caught.value.detail
    return caught.value.reason


def test_a_picture_keeps_its_rows_columns_and_values(tmp_path: Path, random: np.random.Generator) -> None:
    pixels = random.integers(0, 256, (12, 30), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    np.testing.assert_allclose(read_image(tmp_path / "a.png"), pixels / 255, atol=1e-6)


def test_sixteen_bit_pictures_are_scaled_not_clipped(tmp_path: Path, random: np.random.Generator) -> None:
    pixels = random.integers(1000, 60000, (20, 20)).astype(np.uint16)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png")
    assert len(np.unique(image)) > 300 and np.corrcoef(image.ravel(), pixels.ravel())[0, 1] > 0.999


def test_colour_becomes_luminance(tmp_path: Path) -> None:
    pixels = np.zeros((10, 10, 3), np.uint8)
    pixels[:5, :, 1] = 255
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png")[0, 0] == pytest.approx(0.587, abs=0.01)


def test_dicom_keeps_its_orientation_and_monochrome1_is_inverted(tmp_path: Path) -> None:
    import pydicom

    path = Path(get_testdata_file("MR_small.dcm"))
    image = read_image(path)
    header = pydicom.dcmread(path)
    assert np.corrcoef(image.ravel(), header.pixel_array.ravel())[0, 1] > 0.95
    header.PhotometricInterpretation = "MONOCHROME1"
    header.save_as(tmp_path / "inverse.dcm")
    assert np.corrcoef(read_image(tmp_path / "inverse.dcm").ravel(), image.ravel())[0, 1] < -0.9


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("MR_truncated.dcm", "unreadable"), ("badVR.dcm", None), ("no_meta.dcm", None), ("rtplan.dcm", "no pixel data"),
        ("SC_rgb_rle_2frame.dcm", "not a 2-D image"),
        ("waveform_ecg.dcm", "no pixel data"), ("rtdose.dcm", "not a 2-D image"),
    ],
)  # fmt: skip
def test_difficult_dicom_files_are_named_by_reason(name: str, expected: str | None) -> None:
    path = get_testdata_file(name, download=False)
    if path is None:
        pytest.skip("not in this pydicom wheel")
    assert reason(Path(path)) == expected if expected else reason(Path(path))


def bomb(path: Path, side: int) -> None:
    """A PNG whose header claims side × side pixels."""
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    chunk = b"IHDR" + header
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
        + struct.pack(">I", 0) + b"IEND" + struct.pack(">I", zlib.crc32(b"IEND"))
    )  # fmt: skip


def test_sizes_are_capped_before_anything_is_decoded(tmp_path: Path, random: np.random.Generator) -> None:
    for side in (9_000, 60_000):
        bomb(tmp_path / "bomb.png", side)
        assert reason(tmp_path / "bomb.png") == "too large"
    Image.fromarray(grey(random)).save(tmp_path / "a.png")
    assert reason(tmp_path / "a.png", Limits(bytes=10)) == "too large"
    np.save(tmp_path / "a.npy", grey(random))
    assert reason(tmp_path / "a.npy", Limits(pixels=399)) == "too large"
    assert read_image(tmp_path / "a.npy", Limits(pixels=400)).shape == (20, 20)


def test_broken_files_have_a_reason(tmp_path: Path, random: np.random.Generator) -> None:
    Image.fromarray(grey(random, 60)).save(tmp_path / "whole.png")
    whole = (tmp_path / "whole.png").read_bytes()
    files = {
        "empty.png": (b"", "empty file"), "text.png": (b"not an image", "unreadable"), "cut.png": (whole[:200], "header and pixels disagree"),
        "script.png": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "unreadable"), "cut.nii.gz": (b"\x1f\x8b12", "unreadable"),
        "text.dcm": (b"hello" * 100, "unreadable"), "page.html": (b"<html>", "unknown format"), "cut.npy": (b"\x93NUMPY", "unreadable"),
    }  # fmt: skip
    for name, (content, expected) in files.items():
        (tmp_path / name).write_bytes(content)
        assert reason(tmp_path / name) == expected, name
    assert reason(tmp_path / "nowhere.png") == "missing file"
    assert reason(tmp_path) == "missing file"


def test_a_pipe_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    assert reason(tmp_path / "a.png") == "missing file"


def test_pickles_are_not_opened(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([[object()]], dtype=object), allow_pickle=True)
    assert reason(tmp_path / "a.npy") == "unreadable"


def test_volumes_and_stacks_are_no_images(tmp_path: Path, random: np.random.Generator) -> None:
    np.save(tmp_path / "a.npy", random.random((5, 6, 7)))
    assert reason(tmp_path / "a.npy") == "not a 2-D image"
    frames = [Image.fromarray(grey(random)) for _ in range(3)]
    frames[0].save(tmp_path / "a.tif", save_all=True, append_images=frames[1:])
    assert reason(tmp_path / "a.tif") == "not a 2-D image"
    import nibabel

    nibabel.save(nibabel.Nifti1Image(random.random((6, 6, 6)), np.eye(4)), tmp_path / "a.nii.gz")
    assert reason(tmp_path / "a.nii.gz") == "not a 2-D image"
    nibabel.save(nibabel.Nifti1Image(random.random((6, 9, 1)), np.eye(4)), tmp_path / "b.nii.gz")
    assert read_image(tmp_path / "b.nii.gz").shape == (9, 6)  # rows run along y


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (np.full((4, 4), np.nan), "not finite"), (np.array([[0.0, np.inf]]), "not finite"), (np.full((4, 4), 7, np.uint8), "constant"),
        (np.zeros((0, 4)), "not an image"), (np.array([["a", "b"]]), "not an image"), (np.array([[1j, 2]]), "not an image"),
    ],
)  # fmt: skip
def test_values_that_say_nothing_are_refused(array: np.ndarray, expected: str) -> None:
    with pytest.raises(Unreadable) as caught:
        unit(array)
    assert caught.value.reason == expected


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.float32, np.float64, bool])
def test_every_kind_of_number_ends_between_zero_and_one(kind: type, random: np.random.Generator) -> None:
    values = random.integers(0, 2, (9, 9)) if kind is bool else random.random((9, 9)) * 2000 - 500
    image = unit(values.astype(kind))
    assert image.dtype == np.float32 and image.min() >= 0 and image.max() <= 1 and image.std() > 0
