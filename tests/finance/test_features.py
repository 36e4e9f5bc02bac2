from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from finance.data import DAY, Transactions
from finance.features import amount_over_median, handbook_features


def naive(data: Transactions, name: str) -> dict[str, np.ndarray]:
    """The same features by pandas' rolling windows: an independent implementation."""
    frame = data.frame.assign(fraud=(data.label == 1).astype(float), one=1.0, at=pd.to_datetime(data.time, unit="s"))
    out = {}
    for days in (1, 7, 30):
        if name == "card":
            rolled = frame.set_index("at").groupby("entity")["amount"].rolling(f"{days}D")
            key, values = "entity", {"count": rolled.count(), "mean": rolled.mean()}
        else:
            grouped = frame.set_index("at").groupby(name)
            late = {
                c: grouped[c].rolling(f"{days + 7}D").sum() - grouped[c].rolling("7D").sum() for c in ("one", "fraud")
            }
            key, values = name, {"count": late["one"], "rate": (late["fraud"] / late["one"]).fillna(0)}
        order = frame.sort_values([key, "time", "row"], kind="stable").index
        for kind, series in values.items():
            column = np.empty(len(frame))
            column[order] = series.to_numpy()
            out[f"{kind}{days}"] = column
    return out


def test_card_windows_equal_pandas_rolling(log):
    features, theirs = handbook_features(log), naive(log, "card")
    for days in (1, 7, 30):
        ours = features.values[:, features.names.index(f"card payments, {days} d")]
        assert np.array_equal(ours, theirs[f"count{days}"])
        mean = features.values[:, features.names.index(f"card mean amount, {days} d")]
        assert np.allclose(mean, theirs[f"mean{days}"])


def test_delayed_terminal_windows_equal_pandas_rolling(log):
    assert not log.frame.duplicated(["terminal", "time"]).any()  # ties are the one thing defined otherwise
    features, theirs = handbook_features(log), naive(log, "terminal")
    for days in (1, 7, 30):
        assert np.allclose(
            features.values[:, features.names.index(f"terminal payments, {days} d")], theirs[f"count{days}"]
        )
        assert np.allclose(
            features.values[:, features.names.index(f"terminal fraud rate, {days} d")], theirs[f"rate{days}"]
        )


def test_no_feature_sees_a_later_row_or_an_undelayed_label(log):
    cut = int(np.median(log.time))
    late = log.time > cut
    frame = log.frame.copy()
    frame.loc[late, "amount"] = 1e6
    frame.loc[log.time > cut - 7 * DAY, "label"] = 1
    before, after = handbook_features(log), handbook_features(Transactions(frame, log.schema))
    # a difference of prefix sums may differ in its last bits, never by a payment
    assert np.allclose(before.values[~late], after.values[~late], rtol=1e-9, atol=1e-6)
    assert not np.allclose(before.values[late], after.values[late])


def test_only_fraud_rates_come_from_labels(log):
    features = handbook_features(log)
    assert [n for n, made in zip(features.names, features.from_labels, strict=True) if made] == [
        f"{c} fraud rate, {d} d" for c in ("terminal", "channel") for d in (1, 7, 30)
    ]
    blank = log.frame.assign(label=-1)
    assert np.array_equal(
        handbook_features(Transactions(blank, log.schema)).label_free()[:, :9], features.label_free()[:, :9]
    )


def test_amount_over_median_uses_earlier_payments_alone(log):
    ratio = amount_over_median(log)
    card = log.card == np.bincount(log.card).argmax()
    amounts = log.amount[card]
    assert ratio[card][0] == 1.0
    assert ratio[card][5] == pytest.approx(amounts[5] / np.median(amounts[:5]))
