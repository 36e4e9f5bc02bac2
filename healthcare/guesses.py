"""Every arm on every draw of labels: what it says of the test images, and what it would decide.

Every arm sees the same labelled images; nothing is chosen on the test set.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

from core.encoders import Encoder
from core.errors import UserError
from healthcare.baselines import raw_pixels, self_trained
from healthcare.data import Images
from healthcare.decisions import Decision
from healthcare.estimators import ImageEncoder
from healthcare.findings import fewer, subset, target_of
from healthcare.linear import FEW, fit_linear, held_out
from healthcare.metrics import auroc
from healthcare.supervised import SupervisedConfig, choose_rate, fit_classifier, probabilities

MAIN = "auroc"
OURS, FLOORS = ("pretrained", "fine_tuned"), ("raw_pixels", "self_training", "random_init", "scratch")
NETWORKS = ("scratch", "fine_tuned")
RANDOM_NETWORKS = 3  # draws of labels share them: one more costs as much as embedding everything again
Score = NDArray[np.float64]  # (N, K) probabilities


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
        prevalence: of every finding (of two classes, of the second) where the model would be used: predictive values are given for
            it. None: as in the test images.
        gallery: test images of each kind that the report shows.
    """

    fractions: tuple[float, ...] = (0.01, 0.1, 1.0)
    draws: int = 5
    headline: float = 0.1
    arms: tuple[str, ...] = ("pretrained", *FLOORS)
    supervised: SupervisedConfig = field(default_factory=SupervisedConfig)
    resamples: int = 500
    prevalence: float | None = None
    gallery: int = 12

    def __post_init__(self) -> None:
        if self.draws < 1:
            raise UserError(f"{self.draws} draws of labels", where="draws", mend="give 1 or more")
        if not self.fractions or self.headline not in self.fractions:
            raise UserError(
                "the headline fraction is not among the fractions", where="fractions", mend="give 0.01, 0.1 and 1"
            )
        unknown = sorted(set(self.arms) - {*OURS, *FLOORS})
        if unknown or "pretrained" not in self.arms:
            raise UserError(
                f"arms {self.arms} are not possible", where="arms", mend=f"choose from {', '.join((*OURS, *FLOORS))}"
            )
        if self.prevalence is not None and not 0 < self.prevalence < 1:
            raise UserError(
                f"prevalence {self.prevalence:g} is not in (0, 1)", where="prevalence", mend="give for example 0.1"
            )


