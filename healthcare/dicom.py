"""DICOM files: every frame an image, its values as the file's own chain of tables says (PS3.3 C.7.6.3, C.11.1, C.11.2).

Stored values → modality rescale → VOI window → [0, 1] → MONOCHROME1 turned round, in this order. pydicom decodes; MONAI's reader
puts the frame axis among the rows and leaves windows and MONOCHROME1 alone.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from healthcare.readers import WINDOWS, Loaded, Reading, Unreadable, coloured, unit, windowed

if TYPE_CHECKING:
    from pydicom import Dataset
    from pydicom.dataset import FileDataset

DIRECTORY = "1.2.840.10008.1.3.10"  # of a DICOMDIR: it lists files, and may list others' (CVE-2026-32711)
DEFLATED = "1.2.840.10008.1.2.1.99"
JPEG2000 = b"\xff\x4f\xff\x51"  # start of a codestream, and its sizes
BURNED_IN = "text may be burned into the pixels"
# functional groups of enhanced files that say what older files say in the open
GROUPS = (
    "PixelValueTransformationSequence", "FrameVOILUTSequence", "PixelMeasuresSequence", "PlanePositionSequence",
    "PlaneOrientationSequence",
)  # fmt: skip
# what pixels mean; the rest of a header is not even decoded
KEPT = (
    "Modality", "SamplesPerPixel", "BitsAllocated", "BitsStored", "PixelRepresentation", "RescaleSlope", "RescaleIntercept",
    "ModalityLUTSequence", "VOILUTSequence", "VOILUTFunction", "WindowCenter", "WindowWidth", "PixelSpacing", "ImagerPixelSpacing",
    "ImagePositionPatient", "ImageOrientationPatient",
    *(f"{colour}PaletteColorLookupTable{part}" for colour in ("Red", "Green", "Blue") for part in ("Descriptor", "Data")),
    *(f"Segmented{colour}PaletteColorLookupTableData" for colour in ("Red", "Green", "Blue")),
)  # fmt: skip


def read_dicom(path: Path, reading: Reading) -> Loaded:
    """Every frame of a file, or, where volumes are asked for, its frames as one volume.

    Raises:
        Unreadable: no pixels, too large, a transfer syntax without decoder, or values that make no image.
    """
    data = dataset(path, reading)
    if reading.dims == 3:
        from healthcare.series import stacked

        return stacked([data], reading)
    images = tuple(
        shown(values, header, reading, where=f"frame {number + 1}")
        for number, (values, header) in enumerate(frames(data))
    )
    return Loaded(images, spacing(data), *people(data), marks(data))


def dataset(path: Path, reading: Reading) -> FileDataset:
    """A file with its pixels undecoded, its size checked from the header."""
    import pydicom

    meta = pydicom.filereader.read_file_meta_info(path)
    if meta.get("TransferSyntaxUID") == DEFLATED:
        _deflated(path, int(meta.get("FileMetaInformationGroupLength", 0)), reading.limits.bytes)
    data = pydicom.dcmread(path)
    if meta.get("MediaStorageSOPClassUID") == DIRECTORY or "DirectoryRecordSequence" in data:
        raise Unreadable("DICOMDIR", "lists files and holds no image")
    rows, columns = data.get("Rows"), data.get("Columns")
    if not rows or not columns or not any(k in data for k in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
        raise Unreadable("no pixel data", f"DICOM modality {str(data.get('Modality', 'unknown'))[:16]}")
    pixels = int(rows) * int(columns) * int(data.get("SamplesPerPixel") or 1)
    count = int(data.get("NumberOfFrames") or 1)
    if count < 1:
        raise Unreadable("no pixel data", f"{count} frames")
    limit = reading.limits.voxels if count > 1 else reading.limits.pixels
    if pixels > reading.limits.pixels or pixels * count > limit:
        raise Unreadable("too large", f"{pixels * count} pixels")
    return data


def frames(data: FileDataset) -> Iterator[tuple[NDArray, Dataset]]:
    """Stored values of each frame, (H, W) or (H, W, 3) in RGB, with what the header says of it."""
    from pydicom.pixels import get_decoder

    syntax = data.file_meta.TransferSyntaxUID
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError as error:
        raise Unreadable("no decoder", f"transfer syntax {syntax}") from error
    if not decoder.is_available:
        raise Unreadable("no decoder", f"for {syntax.name}; python-gdcm or a plugin of pylibjpeg may bring one")
    _filled(data, decoder.is_encapsulated)
    for number, (values, kind) in enumerate(decoder.iter_array(data, raw=False)):
        yield values, _of_frame(data, number, str(kind["photometric_interpretation"]))


def rescaled(values: NDArray, header: Dataset) -> NDArray:
    """Values after the modality rescale or its table: Hounsfield units for CT."""
    from pydicom.pixels import apply_modality_lut

    return apply_modality_lut(values, header)


def shown(values: NDArray, header: Dataset, reading: Reading, where: str = "") -> NDArray[np.float32]:
    """Stored values of one frame as (C, H, W) in [0, 1]."""
    if values.ndim == 3 or header.PhotometricInterpretation == "PALETTE COLOR":
        return coloured(_colours(values, header), reading)[0]
    return mapped(rescaled(values, header), header, reading, where)[None]


def mapped(values: NDArray, header: Dataset, reading: Reading, where: str = "") -> NDArray[np.float32]:
    """Rescaled values of any shape in [0, 1]: through a named window, else the file's own, else between percentiles."""
    if np.issubdtype(values.dtype, np.floating) and not np.isfinite(values).all():
        raise Unreadable("not finite", f"{int((~np.isfinite(values)).sum())} values")
    if reading.window in WINDOWS:
        if header.get("Modality") != "CT":
            raise Unreadable("no Hounsfield units", f"window '{reading.window}' is for CT")
        image = windowed(values, reading.window)
    elif reading.window == "file" and ("VOILUTSequence" in header or _has_window(header)):
        if values.min() == values.max():
            raise Unreadable("constant", where)
        if "VOILUTSequence" in header:
            image = _looked_up(values, header)
        else:
            from pydicom.pixels import apply_windowing

            low, high = _range(header)
            image = np.clip((apply_windowing(values, header) - low) / (high - low), 0, 1).astype(np.float32)
        if image.min() == image.max():
            raise Unreadable("constant", "outside the window that the file names")
    else:
        image = unit(values)
    return 1 - image if header.PhotometricInterpretation == "MONOCHROME1" else image


