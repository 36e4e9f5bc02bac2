"""Reason codes: each field judged alone, by the past alone; what was corrupted comes first."""

from __future__ import annotations

from dataclasses import replace as changed
from pathlib import Path

import numpy as np
import pytest
import torch

from core.heads import MixtureHead
from core.training import TrainConfig
from finance.data import Transactions
from finance.encoders import Shape
from finance.estimators import FraudScorer, TransactionEncoder
from finance.explain import Common, _evidence, _mixed, explain
from finance.presets import Fields, Recipe
from finance.split import default_split


@pytest.fixture(scope="module")
def scorer(log: Transactions) -> FraudScorer:
    torch.set_num_threads(1)
    shape = Shape(dim=32, depth=1, heads=2, context=64)
    recipe = Recipe(shape=shape, batch_size=16, train=TrainConfig(steps=150, minutes=None, lr=5e-3))
    return FraudScorer().set_params(encoder=TransactionEncoder(recipe).fit(log))


def genuine(log: Transactions, count: int = 40) -> np.ndarray:
    """(N,) some payments of the test days, none of them a fraud, no two of one card."""
    late = np.flatnonzero((log.day >= default_split(log).test) & (log.label == 0))
    one_each = late[np.unique(log.card[late], return_index=True)[1]]
    chosen = np.zeros(len(log), bool)
    chosen[one_each[:count]] = True
    return chosen


def with_amounts(log: Transactions, rows: np.ndarray, factor: float) -> Transactions:
    frame = log.frame.copy()
    frame.loc[rows, "amount"] *= factor
    return changed(log, frame=frame)


def test_every_field_is_judged_and_the_oddest_comes_first(scorer: FraudScorer, log: Transactions) -> None:
    chosen = genuine(log, 8)
    found = explain(scorer, log, chosen)
    assert list(found.columns) == ["row", "field", "seen", "expected", "surprise"]
    assert set(found["row"]) == set(log.frame["row"][chosen])
    fields = {"amount", "gap", "hour", "weekday", *log.schema.categorical, *log.schema.numeric}
    for _, payment in found.groupby("row"):
        assert set(payment["field"]) == fields and payment["surprise"].is_monotonic_decreasing
        assert (payment["surprise"] >= 0).all() and payment["expected"].ne("").all()
    assert len(explain(scorer, log, np.zeros(len(log), bool))) == 0


def test_a_corrupted_amount_is_the_first_reason(scorer: FraudScorer, log: Transactions) -> None:
    chosen = genuine(log)
    honest = explain(scorer, log, chosen).groupby("row").first()["field"]
    corrupted = explain(scorer, with_amounts(log, chosen, 40.0), chosen).groupby("row").first()
    assert (corrupted["field"] == log.schema.amount).mean() > 0.8 > (honest == log.schema.amount).mean()


def test_evidence_is_an_e_value_whose_mean_is_one_where_nothing_is_odd() -> None:
    p = (torch.arange(1_000_000, dtype=torch.float64) + 0.5) / 1_000_000
    low, high = p[p < 0.1], p[p >= 0.1]
    assert _evidence(high).max() < 0.25 and _evidence(low).diff().max() <= 0
    assert _evidence(p).exp().mean() < 1.75  # 1 before values below 1 are raised to it
    assert _evidence(torch.tensor([1e-12])).item() > 15


def test_a_value_as_rare_for_everyone_is_no_reason_and_one_that_the_card_never_had_is() -> None:
    ids = np.repeat([3, 4, 5], [80, 19, 1])
    common = Common.of(ids, ids)
    assert common.value(np.array([5]))[0] < 0.03
    network = np.array([0.01 / common.id(np.array([5]), 6)[0], 1.0])
    assert _mixed(network, [(1.0, 0), (1.0, 0)]) == pytest.approx(network)
    assert _mixed(np.array([1.0]), [(0.02, 190)])[0] == pytest.approx(0.05 + 0.95 * 0.02)


def test_later_payments_and_the_size_of_batches_change_no_reason(scorer: FraudScorer, log: Transactions) -> None:
    chosen = genuine(log, 10)
    cut = log.frame[["entity", "time"]].assign(row=np.arange(len(log)))[chosen]
    last = dict(zip(cut["entity"], cut["row"], strict=True))
    later = np.array([row > last.get(card, len(log)) for row, card in enumerate(log.frame["entity"])])
    assert later.any()
    whole = explain(scorer, log, chosen)
    changed_future = explain(scorer, with_amounts(log, later, 7.0), chosen, batch_size=3)
    assert whole["field"].tolist() == changed_future["field"].tolist()
    np.testing.assert_allclose(whole["surprise"], changed_future["surprise"], rtol=1e-3, atol=1e-4)


def test_values_without_a_name_are_called_what_the_data_calls_them(log: Transactions) -> None:
    recipe = Recipe(
        shape=Shape(dim=16, depth=1, heads=2, context=24), batch_size=8, train=TrainConfig(steps=120, lr=5e-3)
    )
    scorer = FraudScorer(TransactionEncoder(changed(recipe, fields=Fields(max_categories=5, buckets=16))).fit(log))
    chosen = genuine(log, 12)
    frame = log.frame.copy()
    frame.loc[chosen, "channel"] = "carrier pigeon"
    found = explain(scorer, changed(log, frame=frame), chosen).set_index(["row", "field"])
    for row, payment in frame[chosen].iterrows():
        terminal = found.loc[(frame.loc[row, "row"], "terminal")]
        assert terminal["seen"] == f"{payment['terminal']} (hashed)"
        earlier = set(frame["terminal"][(frame["entity"] == payment["entity"]) & (frame.index < row)])
        word, said = terminal["expected"].rsplit(" (", 1)
        assert "%, hashed" in said
        assert word in earlier if word != "a value that the card has not had" else "bucket" in said
        assert found.loc[(frame.loc[row, "row"], "channel"), "seen"] == "carrier pigeon (unknown)"
    assert found.xs("terminal", level="field")["expected"].str.match(r"t\d+ \(").any()


def test_quantiles_of_a_mixture_are_those_of_its_samples() -> None:
    torch.manual_seed(0)
    head, hidden = MixtureHead(8), torch.randn(50, 8)
    for share in (0.01, 0.05, 0.5, 0.95, 0.999):
        at = head.quantile(hidden, share)
        torch.testing.assert_close(head.log_survival(hidden, at).exp(), torch.full((50,), 1 - share), atol=1e-4, rtol=0)


def test_a_run_that_cannot_score_cannot_explain(log: Transactions, tmp_path: Path) -> None:
    from core.errors import UserError

    with pytest.raises(UserError, match="not fitted"):
        explain(FraudScorer(), log, genuine(log, 2))