@dataclass
class Guesses:
    """Calibrated probabilities of every arm, fraction and draw on the test images, and the decisions that held-out images gave.

    `label`: class codes (N,) or findings (N, L) of the test images; `labels`: how many were learned from, by fraction.
    """

    label: NDArray
    patient: NDArray[np.int64]
    test: dict[str, dict[float, list[Score]]] = field(default_factory=dict)
    points: dict[str, dict[float, list[Decision]]] = field(default_factory=dict)
    labels: dict[float, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    rates: dict[tuple[str, float], float] = field(default_factory=dict)


@dataclass(frozen=True)
class Draw:
    """One draw of labels: row numbers of the images learned from, of the held-out validation images, and of the test images."""

    fraction: float
    seed: int
    rows: NDArray[np.int64]
    held: NDArray[np.int64]
    test: NDArray[np.int64]


def guess(
    encoder: ImageEncoder, images: Images, config: EvaluationConfig, note: Callable[[str], None] = print
) -> Guesses:
    """Fit every arm on every draw of labels, calibrate it on held-out images, and let it guess the test images.

    Raises:
        UserError: no labels, one class only in train or test, or no test images.
    """
    train, test, val = (images.rows(split, labelled=True) for split in ("train", "test", "val"))
    _check(images, train, test)
    target = target_of(images)
    guesses = Guesses(target[test], images.patient[test])
    supervised = affordable(encoder, target[train], config)
    for arm in config.arms:
        started = time.monotonic()
        guesses.test[arm], guesses.points[arm] = {}, {}
        member = _Arm(arm, encoder, images, supervised, guesses)
        for fraction in config.fractions:
            guesses.test[arm][fraction], guesses.points[arm][fraction] = [], []
            # all labels are one draw, unless the arm itself is random
            for seed in range(config.draws if fraction < 1 else RANDOM_NETWORKS if arm == "random_init" else 1):
                rows = train[subset(target[train], fraction, seed)]
                held = val[fewer(target[val], len(rows), seed)]
                said, aside, known = member.learn(Draw(fraction, seed, rows, held, test))
                decision = Decision.fit(aside, known, images.classes)
                guesses.test[arm][fraction].append(decision(said))
                guesses.points[arm][fraction].append(decision)
                guesses.labels[fraction] = len(rows)
        guesses.seconds[arm] = time.monotonic() - started
        values = [np.mean([auroc(guesses.label, s) for s in guesses.test[arm][f]]) for f in config.fractions]
        shown = ", ".join(
            f"{value:.3f} at {fraction:.0%}" for fraction, value in zip(config.fractions, values, strict=True)
        )
        note(f"{arm.replace('_', ' ')}: {MAIN} {shown} of the labels ({guesses.seconds[arm]:.0f} s)")
    return guesses


class _Arm:
    """One way to learn from labels; features that do not depend on the draw are made once."""

    def __init__(
        self, name: str, encoder: ImageEncoder, images: Images, supervised: SupervisedConfig, guesses: Guesses
    ) -> None:
        self.name, self.encoder, self.images, self.supervised, self.guesses = name, encoder, images, supervised, guesses
        self.target, self.classes = target_of(images), len(images.classes)
        self.made: dict[int, NDArray[np.float32]] = {}  # features, by seed of an untrained network

    def learn(self, draw: Draw) -> tuple[Score, Score, NDArray]:
        """Probabilities of the test images, and of held-out ones with their targets: validation images, and for a regression on fixed
        features its own images, cross-validated."""
        if self.name in NETWORKS:
            return self._network(draw)
        x, target = self.features(draw.seed), self.target
        groups = self.images.patient[draw.rows] if self.images.named_patients else None
        labelled = self._labelled(draw, x)
        linear = fit_linear(labelled, target[draw.rows], self.classes, groups)
        if self.name == "self_training":
            others = np.setdiff1d(self.images.rows("train"), draw.rows)
            linear = self_trained(x[draw.rows], target[draw.rows], x[others], linear, self.classes)
        aside, known = linear.predict_proba(x[draw.held]), target[draw.held]
        if self.name != "self_training" or not len(known):
            crossed = held_out(labelled, target[draw.rows], linear, groups)
            aside, known = np.concatenate([crossed, aside]), np.concatenate([target[draw.rows], known])
        return linear.predict_proba(x[draw.test]), aside, known

    def features(self, seed: int) -> NDArray[np.float32]:
        number = seed % RANDOM_NETWORKS if self.name == "random_init" else 0
        if number not in self.made:
            encoder = self._encoder(seed)
            self.made[number] = raw_pixels(self.images) if encoder is None else encoder.transform(self.images)
        return self.made[number]

    def _labelled(self, draw: Draw, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Features of the draw's images that the regression learns from: (N, D), or by view (V, N, D)."""
        if len(draw.rows) > FEW:  # as `ImageEncoder.labelled`, whose means `x` holds
            return x[draw.rows]
        encoder = self._encoder(draw.seed)
        return x[draw.rows] if encoder is None else encoder.labelled(self.images.select(draw.rows))

    def _encoder(self, seed: int) -> ImageEncoder | None:
        """The network whose features are fixed; None where the features are pixels."""
        if self.name == "random_init":
            return self.encoder.untrained(seed % RANDOM_NETWORKS)
        return self.encoder if self.name == "pretrained" else None

    def _network(self, draw: Draw) -> tuple[Score, Score, NDArray]:
        pixels, rates, place = self.images.pixels, self.guesses.rates, (self.name, draw.fraction)
        fresh = partial(_network, self.encoder, self.name == "fine_tuned")
        some, target = pixels[draw.rows], self.target[draw.rows]
        if place not in rates:  # chosen once, on the labels of the first draw
            rates[place] = choose_rate(
                fresh, self.classes, some, target, self.images.patient[draw.rows], self.supervised
            )
        method = fit_classifier(fresh, self.classes, some, target, self.supervised, rates[place], draw.seed)
        both = np.concatenate([draw.test, draw.held])
        said = probabilities(method, pixels[both], self.encoder.recipe_.crop, self.supervised.device)
        return said[: len(draw.test)], said[len(draw.test) :], self.target[draw.held]


def affordable(encoder: ImageEncoder, label: NDArray, config: EvaluationConfig) -> SupervisedConfig:
    """The supervised settings, shortened to pretraining's work: views through the network, trials of rates included."""
    plan, supervised = 0, config.supervised
    for fraction in config.fractions:
        images = len(subset(label, fraction, 0))
        trials = len(supervised.rates) * min(supervised.trial_steps, supervised.steps(images))
        runs = supervised.steps(images) * (config.draws if fraction < 1 else 1)
        plan += (trials + runs) * min(supervised.batch, images)
    return supervised if encoder.views_ >= plan else supervised.shortened(encoder.views_ / plan)


def _network(encoder: ImageEncoder, pretrained: bool) -> Encoder:
    """A copy of the pretrained network, or an untrained one of the same shape."""
    if pretrained:
        return deepcopy(encoder.encoder_)
    return ImageEncoder.build(encoder.describe()).encoder_


def _check(images: Images, train: NDArray, test: NDArray) -> None:
    target = target_of(images)
    for name, rows in (("training", train), ("test", test)):
        if not len(rows):
            raise UserError(f"no labelled {name} image", where="data", mend="give labels, and a test split")
        if target.ndim == 1 and len(np.unique(target[rows])) < 2:
            raise UserError(f"the {name} images hold one class only", where="label", mend="give at least two classes")
        if target.ndim == 2 and not ((target[rows] == 1).any(0) & (target[rows] == 0).any(0)).any():
            raise UserError(
                f"no finding is there in some {name} images and absent in others", where="label", mend="label both"
            )
