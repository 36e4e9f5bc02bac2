"""PNG, JPEG, TIFF, BMP and PGM through Pillow, and .npy arrays; sizes are checked from the header, before anything is decoded."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from healthcare.readers import WINDOWS, Loaded, Reading, Unreadable, coloured, unit

# Pillow picks a decoder by content, not by name: without this list a PostScript file called x.png would start Ghostscript
FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "PPM")
SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # of PNG's colour types


def read_picture(path: Path, reading: Reading) -> Loaded:
    """One image; of a TIFF with several pages a volume, where volumes are asked for.

    Raises:
        Unreadable: too large, broken, several pages, or values that make no image.
    """
    from PIL import Image

    _no_window(reading)
    try:
        with Image.open(path, formats=FORMATS) as picture:
            pages = int(getattr(picture, "n_frames", 1))
            pixels = picture.width * picture.height
            if pixels > reading.limits.pixels or pixels * pages > reading.limits.voxels:
                raise Unreadable("too large", f"{pixels * pages} pixels")
            if pages > 1 and reading.dims != 3:
                raise Unreadable("not a 2-D image", f"{pages} frames")
            if picture.format == "PNG":
                _honest(path)
            if pages > 1:
                return Loaded((_pages(picture, pages)[None],))
            return Loaded(
                coloured(_rgb(picture), reading) if _in_colour(picture) else (unit(np.asarray(picture))[None],)
            )
    except Image.DecompressionBombError as error:
        raise Unreadable("too large", "decompression bomb") from error


def read_array(path: Path, reading: Reading) -> Loaded:
    """An image (H, W), (H, W, 3), or a volume (D, H, W), in a .npy file; nothing is unpickled."""
    _no_window(reading)
    array = np.load(path, mmap_mode="r", allow_pickle=False)  # the header alone
    if not isinstance(array, np.ndarray):
        raise Unreadable("not an image", "an archive")
    if array.size > (reading.limits.pixels if array.ndim < 3 else reading.limits.voxels):
        raise Unreadable("too large", f"{array.size} pixels")
    if array.ndim == 3 and array.shape[2] == 3:
        if array.dtype == np.uint8:
            return Loaded(coloured(array.astype(np.float32) / np.float32(255), reading))
        return Loaded(coloured(unit(np.asarray(array)), reading))
    values = np.asarray(array)
    flat = values if values.ndim == 2 else np.squeeze(values)
    if flat.ndim not in (2, 3):
        raise Unreadable("not an image", f"shape {array.shape}")
    return Loaded((unit(flat)[None],))


def _no_window(reading: Reading) -> None:
    if reading.window in WINDOWS:
        raise Unreadable("no Hounsfield units", f"window '{reading.window}' is for CT")


def _in_colour(picture: Any) -> bool:
    """16-bit and float pictures stay as they are, since converting them clips."""
    return not (picture.mode in ("1", "L", "F") or picture.mode.startswith("I"))


def _rgb(picture: Any) -> NDArray[np.float32]:
    if picture.mode in ("LA", "La"):  # grey with transparency
        picture = picture.convert("L")
    return np.asarray(picture.convert("RGB"), dtype=np.float32) / np.float32(255)


def _pages(picture: Any, pages: int) -> NDArray[np.float32]:
    """(D, H, W)"""
    made = []
    for page in range(pages):
        picture.seek(page)
        made.append(np.asarray(picture.convert("L") if _in_colour(picture) else picture))
        if made[-1].shape != made[0].shape:
            raise Unreadable("slices of mixed shapes", f"{made[-1].shape}, not {made[0].shape}")
    return unit(np.stack(made))


def _honest(path: Path) -> None:
    """Raise where a PNG's pixels are more or fewer than its header says; Pillow takes what is there."""
    data, at, packed = path.read_bytes(), 8, []
    while at + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        if kind == b"IDAT":
            packed.append(data[at + 8 : at + 8 + length])
        elif kind == b"IEND" or (kind == b"acTL"):
            break
        at += 12 + length
    width, height, bits, colour, _, _, interlaced = struct.unpack_from(">IIBBBBB", data, 16)
    if interlaced or colour not in SAMPLES:
        return  # seven passes, each of a size of its own: Pillow knows them
    said = height * (1 + (width * SAMPLES[colour] * bits + 7) // 8)
    inflate = zlib.decompressobj()
    found = len(inflate.decompress(b"".join(packed), said + 1))
    if found != said:
        raise Unreadable("header and pixels disagree", f"{found} bytes{' or more' if found > said else ''}, not {said}")
