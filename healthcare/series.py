"""DICOM series as volumes: slices in the order of their places in the patient, not of their names (PS3.3 C.7.6.2.1.1)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from healthcare.readers import Loaded, Reading, Unreadable, orderly

if TYPE_CHECKING:
    from pydicom.dataset import Dataset, FileDataset

EVEN = 0.25  # share by which a distance between slices may differ from the usual one
SAME = 1e-3  # millimetres, below which two slices lie at one place


def read_series(paths: Sequence[Path], reading: Reading) -> Loaded:
    """One volume of the files of one series.

    Raises:
        Unreadable: a file of it is, a slice is missing or there twice, or the slices do not fit together.
    """
    from healthcare.dicom import dataset

    data: list[FileDataset] = []
    voxels = 0
    for path in paths:
        with orderly(path):
            data.append(dataset(path, reading))
        voxels += int(data[-1].Rows) * int(data[-1].Columns) * int(data[-1].get("NumberOfFrames") or 1)
        if voxels > reading.limits.voxels:
            raise Unreadable("too large", f"more than {reading.limits.voxels} voxels")
    with orderly(paths[0]):
        return stacked(data, reading)


def series_of(path: Path) -> str | None:
    """The series that a file belongs to; None where it does not say, or is no DICOM file."""
    import pydicom

    try:
        header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["SeriesInstanceUID"])
    except Exception:  # it fails again, with its reason, when it is read
        return None
    return str(header.get("SeriesInstanceUID") or "").strip() or None


def stacked(data: Sequence[FileDataset], reading: Reading) -> Loaded:
    """(1, D, H, W): slices by their place along the normal; frames of a single file without places in the file's order."""
    from healthcare.dicom import frames, mapped, marks, people, rescaled, spacing

    values: list[NDArray] = []
    headers: list[Dataset] = []
    for one in data:
        for frame, header in frames(one):
            if frame.ndim != 2 or header.PhotometricInterpretation == "PALETTE COLOR":
                raise Unreadable("volume of colours", f"shape {frame.shape}")
            values.append(rescaled(frame, header))
            headers.append(header)
    if len(values) < 2:
        raise Unreadable("not a volume", "a single slice")
    if len({value.shape for value in values}) > 1:
        raise Unreadable("slices of mixed shapes", f"{len({value.shape for value in values})} shapes")
    if len({spacing(header) for header in headers}) > 1:
        raise Unreadable("slices of mixed spacing")
    places = _places(headers)
    between: tuple[float, ...] = ()
    if places is not None:
        order = np.argsort(places, kind="stable")
        between = (_even(places[order]),)
        values, headers = [values[i] for i in order], [headers[i] for i in order]
    elif len(data) > 1:
        raise Unreadable("no slice positions", f"{len(data)} files")
    whole = np.stack([value.astype(np.float32) for value in values])
    within = spacing(headers[0])
    image = mapped(whole, headers[len(headers) // 2], reading)[None]
    every = {mark for one in data for mark in marks(one)}
    return Loaded((image,), (*between, *within) if between and within else (), *people(data[0]), tuple(sorted(every)))


def _places(headers: Sequence[Any]) -> NDArray[np.float64] | None:
    """Where each slice lies along the normal of the slices, in millimetres; None where the headers do not say."""
    if any(not h.get("ImagePositionPatient") or not h.get("ImageOrientationPatient") for h in headers):
        return None
    turned = np.array([[float(v) for v in h.ImageOrientationPatient] for h in headers])
    if not np.isfinite(turned).all() or np.abs(turned - turned[0]).max() > 1e-2:
        raise Unreadable("slices of mixed orientations")
    normal = np.cross(turned[0, :3], turned[0, 3:])
    if not 0.5 < float(np.linalg.norm(normal)) < 2:
        raise Unreadable("wrong orientation", f"{turned[0].tolist()}")
    return np.array([[float(v) for v in h.ImagePositionPatient] for h in headers]) @ normal


def _even(places: NDArray[np.float64]) -> float:
    """The distance between slices (N,), sorted."""
    steps = np.diff(places)
    if not np.isfinite(steps).all():
        raise Unreadable("no slice positions", "not finite")
    if (steps < SAME).any():
        raise Unreadable("two slices at one place", f"{int((steps < SAME).sum())} times")
    usual = float(np.median(steps))
    if (np.abs(steps - usual) > EVEN * usual).any():
        raise Unreadable("slices missing or unevenly spaced", f"{steps.min():.2f} to {steps.max():.2f} mm")
    return usual


def read_folder(folder: Path, root: Path, reading: Reading) -> Loaded:
    """The only series in a folder; DICOMDIR is not read.

    Raises:
        Unreadable: no DICOM file in it, several series, a file that lies elsewhere, or see `read_series`.
    """
    from healthcare.readers import inside, kind_of

    files = sorted(f for f in folder.iterdir() if f.is_file() and f.name.upper() != "DICOMDIR" and f.name[0] != ".")
    files = [file for file in files if kind_of(file) == "dicom"]
    for file in files:
        inside(file, root)
    if not files:
        raise Unreadable("no DICOM file in the folder")
    known = {series_of(file) for file in files}
    if len(known) > 1:
        raise Unreadable("several series in one folder", f"{len(known)}")
    return read_series(files, reading)
