"""Volumes too large to be resized or held: opened where they lie, and read cube by cube at full resolution."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from core.errors import UserError
from core.quarantine import Quarantine
from core.tokens import Batch
from healthcare.readers import Limits, Unreadable, suffix

SUFFIXES = (".npy", ".nii", ".nii.gz")
SAMPLE = 2**20  # voxels whose percentiles stand for the volume's
TRIES = 8  # cubes that are drawn where those before hold nothing but air
FLAT = 0.02  # spread of grey values, in [0, 1], below which a cube holds nothing


@dataclass(frozen=True)
class Volume:
    """One volume (D, H, W) on disk; its values become [0, 1] between its 0.5 and 99.5 percentiles."""

    source: Any  # a memory map, or nibabel's proxy: what is sliced is read
    low: float
    high: float

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.source.shape[:3]

    def cube(self, corner: tuple[int, ...], size: int) -> NDArray[np.float32]:
        """(size, size, size) from that corner on."""
        values = np.asarray(self.source[tuple(slice(at, at + size) for at in corner)], dtype=np.float32)
        return np.clip((values - self.low) / (self.high - self.low), 0, 1)


@dataclass(frozen=True)
class Volumes:
    """N usable volumes and what was set aside.

    Attributes:
        volumes: opened, not read.
        where: (N,) paths relative to the data: for tables made for the data's owner, never for reports.
        quarantine: files set aside, each with its reason.
    """

    volumes: tuple[Volume, ...]
    where: NDArray[np.object_]
    quarantine: Quarantine = field(default_factory=Quarantine)

    def __len__(self) -> int:
        return len(self.volumes)

    def grid(self, row: int, size: int) -> Iterator[NDArray[np.float32]]:
        """Cubes (size, size, size) that cover one volume; the last along an axis overlaps the one before."""
        volume = self.volumes[row]
        starts = [[*range(0, side - size, size), side - size] for side in volume.shape]
        for corner in itertools.product(*starts):
            yield volume.cube(corner, size)


def open_volumes(data: str | Path, size: int, limits: Limits | None = None) -> Volumes:
    """The volumes of one file, or of a folder and those below it: `.npy`, `.nii`, `.nii.gz` (which is unpacked into memory).

    Args:
        size: side of the cubes that will be cut; a volume with a shorter side is set aside.
        limits: files of more bytes are set aside.

    Raises:
        UserError: nothing there, or nothing usable.
    """
    place, limits, quarantine = Path(data), limits or Limits(), Quarantine()
    root = place if place.is_dir() else place.parent
    files = sorted(f for f in place.rglob("*") if suffix(f) in SUFFIXES) if place.is_dir() else [place]
    if not files or not files[0].exists() or suffix(files[0]) not in SUFFIXES:
        raise UserError(
            "no volume there", where=data, mend=f"give a folder or a file that ends in {' '.join(SUFFIXES)}"
        )
    kept, where = [], []
    for file in files:
        name = str(file.relative_to(root))
        try:
            kept.append(_opened(file, root, size, limits))
            where.append(name)
        except Unreadable as error:
            quarantine.add(name, error.reason, error.detail)
    if not kept:
        raise UserError(f"no usable volume; {quarantine.summary()}", where=data, mend="give 3-D .npy or NIfTI files")
    return Volumes(tuple(kept), np.array(where, dtype=object), quarantine)


@dataclass(frozen=True)
class CubeBatches:
    """Random cubes of volumes, as batches `{"image": (B, 1, size, size, size), "index": (B,)}`; those of a later epoch are others.

    Args:
        data: where they are cut from.
        size: side of a cube, in voxels.
        cubes: of each volume, an epoch.
        batch_size: cubes a batch.
        seed: of the order and the places.
    """

    data: Volumes
    size: int
    cubes: int
    batch_size: int
    seed: int = 0

    def __post_init__(self) -> None:
        if self.rows < 2 or self.batch_size < 2:
            raise UserError(
                f"{self.rows} cubes in batches of {self.batch_size}", where="patches", mend="use 2 or more of both"
            )

    @property
    def rows(self) -> int:
        return len(self.data) * self.cubes

    def __len__(self) -> int:
        return max(1, self.rows // self.batch_size)

    def batch(self, epoch: int, number: int) -> Batch:
        order = np.random.default_rng([self.seed, epoch]).permutation(self.rows)
        return self._cut(order[number * self.batch_size : (number + 1) * self.batch_size], epoch)

    def at(self, rows: NDArray) -> Batch:
        return self._cut(rows, 0)

    def ordered(self) -> Iterator[Batch]:
        for start in range(0, self.rows, self.batch_size):
            yield self.at(np.arange(start, min(start + self.batch_size, self.rows)))

    def _cut(self, rows: NDArray, epoch: int) -> Batch:
        cut = np.stack([self._one(int(row), epoch) for row in rows])
        return {"image": torch.from_numpy(cut[:, None]), "index": torch.from_numpy(rows)}

    def _one(self, row: int, epoch: int) -> NDArray[np.float32]:
        """The row's cube in that epoch: the first drawn that is not air alone, or the last of `TRIES`."""
        volume, random = self.data.volumes[row % len(self.data)], np.random.default_rng([self.seed, epoch, row])
        for _ in range(TRIES):
            cube = volume.cube(tuple(int(random.integers(0, side - self.size + 1)) for side in volume.shape), self.size)
            if cube.std() > FLAT:
                break
        return cube


def _opened(file: Path, root: Path, size: int, limits: Limits) -> Volume:
    """One volume, looked at once from end to end.

    Raises:
        Unreadable: outside the folder, too large, broken, not 3-D, smaller than a cube, not finite, or constant.
    """
    try:
        if not file.resolve().is_relative_to(root.resolve()):
            raise Unreadable("outside the data folder")
        if file.stat().st_size > limits.bytes:
            raise Unreadable("too large", f"{file.stat().st_size} bytes")
        source = _source(file)
        shape = tuple(source.shape)
        if len(shape) != 3:
            raise Unreadable("not a 3-D volume", f"shape {shape}")
        if min(shape) < size:
            raise Unreadable("smaller than a cube", f"shape {shape}, cubes of {size}")
        step = max(1, round((np.prod(shape, dtype=float) / SAMPLE) ** (1 / 3)))
        sample = []
        for plane in range(shape[0]):
            values = np.asarray(source[plane])
            if not np.isfinite(values).all():
                raise Unreadable("not finite", f"in slice {plane}")
            if plane % step == 0:
                sample.append(values[::step, ::step].astype(np.float32).ravel())
    except Unreadable:
        raise
    except Exception as error:  # numpy, nibabel and gzip raise a dozen kinds on a damaged file
        raise Unreadable("unreadable", type(error).__name__) from error
    low, high = np.percentile(np.concatenate(sample), (0.5, 99.5))
    if not low < high:
        raise Unreadable("constant", f"between its percentiles every voxel is {low:g}")
    return Volume(source, float(low), float(high))


def _source(file: Path) -> Any:
    if suffix(file) == ".npy":
        array = np.load(file, mmap_mode="r", allow_pickle=False)
        if array.dtype.kind not in "iuf":
            raise Unreadable("not an image", f"values of type {array.dtype}")
        return array
    import nibabel

    proxy = nibabel.load(file).dataobj  # type: ignore[attr-defined]
    return (
        proxy if suffix(file) == ".nii" else np.asarray(proxy, dtype=np.float32)
    )  # a packed file has no places to go to
