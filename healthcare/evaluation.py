"""Did pretraining help, and how many labels did it save? The protocol, and nothing that could flatter us.

Every arm sees the same labelled images; nothing is chosen on the test set; intervals resample patients and label draws.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

from core.encoders import Encoder
from core.errors import UserError
from core.evaluation import Answer, Evaluation, answer, labels_saved
from core.probes import label_subset
from core.statistics import Estimate, resamples
from healthcare.baselines import raw_pixels
from healthcare.data import Images
from healthcare.encoders import build_encoder
from healthcare.estimators import ImageEncoder
from healthcare.metrics import SENSITIVITY, OperatingPoint, accuracy, auroc, average_precision, ece
from healthcare.probe import fit_probe
from healthcare.sections import sections
from healthcare.supervised import SupervisedConfig, choose_rate, fit_classifier, probabilities

MAIN = "auroc"
OURS, FLOORS = ("pretrained", "fine_tuned"), ("raw_pixels", "random_init", "scratch")
RANDOM_NETWORKS = 3  # draws of labels share them: one more costs as much as embedding everything again
SPECIFICITY_THERE = "specificity@validation_threshold"
Score = NDArray[np.float64]  # (N, K) class probabilities


@dataclass(frozen=True)
class EvaluationConfig:
    """What is measured.

    Attributes:
        fractions: shares of the training labels; the last is normally all of them.
        draws: label draws below all labels; nested, stratified, numbered from 0.
        headline: the fraction that `metrics`, `floors` and two of the answers speak of.
        arms: which arms run; `pretrained`, the frozen encoder, always does. `fine_tuned` trains it further on the labels, as
            `scratch` trains a fresh one.
        supervised: how the network is trained from scratch; shortened where all these trainings together would see more
            images than pretraining saw views, so that both cost the same.
        resamples: bootstrap samples.
    """

    fractions: tuple[float, ...] = (0.01, 0.1, 1.0)
    draws: int = 5
    headline: float = 0.1
    arms: tuple[str, ...] = ("pretrained", *FLOORS)
    supervised: SupervisedConfig = field(default_factory=SupervisedConfig)
    resamples: int = 500

    def __post_init__(self) -> None:
        if self.draws < 1 or not self.fractions or self.headline not in self.fractions:
            raise UserError(
                "the headline fraction is not among the fractions", where="fractions", mend="give 0.01, 0.1 and 1"
            )
        unknown = sorted(set(self.arms) - {*OURS, *FLOORS})
        if unknown or "pretrained" not in self.arms:
            raise UserError(
                f"arms {self.arms} are not possible", where="arms", mend=f"choose from {', '.join((*OURS, *FLOORS))}"
            )


@dataclass
class Guesses:
    """Probabilities of every arm, fraction and draw, on the test images and on the validation images of that draw."""

    label: NDArray[np.int64]
    patient: NDArray[np.int64]
    test: dict[str, dict[float, list[Score]]] = field(default_factory=dict)
    points: dict[str, dict[float, list[OperatingPoint]]] = field(default_factory=dict)
    labels: dict[float, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    rates: dict[tuple[str, float], float] = field(default_factory=dict)


def evaluate(
    encoder: ImageEncoder, images: Images, config: EvaluationConfig | None = None, note: Callable[[str], None] = print
) -> Evaluation:
    """Frozen features of `encoder` with few labels, beside the floors.

    Raises:
        UserError: no labels, one class only in train or test, or no test images.
    """
    config = config or EvaluationConfig()
    return conclude(encoder, images, guess(encoder, images, config, note), config)


def conclude(encoder: ImageEncoder, images: Images, guesses: Guesses, config: EvaluationConfig) -> Evaluation:
    """Figures, floors, curve and answers from every arm's probabilities."""
    headline, classes = config.headline, images.classes
    draws = {arm: guesses.test[arm][headline] for arm in config.arms}
    points = {arm: guesses.points[arm].get(headline, []) for arm in config.arms}
    metrics = {arm: figures(guesses, draws[arm], points[arm], config.resamples) for arm in config.arms}
    curve = label_curve(guesses, config)
    others = [arm for arm in config.arms if arm in FLOORS]

    def against(arms: Sequence[str], words: str) -> Answer:
        arms = [arm for arm in arms if arm in others]
        if not arms:
            raise UserError("the answers need floors", where="arms", mend="leave the arms as they are")
        best = max(arms, key=lambda arm: metrics[arm][MAIN].value)
        difference = gain(guesses, draws["pretrained"], draws[best], config.resamples)
        detail = (
            f"{MAIN} at {headline:.0%} of the labels, minus that of {best.replace('_', ' ')}, the stronger of {words}"
        )
        return answer(difference, detail)

    answers = {
        "pretraining": against(("scratch", "random_init"), "the same network from scratch and at random init"),
        "best_tool": against(
            ("raw_pixels", "scratch"), "raw pixels with logistic regression and training from scratch"
        ),
        "labels_saved": labels_saved(curve, MAIN),
    }
    return Evaluation(
        task=f"Images into {len(classes)} classes ({', '.join(classes)}) from frozen features and few labels",
        protocol=protocol(encoder, images, guesses, config),
        main=MAIN,
        metrics=metrics["pretrained"],
        floors={arm: metrics[arm] for arm in others},
        answers=answers,
        label_curve=curve,
        sections=sections(images, guesses, draws, points, headline),
    )


