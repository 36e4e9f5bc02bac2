"""PneumoniaMNIST with few labels: what frozen features are worth, beside the floors, over seeds of pretraining and draws of labels.

Pretraining counts steps, so that a busy machine changes nothing. Nothing here is chosen on the test images: the recipe is the preset's,
and whatever a probe or a trained network has to choose is chosen inside its labels.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.bench import Row, combine, lengthless, row
from core.cli import say
from core.evaluation import labels_saved, verdict
from core.files import whole
from core.statistics import Estimate
from healthcare.data import Images, Reading, read
from healthcare.decisions import Decision
from healthcare.estimators import ImageEncoder
from healthcare.evaluation import gain, interval, on_rows
from healthcare.guesses import FLOORS, MAIN, EvaluationConfig, Guesses, Score, guess
from healthcare.linear import COSTS, FEW
from healthcare.metrics import auroc, average_precision, ece
from healthcare.presets import Recipe, preset

DATA = "pneumoniamnist"
STEPS = 1500  # of pretraining, 128 images each
GOALS = {0.01: 0.950, 0.1: 0.958, 1.0: 0.966}  # auroc of frozen features
METHOD = "deepcluster"
SHOWN = {MAIN: auroc, "average_precision": average_precision, "ece": ece}
NAMES = {"pretrained": f"{METHOD}, frozen, logistic regression", "fine_tuned": f"{METHOD}, fine-tuned"}
PUBLISHED = {
    "ResNet-18 (28 px)": 0.944, "ResNet-18 (224 px)": 0.956, "ResNet-50 (28 px)": 0.948, "auto-sklearn": 0.942,
    "AutoKeras": 0.947, "Google AutoML Vision": 0.991,
}  # fmt: skip
Kept = dict[
    str, NDArray
]  # what an arm said: labels and patients of the test images, decisions, and a score for each draw
SOURCE = "MedMNIST v2, Yang et al., Scientific Data 10:41, 2023: all labels, official split, recalled from the paper"


def published(bed: Bed, seed: int = 0) -> list[Row]:
    """Figures of papers, to stand beside ours."""
    return [row(bed.place(1.0), name, "published", MAIN, value, note=SOURCE) for name, value in PUBLISHED.items()]


@dataclass(frozen=True)
class Bed:
    """What every test of a bench works with.

    Attributes:
        out: the bench's folder: runs, and what each arm said, are kept there.
        steps, minutes: of pretraining, one of them.
        seeds: how many pretraining seeds there are.
        data: a set of two classes.
        config: draws of labels, training from scratch, bootstrap samples.
    """

    out: Path
    steps: int | None = STEPS
    minutes: float | None = None
    seeds: int = 3
    data: str = DATA
    config: EvaluationConfig = field(default_factory=lambda: EvaluationConfig(resamples=1000))

    def recipe(self, seed: int) -> Recipe:
        return preset(METHOD, minutes=self.minutes, steps=self.steps, seed=seed)

    def settings(self) -> dict:
        """What a figure depends on."""
        return {
            "steps": self.steps, "minutes": self.minutes, "data": self.data, "recipe": lengthless(self.recipe(0)),
            "evaluation": asdict(self.config), "probe": {"costs": COSTS, "few": FEW},
        }  # fmt: skip

    def images(self) -> Images:
        return _images(self.data, self.recipe(0).reading)

    def encoder(self, seed: int, images: Images) -> ImageEncoder:
        """The encoder of a seed; from the bench's folder where it was pretrained before the bench was stopped."""
        recipe, out = self.recipe(seed), self.out / "runs" / f"{METHOD}-{seed}"
        encoder = ImageEncoder.load(out) if (out / "config.json").exists() else None
        if encoder is None or encoder.recipe_ != recipe:
            encoder = ImageEncoder(recipe).fit(images, out=out, note=say)
            encoder.save(out)
        return encoder

    def place(self, fraction: float) -> str:
        return f"{self.data}, {fraction:.0%} of labels".replace("%", " %")