def people(data: Dataset) -> tuple[str | None, str | None]:
    """Ids of patient and study, None where the file has none. They become codes and are never written."""
    patient, study = (str(data.get(key) or "").strip() or None for key in ("PatientID", "StudyInstanceUID"))
    return patient, study


def marks(data: Dataset) -> tuple[str, ...]:
    return (BURNED_IN,) if str(data.get("BurnedInAnnotation") or "").strip().upper() == "YES" else ()


def spacing(header: Dataset) -> tuple[float, ...]:
    """Millimetres between rows and between columns; empty where the file does not say.

    Raises:
        Unreadable: it says what no distance can be.
    """
    said = header.get("PixelSpacing") or header.get("ImagerPixelSpacing")
    if not said and "SharedFunctionalGroupsSequence" in header:
        said = _of_frame(header, 0, "").get("PixelSpacing")
    if not said:
        return ()
    values = tuple(float(value) for value in said)
    if len(values) != 2 or not all(0 < value < 1e4 for value in values):
        raise Unreadable("wrong spacing", f"{values}")
    return values


def _of_frame(data: Any, number: int, photometric: str) -> Dataset:
    """The header as it holds for one frame: shared and own functional groups laid open."""
    from pydicom import Dataset

    own = Dataset()
    own.file_meta = data.file_meta  # tables are bytes, whose order it tells
    for key in KEPT:
        if key in data:
            own[key] = data[key]
    for name, at in (("SharedFunctionalGroupsSequence", 0), ("PerFrameFunctionalGroupsSequence", number)):
        groups = data.get(name) or ()
        for key in GROUPS if at < len(groups) else ():
            if groups[at].get(key):
                own.update(groups[at][key].value[0])
    own.PhotometricInterpretation = photometric
    return own


