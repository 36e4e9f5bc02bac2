"""CT-like volumes with planted lesions: a trunk, two lungs and a spine, whose tissue is grain in the healthy, fibres in the sick.

As in `healthcare.synthetic`, the two textures have one radial spectrum, brightness and contrast; of the sick, it varies across one
direction alone, another in every volume.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray


def person(
    volumes: int, sick: bool, size: int, contrast: float, noise: float, random: np.random.Generator
) -> NDArray[np.uint8]:
    """All volumes (volumes, size, size, size) of one patient; axes are depth, height, width.

    Args:
        contrast: of the texture; at 0 nothing separates the classes.
        noise: standard deviation of the detector's noise, on the scale where white is 1.
    """
    z, y, x = np.mgrid[0:size, 0:size, 0:size] / (size - 1) * 2 - 1
    wide, deep, gap = random.uniform(0.3, 0.4), random.uniform(0.55, 0.75), random.uniform(0.4, 0.5)
    body, air = random.uniform(0.55, 0.8), random.uniform(0.15, 0.35)
    out = np.empty((volumes, size, size, size), np.uint8)
    for i in range(volumes):
        dx, dy, dz = random.normal(0, 0.06, 3)
        trunk = _inside((x - dx) / 0.95, (y - dy) / 0.8, 0.3 * z, 8)
        lungs = np.maximum(*(_inside((x + at - dx) / wide, (y - dy) / 0.55, (z - dz) / deep, 6) for at in (-gap, gap)))
        volume = trunk * (body - (body - air) * lungs)
        volume += 0.2 * np.exp(-(((x - dx) / 0.12) ** 2) - ((y - 0.55 - dy) / 0.15) ** 2)  # the spine
        volume += (0.3 + trunk) * contrast * random.uniform(0.2, 0.35) * texture(size, sick, random)
        exposure, gain = random.uniform(-0.1, 0.1), random.uniform(0.7, 1.2)
        volume = 0.5 + gain * (volume - 0.5) + exposure + random.normal(0, noise, volume.shape)
        out[i] = np.clip(volume * 255, 0, 255).astype(np.uint8)
    return out


def texture(size: int, sick: bool, random: np.random.Generator) -> NDArray[np.float64]:
    """A field (size, size, size) of mean 0 and variance 1: noise of one band of wavelengths (4 to 6 voxels), in all directions or,
    in the sick, near one."""
    frequency = np.stack(np.meshgrid(*[np.fft.fftfreq(size)] * 3, indexing="ij"))  # (3, D, H, W)
    radius = np.sqrt((frequency**2).sum(0))
    band = np.exp(-(((radius - random.uniform(0.17, 0.27)) / 0.05) ** 2))
    if sick:
        direction = random.normal(size=3)
        along = np.tensordot(direction / np.linalg.norm(direction), frequency, 1) / np.maximum(radius, 1e-9)
        band = band * np.exp(-(1 - along**2) / 0.1)
    field = np.fft.ifftn(np.fft.fftn(random.normal(size=radius.shape)) * band).real
    return (field - field.mean()) / field.std()


def nifti(volume: NDArray[np.uint8], path: Path) -> None:
    """Write (D, H, W) as NIfTI, with voxels of 1 mm and the axes in the order of the array."""
    import nibabel

    nibabel.save(nibabel.Nifti1Image(volume, np.eye(4)), path)  # type: ignore[attr-defined]


def _inside(x: NDArray, y: NDArray, z: NDArray, edge: float) -> NDArray[np.float64]:
    """1 inside the ellipsoid of radius 1, 0 outside, with a soft edge."""
    return 1 / (1 + np.exp(np.clip(edge * (x**2 + y**2 + z**2 - 1), -50, 50)))
