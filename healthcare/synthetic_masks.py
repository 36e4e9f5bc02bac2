"""Images of round objects that touch each other and of branching vessels, with their masks, so that everything runs without a download.

Light falls unevenly and the detector is noisy, so that no threshold of grey values finds the mask.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from core.errors import UserError
from healthcare.instances import depth

Scene = Literal["objects", "vessels"]


@dataclass(frozen=True)
class SceneConfig:
    """What to generate.

    Attributes:
        kind: round objects, numbered in the mask; or vessels, marked by 1.
        images: how many, over all splits: half of them train, a quarter each val and test.
        height, width: in pixels; each image is up to a fifth larger.
        noise: standard deviation of the detector's noise, on the scale where white is 1.
    """

    kind: Scene = "objects"
    images: int = 16
    height: int = 64
    width: int = 64
    noise: float = 0.05

    def __post_init__(self) -> None:
        if self.images < 4 or min(self.height, self.width) < 32:
            raise UserError(
                f"{self.images} images of {self.width} × {self.height}", where="synth", mend="ask for 4 or more, of 32 pixels or more a side"
            )  # fmt: skip


def scenes(config: SceneConfig | None = None, seed: int = 0) -> list[tuple[NDArray[np.uint8], NDArray[np.int32]]]:
    """Pairs of an image (H, W) and its mask (H, W); the first images of a longer list are those of a shorter one."""
    config = config or SceneConfig()
    return [_scene(config, np.random.default_rng([seed, number])) for number in range(config.images)]


def write_scenes(folder: Path, config: SceneConfig | None = None, seed: int = 0) -> Path:
    """Write `images/`, `masks/` and a manifest.csv, which `read_masks` reads."""
    from PIL import Image

    config = config or SceneConfig()
    lines = ["path,mask,split"]
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    for number, (image, mask) in enumerate(scenes(config, seed)):
        name = f"{number:04d}.png"
        Image.fromarray(image).save(folder / "images" / name)
        Image.fromarray(mask.astype(np.uint16) if config.kind == "objects" else (mask * 255).astype(np.uint8)).save(
            folder / "masks" / name
        )
        split = ("train", "test", "train", "val")[number % 4]
        lines.append(f"images/{name},masks/{name},{split}")
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder / "manifest.csv"


def _scene(config: SceneConfig, random: np.random.Generator) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    height, width = (int(side * random.uniform(1, 1.2)) for side in (config.height, config.width))
    mask = _objects(height, width, random) if config.kind == "objects" else _vessels(height, width, random)
    y, x = np.mgrid[0:height, 0:width] / max(height, width)
    light = 0.3 + 0.3 * np.sin(
        2
        * np.pi
        * (random.uniform(0.3, 0.8) * (x * np.cos(a := random.uniform(0, 6)) + y * np.sin(a)) + random.uniform())
    )
    inside = (
        np.sqrt(depth(mask)) if config.kind == "objects" else ndimage.gaussian_filter((mask > 0).astype(float), 0.7)
    )
    image = light + (0.35 if config.kind == "objects" else -0.2) * inside + random.normal(0, config.noise, mask.shape)
    return np.clip(image * 255, 0, 255).astype(np.uint8), mask


def _objects(height: int, width: int, random: np.random.Generator) -> NDArray[np.int32]:
    """Ellipses, each near the one before it as often as not; an earlier one hides a later one, and what is left of it is in one piece."""
    mask = np.zeros((height, width), np.int32)
    y, x = np.mgrid[0:height, 0:width]
    centre = np.array([height / 2, width / 2])
    number = 0
    for _ in range(max(4, height * width // 500)):
        near = random.uniform() < 0.5
        centre = centre + random.normal(0, 9, 2) if near else random.uniform((0, 0), (height, width))
        a, b, angle = random.uniform(4, 7), random.uniform(4, 7), random.uniform(0, np.pi)
        dy, dx = y - centre[0], x - centre[1]
        u, v = dx * np.cos(angle) + dy * np.sin(angle), dy * np.cos(angle) - dx * np.sin(angle)
        shape = (u / a) ** 2 + (v / b) ** 2 < 1
        free = shape & (mask == 0)
        if free.sum() > 0.6 * np.pi * a * b and ndimage.label(free)[1] == 1:
            number += 1
            mask[free] = number
    return mask


def _vessels(height: int, width: int, random: np.random.Generator) -> NDArray[np.int32]:
    """Lines that wander and branch, thinner at each branching."""
    mask = np.zeros((height, width), bool)
    todo = [(random.uniform(0, height), 0.0, random.uniform(-0.5, 0.5), 1.8) for _ in range(3)]
    while todo:
        row, column, angle, radius = todo.pop()
        for _ in range(2 * width):
            if not (0 <= row < height and 0 <= column < width) or radius < 0.7:
                break
            top, left = max(0, int(row) - 3), max(0, int(column) - 3)
            y, x = np.mgrid[top : min(height, top + 7), left : min(width, left + 7)]
            mask[y, x] |= (y - row) ** 2 + (x - column) ** 2 <= radius**2
            angle += random.normal(0, 0.12)
            row, column = row + np.sin(angle), column + np.cos(angle)
            if random.uniform() < 0.02:
                todo.append((row, column, angle + random.choice((-0.8, 0.8)), radius * 0.75))
    return mask.astype(np.int32)
