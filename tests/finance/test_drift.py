"""Drift: nothing where nothing moved, the column that moved where one did; unknown and missing values count."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from core.errors import UserError
from core.training import TrainConfig
from finance.data import Transactions, validate
from finance.drift import drift, of_classes, of_weekdays, stability
from finance.encoders import Shape
from finance.estimators import TransactionEncoder
from finance.presets import Recipe
from finance.split import default_split


def test_the_index_is_its_definition() -> None:
    past, present = np.repeat([0, 1, 2], [50, 30, 20]), np.repeat([0, 1, 2], [20, 30, 50])
    p, q = np.array([50.5, 30.5, 20.5]) / 101.5, np.array([20.5, 30.5, 50.5]) / 101.5
    assert of_classes(past, present).psi == pytest.approx(((q - p) * np.log(q / p)).sum())
    assert of_classes(past, present).psi == pytest.approx(of_classes(present, past).psi)


def test_equal_periods_exceed_chance_in_one_case_of_twenty(random: np.random.Generator) -> None:
    found = [stability(random.normal(size=400), random.normal(size=300)) for _ in range(400)]
    assert np.mean([s.psi > s.chance for s in found]) == pytest.approx(0.05, abs=0.03)
    assert {s.verdict for s in found} <= {"stable", "moved"}


def test_shifts_gaps_and_new_values_are_seen(random: np.random.Generator) -> None:
    past = random.normal(size=2000)
    assert stability(past, random.normal(size=2000)).verdict == "stable"
    assert stability(past, random.normal(0.4, size=2000)).verdict == "moved"
    assert stability(past, random.normal(1.5, size=2000)).verdict == "far"
    gone = random.normal(size=2000)
    gone[:700] = np.nan
    assert stability(past, gone).verdict == "far"
    assert stability(np.exp(past), np.exp(past + 0.5)).psi == pytest.approx(stability(past, past + 0.5).psi)
    assert np.isfinite(of_classes(np.zeros(500, int), np.ones(500, int)).psi)
    assert stability(np.zeros(500), np.zeros(400)).psi < 1e-3
    with pytest.raises(UserError, match="nothing to compare"):
        stability(np.zeros(0), past)


def test_weekdays_are_compared_whatever_days_a_period_holds(random: np.random.Generator) -> None:
    def period(first: int, length: int, share: np.ndarray) -> np.ndarray:
        days = np.arange(first, first + length)
        return np.repeat(days, random.poisson(200 * share[(days + 3) % 7]))

    even, busy = np.ones(7), np.array([1, 1, 1, 1, 1, 3, 1.0])
    for length in (1, 3, 10, 12):
        assert of_weekdays(period(700, 28, busy), period(728, length, busy)).verdict == "stable"
    assert of_weekdays(period(700, 28, even), period(728, 10, busy)).verdict in ("moved", "far")
    assert of_weekdays(period(700, 3, even), period(703, 3, even)).psi == 0  # no weekday in both
    with pytest.raises(UserError, match="nothing to compare"):
        of_weekdays(np.zeros(0, int), period(700, 3, even))


def test_the_column_that_moved_is_the_first(log: Transactions) -> None:
    since = default_split(log).test
    recipe = Recipe(shape=Shape(dim=8, depth=1, heads=1, context=16), train=TrainConfig(steps=1))
    encoder = TransactionEncoder(recipe).fit(log, note=lambda line: None)
    before = drift(encoder, log, since, days=20)
    assert set(before["column"]) >= {"amount", "gap", "hour", "weekday", *log.schema.categorical}
    raw = log.frame.rename(columns={"entity": log.schema.entity}).copy()
    raw[log.schema.time], raw[log.schema.amount] = raw["time"], raw["amount"]
    raw.loc[log.day >= since, log.schema.amount] *= 4
    for column in (log.schema.label, log.schema.scenario):
        if column:
            raw[column] = 0
    raw = raw.assign(**{log.schema.id: np.arange(len(raw))}) if log.schema.id else raw
    moved = validate(pd.DataFrame(raw[log.schema.columns()]), log.schema)
    after = drift(encoder, moved, since, days=20)
    assert after.loc[0, "column"] == log.schema.amount and after.loc[0, "verdict"] == "far"
    assert before.set_index("column").loc[log.schema.amount, "verdict"] == "stable"
    with pytest.raises(UserError, match="choose a day inside the log"):
        drift(encoder, log, int(log.day.max()) + 1)
