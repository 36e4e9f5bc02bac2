"""Does every method learn from images, and from volumes? Each trained briefly on one core, and examined beside its untrained network.

Volumes are generated, and said to be. Colours come from patches of the fundus photographs of DRIVE, of which is asked whether they hold
more of the vessels than the median of the training patches.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from core.bench import Bench, Row, lengthless
from core.datasets import locate
from core.device import one_thread
from core.errors import UserError
from core.proof import Exam, examine
from core.quarantine import Quarantine
from healthcare.audit import Audit
from healthcare.data import KNOWN, Images, Reading, read
from healthcare.estimators import ImageEncoder
from healthcare.masks import read_masks
from healthcare.presets import PRESETS, Recipe, batch_for, preset, timed
from healthcare.synthetic import CLASSES, Cohort, CohortConfig, generate

SEEN = 64_000  # images that a method sees in training: one to three minutes of one core; a number, so that a busy machine changes nothing
SIZES = {"pneumoniamnist": 28, "dsb2018_nuclei_256": 32}  # sides to which images are resized, in pixels
VOLUMES, FUNDUS = "generated_volumes", "drive"
COHORT = CohortConfig(images=1200, size=16, dims=3)
SEEN_VOLUMES = (
    16_000  # a volume of 16³ has five times the pixels of an image of 28², and convolutions three times the weights
)
PATCH = 32  # side of a patch of a fundus photograph, in pixels
GREY = tuple(name for name in PRESETS if name != "colour")
METHODS = {  # those that the data can teach
    "pneumoniamnist": tuple(name for name in GREY if name != "micle"),  # it names no patients
    "dsb2018_nuclei_256": GREY,
    VOLUMES: ("simclr", "micle", "moco", "byol", "vicreg", "swav", "mae", "restore", "rotation", "jigsaw", "position"),
    FUNDUS: ("colour",),
}


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
        data: sets; all of `METHODS` where none is named.
        methods: presets; on each set all that it can teach where none is named.

    Raises:
        UserError: an unknown method, one that none of the sets can teach, or data that are not there.
    """
    for name in methods:
        preset(name)
    plan = [(place, name) for place in data or METHODS for name in _taught(place) if not methods or name in methods]
    if not plan:
        raise UserError(
            f"none of {', '.join(methods)} learns from {', '.join(data)}", where="--methods", mend="choose another set"
        )
    for place in dict.fromkeys(place for place, _ in plan):
        if place not in (VOLUMES, FUNDUS):
            locate(place, KNOWN)
    for place in dict.fromkeys(place for place, _ in plan):
        task = task_of(place)
        for seed in range(seeds):
            for name in (name for where, name in plan if where == place):
                recipe = adapted(name, task, minutes, seed)
                record = Bench(out, {"minutes": minutes, "seen": seen(task), "recipe": lengthless(recipe)}, say)
                record.run(f"methods-{name}-{Path(place).stem}", seed, partial(proof, recipe, task, Path(place).stem))
    return Bench(out, {}, say).write()


def _taught(place: str) -> tuple[str, ...]:
    return METHODS.get(place, GREY)


def seen(task: Task) -> int:
    """Images that a method sees in training."""
    return SEEN if task.images.pixels.ndim == 4 else SEEN_VOLUMES


def task_of(data: str) -> Task:
    """Images of two classes, and the exam on those of the test split.

    Raises:
        UserError: no labels, or another number of classes.
    """
    if data == VOLUMES:
        images = images_of(generate(COHORT))
    elif data == FUNDUS:
        images = fundus()
    else:
        images = read(data, Reading(size=SIZES.get(data, Reading().size)))
    if len(images.classes) != 2:
        raise UserError(f"{len(images.classes)} classes", where=data, mend="give data of two classes")
    known = images.label >= 0
    train, test = known & (images.split == "train"), known & (images.split == "test")
    return Task(images, Exam(images.label, train, test, "auroc", images.patient if images.named_patients else None))


def images_of(cohort: Cohort) -> Images:
    """Generated images or volumes as `read` gives them, without a file between."""
    pixels = (cohort.pixels[:, None] / 255).astype(np.float32)
    where = np.array([f"row {row}" for row in range(len(pixels))], dtype=object)
    return Images(
        pixels, cohort.label, cohort.split, cohort.patient, CLASSES, where, True, Quarantine(), Audit()
    )  # fmt: skip


def fundus(side: int = PATCH) -> Images:
    """Patches of DRIVE's photographs, in colour, all inside the field of view; the label: more vessels than the median.

    Raises:
        UserError: the set is not there.
    """
    photographs = read_masks(FUNDUS)
    pixels, share, rows = [], [], []
    for row, (image, mask) in enumerate(zip(photographs.images, photographs.masks, strict=True)):
        inside = photographs.inside(row)
        for top in range(0, image.shape[1] - side + 1, side):
            for left in range(0, image.shape[2] - side + 1, side):
                place = slice(top, top + side), slice(left, left + side)
                if mask is not None and inside[place].all():
                    pixels.append(image[:, *place])
                    share.append(float((mask[place] > 0).mean()))
                    rows.append(row)
    split, vessels = photographs.split[rows], np.array(share)
    label = (vessels > np.median(vessels[split == "train"])).astype(np.int64)
    where = np.array([f"patch {number}" for number in range(len(rows))], dtype=object)
    return Images(
        np.stack(pixels), label, split, photographs.patient[rows], ("fewer vessels", "more vessels"), where, True, Quarantine(), Audit()
    )  # fmt: skip


def adapted(name: str, task: Task, minutes: float | None, seed: int) -> Recipe:
    """The preset at the size of the task's images, and of the length that is asked for."""
    recipe = preset(name, seed=seed)
    recipe = replace(recipe, reading=replace(recipe.reading, size=task.images.pixels.shape[2]))
    return timed(recipe, minutes, None if minutes else seen(task) // batch_for(recipe, len(task.images.rows("train"))))


def proof(recipe: Recipe, task: Task, data: str) -> list[Row]:
    """Train on the training images without labels; examine the features of all of them, and of test images, against untrained ones."""
    with one_thread():
        encoder = ImageEncoder(recipe).fit(task.images, note=lambda line: None)
        trained = encoder.transform(task.images)
        untrained = encoder.untrained(recipe.train.seed).transform(task.images)
    note = f"{encoder.history_.steps} steps"
    return examine(data, recipe.method, trained, untrained, task.exam, seed=recipe.train.seed, note=note)
