"""How long `check` takes on many DICOM files and how much memory: generated ones, in a process of its own."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np

from core.bench import Row, row
from core.measured import measured

if TYPE_CHECKING:
    from pydicom import Dataset

FILES, SIDE = 10_000, 128
SECONDS_GOAL, MEMORY_GOAL = 60.0, 2.0


def reading_speed(out: Path, files: int = FILES) -> list[Row]:
    """Seconds and peak memory of `check` on generated DICOM files of 128 × 128 pixels, a hundredth of them broken.

    Raises:
        UserError: the child process failed.
    """
    out.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=out) as folder:
        place = dicom_files(Path(folder) / "scans", files)
        seconds, peak = measured(
            "healthcare.cli", ["check", "--data", str(place), "--out", folder], f"{files} generated files"
        )
    data, note = "generated DICOM", f"{files:,} files of {SIDE} × {SIDE} pixels; peak of the first process"
    return [
        row(data, "check", "ours", "seconds", seconds, goal=SECONDS_GOAL, note=note),
        row(data, "check", "ours", "peak GiB", peak, goal=MEMORY_GOAL, note=note),
        row(data, "check", "ours", "files per second", files / seconds, note=note),
    ]


def dicom_files(folder: Path, files: int, seed: int = 0) -> Path:
    """Two class folders of CT slices, of patients with ten slices each; every hundredth file is cut short."""
    random = np.random.default_rng(seed)
    for name in ("clear", "lesion"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for number in range(files):
        person, place = divmod(number, 10)
        path = folder / ("lesion" if person % 2 else "clear") / f"{number:06d}.dcm"
        ct_slice(random, person, place).save_as(path, enforce_file_format=True)
        if number % 100 == 99:
            with path.open("r+b") as file:
                file.truncate(path.stat().st_size // 2)
    return folder


def ct_slice(random: np.random.Generator, person: int = 0, place: int = 0, side: int = SIDE) -> Dataset:
    """A slice of noise with 12 bits, Hounsfield units and a window; slices of one person are one series, 2.5 mm apart."""
    from pydicom import Dataset
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import UID, ExplicitVRLittleEndian

    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = UID("1.2.840.10008.5.1.4.1.1.2")
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = UID(f"2.25.{person + 1}.{place + 1}")
    data.StudyInstanceUID, data.SeriesInstanceUID = f"2.25.{person + 1}.7", f"2.25.{person + 1}.8"
    data.Modality, data.PatientID, data.PatientName = "CT", f"G{person:05d}", f"Generated^{person}"
    data.Rows = data.Columns = side
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 12, 11, 0
    data.RescaleSlope, data.RescaleIntercept, data.WindowCenter, data.WindowWidth = 1, -1024, 40, 400
    data.PixelSpacing, data.InstanceNumber = [0.7, 0.7], place + 1
    data.ImageOrientationPatient, data.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [0, 0, 2.5 * place]
    data.PixelData = random.integers(900, 1300, (side, side)).astype(np.uint16).tobytes()
    return data