def guess(
    encoder: ImageEncoder, images: Images, config: EvaluationConfig, note: Callable[[str], None] = print
) -> Guesses:
    """Fit every arm on every draw of labels and let it guess the test images."""
    train, test, val = (images.rows(split, labelled=True) for split in ("train", "test", "val"))
    _check(images, train, test)
    guesses = Guesses(images.label[test], images.patient[test])
    supervised = affordable(encoder, images.label[train], config)
    for arm in config.arms:
        started = time.monotonic()
        guesses.test[arm], guesses.points[arm] = {}, {}
        fixed = {"pretrained": encoder.transform, "raw_pixels": raw_pixels}
        features = fixed[arm](images) if arm in fixed else np.empty((0, 0), np.float32)
        untrained: dict[int, NDArray[np.float32]] = {}  # features of the network at random init, by seed
        for fraction in config.fractions:
            guesses.test[arm][fraction], guesses.points[arm][fraction] = [], []
            # all labels are one draw, unless the arm itself is random
            for seed in range(config.draws if fraction < 1 else RANDOM_NETWORKS if arm == "random_init" else 1):
                rows = train[label_subset(images.label[train], fraction, seed)]
                held = val[_fewer(images.label[val], len(rows), seed)]
                targets = np.concatenate([test, held])
                if arm == "random_init":
                    network = seed % RANDOM_NETWORKS
                    if network not in untrained:
                        untrained[network] = encoder.untrained(network).transform(images)
                    features = untrained[network]
                if arm in ("scratch", "fine_tuned"):
                    fresh = partial(_network, encoder, arm == "fine_tuned")
                    if (arm, fraction) not in guesses.rates:  # chosen once, on the labels of the first draw
                        guesses.rates[arm, fraction] = choose_rate(
                            fresh,
                            len(images.classes),
                            images.pixels[rows],
                            images.label[rows],
                            images.patient[rows],
                            supervised,
                        )
                    rate = guesses.rates[arm, fraction]
                    method = fit_classifier(
                        fresh, len(images.classes), images.pixels[rows], images.label[rows], supervised, rate, seed
                    )
                    score = probabilities(method, images.pixels[targets], encoder.recipe_.crop, supervised.device)
                else:
                    groups = images.patient[rows] if images.named_patients else None
                    score = fit_probe(features[rows], images.label[rows], groups).predict_proba(features[targets])
                guesses.test[arm][fraction].append(score[: len(test)])
                guesses.labels[fraction] = len(rows)
                if len(images.classes) == 2 and (images.label[held] == 0).any():
                    point = OperatingPoint.at_specificity(images.label[held], score[len(test) :])
                    guesses.points[arm][fraction].append(point)
        guesses.seconds[arm] = time.monotonic() - started
        values = [np.mean([auroc(guesses.label, s) for s in guesses.test[arm][f]]) for f in config.fractions]
        shown = ", ".join(
            f"{value:.3f} at {fraction:.0%}" for fraction, value in zip(config.fractions, values, strict=True)
        )
        note(f"{arm.replace('_', ' ')}: {MAIN} {shown} of the labels ({guesses.seconds[arm]:.0f} s)")
    return guesses


def affordable(encoder: ImageEncoder, label: NDArray[np.int64], config: EvaluationConfig) -> SupervisedConfig:
    """The supervised settings, shortened to pretraining's work: views through the network, trials of rates included."""
    plan, supervised = 0, config.supervised
    for fraction in config.fractions:
        images = len(label_subset(label, fraction, 0))
        trials = len(supervised.rates) * min(supervised.trial_steps, supervised.steps(images))
        runs = supervised.steps(images) * (config.draws if fraction < 1 else 1)
        plan += (trials + runs) * min(supervised.batch, images)
    return supervised if encoder.views_ >= plan else supervised.shortened(encoder.views_ / plan)


def _network(encoder: ImageEncoder, pretrained: bool) -> Encoder:
    """A copy of the pretrained network, or an untrained one of the same shape."""
    if pretrained:
        return deepcopy(encoder.encoder_)
    return build_encoder(encoder.recipe_.encoder, encoder.channels_, encoder.recipe_.reading.size, encoder.dims_)


def figures(
    guesses: Guesses, draws: Sequence[Score], points: Sequence[OperatingPoint], samples: int
) -> dict[str, Estimate]:
    """Every metric, averaged over label draws, with its interval."""
    table = {
        "auroc": interval(guesses, [on_rows(auroc, score) for score in draws], samples),
        "average_precision": interval(guesses, [on_rows(average_precision, score) for score in draws], samples),
        "accuracy": interval(guesses, [on_rows(accuracy, score) for score in draws], samples),
        "ece": interval(guesses, [on_rows(ece, score) for score in draws], samples),
    }
    if points:
        pairs = list(zip(points, draws, strict=True))
        table[SENSITIVITY] = interval(guesses, [on_rows(p.sensitivity, s) for p, s in pairs], samples)
        table[SPECIFICITY_THERE] = interval(guesses, [on_rows(p.specificity, s) for p, s in pairs], samples)
    return table


