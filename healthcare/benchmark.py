"""The benchmark of healthcare: PneumoniaMNIST with few labels, beside its floors and published figures.

`labels` pretrains and evaluates, one part a seed; `published` repeats figures from papers; `methods` asks of every method whether it
learns; `smoke` is a short end-to-end run on the real data with checks on sanity.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np

from core.bench import Bench, Row, lengthless, row
from core.cli import say
from core.errors import UserError
from healthcare import methods_bench
from healthcare.classifier import ImageClassifier
from healthcare.data import read
from healthcare.estimators import ImageEncoder
from healthcare.evaluation import (
    FLOORS,
    MAIN,
    OURS,
    EvaluationConfig,
    conclude,
    figures,
    gain,
    guess,
    interval,
    on_rows,
)
from healthcare.metrics import auroc
from healthcare.presets import preset

MINUTES = 8.0  # of pretraining, each seed of `labels`
GOAL = {0.1: 0.945}  # auroc of frozen features with a tenth of the labels
NAMES = {"pretrained": "simclr, frozen, logistic regression", "fine_tuned": "simclr, fine-tuned"}
PUBLISHED = {
    "ResNet-18 (28 px)": 0.944, "ResNet-18 (224 px)": 0.956, "ResNet-50 (28 px)": 0.948, "auto-sklearn": 0.942,
    "AutoKeras": 0.947, "Google AutoML Vision": 0.991,
}  # fmt: skip
SOURCE = "MedMNIST v2, Yang et al., Scientific Data 10:41, 2023: all labels, official split, recalled from the paper"


def bench(
    only: str | None, minutes: float | None, out: Path, seeds: int, data: str | None, methods: Sequence[str] = ()
) -> int:  # fmt: skip
    """Run one test, or `labels` and `published`; returns the exit code, 1 where `smoke` finds something amiss."""
    if (minutes is not None and not minutes > 0) or seeds < 1:
        raise UserError("nothing to run", where="bench", mend="give minutes above 0 and seeds of 1 or more")
    if only == "methods":
        print(f"results: {methods_bench.run(out, minutes, seeds, (data,) if data else (), methods, say)}")
        return 0
    data, minutes = data or "pneumoniamnist", MINUTES if minutes is None else minutes
    if only == "smoke":
        return smoke(data)
    config = EvaluationConfig(arms=(*OURS, *FLOORS), resamples=1000)
    settings = lengthless(preset("simclr"))
    record = Bench(out, {"minutes": minutes, "data": data, "recipe": settings, "evaluation": asdict(config)})
    if only in (None, "published") and data == "pneumoniamnist":
        record.run("published", 0, published)
    if only in (None, "labels"):
        for seed in range(seeds):
            record.run("labels", seed, partial(labels, data, minutes, seed, out / f"run-{seed}", config))
    print(f"results: {record.write()}")
    return 0


def published() -> list[Row]:
    """Figures of papers, to stand beside ours."""
    return [
        row("pneumoniamnist, 100 % of labels", name, "published", MAIN, value, note=SOURCE)
        for name, value in PUBLISHED.items()
    ]


def labels(data: str, minutes: float, seed: int, out: Path, config: EvaluationConfig) -> list[Row]:
    """Pretrain once, then every arm on every draw of labels; the report of each seed stays beside the run."""
    recipe = preset("simclr", minutes=minutes, seed=seed)
    images = read(data, recipe.reading)
    encoder = ImageEncoder.load(out) if (out / "config.json").exists() else None
    if encoder is None or encoder.recipe_ != recipe:  # else it was pretrained before the bench was stopped
        encoder = ImageEncoder(recipe).fit(images, out=out, note=say)
        encoder.save(out)
    guesses = guess(encoder, images, config, say)
    evaluation = conclude(encoder, images, guesses, config)
    evaluation.write(out.with_name(f"report-{seed}"))
    rows: list[Row] = []
    for arm in config.arms:
        role, name = ("ours", NAMES[arm]) if arm in OURS else ("floor", arm.replace("_", " "))
        for fraction in config.fractions:
            draws = guesses.test[arm][fraction]
            place = f"{data}, {fraction:.0%} of labels".replace("%", " %")
            if fraction == config.headline:
                found = figures(guesses, draws, guesses.points[arm][fraction], config.resamples)
            else:
                found = {MAIN: interval(guesses, [on_rows(auroc, score) for score in draws], config.resamples)}
            for metric, estimate in found.items():
                goal = GOAL.get(fraction) if arm == "pretrained" and metric == MAIN else None
                rows.append(row(place, name, role, metric, estimate, goal=goal))
            for mine in OURS if arm in FLOORS else ():
                ours = guesses.test[mine][fraction]
                difference = gain(guesses, ours, draws[: len(ours)], config.resamples)
                rows.append(row(place, f"{NAMES[mine]}, minus {name}", "ours", "auroc_gain", difference))
    saved = evaluation.answers["labels_saved"]
    if math.isfinite(saved.estimate.value):
        rows.append(row(data, "simclr against scratch", "ours", "labels_saved", saved.estimate, note=saved.verdict))
    return rows


def smoke(data: str = "pneumoniamnist", steps: int = 80) -> int:
    """Pretrain briefly on the real data, probe, save, load, predict; 0 where every check holds."""
    started = time.monotonic()
    images = read(data)
    encoder = ImageEncoder(preset("simclr", steps=steps)).fit(images, note=lambda line: None)
    config = EvaluationConfig(
        fractions=(0.1,), draws=3, arms=("pretrained", "raw_pixels", "random_init"), resamples=100
    )
    guesses = guess(encoder, images, config, say)
    value = {arm: float(np.mean([auroc(guesses.label, s) for s in guesses.test[arm][0.1]])) for arm in config.arms}
    losses = encoder.history_.losses
    classifier = ImageClassifier.on_top_of(encoder).fit(images)
    with tempfile.TemporaryDirectory() as folder:
        classifier.save(Path(folder) / "run")
        again = ImageClassifier.load(Path(folder) / "run")
    some = images.select(images.rows("test")[:100])
    checks: dict[str, bool] = {
        "the loss falls": losses[-1] < losses[0],
        "pretrained beats the untrained network": value["pretrained"] > value["random_init"],
        "pretrained comes near raw pixels at least": value["pretrained"] > value["raw_pixels"] - 0.03,
        "a saved classifier predicts as before": bool(
            np.allclose(classifier.predict_proba(some), again.predict_proba(some))
        ),
    }
    for name, holds in checks.items():
        say(f"{'ok  ' if holds else 'FAIL'} {name}")
    say(f"healthcare smoke: {time.monotonic() - started:.0f} s")
    return 0 if all(checks.values()) else 1
