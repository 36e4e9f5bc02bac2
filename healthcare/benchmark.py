"""The benchmark of healthcare: published, rerun and ours side by side, resumable by (test, seed).

How fast images are pretrained beside lightly's recipe and MONAI's masked autoencoder is measured by `python -m core.benchmark`, and told
in docs/performance.md.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from core.bench import Bench, Row
from core.cli import say
from core.errors import UserError
from healthcare import methods_bench, pneumonia_bench, pneumonia_uses, segmentation_bench
from healthcare.classifier import ImageClassifier
from healthcare.data import read
from healthcare.estimators import ImageEncoder
from healthcare.evaluation import EvaluationConfig, guess
from healthcare.metrics import auroc
from healthcare.pneumonia_bench import DATA, STEPS, Bed
from healthcare.presets import preset
from healthcare.reading_speed import reading_speed
from healthcare.volume_speed import volume_speed

PNEUMONIA: dict[str, Callable[[Bed, int], list[Row]]] = {**pneumonia_bench.TESTS, **pneumonia_uses.TESTS}
# tests on data of their own: (seed, folder for their runs) -> rows
OTHERS: dict[str, Callable[[int, Path], list[Row]]] = {
    **segmentation_bench.TESTS,
    "reading": lambda seed, out: reading_speed(out),
    "volume": lambda seed, out: volume_speed(out),
}
# the same for every seed, or of all seeds together
ONCE = (*pneumonia_bench.ONCE, "reading", "volume")
NAMED = ("methods", "smoke")  # run only when named


def bench(
    only: str | None, minutes: float | None, out: Path, seeds: int, data: str | None, methods: Sequence[str] = (),
    steps: int | None = None,
) -> int:  # fmt: skip
    """Run one test, or all of them but those of `NAMED`, for seeds 0, 1, …

    Args:
        minutes: of pretraining, in the place of `STEPS`; steps: another number of them.
        data: another set of two classes for the tests of pneumonia.

    Returns:
        The exit code: 1 where a figure is missing, or where `smoke` finds something amiss.
    """
    tests = {**PNEUMONIA, **OTHERS}
    if only is not None and only not in tests and only not in NAMED:
        known = ", ".join([*tests, *NAMED])
        raise UserError(f"unknown test '{only}'", where="--only", mend=f"choose from {known}")
    if (minutes is not None and not minutes > 0) or seeds < 1 or (steps is not None and steps < 1):
        raise UserError("nothing to run", where="bench", mend="give minutes above 0 and seeds of 1 or more")
    if only == "methods":
        print(f"results: {methods_bench.run(out, minutes, seeds, (data,) if data else (), methods, say)}")
        return 0
    if only == "smoke":
        return smoke(data or DATA)
    bed = Bed(out, None if minutes else steps or STEPS, minutes, seeds, data or DATA)
    failed = False
    # another set has no published figures, and tests on data of their own do not look at it
    every = [test for test in tests if bed.data == DATA or (test in PNEUMONIA and test != "published")]
    for test in [only] if only else every:
        settings = bed.settings() if test in PNEUMONIA else {}
        settings |= segmentation_bench.depends_on(test) if test in segmentation_bench.TESTS else {}
        settings |= {"seeds": seeds} if test in ONCE else {}
        record = Bench(out, settings, say)
        for seed in range(1 if test in ONCE else seeds):
            work = (
                partial(PNEUMONIA[test], bed, seed) if test in PNEUMONIA else partial(OTHERS[test], seed, out / "runs")
            )
            failed |= any(r["value"] is None for r in record.run(test, seed, work))
    print(f"results: {Bench(out, {}, say).write()}")
    return int(failed)


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
