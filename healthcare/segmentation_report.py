"""`evaluate` for masks: what a run is worth with few annotated images, beside the same network from scratch; and its report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from core.errors import UserError
from core.evaluation import Answer, Evaluation, answer, labels_saved
from core.statistics import Estimate, resamples
from healthcare.estimators import ImageEncoder
from healthcare.masks import MaskedImages
from healthcare.segment_recipes import SegmentRecipe, lengthened
from healthcare.segmentation import Judged, judge, paired_gain, second_observer
from healthcare.segmentation_sections import sections
from healthcare.segmenter import Segmenter, like_pretrained

ARMS = ("pretrained", "scratch")


@dataclass(frozen=True)
class Few:
    """What is measured.

    Attributes:
        annotated: numbers of annotated training images; those above what there is are left out, and all of them come last.
        draws: of which images are annotated, below all.
        headline: the number that figures and answers speak of; None: the smallest.
        steps: of every training, whatever the number of images: None is the recipe's.
        seed: of the first draw.
    """

    annotated: tuple[int, ...] = (2, 5)
    draws: int = 3
    headline: int | None = None
    steps: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.draws < 1:
            raise UserError(f"{self.draws} draws of annotated images", where="draws", mend="give 1 or more")


@dataclass
class Curve:
    """Judged test images of every arm, number of annotated images, and draw; `groups` are their patients, where some has several."""

    groups: NDArray[np.int64] | None = None
    judged: dict[str, dict[int, list[Judged]]] = field(default_factory=dict)

    def add(self, arm: str, amount: int, judged: Judged) -> None:
        self.judged.setdefault(arm, {}).setdefault(amount, []).append(judged)

    def mean(self, arm: str, amount: int, name: str) -> Estimate:
        """Mean over draws, with an interval over test images and draws."""
        runs = self.judged[arm][amount]
        return mean_over(runs, name, self.groups)


def mean_over(runs: Sequence[Judged], name: str, groups: NDArray | None = None, seed: int = 0) -> Estimate:
    """Mean over runs of a figure, with an interval over images (and runs, where there are several) drawn again; over whole patients,
    where groups are given."""
    figures, images = [run.figures()[name] for run in runs], len(runs[0].masks)
    random = np.random.default_rng(seed)
    values = [
        np.mean([figures[i](rows) for i in random.integers(0, len(runs), len(runs))])
        for rows in resamples(images, groups, 500, seed)
    ]
    low, high = np.nanpercentile(values, [2.5, 97.5])
    everything = np.arange(images)
    return Estimate(float(np.mean([f(everything) for f in figures])), float(low), float(high))


def annotated_rows(data: MaskedImages, amount: int, draw: int) -> NDArray[np.int64]:
    """So many annotated training images, drawn by a seed; a larger draw holds the smaller one of the same seed."""
    rows = data.rows("train", annotated=True)
    return rows[np.random.default_rng([77, draw]).permutation(len(rows))[:amount]]


def with_few(data: MaskedImages, rows: NDArray) -> MaskedImages:
    """The data with these training images alone, and without validation images: few labels are all the labels that there are."""
    return data.select(np.concatenate([rows, data.rows("test")]))


def run_arm(
    arm: str, encoder: ImageEncoder, data: MaskedImages, recipe: SegmentRecipe, rows: NDArray, seed: int,
    note: Callable[[str], None] = lambda line: None,
) -> Segmenter:  # fmt: skip
    """One training of one arm on these annotated images: equal network, steps and patches, another start."""
    from dataclasses import replace

    recipe = like_pretrained(replace(recipe, train=replace(recipe.train, seed=seed)), encoder)
    segmenter = Segmenter.on_top_of(encoder, recipe) if arm == "pretrained" else Segmenter(recipe)
    return segmenter.fit(with_few(data, rows), note=note)


def evaluate_masks(
    encoder: ImageEncoder, data: MaskedImages, recipe: SegmentRecipe, few: Few | None = None,
    note: Callable[[str], None] = print,
) -> Evaluation:  # fmt: skip
    """A U-Net on the pretrained encoder, beside the same from scratch, with few and with all annotated images.

    Raises:
        UserError: no annotated training or test images.
    """
    few = few or Few()
    train, test = data.rows("train", annotated=True), data.select(data.rows("test", annotated=True))
    if not len(train) or not len(test):
        raise UserError("no annotated training or test images", where="data", mend="annotate some of both splits")
    amounts = [*(n for n in few.annotated if n < len(train)), len(train)]
    headline = few.headline if few.headline in amounts else amounts[0]
    recipe = recipe if few.steps is None else lengthened(recipe, few.steps)
    curve = Curve(test.groups)
    for amount in amounts:
        for draw in range(few.draws if amount < len(train) else 1):
            for arm in ARMS:
                seed = few.seed + draw
                segmenter = run_arm(arm, encoder, data, recipe, annotated_rows(data, amount, seed), seed)
                maps = segmenter.predict_proba(test)
                judged = judge(test, [segmenter.called(m) for m in maps], maps)
                curve.add(arm, amount, judged)
                value = judged.figures()[judged.main](np.arange(len(test)))
                note(f"{arm}, {amount} annotated images, draw {draw}: {judged.main} {value:.3f}")
    return concluded(data, test, recipe, curve, amounts, headline, few)


def concluded(
    data: MaskedImages, test: MaskedImages, recipe: SegmentRecipe, curve: Curve, amounts: list[int], headline: int, few: Few
) -> Evaluation:  # fmt: skip
    """Figures, floors, curve and answers from what was judged."""
    first = curve.judged["pretrained"][headline][0]
    main, names = first.main, list(first.figures())
    everyone = np.arange(len(test))
    rows = [
        {"fraction": amount / amounts[-1], "labels": amount, "arm": arm, "seed": draw, "metric": main, "value": judged.figures()[main](everyone)}
        for arm, by_amount in curve.judged.items() for amount, runs in by_amount.items() for draw, judged in enumerate(runs)
    ]  # fmt: skip
    metrics = {name: curve.mean("pretrained", headline, name) for name in names}
    floors = {"scratch": {name: curve.mean("scratch", headline, name) for name in names}}
    observer = second_observer(test)
    if observer is not None:
        floors["second observer"] = observer.estimates(test.groups)
    gain = paired_gain(curve.judged["pretrained"][headline], curve.judged["scratch"][headline], main, test.groups)
    detail = f"{main} with {headline} annotated images, pretrained minus scratch, same network, images and steps"
    answers: dict[str, Answer] = {"pretraining": answer(gain, detail)}
    if len(amounts) > 1:
        answers["labels_saved"] = labels_saved(rows, main, what="annotated images")
    protocol = {
        "recipe": recipe.name, "train images": amounts[-1], "test images": len(test), "draws": few.draws,
        "steps of each training": recipe.train.steps, "patch": f"{recipe.patch} px", "headline": f"{headline} annotated images",
        "thresholds": "chosen on the annotated training images", "pixels": "inside the field of view, where one is given",
        "dice, ap and auroc": "of all test images together; 'mean of images' is the mean of each image's", "hd95": "in pixels",
        "intervals": f"95 %, test {'images' if curve.groups is None else 'patients'} and draws of annotated images drawn again",
        "data sha256": data.sha256(),
    }  # fmt: skip
    task = "Telling objects apart" if data.objects else "Segmentation"
    return Evaluation(
        task, protocol, main, metrics, floors, answers, rows,
        sections(data, test, curve.judged, headline, observer), unit="annotated images",
    )  # fmt: skip
