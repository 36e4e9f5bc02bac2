"""Does every method learn from images? Each trained briefly on one core, and examined beside its untrained network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from core.bench import Bench, Row, lengthless
from core.datasets import locate
from core.device import one_thread
from core.errors import UserError
from core.proof import Exam, examine
from healthcare.data import KNOWN, Reading, read
from healthcare.estimators import ImageEncoder
from healthcare.presets import PRESETS, Recipe, preset

MINUTES = 1.0  # of one core, each method, data set and seed
SIZES = {"pneumoniamnist": 28, "dsb2018_nuclei_256": 64}  # sides to which images are resized, in pixels


def run(
    out: Path, minutes: float, seeds: int, data: Sequence[str] = (), methods: Sequence[str] = (),
    say: Callable[[str], None] = print,
) -> Path:  # fmt: skip
    """Every method on every data set and seed, one part of the record each; returns the path of `results.json`.

    Args:
        data: known sets; all of `SIZES` where none is named.
        methods: presets; all of them where none is named.

    Raises:
        UserError: an unknown method, or data that are not there.
    """
    for name in methods:
        preset(name)
    for place in data:
        locate(place, KNOWN)
    for seed in range(seeds):
        for name in methods or PRESETS:
            for place in data or SIZES:
                recipe = adapted(name, place, minutes, seed)
                record = Bench(out, {"minutes": minutes, "recipe": lengthless(recipe)}, say)
                record.run(f"methods-{name}-{Path(place).stem}", seed, partial(proof, recipe, place))
    return Bench(out, {}, say).write()


def adapted(name: str, data: str, minutes: float, seed: int) -> Recipe:
    """The preset at the size that suits the data."""
    recipe = preset(name, minutes=minutes, seed=seed)
    return replace(recipe, reading=Reading(size=SIZES.get(data, recipe.reading.size)))


def proof(recipe: Recipe, data: str) -> list[Row]:
    """Train on the training images without labels; examine the features of all of them, and of test images, against untrained ones.

    Raises:
        UserError: no labels, or more than two classes.
    """
    images = read(data, recipe.reading)
    known = images.label >= 0
    if len(images.classes) != 2:
        raise UserError(f"{len(images.classes)} classes", where=data, mend="give data of two classes")
    exam = Exam(
        images.label, known & (images.split == "train"), known & (images.split == "test"), "auroc",
        images.patient if images.named_patients else None,
    )  # fmt: skip
    with one_thread():
        encoder = ImageEncoder(recipe).fit(images, note=lambda line: None)
        trained = encoder.transform(images)
        untrained = encoder.untrained(recipe.train.seed).transform(images)
    note = f"{encoder.history_.steps} steps"
    return examine(data, recipe.method, trained, untrained, exam, seed=recipe.train.seed, note=note)
