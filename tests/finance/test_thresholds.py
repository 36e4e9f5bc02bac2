"""A threshold keeps its budget, saves the most that any does, and outlives being written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import UserError
from finance.thresholds import Threshold, by_budget, by_cost


def payments(seed: int, rows: int = 60, levels: int = 9) -> dict[str, np.ndarray]:
    """Scores of few levels, so that ties are common."""
    draw = np.random.default_rng(seed)
    return {
        "score": draw.integers(0, levels, rows).astype(float), "day": draw.integers(100, 104, rows),
        "card": draw.integers(0, 12, rows), "label": (draw.random(rows) < 0.2).astype(int),
        "amount": draw.uniform(1, 100, rows).round(2),
    }  # fmt: skip


def alerts(p: dict[str, np.ndarray], threshold: float) -> set[tuple[int, int]]:
    """(day, card) with an alert."""
    hit = p["score"] >= threshold
    return set(zip(p["day"][hit].tolist(), p["card"][hit].tolist(), strict=True))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.1, 15))
def test_a_budget_is_kept_and_no_lower_threshold_would_keep_it(seed: int, a_day: float) -> None:
    p = payments(seed)
    found = by_budget(p["score"], p["day"], p["card"], a_day)
    days = len(np.unique(p["day"]))
    assert len(alerts(p, found.score)) == pytest.approx(found.alerts_a_day * days)
    assert found.alerts_a_day <= a_day and found.days == days
    lower = p["score"][p["score"] < found.score]
    if len(lower) and len(alerts(p, lower.max())) > len(alerts(p, found.score)):
        assert len(alerts(p, lower.max())) > a_day * days


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.5, 200))
def test_no_threshold_saves_more(seed: int, cost: float) -> None:
    p = payments(seed)
    if not p["label"].any():
        return
    found = by_cost(**p, alert=cost)

    def saved(threshold: float) -> float:
        hit = (p["score"] >= threshold) & (p["label"] == 1)
        return p["amount"][hit].sum() - cost * len(alerts(p, threshold))

    best = max(0.0, *(saved(t) for t in np.unique(p["score"])))
    assert saved(found.score) == pytest.approx(best)
    assert found.saved_a_day is not None
    assert found.saved_a_day[0] * found.days == pytest.approx(best)
    assert found.alerts_a_day * found.days == pytest.approx(len(alerts(p, found.score)))


def test_what_cannot_be_chosen_is_one_line() -> None:
    p = payments(0)
    with pytest.raises(UserError, match="0 alerts a day"):
        by_budget(p["score"], p["day"], p["card"], 0)
    with pytest.raises(UserError, match="no payment"):
        by_budget(np.zeros(0), np.zeros(0, int), np.zeros(0, int), 1)
    with pytest.raises(UserError, match="no fraud whose label is known"):
        by_cost(p["score"], p["day"], p["card"], np.zeros(60, int), p["amount"], 1.0)
    with pytest.raises(UserError, match="an alert costs -1"):
        by_cost(**p, alert=-1.0)


def test_a_threshold_outlives_being_written(tmp_path: Path) -> None:
    p = payments(3)
    for made in (by_cost(**p, alert=5.0), by_budget(p["score"], p["day"], p["card"], 2)):
        assert Threshold.read(made.write(tmp_path / "threshold.json")) == made
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(UserError, match="this is no threshold"):
        Threshold.read(tmp_path / "other.json")
    with pytest.raises(UserError, match="no such file"):
        Threshold.read(tmp_path / "none.json")
