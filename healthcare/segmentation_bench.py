"""The benchmark of segmentation: vessels of DRIVE and nuclei of the Data Science Bowl 2018, with all and with few annotated images.

Trainings count steps. Thresholds are chosen on training or validation images; the test images are looked at once, at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from core.bench import Bench, Row, lengthless, row
from core.cli import say
from core.config import settings, to_dict
from healthcare.baselines import otsu_objects
from healthcare.estimators import ImageEncoder
from healthcare.masks import MaskedImages, read_masks
from healthcare.patches import patch_images
from healthcare.presets import Recipe, preset
from healthcare.segment_recipes import SegmentRecipe, lengthened, segment_recipe
from healthcare.segmentation import Judged, judge, paired_gain, second_observer
from healthcare.segmentation_report import annotated_rows, run_arm
from healthcare.segmenter import Segmenter, like_pretrained

# how the encoder is pretrained: Models Genesis on patches, the expanding path along with the contracting one
PRETEXT = (
    "encoder.kind=unet",
    "encoder.width=16",
    "encoder.depth=4",
    "objective.width=16",
    "reading.size=64",
    "batch=32",
    "train.precision=bf16",
)
PUBLISHED: dict[str, dict[str, dict[str, float]]] = {
    "drive": {
        "U-Net": {"auroc": 0.9755, "dice": 0.8142}, "R2U-Net": {"auroc": 0.9784, "dice": 0.8171},
        "Liskowski & Krawiec 2016": {"auroc": 0.979},
    },
    "dsb2018_nuclei_256": {"StarDist": {"ap@0.5": 0.864}, "Mask R-CNN": {"ap@0.5": 0.832}, "U-Net, 3 classes": {"ap@0.5": 0.806}},
}  # fmt: skip
SOURCE = {
    "drive": "R2U-Net, Alom et al. 2018: official split and masks, as quoted by the data's README",
    "dsb2018_nuclei_256": "StarDist, Schmidt et al. 2018: another split, of 497 images; as quoted by the data's README",
}
APART = (3, 4, 6, 8)  # pixels between the middles of two nuclei, of the floor that learns nothing
GOALS = {"drive": {"auroc": 0.9755, "dice": 0.8142}, "dsb2018_nuclei_256": {"ap@0.5": 0.85}}


@dataclass(frozen=True)
class Plan:
    """What is measured on a set.

    Attributes:
        data: its name.
        steps: of the training on all annotated images.
        few: numbers of annotated images of the curve; few_steps: of each of its trainings.
        draws: of annotated images that share one pretrained encoder; a seed of the few-image tests is one draw.
        pretrain: steps of pretraining.
        against: pretrained with so many annotated images is compared with scratch with so many.
    """

    data: str
    steps: int
    few: tuple[int, ...]
    few_steps: int
    draws: int = 3
    pretrain: int = 500
    against: tuple[tuple[int, int], ...] = ()


PLANS = {
    "drive": Plan("drive", 800, (2, 5), 250, against=((2, 5),)),
    "nuclei": Plan("dsb2018_nuclei_256", 800, (5, 10, 50), 250),
}


def whole_set(plan: Plan, seed: int, out: Path) -> list[Row]:
    """All annotated images, pretrained and from scratch, and what is published; runs are kept in `out`."""
    data, recipe, encoder = _prepared(plan, seed, out)
    return everything(plan, data, recipe, encoder, seed, out)


def few_images(plan: Plan, draw: int, out: Path) -> list[Row]:
    """One draw of few annotated images, pretrained and from scratch; the encoder is kept in `out`, and shared by several draws."""
    data, recipe, encoder = _prepared(plan, draw // plan.draws, out)
    return few_annotated(plan, data, recipe, encoder, draw)


def _prepared(plan: Plan, seed: int, out: Path) -> tuple[MaskedImages, SegmentRecipe, ImageEncoder]:
    recipe = segment_recipe(plan.data, seed=seed)
    data = read_masks(plan.data, recipe.reading)
    return data, recipe, pretrained(plan, data, seed, out / f"{plan.data}-encoder-{seed}")


def pretext_recipe(steps: int, seed: int, method: str = "restore", changes: Sequence[str] = PRETEXT) -> Recipe:
    """How the encoder of a segmenter is pretrained."""
    return settings(preset(method, steps=steps, seed=seed), changes)


def pretrained(plan: Plan, data: MaskedImages, seed: int, out: Path) -> ImageEncoder:
    """The encoder, pretrained on patches of the training images without their masks; from before where it was made already."""
    recipe = pretext_recipe(plan.pretrain, seed)
    encoder = ImageEncoder.load(out) if (out / "config.json").exists() else None
    if encoder is None or encoder.recipe_ != recipe:
        patches = patch_images(data, recipe.reading.size, seed)
        encoder = ImageEncoder(recipe).fit(patches, out=out, note=say)
        encoder.save(out)
    return encoder


def everything(
    plan: Plan, data: MaskedImages, recipe: SegmentRecipe, encoder: ImageEncoder, seed: int, out: Path
) -> list[Row]:  # fmt: skip
    """Both arms on all annotated images; beside them the second observer and published figures."""
    recipe = lengthened(recipe, plan.steps)
    test = data.select(data.rows("test"))
    whole = f"{plan.data}, all {len(data.rows('train'))} annotated images"
    made: list[Row] = []
    judged: dict[str, Judged] = {}
    for arm in ("scratch", "pretrained"):
        place = out / f"{plan.data}-{arm}-{seed}"
        segmenter = Segmenter.load(place) if (place / "config.json").exists() else None
        if segmenter is None or segmenter.recipe_ != like_pretrained(recipe, encoder):
            start = (
                Segmenter.on_top_of(encoder, recipe)
                if arm == "pretrained"
                else Segmenter(like_pretrained(recipe, encoder))
            )
            segmenter = start.fit(data, out=place, note=say)
            segmenter.save(place)
        maps = segmenter.predict_proba(test)
        judged[arm] = judge(test, [segmenter.called(m) for m in maps], maps)
        note = f"{plan.steps} steps; interval over test images"
        for name, estimate in judged[arm].estimates().items():
            goal = GOALS[plan.data].get(name) if arm == "pretrained" else None
            role = "ours" if arm == "pretrained" else "floor"
            made.append(row(whole, f"U-Net, {arm}", role, name, estimate, goal=goal, note=note))
    main = judged["scratch"].main
    gain = paired_gain([judged["pretrained"]], [judged["scratch"]], main)
    made.append(
        row(whole, "U-Net, pretrained minus scratch", "ours", f"gain {main}", gain, note="paired, over test images")
    )
    if data.objects and seed == 0:
        for name, estimate in simple(data, test).estimates().items():
            made.append(row(whole, "Otsu's threshold and watershed", "floor", name, estimate, note="learns nothing"))
    observer = second_observer(test)
    if observer is not None and seed == 0:
        for name, estimate in observer.estimates().items():
            made.append(row(whole, "second observer", "floor", name, estimate, note="a second person's masks"))
    for method, figures in PUBLISHED[plan.data].items():
        for name, value in figures.items():
            made.append(row(whole, method, "published", name, value, note=SOURCE[plan.data]))
    return made


def simple(data: MaskedImages, test: MaskedImages) -> Judged:
    """What a threshold and a watershed find in the test images; how far apart objects are is chosen on the validation images."""

    def judged(images: MaskedImages, apart: int) -> Judged:
        return judge(images, [otsu_objects(image, apart) for image in images.images])

    held = data.select(data.rows("val", annotated=True))
    everyone = np.arange(len(held))
    return judged(test, max(APART, key=lambda apart: judged(held, apart).figures()["ap@0.5"](everyone)))


def few_annotated(plan: Plan, data: MaskedImages, recipe: SegmentRecipe, encoder: ImageEncoder, draw: int) -> list[Row]:
    """Both arms with few annotated images, each with the same steps; the validation images are not used."""
    recipe = replace(lengthened(recipe, plan.few_steps), flips=1)
    test = data.select(data.rows("test"))
    found: dict[tuple[str, int], Judged] = {}
    made: list[Row] = []
    note = f"{plan.few_steps} steps each, from equal images and patches; interval over test images and draws of annotated images"
    for amount in plan.few:
        rows = annotated_rows(data, amount, draw)
        for arm in ("scratch", "pretrained"):
            segmenter = run_arm(arm, encoder, data, recipe, rows, draw)
            maps = segmenter.predict_proba(test)
            judged = found[arm, amount] = judge(test, [segmenter.called(m) for m in maps], maps, outlines=False)
            estimates = judged.estimates()
            say(f"{plan.data}, {amount} annotated, draw {draw}, {arm}: {judged.main} {estimates[judged.main]}")
            place, role = f"{plan.data}, {amount} annotated images", "ours" if arm == "pretrained" else "floor"
            for name in [n for n in estimates if n in ("ap@0.5", "dice", "auroc")]:
                made.append(row(place, f"U-Net, {arm}", role, name, estimates[name], note=note))
    main = next(iter(found.values())).main
    for ours, theirs in (*((n, n) for n in plan.few), *plan.against):
        gain = paired_gain([found["pretrained", ours]], [found["scratch", theirs]], main)
        what = f"U-Net, pretrained from {ours} minus scratch from {theirs}"
        goal = 0.0 if (ours, theirs) in plan.against else None
        made.append(
            row(f"{plan.data}, {ours} annotated images", what, "ours", f"gain {main}", gain, goal=goal, note=note)
        )
    return made


Test = Callable[[int, Path], list[Row]]  # (seed, folder of runs) -> rows
TESTS: Mapping[str, Test] = {
    "drive": partial(whole_set, PLANS["drive"]),
    "drive-few": partial(few_images, PLANS["drive"]),
    "nuclei": partial(whole_set, PLANS["nuclei"]),
    "nuclei-few": partial(few_images, PLANS["nuclei"]),
}


def depends_on(test: str) -> dict[str, Any]:
    """What the figures of a test depend on, for the record's settings: a change of these asks for a new measurement."""
    plan = PLANS[test.partition("-")[0]]
    return {
        "plan": to_dict(plan),
        "recipe": lengthless(segment_recipe(plan.data)),
        "pretext": lengthless(pretext_recipe(1, 0)),
    }


def run(out: Path, tests: Sequence[str] = tuple(TESTS), seeds: int = 1) -> Path:
    """Measure these tests into the record in `out`; what was measured before stays. Returns the path of `results.json`."""
    for test in tests:
        for seed in range(seeds):
            Bench(out, depends_on(test), say).run(test, seed, partial(TESTS[test], seed, out / "runs"))
    return Bench(out, {}, say).write()
