"""X-ray-like images with planted lesions, so that everything runs without a download.

A patient has an anatomy (lungs, ribs, spine) and an exposure; both vary far more between patients than a lesion changes
an image, so that pixels alone say little. Every image holds opaque patches in the lungs. In a sick patient their texture
is a mesh of crossing lines, in a healthy one grains of the same size, brightness and contrast: the class is in the
texture, which is what views of one image share and what a pretext can find.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from core.errors import UserError

CLASSES = ("clear", "lesion")
Format = Literal["npz", "manifest"]


@dataclass(frozen=True)
class Recipe:
    """What to generate.

    Attributes:
        images: how many, over all splits.
        size: side in pixels.
        prevalence: share of sick patients.
        contrast: of the texture against the patch it lies in, 0 to 1; at 0 nothing separates the classes.
        noise: standard deviation of the detector's noise, on the scale where white is 1.
    """

    images: int = 2400
    size: int = 28
    prevalence: float = 0.35
    contrast: float = 0.5
    noise: float = 0.03


@dataclass(frozen=True)
class Cohort:
    """Generated images: pixels (N, H, W) uint8, label (N,), patient (N,) numbers, split (N,) names."""

    pixels: NDArray[np.uint8]
    label: NDArray[np.int64]
    patient: NDArray[np.int64]
    split: NDArray[np.str_]


def generate(recipe: Recipe | None = None, seed: int = 0) -> Cohort:
    """Images of patients with one to four images each; 60/15/25 % of the patients are train/val/test.

    Raises:
        UserError: fewer than 20 images, or a size below 16 pixels.
    """
    recipe = recipe or Recipe()
    if recipe.images < 20:
        raise UserError(f"{recipe.images} images are too few for three splits", where="--size", mend="ask for 20 or more")
    if recipe.size < 16:
        raise UserError(f"{recipe.size} pixels are too few to hold a texture", where="size", mend="use 16 or more")
    patient = _patients(recipe.images, np.random.default_rng([seed, 0]))
    people = int(patient.max()) + 1
    sick, split = _assignment(people, recipe.prevalence, np.random.default_rng([seed, 1]))
    pixels = np.empty((recipe.images, recipe.size, recipe.size), np.uint8)
    for person in range(people):  # each person has a generator of its own: a larger cohort begins with the smaller one
        rows = np.flatnonzero(patient == person)
        pixels[rows] = _person(len(rows), bool(sick[person]), recipe, np.random.default_rng([seed, 2, person]))
    return Cohort(pixels, sick[patient].astype(np.int64), patient, split[patient])


def write(folder: Path, recipe: Recipe | None = None, seed: int = 0, form: Format = "npz") -> Path:
    """Write a cohort in a shape that `data.read` reads: one npz with MedMNIST's keys and patients, or PNGs and a manifest."""
    cohort = generate(recipe, seed)
    folder.mkdir(parents=True, exist_ok=True)
    if form == "npz":
        arrays: dict[str, NDArray] = {}
        for split in ("train", "val", "test"):
            rows = np.flatnonzero(cohort.split == split)
            arrays[f"{split}_images"] = cohort.pixels[rows]
            arrays[f"{split}_labels"] = cohort.label[rows, None].astype(np.uint8)
            arrays[f"{split}_patients"] = cohort.patient[rows]
        np.savez_compressed(folder / "synthetic.npz", **arrays)
        return folder / "synthetic.npz"
    from PIL import Image

    (folder / "images").mkdir(exist_ok=True)
    lines = ["path,patient_id,label,split"]
    for row, pixels in enumerate(cohort.pixels):
        name = f"images/{row:06d}.png"
        Image.fromarray(pixels).save(folder / name)
        lines.append(f"{name},P{cohort.patient[row]:05d},{CLASSES[cohort.label[row]]},{cohort.split[row]}")
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder / "manifest.csv"


def _patients(images: int, random: np.random.Generator) -> NDArray[np.int64]:
    numbers = random.integers(1, 5, size=images)
    return np.repeat(np.arange(images), numbers)[:images]


def _assignment(people: int, prevalence: float, random: np.random.Generator) -> tuple[NDArray[np.bool_], NDArray[np.str_]]:
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


def _person(images: int, sick: bool, recipe: Recipe, random: np.random.Generator) -> NDArray[np.uint8]:
    """All images (images, size, size) of one patient."""
    size = recipe.size
    y, x = np.mgrid[0:size, 0:size] / (size - 1) * 2 - 1
    width, height, gap = random.uniform(0.26, 0.38), random.uniform(0.55, 0.8), random.uniform(0.36, 0.46)
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
        for _ in range(random.integers(3, 6)):
            side = random.choice([-1, 1])
            cx, cy = side * gap + dx + random.uniform(-0.5, 0.5) * width, dy + random.uniform(-0.7, 0.7) * height
            radius = random.uniform(0.2, 0.34)
            patch = np.exp(-((((x - cx) ** 2 + (y - cy) ** 2) / radius**2) ** 2))
            texture = _texture(size, sick, random)
            image += patch * (0.16 + recipe.contrast * 0.22 * texture)
        exposure, gain = random.uniform(-0.15, 0.15), random.uniform(0.7, 1.2)
        image = 0.5 + gain * (image - 0.5) + exposure + random.normal(0, recipe.noise, (size, size))
        out[i] = np.clip(image * 255, 0, 255).astype(np.uint8)
    return out


def _texture(size: int, sick: bool, random: np.random.Generator) -> NDArray[np.float64]:
    """A field (size, size) of mean 0 and variance 1 with the same radial spectrum in both classes.

    White noise filtered to one band of wavelengths (about 3.5 pixels): over all directions it is grain; with two crossing
    directions kept, it is a mesh.
    """
    fy, fx = np.meshgrid(np.fft.fftfreq(size), np.fft.fftfreq(size), indexing="ij")
    radius, angle = np.hypot(fx, fy), np.arctan2(fy, fx)
    band = np.exp(-(((radius - 0.28) / 0.06) ** 2))
    if sick:
        direction = random.uniform(0, np.pi / 2)
        band = band * (np.abs(np.cos(2 * (angle - direction))) > 0.96)
    field = np.fft.ifft2(np.fft.fft2(random.normal(size=(size, size))) * band).real
    return (field - field.mean()) / field.std()