@cache
def _images(data: str, reading: Reading) -> Images:
    """Read once for all tests of a run."""
    return read(data, reading)


def said(bed: Bed, seed: int, fraction: float, arms: Sequence[str]) -> Guesses:
    """What the arms say of the test images with a fraction of the labels; kept, and read back where nothing has changed."""
    key = json.dumps([bed.settings(), seed, fraction])
    paths = {arm: bed.out / "said" / f"{arm}-{fraction:g}-{seed}.npz" for arm in arms}
    kept = {arm: found for arm, path in paths.items() if (found := _kept(path, key)) is not None}
    missing = [arm for arm in arms if arm not in kept]
    if missing:
        images = bed.images()
        # the frozen arm always runs: it costs seconds
        asked = tuple(dict.fromkeys(("pretrained", *missing)))
        config = replace(bed.config, fractions=(fraction,), headline=fraction, arms=asked)
        new = guess(bed.encoder(seed, images), images, config, say)
        kept |= {arm: _keep(paths[arm], key, new, arm, fraction) for arm in missing}
    first = kept[arms[0]]
    guesses = Guesses(first["label"], first["patient"], labels={fraction: int(first["labels"])})
    for arm in arms:
        draws = sum(name.startswith("draw") for name in kept[arm])
        guesses.test[arm] = {fraction: [kept[arm][f"draw{i}"] for i in range(draws)]}
        points = json.loads(str(kept[arm]["decided"]))
        guesses.points[arm] = {fraction: [Decision.from_json(point) for point in points]}
    return guesses


def _keep(path: Path, key: str, new: Guesses, arm: str, fraction: float) -> Kept:
    decided = json.dumps([point.json() for point in new.points[arm][fraction]])
    kept: Kept = {
        "label": new.label, "patient": new.patient, "labels": np.array(new.labels[fraction]), "decided": np.array(decided),
        **{f"draw{i}": score for i, score in enumerate(new.test[arm][fraction])},
    }  # fmt: skip
    named: Any = {"key": np.array(key), **kept}
    with whole(path, "what an arm said") as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **named)
    return kept


def _kept(path: Path, key: str) -> Kept | None:
    if not path.exists():
        return None
    with np.load(path, allow_pickle=False) as found:
        return None if str(found["key"]) != key else {name: found[name] for name in found.files if name != "key"}


def floors(bed: Bed, fraction: float) -> Guesses:
    """What the floors say; they do not hang on pretraining's seed, but for the work that scratch may cost."""
    return said(bed, 0, fraction, FLOORS)


def labelled(fraction: float, bed: Bed, seed: int) -> list[Row]:
    """The frozen features of a seed with a fraction of the labels, and the floors."""
    guesses, beside = said(bed, seed, fraction, ("pretrained",)), floors(bed, fraction)
    note = f"{guesses.labels[fraction]} labels, {len(guesses.test['pretrained'][fraction])} draws"
    made = _rows(bed, guesses, "pretrained", fraction, "ours", GOALS.get(fraction), note)
    for arm in FLOORS:
        made += _rows(bed, beside, arm, fraction, "floor")
    return made


def _rows(
    bed: Bed, guesses: Guesses, arm: str, fraction: float, role: str, goal: float | None = None, note: str = ""
) -> list[Row]:
    made = []
    for metric, of in SHOWN.items():
        found = interval(guesses, [on_rows(of, score) for score in guesses.test[arm][fraction]], bed.config.resamples)
        aim = goal if metric == MAIN else None
        made.append(row(bed.place(fraction), _name(arm), role, metric, found, goal=aim, note=note))
    return made


def _name(arm: str) -> str:
    return NAMES.get(arm, arm.replace("_", " "))


