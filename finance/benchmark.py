"""The benchmark of finance on `fdh_simulated`: published, rerun and ours side by side, resumable by (test, seed).

Everything is fitted on days before the test week (8 to 14 August 2018); settings were chosen on the week 14 days earlier.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import numpy as np

from core.bench import Bench, Row, row
from core.errors import UserError
from core.statistics import Estimate
from finance import cdnow, coles, fdh
from finance.baselines import logistic_regression, random_forest
from finance.data import KNOWN, Transactions, find, read
from finance.estimators import FraudScorer, TransactionEncoder
from finance.evaluation import (
    MAIN,
    Settings,
    evaluate,
)
from finance.presets import Recipe, masked
from finance.split import FDH_TEST
from finance.study import Study

DATA = "fdh_simulated"
STEPS = 2000  # of pretraining, some four minutes of one core; steps, so that a busy machine changes nothing
SHOWN = (MAIN, "auroc", "card_precision@100", "auroc@scenario=1", "auroc@scenario=2", "auroc@scenario=3")
# Fraud Detection Handbook, chapter 3, BaselineModeling: auroc, average precision, card precision@100
PUBLISHED = {
    "logistic_regression": (0.871, 0.606, 0.291),
    "random_forest": (0.867, 0.658, 0.287),
    "xgboost": (0.862, 0.639, 0.273),
}
PUBLISHED_METRICS = ("auroc", "average_precision", "card_precision@100")


@cache
def log() -> Transactions:
    """The whole log; read once for all tests of a run."""
    return read(DATA)


@cache
def study() -> Study:
    """The log up to the end of the test week."""
    return Study.checked(log(), FDH_TEST)


@cache
def weeks() -> fdh.Weeks:
    """The log up to the end of the last test week."""
    return fdh.Weeks(log().where(log().day < FDH_TEST.earlier(-7 * (fdh.WEEKS - 1)).end))


def pretrained(out: Path, minutes: float | None, seed: int, device: str) -> TransactionEncoder:
    """The encoder of a seed, trained before the test week; taken from the bench folder where it is there already."""
    recipe: Recipe = masked()
    steps = STEPS if minutes is None else None
    recipe = replace(recipe, train=replace(recipe.train, minutes=minutes, steps=steps, seed=seed, device=device))
    budget = f"{steps}-steps" if minutes is None else f"{minutes:g}-minutes"
    run = out / "runs" / f"masked-{budget}-{seed}"
    if (run / "config.json").exists():
        encoder = TransactionEncoder.load(run)
        if encoder.recipe_ == recipe:
            return encoder
    encoder = TransactionEncoder(recipe).fit(log(), until=FDH_TEST.test, out=run, note=lambda line: None)
    encoder.save(run)
    return encoder


def estimates(
    method: str, role: str, found: dict[str, Estimate], shown: tuple[str, ...], suffix: str = "", **more
) -> list[Row]:
    return [row(DATA, method, role, m + suffix, found[m], **more) for m in shown if m in found]


def floors(out: Path, minutes: float | None, seed: int, device: str) -> list[Row]:
    """The published figures beside their rerun on features of our own making."""
    s = study()
    train, test, x, label = s.rows.train, s.rows.test, s.features.values, s.data.label
    panel = s.panel("unknown", 200)
    made = [
        row(DATA, name, "published", metric, value)
        for name, values in PUBLISHED.items()
        for metric, value in zip(PUBLISHED_METRICS, values, strict=True)
    ]
    for name, fit in (("logistic_regression", logistic_regression), ("random_forest", random_forest)):
        found = panel.measure(s.on("unknown", fit(x[train], label[train], x[test], seed)))
        off = max(abs(found[m].value - v) for m, v in zip(PUBLISHED_METRICS, PUBLISHED[name], strict=True))
        note = f"at most {off:.4f} from the published figures; random_state {seed}"
        made += estimates(name, "floor", found, SHOWN, note=note)
    return made


def on_weeks(
    test: Callable[[fdh.Weeks, TransactionEncoder, int], list[Row]],
    out: Path,
    minutes: float | None,
    seed: int,
    device: str,
) -> list[Row]:
    """A test of finance.fdh, with the encoder of a seed."""
    return test(weeks(), pretrained(out, minutes, seed, device), seed)


def reason_codes(out: Path, minutes: float | None, seed: int, device: str) -> list[Row]:
    """Which field of a payment was corrupted; see finance.corruption."""
    from finance.corruption import reason_codes as measured

    encoder = pretrained(out, minutes, seed, device)
    return measured(study().data, FraudScorer(encoder), FDH_TEST.test, seed)


def few_labels(out: Path, minutes: float | None, seed: int, device: str) -> list[Row]:
    """The whole evaluation of a seed's encoder: all labels, few labels, and the three answers."""
    s, encoder = study(), pretrained(out, minutes, seed, device)
    evaluation = evaluate(encoder, s.data, s.split, Settings(scratch_share=0.25))
    evaluation.write(out / "reports" / f"masked-{seed}")
    made = estimates(
        "masked fields + features", "ours", evaluation.metrics, SHOWN, note="all labels of the training week"
    )
    for name, found in evaluation.floors.items():
        made += estimates(name, "floor", found, SHOWN, note="all labels of the training week")
    arms = {"pretrained": "ours", "random_init": "floor", "raw": "floor", "scratch": "floor"}
    for fraction in sorted({r["fraction"] for r in evaluation.label_curve}):
        for arm, role in arms.items():
            values = [r["value"] for r in evaluation.label_curve if r["arm"] == arm and r["fraction"] == fraction]
            labels = next(r["labels"] for r in evaluation.label_curve if r["fraction"] == fraction)
            spread = Estimate(float(np.mean(values)), float(min(values)), float(max(values)))
            spread = spread if fraction < 1 else Estimate(spread.value, np.nan, np.nan)
            note = f"{labels} fraud labels, no fraud-rate columns; " + (
                "range of 3 draws" if fraction < 1 else "one draw"
            )
            made.append(row(DATA, f"{arm}, linear probe" if arm != "scratch" else arm, role, f"{MAIN}, {fraction:.0%} of labels", spread, note=note))  # fmt: skip
    for name, said in evaluation.answers.items():
        note = f"{said.verdict}; {said.detail}"
        made.append(row(DATA, "masked fields", "ours", f"answer: {name}", said.estimate, note=note))
    return made


