"""The parts of the report: tables and drawings without any id, name or place of the data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.calibration import calibration_error, reliability
from core.evaluation import Section
from core.report import figure, svg
from core.statistics import Estimate
from finance.drift import drift
from finance.estimators import FraudScorer, TransactionEncoder
from finance.explain import explain
from finance.inputs import Encoded
from finance.metrics import card_precision, cards_by_day
from finance.study import Cards, Study

Array = NDArray[np.float64]
BUDGETS = (5, 10, 25, 50, 100, 200)  # cards looked at a day
TOP = 10  # alerts that are explained
REASONS = 3  # fields shown of each
PAST = 28  # days with which the test days are compared


def curve_section(curve: Sequence[dict[str, Any]]) -> Section:
    arms = {
        "pretrained": "hand-made features + pretrained representation, linear probe",
        "random_init": "hand-made features + representation of random weights, linear probe",
        "raw": "hand-made features, linear probe",
        "scratch": "the same network trained from the labels alone",
    }
    made = []
    for labels in sorted({row["labels"] for row in curve}):
        for arm, what in arms.items():
            values = [row["value"] for row in curve if row["arm"] == arm and row["labels"] == labels]
            if values:
                spread = f"{min(values):.3f} – {max(values):.3f}" if len(set(values)) > 1 else "one draw"
                made.append((labels, what, f"{np.mean(values):.3f}", spread))
    text = "Average precision. No arm reads fraud rates of terminals and the like here: those are made from all past labels."
    return Section("Few labels", text, ("fraud labels", "method", "mean", "draws"), tuple(made))


def label_free_section(measured: dict[str, dict[str, Estimate]], cards: Cards, study: Study) -> Section:
    names = list(measured["ours"])
    made = [
        (method, *(str(m[name]) for name in names))
        for method, m in sorted(measured.items(), key=lambda i: i[0] != "ours")
    ]
    counts = ", ".join(f"{k} {v}" for k, v in study.panel(cards, 0).counts().items())
    title = "Without labels, " + ("cards not yet known as defrauded" if cards == "unknown" else "all cards")
    text = f"{counts}. Frauds that leave no mark in amount or habit cannot be found without labels; they pull the overall auroc down."
    return Section(title, text, ("method", *names), tuple(made))


def scenario_section(found: dict[str, dict[str, Estimate]]) -> Section | None:
    """Auroc by kind of fraud, with labels; None where the log tells no kinds."""
    names = [m for m in found["ours"] if "@scenario=" in m]
    if not names:
        return None
    made = [(method, *(str(m[name]) for name in names)) for method, m in found.items()]
    return Section(
        "Kinds of fraud, with labels", "Auroc of each kind against genuine payments.", ("method", *names), tuple(made)
    )


def alerts_section(study: Study, cards: Cards, scores: dict[str, Array]) -> Section:
    """How often an alert is right, and how much fraud is found, if so many cards are looked at a day.

    Args:
        scores: by method, of the tested rows.
    """
    at, data = study.tested(cards), study.data
    label, day, amount = data.label[at], data.day[at], data.amount[at]
    card = np.unique(data.card[at], return_inverse=True)[1]
    made = []
    for method, score in scores.items():
        for k in BUDGETS:
            right = card_precision(day, card, label, score, k)[0]
            looked = _looked_at(day, card, score, k)
            fraud = label == 1
            money = amount[looked & fraud].sum() / max(amount[fraud].sum(), 1e-9)
            made.append((method, k, f"{right:.3f}", f"{(looked & fraud).sum() / fraud.sum():.1%}", f"{money:.1%}"))
    text = (
        "Each day the cards with the highest scores are looked at. Precision: the share of them that has a fraud that day, cards found "
        "earlier left out; found: the share of frauds, and of their amount, on the days that their cards were looked at."
    )
    columns = ("method", "cards a day", "precision", "frauds found", "of their amount")
    return Section("Alerts a day", text, columns, tuple(made))


def calibration_section(label: NDArray[np.int64], probability: Array) -> Section:
    """What was said and what was found, on test days."""
    bins = reliability(label, probability)
    drawing, axes = figure(width=4.0, height=3.2)
    low = max(min(min(b.said for b in bins), min((b.found for b in bins if b.found), default=1.0)) / 2, 1e-6)
    axes.plot([low, 1], [low, 1], color="#bbbbbb", linewidth=1)
    axes.plot([max(b.said, low) for b in bins], [max(b.found, low) for b in bins], "o-", color="#0b6e4f", markersize=4)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("probability said")
    axes.set_ylabel("share of frauds found")
    error, share = calibration_error(label, probability), float((label == 1).mean())
    text = f"Calibration error {error:.4f} over bins of equally many payments; {share:.4f} of them are frauds, {probability.mean():.4f} were foretold."
    made = tuple((f"{b.said:.4f}", f"{b.found:.4f}", b.rows) for b in bins)
    return Section("Calibration", text, ("said", "found", "payments"), made, svg(drawing))


def drift_section(encoder: TransactionEncoder, encoded: Encoded, study: Study, scorer: FraudScorer | None) -> Section:
    """Whether the test days are like those before."""
    found = drift(encoder, encoded, study.split.test, PAST, scorer)
    made = tuple((r.column, f"{r.psi:.3f}", f"{r.chance:.3f}", str(r.verdict)) for r in found.itertuples())
    text = f"Population stability of the test days against the {PAST} days before; what chance exceeds in one case of twenty beside it."
    return Section("Drift", text, ("column", "stability index", "chance", "verdict"), made)


def reasons_section(scorer: FraudScorer, encoded: Encoded, study: Study, cards: Cards, score: Array) -> Section:
    """The oddest fields of the payments with the highest scores (of the tested rows), without places and names."""
    rows = np.flatnonzero(study.tested(cards))[np.argsort(-score, kind="stable")[:TOP]]
    chosen = np.zeros(len(study.data), bool)
    chosen[rows] = True
    found = explain(scorer, encoded, chosen)
    codec = scorer.fitted()[0].codec_
    numbers = {codec.title(f.name) for f in codec.fields if f.kind == "numeric"} | {"hour", "weekday"}
    kinds = {0: "genuine", 1: "fraud"}
    made: list[tuple[object, ...]] = []
    for rank, at in enumerate(rows, 1):
        for r in found[found["row"] == study.data.frame["row"].iloc[at]].head(REASONS).itertuples():
            seen, expected = (r.seen, r.expected) if r.field in numbers else ("withheld", "withheld")
            made.append((rank, kinds[int(study.data.label[at])], r.field, seen, expected, f"{r.surprise:.1f}"))
    text = "Each field hidden by itself and told from all else. Categories are not shown here; the verb explain shows them to the data's owner."
    return Section(
        "Reasons of the top alerts", text, ("alert", "in truth", "field", "seen", "expected", "nats"), tuple(made)
    )


def _looked_at(day: NDArray, card: NDArray, score: Array, k: int) -> NDArray[np.bool_]:
    """(N,) payments of the k cards with the highest scores of their day."""
    out = np.zeros(len(day), bool)
    for rows, cards in cards_by_day(day, card, score):
        out[rows] = np.isin(card[rows], cards[:k])
    return out
