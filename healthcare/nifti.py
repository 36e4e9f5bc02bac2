"""NIfTI volumes, turned to one orientation; nibabel reads. MONAI's reader leaves the axes as the file has them."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from healthcare.readers import WINDOWS, Loaded, Reading, Unreadable, unit, windowed

EXTENSION = 1 << 24  # bytes of header extensions, which nibabel would read whole


def read_nifti(path: Path, reading: Reading) -> Loaded:
    """One volume (1, D, H, W), or, of a file with a single slice, an image (1, H, W).

    Axes are those of an axial DICOM image: slices from the feet to the head, rows from front to back, columns from the patient's
    right to the left, as far as the affine tells. Of several time points the one that `reading.frame` chooses is read.

    Raises:
        Unreadable: too large, several time points and none chosen, an affine or spacing that cannot be, or no image.
    """
    import nibabel
    from nibabel import orientations

    _short(path)
    image = nibabel.load(path)
    shape = tuple(int(length) for length in image.shape)  # type: ignore[attr-defined]
    if not shape or min(shape) < 1:
        raise Unreadable("not an image", f"shape {shape}")
    space, times = (*shape, 1, 1)[:3], shape[3:]
    if int(np.prod(space, dtype=object)) > reading.limits.voxels:
        raise Unreadable("too large", f"shape {shape}")
    if any(length > 1 for length in times[1:]):
        raise Unreadable("more than four dimensions", f"shape {shape}")
    several = times[0] if times else 1
    if several > 1 and reading.frame is None:
        raise Unreadable("several time points", f"{several}; reading.frame chooses one")
    if reading.frame is not None and not 0 <= reading.frame < several:
        raise Unreadable("no such time point", f"{reading.frame} of {several}")
    place = (reading.frame or 0,) + (0,) * (len(times) - 1) if times else ()
    values = np.asarray(image.dataobj[(slice(None),) * min(len(shape), 3) + place]).reshape(space)  # type: ignore[attr-defined]
    zooms = _spacing(image)
    turn = orientations.io_orientation(image.affine)  # type: ignore[attr-defined]
    if np.isnan(turn).any():
        raise Unreadable("wrong affine", "an axis points nowhere")
    values = orientations.apply_orientation(values, turn)
    zooms = tuple(zooms[i] for i in np.argsort(turn[:, 0]))
    return _as_shown(_mapped(values, reading), zooms)


def _as_shown(values: NDArray[np.float32], zooms: tuple[float, ...]) -> Loaded:
    """Right-anterior-superior (X, Y, Z) as slices, rows and columns; a single slice as an image, its upper end at row 0."""
    thin = [axis for axis in range(3) if values.shape[axis] == 1]
    if len(thin) > 1:
        raise Unreadable("not an image", f"shape {values.shape}")
    if thin:
        plane = np.squeeze(values, thin[0])[::-1, ::-1].T
        kept = [zooms[axis] for axis in (2, 1, 0) if axis != thin[0]]
        return Loaded((np.ascontiguousarray(plane)[None],), tuple(kept))
    return Loaded((np.ascontiguousarray(values[::-1, ::-1].transpose(2, 1, 0))[None],), zooms[::-1])


def _mapped(values: NDArray, reading: Reading) -> NDArray[np.float32]:
    if reading.window in WINDOWS:
        if np.issubdtype(values.dtype, np.floating) and not np.isfinite(values).all():
            raise Unreadable("not finite", f"{int((~np.isfinite(values)).sum())} values")
        if values.min() >= 0:  # air is −1000 Hounsfield units
            raise Unreadable("no Hounsfield units", f"no value below 0; window '{reading.window}' is for CT")
        return windowed(values, reading.window)
    return unit(values)


def _spacing(image: object) -> tuple[float, ...]:
    zooms = (*map(float, image.header.get_zooms()), 1.0, 1.0)[:3]  # type: ignore[attr-defined]
    affine = np.asarray(image.affine, dtype=np.float64)  # type: ignore[attr-defined]
    if not np.isfinite(affine).all():
        raise Unreadable("wrong affine", "not finite")
    if not all(0 < zoom < 1e4 for zoom in zooms):
        raise Unreadable("wrong spacing", f"{zooms}")
    said = np.sqrt((affine[:3, :3] ** 2).sum(axis=0))
    if (np.abs(said - zooms) > 0.05 * np.array(zooms)).any():
        raise Unreadable(
            "wrong spacing", f"header {np.round(zooms, 3).tolist()}, affine {np.round(said, 3).tolist()} mm"
        )
    return zooms


def _short(path: Path) -> None:
    """Raise where the header's extensions are longer than any real one: they would be read before the shape is known."""
    with gzip.open(path) if path.name.lower().endswith(".gz") else path.open("rb") as file:
        head = file.read(352 + 192)
    if len(head) < 352:
        raise Unreadable("unreadable", f"{len(head)} bytes are no NIfTI header")
    for order in "<>":
        size = struct.unpack_from(f"{order}i", head)[0]
        if size == 348:
            offset = struct.unpack_from(f"{order}f", head, 108)[0]
        elif size == 540:
            offset = struct.unpack_from(f"{order}q", head, 168)[0]
        else:
            continue
        if not 0 <= offset <= EXTENSION:
            raise Unreadable("too large", f"{offset:.0f} bytes of header")
