"""Does every method learn from images? Each trained briefly on one core, and examined beside its untrained network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from core.bench import Bench, Row, lengthless
from core.datasets import locate
from core.device import one_thread
from core.errors import UserError
from core.proof import Exam, examine
from healthcare.data import KNOWN, Images, Reading, read
from healthcare.estimators import ImageEncoder
from healthcare.presets import PRESETS, Recipe, batch_for, preset, timed

SEEN = 64_000  # images that a method sees in training: one to three minutes of one core; a number, so that a busy machine changes nothing
SIZES = {"pneumoniamnist": 28, "dsb2018_nuclei_256": 32}  # sides to which images are resized, in pixels


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
        data: known sets; all of `SIZES` where none is named.
        methods: presets; all of them where none is named.

    Raises:
        UserError: an unknown method, or data that are not there.
    """
    for name in methods:
        preset(name)
    for place in data or SIZES:
        locate(place, KNOWN)
    for place in data or SIZES:
        task = task_of(place)
        for seed in range(seeds):
            for name in methods or PRESETS:
                recipe = adapted(name, task, minutes, seed)
                record = Bench(out, {"minutes": minutes, "seen": SEEN, "recipe": lengthless(recipe)}, say)
                record.run(f"methods-{name}-{Path(place).stem}", seed, partial(proof, recipe, task, Path(place).stem))
    return Bench(out, {}, say).write()


def task_of(data: str) -> Task:
    """Images of two classes, and the exam on those of the test split.

    Raises:
        UserError: no labels, or another number of classes.
    """
    images = read(data, Reading(size=SIZES.get(data, Reading().size)))
    if len(images.classes) != 2:
        raise UserError(f"{len(images.classes)} classes", where=data, mend="give data of two classes")
    known = images.label >= 0
    train, test = known & (images.split == "train"), known & (images.split == "test")
    return Task(images, Exam(images.label, train, test, "auroc", images.patient if images.named_patients else None))


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
