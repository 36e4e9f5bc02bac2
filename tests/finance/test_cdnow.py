"""The benchmark of purchase histories: the target begins where the history ends, and nothing of it is seen before."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import finance.cdnow as module
from finance.cdnow import Customers, boosted, cdnow, counted, features, outlook, pretrained, recipe, states
from finance.data import DAY, Transactions, validate
from finance.source import CDNOW_SCHEMA

CUT, WEEKS = 100, 8


@pytest.fixture(scope="module")
def customers() -> Customers:
    """300 customers who buy at a rate of their own, until they leave."""
    random = np.random.default_rng(0)
    rows = []
    for i in range(300):
        rate, leave, now = random.gamma(1.0, 0.08) + 0.01, random.beta(1, 4), float(random.integers(0, 40))
        while now < CUT + 7 * WEEKS:
            rows.append((f"c{i:03d}", int(now) * DAY, round(random.gamma(2, 15), 2), int(random.integers(1, 5))))
            if random.random() < leave:
                break
            now += random.exponential(1 / rate)
    return Customers(
        validate(pd.DataFrame(rows, columns=["customer_id", "date", "amount", "cds"]), CDNOW_SCHEMA), CUT, WEEKS
    )


def changed(customers: Customers, keep: np.ndarray) -> Customers:
    """The same, but purchases that are not kept have another amount, and those of the last days are gone."""
    frame = customers.data.frame.copy()
    frame.loc[~keep, "amount"] *= 3.0
    gone = ~keep & (customers.data.day >= CUT + 20)
    return replace(customers, data=Transactions(frame[~gone].reset_index(drop=True), customers.data.schema))


def test_the_target_is_what_comes_after(customers: Customers) -> None:
    after = customers.data.where(customers.data.day >= CUT).frame
    spent = dict(after.groupby("entity")["amount"].sum())
    np.testing.assert_allclose(customers.spend, [spent.get(name, 0.0) for name in customers.names])
    np.testing.assert_array_equal(customers.churn, [int(name not in spent) for name in customers.names])
    assert 0.2 < customers.churn.mean() < 0.9


def test_features_tell_recency_frequency_and_money() -> None:
    rows = [
        ("a", 0, 10.0, 1),
        ("a", 7 * DAY, 20.0, 2),
        ("a", 7 * DAY, 5.0, 1),
        ("a", 150 * DAY, 99.0, 1),
        ("b", 93 * DAY, 7.0, 1),
    ]
    log = validate(pd.DataFrame(rows, columns=["customer_id", "date", "amount", "cds"]), CDNOW_SCHEMA)
    x = features(Customers(log, CUT, WEEKS))
    assert x["repeats"].tolist() == [1, 0] and x["recency"].tolist() == [1, 0]
    assert x["age"].tolist() == pytest.approx([99 / 7, 6 / 7]) and x["silence"].tolist() == pytest.approx(
        [92 / 7, 6 / 7]
    )
    assert x["sum amount"].tolist() == [35, 7] and x["last amount"].tolist() == [25, 7]
    assert x["amount, 30 d"].tolist() == [0, 7] and np.isnan(x["mean gap"]).tolist() == [False, True]


def test_changing_what_comes_after_changes_no_feature_state_or_model_of_histories(customers: Customers) -> None:
    other = changed(customers, customers.data.day < CUT)
    assert (other.spend != customers.spend).any() and (other.churn != customers.churn).any()
    pd.testing.assert_frame_equal(features(other), features(customers))
    encoder, again = pretrained(customers, recipe(steps=3)), pretrained(other, recipe(steps=3))
    state = states(encoder, customers)
    np.testing.assert_array_equal(states(again, other), state)
    np.testing.assert_array_equal(outlook(again, state, other), outlook(encoder, state, customers))
    for one, two in zip(counted(customers), counted(other), strict=True):
        np.testing.assert_array_equal(one, two)


def test_what_test_customers_do_later_teaches_nobody(customers: Customers) -> None:
    x = features(customers).to_numpy()
    other = changed(customers, (customers.data.day < CUT) | customers.train[customers.data.card])
    assert (other.churn != customers.churn)[~customers.train].any()
    for target in ("churn", "spend"):
        np.testing.assert_array_equal(boosted(other, x, target, 0), boosted(customers, x, target, 0))


def test_states_stand_in_the_order_of_the_names(customers: Customers) -> None:
    encoder = pretrained(customers, recipe(steps=3))
    alone = customers.history.where(customers.history.frame["entity"].to_numpy() == customers.names[7])
    np.testing.assert_allclose(states(encoder, customers)[7], encoder.transform(alone)[-1], atol=1e-5)


def test_a_long_silence_is_unlikely_and_all_rows_have_figures(
    customers: Customers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "DRAWS", 5)
    encoder = pretrained(customers, recipe(steps=60))
    seen = outlook(encoder, states(encoder, customers), customers)
    assert np.isfinite(seen).all() and (seen[:, :3] <= 1e-6).all() and (seen[:, 2] <= seen[:, 0] + 1e-6).all()
    silent = customers.counts.age - customers.counts.recency
    assert np.corrcoef(np.log1p(silent), seen[:, 0])[0, 1] < -0.5
    rows = cdnow(customers, encoder, 0)
    assert {r["role"] for r in rows} == {"ours", "floor"}
    assert all(np.isfinite(r["value"]) and r["low"] <= r["high"] for r in rows)
    value = {(r["method"], r["metric"]): r["value"] for r in rows}
    gain = value["trees + outlook", "churn, auroc"] - value["trees", "churn, auroc"]
    assert value["trees + outlook", "gain churn, auroc, over trees"] == pytest.approx(gain)