def _filled(data: FileDataset, encapsulated: bool) -> None:
    """Raise where pixels are twice what the header says or more: it leaves images out, or hides how large they are."""
    if "PixelData" not in data:
        return
    if encapsulated:
        start = data.PixelData.find(JPEG2000, 0, 1 << 16)
        if start >= 0 and len(data.PixelData) >= start + 24:
            right, lower, left, upper = struct.unpack_from(">4I", data.PixelData, start + 8)
            if (right - left) * (lower - upper) >= 2 * int(data.Rows) * int(data.Columns):
                raise Unreadable("header and pixels disagree", f"JPEG 2000 of {right - left} × {lower - upper}")
        return
    bits = int(data.get("BitsAllocated") or 8)
    count = int(data.get("NumberOfFrames") or 1) * int(data.get("SamplesPerPixel") or 1)
    said = int(data.Rows) * int(data.Columns) * count * bits // 8
    if len(data.PixelData) >= 2 * max(said, 16):
        raise Unreadable("header and pixels disagree", f"{len(data.PixelData)} bytes, not {said}")


def _looked_up(values: NDArray, header: Dataset) -> NDArray[np.float32]:
    """Values through the file's VOI table, in [0, 1]. pydicom's function counts places in an 8-bit table in eight bits, and wraps."""
    item = header.VOILUTSequence[0]
    entries, first, bits = (int(value) for value in item.LUTDescriptor)
    entries = entries or 2**16
    data = item.LUTData
    if isinstance(data, bytes):
        wide = len(data) >= 2 * entries
        order = "<" if header.file_meta.TransferSyntaxUID.is_little_endian else ">"
        table = np.frombuffer(data, f"{order}u2" if wide else np.uint8, entries)
    else:
        table = np.asarray(data)
    if not 1 <= bits <= 16 or len(table) != entries:
        raise Unreadable("wrong VOI table", f"{len(table)} entries of {entries}, {bits} bits")
    place = np.clip(np.rint(values).astype(np.int64) - first, 0, entries - 1)
    return np.clip(table[place] / (2**bits - 1), 0, 1).astype(np.float32)


def _has_window(header: Dataset) -> bool:
    return header.get("WindowCenter") is not None and header.get("WindowWidth") is not None


def _range(header: Dataset) -> tuple[float, float]:
    """Between what values pydicom's windowing maps."""
    if "ModalityLUTSequence" in header:
        return 0.0, float(2 ** int(header.ModalityLUTSequence[0].LUTDescriptor[2]) - 1)
    bits, signed = int(header.BitsStored), int(header.PixelRepresentation)
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    if header.get("RescaleSlope") is not None and header.get("RescaleIntercept") is not None:
        slope, intercept = float(header.RescaleSlope), float(header.RescaleIntercept)
        return low * slope + intercept, high * slope + intercept
    return float(low), float(high)


def _colours(values: NDArray, header: Dataset) -> NDArray[np.float32]:
    """(H, W, 3) in [0, 1]."""
    kind = header.PhotometricInterpretation
    if kind == "PALETTE COLOR":
        from pydicom.pixels import apply_color_lut

        values = apply_color_lut(values, header)
        top = float(np.iinfo(values.dtype).max)
    elif kind == "RGB" and values.shape[-1] == 3:
        top = float(2 ** int(header.BitsStored) - 1)
    else:
        raise Unreadable("unknown colours", str(kind)[:16])
    return np.clip(values[..., :3].astype(np.float32) / np.float32(top), 0, 1)


def _deflated(path: Path, length: int, limit: int) -> None:
    """Raise where a deflated file holds more than `limit` bytes; pydicom would inflate it all at once."""
    inflate, size = zlib.decompressobj(-zlib.MAX_WBITS), 0
    with path.open("rb") as file:
        file.seek(132 + 12 + length)
        while chunk := file.read(1 << 16):
            while chunk and not inflate.eof:
                size += len(inflate.decompress(chunk, 1 << 20))
                chunk = inflate.unconsumed_tail
                if size > limit:
                    raise Unreadable("too large", f"more than {limit} bytes inflated")