OnRows = Callable[[NDArray, NDArray], float]  # (labels of the rows, row numbers) -> figure


def on_rows(metric: Callable[[NDArray, NDArray], float], score: Score) -> OnRows:
    """A metric of one draw's probabilities, to be asked for any sample of test images."""
    return lambda label, rows: metric(label, score[rows])


def interval(guesses: Guesses, draws: Sequence[OnRows], samples: int, seed: int = 0) -> Estimate:
    """Mean over label draws; the 95 % percentile interval resamples test patients and, where there are several, draws.

    Both sources of doubt count: with few labels, which of them were drawn matters as much as who is tested.
    """
    generator = np.random.default_rng([seed, 1])
    every = np.arange(len(guesses.label))
    values = []
    for rows in resamples(len(every), guesses.patient, samples, seed):
        picked = generator.integers(0, len(draws), len(draws))
        label = guesses.label[rows]
        found = {int(d): draws[d](label, rows) for d in np.unique(picked)}
        values.append(np.mean([found[int(d)] for d in picked]))
    finite = np.array(values)[np.isfinite(values)]
    low, high = np.percentile(finite, [2.5, 97.5]) if len(finite) else (np.nan, np.nan)
    return Estimate(float(np.mean([draw(guesses.label, every) for draw in draws])), float(low), float(high))


def gain(guesses: Guesses, ours: Sequence[Score], other: Sequence[Score], samples: int) -> Estimate:
    """Our main metric minus another arm's on the same labels and the same resampled patients: a paired comparison."""

    def difference(a: Score, b: Score) -> OnRows:
        return lambda label, rows: auroc(label, a[rows]) - auroc(label, b[rows])

    return interval(guesses, [difference(a, b) for a, b in zip(ours, other, strict=False)], samples)


def label_curve(guesses: Guesses, config: EvaluationConfig) -> list[dict]:
    """One row per fraction, arm and draw."""
    return [
        {
            "fraction": fraction, "labels": guesses.labels[fraction], "arm": arm, "seed": seed, "metric": MAIN,
            "value": auroc(guesses.label, score),
        }
        for arm in config.arms for fraction in config.fractions for seed, score in enumerate(guesses.test[arm][fraction])
    ]  # fmt: skip


def protocol(encoder: ImageEncoder, images: Images, guesses: Guesses, config: EvaluationConfig) -> dict:
    """How it was measured, in words and numbers; no paths, no ids."""
    history = encoder.history_
    return {
        "images": images.counts(),
        "data sha256": images.sha256(),
        "patients": len(np.unique(images.patient))
        if images.named_patients
        else "not named: an image is its own patient",
        "set aside": images.quarantine.counts() or "nothing",
        "leak audit": images.audit.json(),
        "reading": list(images.notes) or "splits as given",
        "pretraining": f"{encoder.recipe_.method}, seed {encoder.recipe_.train.seed}, {history.steps} steps, "
        f"{history.seconds:.0f} s, training split without labels, last step",
        "labels": {f"{fraction:.0%}": count for fraction, count in guesses.labels.items()},
        "label draws": config.draws,
        "views": f"every network's answers are averaged over the image and four crops of {encoder.recipe_.crop:g} of its sides"
        if encoder.recipe_.crop < 1
        else "the image alone",
        "probe": "logistic regression on standardised frozen features; the smallest C within one standard error of the best "
        "cross-validated auroc inside the labelled images",
        "threshold": "specificity 0.90 on validation images, never more of them than training labels",
        "from scratch": f"same network, mild augmentation, last step, learning rate chosen inside the labels from "
        f"{', '.join(f'{rate:g}' for rate in config.supervised.rates)}; {guesses.seconds.get('scratch', 0):.0f} s in all, "
        "no more images through the network than pretraining had",
        "seconds": {arm: round(seconds, 1) for arm, seconds in guesses.seconds.items()},
        "intervals": f"95 %, {config.resamples} bootstrap samples of test patients and of label draws",
    }


def _check(images: Images, train: NDArray, test: NDArray) -> None:
    for name, rows in (("training", train), ("test", test)):
        found = len(np.unique(images.label[rows]))
        if not len(rows):
            raise UserError(f"no labelled {name} image", where="data", mend="give labels, and a test split")
        if found < 2:
            raise UserError(f"the {name} images hold one class only", where="label", mend="give at least two classes")


def _fewer(label: NDArray[np.int64], most: int, seed: int) -> NDArray[np.int64]:
    """Rows of a stratified draw of at most `most` validation labels: few labels must mean few labels."""
    if not len(label):
        return np.empty(0, np.int64)
    rows = label_subset(label, min(1.0, most / len(label)), seed, least=1)
    if len(rows) > most:  # rounding up each class
        rows = np.sort(np.random.default_rng(seed).permutation(rows)[:most])
    return rows
