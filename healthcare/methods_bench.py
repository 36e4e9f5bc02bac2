"""Does every method learn from images? Each trained briefly on one core, and examined beside its untrained network.

The exams: on images with labels of two classes, those labels; on `dsb2018_nuclei_256`, which has outlines of nuclei in the place of
labels, whether a tile holds at least `CROWD` nuclei, three being their median.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from core.bench import Bench, Row, lengthless
from core.datasets import locate
from core.device import one_thread
from core.errors import UserError
from core.proof import Exam, examine
from healthcare.data import KNOWN, Images, Reading, read
from healthcare.estimators import ImageEncoder
from healthcare.presets import PRESETS, Recipe, batch_for, preset, timed

SEEN = 64_000  # images that a method sees in training: one to three minutes of one core; a number, so that a busy machine changes nothing
NUCLEI = "dsb2018_nuclei_256"
DATA = ("pneumoniamnist", NUCLEI)
TILES, SIDE = 4, 32  # tiles along each side of an image of nuclei, and the pixels to which a tile is shrunk
CROWD = 3  # nuclei


@dataclass(frozen=True)
class Task:
    """Images, of which the training split is learned from, and what is asked of their features."""

    images: Images
    exam: Exam


def run(
    out: Path, minutes: float | None, seeds: int, data: Sequence[str] = (), methods: Sequence[str] = (),
    say: Callable[[str], None] = print,
) -> Path:  # fmt: skip
    """Every method on every data set and seed, one part of the record each; returns the path of `results.json`.

    Args:
        minutes: of training, in the place of `SEEN` images.
        data: known sets; all of `DATA` where none is named.
        methods: presets; all of them where none is named.

    Raises:
        UserError: an unknown method, or data that are not there.
    """
    for name in methods:
        preset(name)
    for place in data or DATA:
        locate(place, KNOWN)
    for place in data or DATA:
        task = nuclei(place) if place == NUCLEI else labelled(place)
        for seed in range(seeds):
            for name in methods or PRESETS:
                recipe = adapted(name, task, minutes, seed)
                record = Bench(out, {"minutes": minutes, "seen": SEEN, "recipe": lengthless(recipe)}, say)
                record.run(f"methods-{name}-{Path(place).stem}", seed, partial(proof, recipe, task, Path(place).stem))
    return Bench(out, {}, say).write()


def labelled(data: str) -> Task:
    """Images of two classes, read at the size of the presets.

    Raises:
        UserError: no labels, or another number of classes.
    """
    images = read(data, Reading())
    if len(images.classes) != 2:
        raise UserError(f"{len(images.classes)} classes", where=data, mend="give data of two classes")
    known = images.label >= 0
    train, test = known & (images.split == "train"), known & (images.split == "test")
    return Task(images, Exam(images.label, train, test, "auroc", images.patient if images.named_patients else None))


def nuclei(data: str) -> Task:
    """Tiles of the images of nuclei; tiles of one image stay together in every interval."""
    images = read(data, Reading(size=256))
    with np.load(next(locate(data, KNOWN).glob("*.npz"))) as archive:
        masks = archive["instance_masks"][images.where.astype(int)]
    tile = tiles(images.pixels[:, 0])
    shrunk = tile.reshape(len(tile), SIDE, tile.shape[1] // SIDE, SIDE, -1).mean((2, 4), dtype=np.float32)
    crowded = np.array([len(np.unique(mask[mask > 0])) >= CROWD for mask in tiles(masks)]).astype(np.int64)
    cut = replace(images.select(np.repeat(np.arange(len(images)), TILES**2)), pixels=shrunk[:, None], label=crowded)
    return Task(cut, Exam(crowded, cut.split == "train", cut.split == "test", "auroc", cut.patient))


def tiles(image: NDArray) -> NDArray:
    """(N, H, W) to (N·TILES², H / TILES, W / TILES)."""
    count, height, width = image.shape
    parts = image.reshape(count, TILES, height // TILES, TILES, width // TILES).swapaxes(2, 3)
    return parts.reshape(-1, height // TILES, width // TILES)


def adapted(name: str, task: Task, minutes: float | None, seed: int) -> Recipe:
    """The preset at the size of the task's images, and of the length that is asked for."""
    recipe = preset(name, seed=seed)
    recipe = replace(recipe, reading=Reading(size=task.images.pixels.shape[2]))
    return timed(recipe, minutes, None if minutes else SEEN // batch_for(recipe, len(task.images.rows("train"))))


def proof(recipe: Recipe, task: Task, data: str) -> list[Row]:
    """Train on the training images without labels; examine the features of all of them, and of test images, against untrained ones."""
    with one_thread():
        encoder = ImageEncoder(recipe).fit(task.images, note=lambda line: None)
        trained = encoder.transform(task.images)
        untrained = encoder.untrained(recipe.train.seed).transform(task.images)
    note = f"{encoder.history_.steps} steps"
    return examine(data, recipe.method, trained, untrained, task.exam, seed=recipe.train.seed, note=note)
