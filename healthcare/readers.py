"""One image file to one 2-D array, through MONAI's readers. Every way to fail becomes one `Unreadable`.

MONAI's readers fail in five shapes (measured: ValueError, EOFError, InvalidDicomError, RuntimeError, KeyError) and pass
NaN, colour frames and MONOCHROME1 on in silence; sizes are checked from the header, before anything is decoded.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from core.errors import UserError

PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".pgm")
# PIL picks a decoder by content, not by name: without this list a PostScript file called x.png would start Ghostscript
FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "PPM")
DICOM = (".dcm", ".dicom", "")  # scanners often write no suffix
NIFTI = (".nii", ".nii.gz")
SUFFIXES = (*PICTURES, *DICOM, *NIFTI, ".npy")


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
        dims: 2 for images, 3 for volumes; None: what the data holds, and what differs from most of it is set aside.
        slices: which slices of a volume are the images where `dims` is 2.
        split_seed: of the division of patients into train, val and test, where the data names no split.
    """

    size: int = 28
    limits: Limits = field(default_factory=Limits)
    dims: Literal[2, 3] | None = None
    slices: Literal["middle", "all"] = "middle"
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
        marks: what is remarkable about it, such as names burned into the pixels.
    """

    images: tuple[NDArray[np.float32], ...]
    spacing: tuple[float, ...] = ()
    patient: str | None = None
    study: str | None = None
    marks: tuple[str, ...] = ()


def suffix(path: Path) -> str:
    """Lower-case suffix; `.nii.gz` counts as one."""
    return ".nii.gz" if path.name.lower().endswith(".nii.gz") else path.suffix.lower()


def read_image(path: Path, limits: Limits | None = None) -> NDArray[np.float32]:
    """Grey values (H, W) in [0, 1] of one file.

    8-bit values are divided by 255; other kinds have no common scale, so their 0.5 to 99.5 percentiles are mapped to
    [0, 1]. Colour pictures become their luminance. DICOM MONOCHROME1 (where white is low) is inverted; VOI windows are
    not applied.

    Raises:
        Unreadable: missing, too large, broken, not a 2-D image, not finite, or constant.
    """
    limits = limits or Limits()
    if not path.is_file():  # also keeps pipes and devices away, which would block
        raise Unreadable("missing file")
    size = path.stat().st_size
    if size == 0:
        raise Unreadable("empty file")
    if size > limits.bytes:
        raise Unreadable("too large", f"{size} bytes")
    kind = suffix(path)
    load = (
        _picture if kind in PICTURES else _dicom if kind in DICOM else _nifti if kind in NIFTI
        else _numpy if kind == ".npy" else None
    )  # fmt: skip
    if load is None:
        raise Unreadable("unknown format", kind)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a warning names the file; what matters ends up in the quarantine
            array = load(path, limits)
    except Unreadable:
        raise
    except Exception as error:  # the readers raise whatever their libraries raise
        detail = " ".join(str(error).replace(str(path), "the file").split())[:120]
        raise Unreadable("unreadable", f"{type(error).__name__} {detail}".strip()) from error
    return unit(array)


def contained(path: Path, root: Path, reading: Reading) -> Loaded:
    """Read a file that lies in `root`, links followed: a manifest must not reach other people's files.

    Raises:
        Unreadable: it lies elsewhere; or see `read_image`.
    """
    try:
        inside = path.resolve().is_relative_to(root)
    except (OSError, RuntimeError, ValueError) as error:  # a loop of links, or a zero byte in the name
        raise Unreadable("unreadable", type(error).__name__) from error
    if not inside:
        raise Unreadable("outside the data folder")
    return Loaded((read_image(path, reading.limits)[None],))


def unit(array: NDArray) -> NDArray[np.float32]:
    """Values (H, W) or (H, W, 3) scaled into [0, 1] as `read_image` says.

    Raises:
        Unreadable: not numbers, not finite, or one single value.
    """
    if array.dtype == bool:
        array = array.astype(np.uint8) * 255
    if not (np.issubdtype(array.dtype, np.integer) or np.issubdtype(array.dtype, np.floating)):
        raise Unreadable("not an image", f"values of type {array.dtype}")
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


def _flat(array: NDArray) -> NDArray:
    """Without axes of length 1; what is left must be height × width."""
    squeezed = np.squeeze(np.asarray(array))
    if squeezed.ndim != 2:
        raise Unreadable("not a 2-D image", f"shape {tuple(np.shape(array))}")
    return squeezed


def _capped(pixels: int, limits: Limits) -> None:
    if pixels > limits.pixels:
        raise Unreadable("too large", f"{pixels} pixels")


@cache
def _reader(name: str) -> Any:
    """MONAI's reader. Its axes are swapped by default (width first); ours are rows × columns."""
    from monai.data import image_reader

    if name == "PILReader":
        return image_reader.PILReader(converter=_grey, reverse_indexing=False, formats=FORMATS)
    if name == "PydicomReader":
        return image_reader.PydicomReader(swap_ij=False)
    if name == "NumpyReader":
        return image_reader.NumpyReader(allow_pickle=False)
    return image_reader.NibabelReader()


def _through(name: str, path: Path) -> NDArray:
    reader = _reader(name)
    array, _ = reader.get_data(reader.read(path))
    return np.asarray(array)


def _grey(image: Any) -> Any:
    """Luminance of a colour picture; 16-bit and float pictures stay as they are, since converting them clips."""
    return image if image.mode in ("L", "F") or image.mode.startswith("I") else image.convert("L")


def _picture(path: Path, limits: Limits) -> NDArray:
    from PIL import Image

    try:
        with Image.open(path, formats=FORMATS) as header:
            _capped(header.width * header.height, limits)
            frames = getattr(header, "n_frames", 1)
    except Image.DecompressionBombError as error:
        raise Unreadable("too large", "decompression bomb") from error
    if frames > 1:
        raise Unreadable("not a 2-D image", f"{frames} frames")
    return _flat(_through("PILReader", path))


def _dicom(path: Path, limits: Limits) -> NDArray:
    import pydicom

    header = pydicom.dcmread(path, stop_before_pixels=True)
    rows, columns = header.get("Rows"), header.get("Columns")
    if not rows or not columns:
        raise Unreadable("no pixel data", f"DICOM modality {header.get('Modality', 'unknown')}")
    frames, samples = int(header.get("NumberOfFrames") or 1), int(header.get("SamplesPerPixel") or 1)
    _capped(int(rows) * int(columns) * frames * samples, limits)
    if frames > 1 or samples > 1:
        raise Unreadable("not a 2-D image", f"{frames} frames of {samples} samples per pixel")
    array = _flat(_through("PydicomReader", path))
    if header.get("PhotometricInterpretation") == "MONOCHROME1":
        array = array.max() + array.min() - array
    return array


def _nifti(path: Path, limits: Limits) -> NDArray:
    import nibabel

    shape = nibabel.load(path).shape  # type: ignore[attr-defined]
    _capped(int(np.prod(shape, dtype=np.int64)), limits)
    if sum(length != 1 for length in shape) > 2:
        raise Unreadable("not a 2-D image", f"shape {tuple(int(length) for length in shape)}")
    return _flat(_through("NibabelReader", path))


def _numpy(path: Path, limits: Limits) -> NDArray:
    array = np.load(path, mmap_mode="r", allow_pickle=False)  # the header alone
    _capped(int(array.size), limits)
    return _flat(_through("NumpyReader", path))