def smoke(out: Path, minutes: float | None, seed: int, device: str) -> list[Row]:
    """Every part on real data in a minute, with loose bounds: raises UserError where one is broken."""
    s = study()
    train, test, label = s.rows.train, s.rows.test, s.data.label
    panel = s.panel("unknown", 20)
    recipe = masked()
    recipe = replace(recipe, train=replace(recipe.train, steps=120, minutes=None))
    encoder = TransactionEncoder(recipe).fit(s.data, until=FDH_TEST.test, note=lambda line: None)
    ours, untrained = (
        panel.measure(s.on("unknown", FraudScorer(e).score_samples(s.data, test)[test]))
        for e in (encoder, encoder.untrained())
    )
    published = panel.measure(
        s.on("unknown", logistic_regression(s.features.values[train], label[train], s.features.values[test]))
    )
    found = ours["auroc@scenario=3"].value
    few = test & (s.data.card < 100)
    checks = {
        "logistic regression is within .003 of the published figures": all(
            abs(published[m].value - v) <= 0.003
            for m, v in zip(PUBLISHED_METRICS, PUBLISHED["logistic_regression"], strict=True)
        ),
        f"scenario 3 without labels, auroc {found:.3f}, is above .90": found > 0.90,
        "pretraining beats random weights by .05": found > untrained["auroc@scenario=3"].value + 0.05,
        "states differ between payments": float(np.nanstd(encoder.transform(s.data, few)[few], axis=0).mean()) > 0.01,
    }
    broken = [what for what, holds in checks.items() if not holds]
    if broken:
        raise UserError(f"smoke: not so that {'; '.join(broken)}", where="bench --only smoke")
    return estimates("masked fields", "ours", ours, SHOWN, note="smoke: 120 steps") + estimates(
        "random init", "floor", untrained, SHOWN, note="smoke"
    )


def speed(out: Path, minutes: float | None, seed: int, device: str) -> list[Row]:
    """How fast payments are scored and networks trained; see finance.speed."""
    from finance.speed import speed as measured

    return measured(study().data, DATA, out, FDH_TEST.test)


def prepare(out: Path, minutes: float | None, seed: int, device: str) -> list[Row]:
    """Time and memory of the verb prepare; see finance.prepare_speed."""
    from finance.prepare_speed import prepare_speed

    return prepare_speed(out)


TESTS: dict[str, Callable[[Path, float | None, int, str], list[Row]]] = {
    "floors": floors,
    **{name: partial(on_weeks, test) for name, test in fdh.TESTS.items()},
    "reason-codes": reason_codes,
    "coles-vs-ptls": coles.bench,
    "cdnow": cdnow.bench,
    "few_labels": few_labels,
    "smoke": smoke,
    "speed": speed,
    "prepare": prepare,
}
ONCE = ("floors", "smoke", "speed", "prepare")  # the same for every seed


def bench(
    only: str | None, budget: float | None, out: Path, seeds: int, device: str, say: Callable[[str], None]
) -> int:
    """Run the tests for seeds 0, 1, …; returns the exit code, 1 where a figure is missing."""
    method = (only or "").removeprefix("methods-")
    if only is not None and only not in TESTS and only != "methods" and method == only:
        known = ", ".join([*TESTS, "methods"])
        raise UserError(f"unknown test '{only}'", where="--only", mend=f"choose from {known}")
    if seeds < 1 or (budget is not None and not budget > 0):
        raise UserError("a bench needs a seed and some minutes", where="--seeds, --minutes", mend="give 1 or more")
    find(DATA)  # one clear line where the data is not there
    if only == "methods" or method != (only or ""):
        from finance import methods_bench

        return methods_bench.run(study(), out, budget, seeds, [method] if method != only else [], say)
    record = Bench(out, {"minutes": budget, "steps": STEPS, "sha256": KNOWN[DATA].sha256["transactions.parquet"]}, say)
    failed = False
    for test in [only] if only else [t for t in TESTS if t != "smoke"]:
        for seed in range(1 if test in ONCE else seeds):
            made = record.run(test, seed, partial(TESTS[test], out, budget, seed, device))
            failed |= any(r["value"] is None for r in made)
    say(f"results: {record.write()}")
    return int(failed)
