"""The ceiling: what the simulator's rules and the known labels say, and no more."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from core.errors import UserError
from finance.data import DAY, Transactions, validate
from finance.metrics import average_precision
from finance.oracle import TAKEN, TAKEN_DAYS, _window, oracle
from finance.schema import Schema

SCHEMA = Schema(
    entity="card", time="time", amount="amount", categorical=("terminal",), label="fraud", scenario="scenario",
    counterparty="terminal", label_delay_days=7,
)  # fmt: skip
LAST = 60  # the day that is asked about


@pytest.fixture(scope="module")
def simulated() -> Transactions:
    """Payments of 200 cards at 50 terminals; one terminal is taken over on day 45, one card's data leak on day 58."""
    draw = np.random.default_rng(0)
    rows = 8000
    day, second = draw.integers(0, LAST + 1, rows), draw.integers(0, DAY, rows)
    card, terminal = draw.integers(0, 200, rows), draw.integers(0, 50, rows)
    mean = draw.uniform(10, 80, 200)[card]
    amount = np.abs(draw.normal(mean, mean / 3)).clip(0.5, 200)
    scenario = np.where((terminal == 7) & (day >= 45), 2, 0)
    leaked = (card == 3) & (day >= LAST - 6) & (scenario == 0) & (np.arange(rows) % 2 == 0)
    scenario[leaked], amount[leaked] = 3, 5 * amount[leaked]
    frame = pd.DataFrame(
        {
            "card": [f"c{c}" for c in card], "terminal": [f"t{t}" for t in terminal], "amount": amount.round(2),
            "time": pd.Timestamp("2020-01-01") + pd.to_timedelta(day * DAY + second, unit="s"),
            "fraud": (scenario > 0).astype(int), "scenario": scenario,
        }
    )  # fmt: skip
    return validate(frame, SCHEMA)


def test_a_window_goes_on_until_a_genuine_payment_or_28_days() -> None:
    days = lambda *values: np.array(values, dtype=np.int64)  # noqa: E731
    assert _window(days(), days(), 50) == pytest.approx(TAKEN * TAKEN_DAYS)
    assert _window(days(43), days(), 50) == pytest.approx(TAKEN * 7)
    assert _window(days(20), days(21), 30) == pytest.approx(1.0, abs=0.01)  # began on day 21 at the earliest and latest
    assert _window(days(20), days(21), 21 + TAKEN_DAYS) < 0.01  # over
    assert _window(days(20, 40), days(21), 45) < 0.01  # a genuine payment since
    part = _window(days(10), days(30), 45)  # began between days 11 and 30
    assert part == pytest.approx(np.mean(np.arange(11, 31) + TAKEN_DAYS > 45), abs=0.01)


def test_it_finds_what_the_rules_say_and_looks_at_no_label_before_its_delay(simulated: Transactions) -> None:
    asked = simulated.day == simulated.day.max()
    found = oracle(simulated, asked)
    assert (found[~asked] == 0).all() and ((found >= 0) & (found <= 1)).all()
    assert average_precision(simulated.label[asked], found[asked])[0] > 0.8
    terminal = simulated.frame["counterparty"][asked].to_numpy() == "t7"
    assert found[asked][terminal].min() > 0.9 > 0.1 > np.median(found[asked][~terminal])
    unknown = (simulated.label_time >= simulated.time[asked].max()) & (simulated.scenario == 2)
    hidden = replace(simulated, frame=simulated.frame.assign(scenario=np.where(unknown, 0, simulated.scenario)))
    again = oracle(hidden, asked)
    np.testing.assert_allclose(again[asked][terminal], found[asked][terminal], atol=1e-3)


def test_a_log_without_scenarios_has_no_such_ceiling(log: Transactions) -> None:
    with pytest.raises(UserError, match="names no scenario"):
        oracle(replace(log, schema=replace(log.schema, scenario="")), np.ones(len(log), bool))
