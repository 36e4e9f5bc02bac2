"""One file to its images or volumes. Every way to fail becomes one `Unreadable`.

Pillow, pydicom and nibabel read, which are what MONAI's readers wrap. MONAI's own were used before: they fail in five shapes (measured:
ValueError, EOFError, InvalidDicomError, RuntimeError, KeyError), pass NaN and MONOCHROME1 on in silence, put frames among the rows, and
import torch into every process that only reads. Sizes are checked from the header, before anything is decoded.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from core.errors import UserError

PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".pgm")
DICOM = (".dcm", ".dicom", ".ima", "")  # scanners often write no suffix
NIFTI = (".nii", ".nii.gz")
SUFFIXES = (*PICTURES, *DICOM, *NIFTI, ".npy")
# centre and width in Hounsfield units, as radiologists set them
WINDOWS = {"lung": (-600, 1500), "bone": (400, 1800), "brain": (40, 80), "soft": (40, 400), "mediastinum": (50, 350)}
LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601


class Unreadable(Exception):
    """A file that is set aside: `reason` is one of a few words that can be counted, `detail` says more."""

    def __init__(self, reason: str, detail: object = "") -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason, self.detail = reason, str(detail)


@dataclass(frozen=True)
class Limits:
    """Sizes above which a file is not decoded: pixels of a picture, voxels of a volume, bytes on disk."""

    pixels: int = 64_000_000
    bytes: int = 512_000_000
    voxels: int = 400_000_000


@dataclass(frozen=True)
class Reading:
    """How files become arrays; saved with a run, so that new data is read the same way.

    Attributes:
        size: side of the square or cube that every image or volume is resized to, in pixels; proportions and spacing are not kept.
        limits: sizes above which a file is set aside undecoded.
        dims: 2 for images, 3 for volumes (DICOM files are then put together by series); None: what the data holds, each DICOM frame an
            image, and what differs from most of it is set aside.
        slices: which slices of a NIfTI, .npy or .npz volume are the images where `dims` is 2.
        window: of DICOM files the one that the file names, none (then percentiles), or for CT a named one in Hounsfield units.
        frame: time point of 4-D NIfTI files, from 0; None: files with several are set aside.
        colour: whether colour files keep their three channels; otherwise they become their luminance.
        split_seed: of the division of patients into train, val and test, where the data names no split.
    """

    size: int = 28
    limits: Limits = field(default_factory=Limits)
    dims: Literal[2, 3] | None = None
    slices: Literal["middle", "all"] = "middle"
    window: Literal["file", "none", "lung", "bone", "brain", "soft", "mediastinum"] = "file"
    frame: int | None = None
    colour: bool = False
    split_seed: int = 0

    def __post_init__(self) -> None:
        if not 8 <= self.size <= 4096:
            raise UserError(f"size {self.size} is not 8 to 4096 pixels", where="size", mend="use 8 or more")


@dataclass(frozen=True)
class Loaded:
    """What one record holds.

    Attributes:
        images: each (C, H, W), or, of a volume, (C, D, H, W), in [0, 1].
        spacing: millimetres between slices (of volumes), rows and columns; empty where the file does not say.
        patient: id in the header; never written anywhere.
        study: as `patient`.
        marks: what is remarkable about it, such as text burned into the pixels.
    """

    images: tuple[NDArray[np.float32], ...]
    spacing: tuple[float, ...] = ()
    patient: str | None = None
    study: str | None = None
    marks: tuple[str, ...] = ()


def suffix(path: Path) -> str:
    """Lower-case suffix; `.nii.gz` counts as one."""
    return ".nii.gz" if path.name.lower().endswith(".nii.gz") else path.suffix.lower()


def kind_of(path: Path) -> Literal["picture", "dicom", "nifti", "array"] | None:
    """By suffix, and of other suffixes by DICOM's mark: names of DICOM files are often UIDs."""
    end = suffix(path)
    for kind, ends in (("picture", PICTURES), ("dicom", DICOM), ("nifti", NIFTI), ("array", (".npy",))):
        if end in ends:
            return kind  # type: ignore[return-value]
    try:
        if not path.is_file():  # a pipe would block
            return None
        with path.open("rb") as file:
            return "dicom" if file.read(132)[128:] == b"DICM" else None
    except OSError:
        return None


def read_file(path: Path, reading: Reading | None = None) -> Loaded:
    """The images or the volume of one file.

    8-bit values are divided by 255; other kinds have no common scale, so the DICOM window or else their 0.5 to 99.5 percentiles are
    mapped to [0, 1].

    Raises:
        Unreadable: missing, too large, broken, of another kind than asked for, not finite, or constant.
    """
    reading = reading or Reading()
    with orderly(path):
        if not path.is_file():  # also keeps pipes and devices away, which would block
            raise Unreadable("missing file")
        size = path.stat().st_size
        if size == 0:
            raise Unreadable("empty file")
        if size > reading.limits.bytes:
            raise Unreadable("too large", f"{size} bytes")
        kind = kind_of(path)
        if kind == "dicom":
            from healthcare.dicom import read_dicom as read
        elif kind == "nifti":
            from healthcare.nifti import read_nifti as read
        elif kind == "picture":
            from healthcare.pictures import read_picture as read
        elif kind == "array":
            from healthcare.pictures import read_array as read
        else:
            raise Unreadable("unknown format", suffix(path)[:16])
        return read(path, reading)