def tuned(bed: Bed, seed: int) -> list[Row]:
    """The pretrained network trained further on the labels, as scratch trains a fresh one."""
    made: list[Row] = []
    for fraction in bed.config.fractions:
        made += _rows(bed, said(bed, seed, fraction, ("fine_tuned",)), "fine_tuned", fraction, "ours")
    return made


def gains(bed: Bed, seed: int = 0) -> list[Row]:
    """Pretraining minus each floor, and minus the best of them, on the same labels, test patients and draws, over all seeds.

    The best floor is the one with the highest figure on the test images, which favours the floors. Whether the interval lies
    above 0 is said in the note. The last row: how many labels scratch needs for what frozen features reach with the fewest.
    """
    made, curve = [], []
    for fraction in bed.config.fractions:
        beside = floors(bed, fraction)
        mean = {arm: float(np.mean([auroc(beside.label, s) for s in beside.test[arm][fraction]])) for arm in FLOORS}
        best = max(mean, key=lambda arm: mean[arm])
        for arm in NAMES:
            mine = [said(bed, s, fraction, (arm,)) for s in range(bed.seeds)]
            for floor in FLOORS:
                found = over_seeds([_paired(m, m.test[arm][fraction], beside.test[floor][fraction], bed) for m in mine])
                words = f"{verdict(found)}: the interval {'lies' if found.low > 0 else 'does not lie'} above 0"
                against = floor.replace("_", " ")
                made.append(
                    row(
                        bed.place(fraction), f"{_name(arm)}, minus {against}", "ours", f"gain {MAIN}", found, note=words
                    )
                )
                if floor == best and fraction < 1:
                    note = f"{words}; the best floor is {against}"
                    made.append(
                        row(
                            bed.place(fraction),
                            f"{_name(arm)}, minus the best floor",
                            "ours",
                            f"gain {MAIN} over the best floor",
                            found,
                            goal=0.0,
                            note=note,
                        )
                    )
        for number in range(bed.seeds):
            curve += _curve(said(bed, number, fraction, ("pretrained",)), fraction, "pretrained")
        curve += _curve(beside, fraction, "scratch")
    saved = labels_saved(curve, MAIN)
    made.append(
        row(bed.data, f"{METHOD}, frozen, against scratch", "ours", "labels_saved", saved.estimate, note=saved.verdict)
    )
    return made


def _paired(guesses: Guesses, ours: Sequence[Score], other: Sequence[Score], bed: Bed) -> Estimate:
    """Of one seed. An arm with one draw only stands beside every draw of one that has several (all labels, random networks)."""
    if len(ours) != len(other):
        pairs = max(len(ours), len(other))
        ours, other = ([draws[i % len(draws)] for i in range(pairs)] for draws in (ours, other))
    return gain(guesses, ours, other, bed.config.resamples)


def over_seeds(found: Sequence[Estimate]) -> Estimate:
    """Mean over seeds; the interval joins that of the patients and draws with the spread of the seeds, as the record does."""
    rows = [
        {"test": "", "minutes": 0.0, "machine": "", "commit": "", "seed": i, **row("", "", "ours", f"gain {MAIN}", e)}
        for i, e in enumerate(found)
    ]
    one = combine(rows)
    return Estimate(one["value"], one["low"], one["high"])


def _curve(guesses: Guesses, fraction: float, arm: str) -> list[dict]:
    return [
        {
            "fraction": fraction,
            "labels": guesses.labels[fraction],
            "arm": arm,
            "seed": seed,
            "metric": MAIN,
            "value": auroc(guesses.label, score),
        }
        for seed, score in enumerate(guesses.test[arm][fraction])
    ]


TESTS: dict[str, Callable[[Bed, int], list[Row]]] = {
    **{f"pneumonia-{fraction * 100:g}": partial(labelled, fraction) for fraction in GOALS},
    "pneumonia-tuned": tuned,
    "pneumonia-gain": gains,
    "published": published,
}
ONCE = ("pneumonia-gain", "published")  # they speak of all seeds
