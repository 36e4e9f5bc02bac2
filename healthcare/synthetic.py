"""X-ray-like images with planted lesions, so that everything runs without a download.

A patient has an anatomy (lungs, ribs, spine) and an exposure; both vary far more between patients than a lesion changes
an image. The lungs of a healthy patient are finely grained; those of a sick one hold streaks of the same width, brightness
and contrast, at another place and angle in every image: no pixel and no brightness tells the classes apart, only the
texture does, which is what views of one image share and what a pretext can find. Volumes (`healthcare.synthetic_volumes`) are planned
alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from core.errors import UserError
from healthcare import synthetic_volumes

CLASSES = ("clear", "lesion")
Format = Literal["npz", "manifest"]


@dataclass(frozen=True)
class CohortConfig:
    """What to generate.

    Attributes:
        images: how many, over all splits.
        size: side in pixels.
        dims: 2 for images, 3 for volumes.
        prevalence: share of sick patients.
        contrast: of the texture; at 0 nothing separates the classes.
        noise: standard deviation of the detector's noise, on the scale where white is 1.
    """

    images: int = 2400
    size: int = 28
    dims: int = 2
    prevalence: float = 0.35
    contrast: float = 1.0
    noise: float = 0.03


@dataclass(frozen=True)
class Cohort:
    """Generated images: pixels (N, H, W) or (N, D, H, W) uint8, label (N,), patient (N,) numbers, split (N,) names."""

    pixels: NDArray[np.uint8]
    label: NDArray[np.int64]
    patient: NDArray[np.int64]
    split: NDArray[np.str_]


def generate(config: CohortConfig | None = None, seed: int = 0) -> Cohort:
    """Images of patients with one to four images each; 60/15/25 % of the patients are train/val/test.

    Raises:
        UserError: fewer than 20 images, a size below 16 pixels, or neither 2 nor 3 dimensions.
    """
    config = config or CohortConfig()
    if config.images < 20:
        raise UserError(
            f"{config.images} images are too few for three splits", where="--size", mend="ask for 20 or more"
        )
    if config.dims not in (2, 3):
        raise UserError(f"{config.dims} dimensions", where="--dims", mend="use 2 for images, 3 for volumes")
    if config.size < 16:
        raise UserError(f"{config.size} pixels are too few to hold a texture", where="size", mend="use 16 or more")
    patient = _patients(config.images, np.random.default_rng([seed, 0]))
    people = int(patient.max()) + 1
    sick, split = _assignment(people, config.prevalence, np.random.default_rng([seed, 1]))
    person_of = _person if config.dims == 2 else synthetic_volumes.person
    pixels = np.empty((config.images, *[config.size] * config.dims), np.uint8)
    for person in range(people):  # each person has a generator of its own: a larger cohort begins with the smaller one
        rows = np.flatnonzero(patient == person)
        random = np.random.default_rng([seed, 2, person])
        pixels[rows] = person_of(len(rows), bool(sick[person]), config.size, config.contrast, config.noise, random)
    return Cohort(pixels, sick[patient].astype(np.int64), patient, split[patient])


def write(folder: Path, config: CohortConfig | None = None, seed: int = 0, form: Format = "npz") -> Path:
    """Write a cohort in a shape that `data.read` reads: one npz with MedMNIST's keys and patients, or a manifest and
    PNGs (NIfTI files of volumes)."""
    cohort = generate(config, seed)
    folder.mkdir(parents=True, exist_ok=True)
    if form == "npz":
        arrays: dict[str, NDArray] = {}
        for split in ("train", "val", "test"):
            rows = np.flatnonzero(cohort.split == split)
            arrays[f"{split}_images"] = cohort.pixels[rows]
            arrays[f"{split}_labels"] = cohort.label[rows, None].astype(np.uint8)
            arrays[f"{split}_patients"] = cohort.patient[rows]
        np.savez_compressed(folder / "synthetic.npz", **arrays)  # type: ignore[arg-type]
        return folder / "synthetic.npz"
    save, ending = (_png, "png") if cohort.pixels.ndim == 3 else (synthetic_volumes.nifti, "nii.gz")
    (folder / "images").mkdir(exist_ok=True)
    lines = ["path,patient_id,label,split"]
    for row, pixels in enumerate(cohort.pixels):
        name = f"images/{row:06d}.{ending}"
        save(pixels, folder / name)
        lines.append(f"{name},P{cohort.patient[row]:05d},{CLASSES[cohort.label[row]]},{cohort.split[row]}")
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder / "manifest.csv"


def _png(pixels: NDArray[np.uint8], path: Path) -> None:
    from PIL import Image

    Image.fromarray(pixels).save(path)


def _patients(images: int, random: np.random.Generator) -> NDArray[np.int64]:
    numbers = random.integers(1, 5, size=images)
    return np.repeat(np.arange(images), numbers)[:images]


def _assignment(
    people: int, prevalence: float, random: np.random.Generator
) -> tuple[NDArray[np.bool_], NDArray[np.str_]]:
    """Sick or not and the split of each patient; both classes occur in every split."""
    order = random.permutation(people)
    sick = np.zeros(people, bool)
    sick[order[: min(max(3, round(prevalence * people)), people - 3)]] = True
    split = np.empty(people, "<U5")
    for group in (np.flatnonzero(sick), np.flatnonzero(~sick)):
        mixed = random.permutation(group)
        val, test = max(1, round(0.15 * len(mixed))), max(1, round(0.25 * len(mixed)))
        split[mixed] = "train"
        split[mixed[:val]] = "val"
        split[mixed[val : val + test]] = "test"
    return sick, split


def _person(
    images: int, sick: bool, size: int, contrast: float, noise: float, random: np.random.Generator
) -> NDArray[np.uint8]:
    """All images (images, size, size) of one patient."""
    y, x = np.mgrid[0:size, 0:size] / (size - 1) * 2 - 1
    width, height, gap = random.uniform(0.34, 0.44), random.uniform(0.7, 0.9), random.uniform(0.42, 0.5)
    body, air, ribs = random.uniform(0.55, 0.85), random.uniform(0.15, 0.35), random.uniform(5, 8)
    phase, bend = random.uniform(0, 2 * np.pi), random.uniform(0.2, 0.8)
    out = np.empty((images, size, size), np.uint8)
    for i in range(images):
        dx, dy = random.normal(0, 0.06, 2)
        left = ((x + gap - dx) / width) ** 2 + ((y - dy) / height) ** 2
        right = ((x - gap - dx) / width) ** 2 + ((y - dy) / height) ** 2
        lungs = 1 / (1 + np.exp(6 * (np.minimum(left, right) - 1)))
        image = body - (body - air) * lungs
        image += 0.05 * np.sin(ribs * np.pi * (y + bend * np.abs(x - dx)) + phase) * lungs
        image += 0.12 * np.exp(-(((x - dx) / 0.09) ** 2))
        texture = _texture(size, sick, random)
        image += lungs * contrast * random.uniform(0.12, 0.3) * texture
        exposure, gain = random.uniform(-0.15, 0.15), random.uniform(0.7, 1.2)
        image = 0.5 + gain * (image - 0.5) + exposure + random.normal(0, noise, (size, size))
        out[i] = np.clip(image * 255, 0, 255).astype(np.uint8)
    return out


def _texture(size: int, sick: bool, random: np.random.Generator) -> NDArray[np.float64]:
    """A field (size, size) of mean 0 and variance 1 whose radial spectrum is the same in both classes.

    White noise filtered to one band of wavelengths (3 to 5 pixels): over all directions it is grain, along one direction,
    another in every image, it is streaks.
    """
    fy, fx = np.meshgrid(np.fft.fftfreq(size), np.fft.fftfreq(size), indexing="ij")
    radius, angle = np.hypot(fx, fy), np.arctan2(fy, fx)
    band = np.exp(-(((radius - random.uniform(0.2, 0.33)) / 0.05) ** 2))
    if sick:
        band = band * np.exp(-((np.sin(angle - random.uniform(0, np.pi)) / 0.3) ** 2))
    field = np.fft.ifft2(np.fft.fft2(random.normal(size=(size, size))) * band).real
    return (field - field.mean()) / field.std()