def read_image(path: Path, limits: Limits | None = None) -> NDArray[np.float32]:
    """Grey values (H, W) in [0, 1] of a file that holds one image; colours become their luminance.

    Raises:
        Unreadable: as `read_file`, or several images, or a volume.
    """
    loaded = read_file(path, Reading(limits=limits or Limits()))
    if len(loaded.images) != 1 or loaded.images[0].ndim != 3:
        raise Unreadable("not a 2-D image", f"{len(loaded.images)} of shape {loaded.images[0].shape[1:]}")
    return loaded.images[0][0]


def contained(path: Path, root: Path, reading: Reading) -> Loaded:
    """Read a file that lies in `root`, links followed: a manifest must not reach other people's files. A folder is a DICOM series.

    Raises:
        Unreadable: it lies elsewhere; or see `read_file`.
    """
    inside(path, root)
    if reading.dims == 3 and path.is_dir():
        from healthcare.series import read_folder

        return read_folder(path, root, reading)
    return read_file(path, reading)


def inside(path: Path, root: Path) -> None:
    """Raise where a path, links followed, does not lie in the folder `root`, itself resolved."""
    try:
        is_there = path.resolve().is_relative_to(root)
    except (OSError, RuntimeError, ValueError) as error:  # a loop of links, or a zero byte in the name
        raise Unreadable("unreadable", type(error).__name__) from error
    if not is_there:
        raise Unreadable("outside the data folder")


@contextmanager
def orderly(path: Path) -> Iterator[None]:
    """Whatever a library raises becomes `Unreadable`, without the file's name; its warnings, which name it too, are not shown."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except Unreadable:
        raise
    except Exception as error:
        detail = " ".join(str(error).replace(str(path), "the file").replace(path.name, "the file").split())[:120]
        raise Unreadable("unreadable", f"{type(error).__name__} {detail}".strip()) from error


def unit(array: NDArray) -> NDArray[np.float32]:
    """Values of any shape scaled into [0, 1] as `read_file` says.

    Raises:
        Unreadable: not numbers, not finite, or one single value.
    """
    if array.dtype == bool:
        array = array.astype(np.uint8) * 255
    if not (np.issubdtype(array.dtype, np.integer) or np.issubdtype(array.dtype, np.floating)):
        raise Unreadable("not an image", f"values of type {str(array.dtype)[:40]}")
    if array.size == 0:
        raise Unreadable("not an image", f"shape {array.shape}")
    floating = np.issubdtype(array.dtype, np.floating)
    if floating and not np.isfinite(array).all():
        raise Unreadable("not finite", f"{int((~np.isfinite(array)).sum())} values")
    low, high = float(array.min()), float(array.max())
    if low == high:
        raise Unreadable("constant", f"every pixel is {low:g}")
    if array.dtype == np.uint8:
        return array.astype(np.float32) / np.float32(255)
    if floating and low >= 0 and high <= 1:
        return array.astype(np.float32)
    floor, ceiling = np.percentile(array, (0.5, 99.5))
    if floor == ceiling:  # nearly constant: a few bright pixels are all there is
        floor, ceiling = low, high
    scaled = (array.astype(np.float64) - floor) / (ceiling - floor)
    return np.clip(scaled, 0, 1).astype(np.float32)


def windowed(values: NDArray, window: str) -> NDArray[np.float32]:
    """Hounsfield units through a named window, in [0, 1].

    Raises:
        Unreadable: all of it lies outside the window.
    """
    centre, width = WINDOWS[window]
    image = np.clip((values.astype(np.float32) - np.float32(centre - width / 2)) / np.float32(width), 0, 1)
    if image.min() == image.max():
        raise Unreadable("constant", f"outside the window '{window}'")
    return image.astype(np.float32)


def coloured(image: NDArray[np.float32], reading: Reading) -> tuple[NDArray[np.float32], ...]:
    """(H, W, 3) in [0, 1] as one image (3, H, W), or (1, H, W) of its luminance.

    Raises:
        Unreadable: one single value.
    """
    kept = image.transpose(2, 0, 1) if reading.colour else (image.astype(np.float32) @ LUMINANCE)[None]
    if kept.min() == kept.max():
        raise Unreadable("constant", "every pixel is the same")
    return (np.ascontiguousarray(kept, dtype=np.float32),)


def plain(array: NDArray) -> NDArray[np.float32]:
    """`unit` for an image held in memory: (H, W) or (H, W, 3)."""
    return unit(np.asarray(array))
