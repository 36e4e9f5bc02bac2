"""Online scores equal those of the whole log at once; what is refused changes nothing; what is remembered is bounded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import UserError
from core.training import TrainConfig
from finance.data import Schema, Transactions, validate
from finance.encoders import Shape
from finance.estimators import FraudScorer, TransactionEncoder
from finance.online import OnlineScorer, Scored
from finance.presets import Recipe
from finance.scoring import Score

SCHEMA = Schema("who", "when", "sum", categorical=("place", "kind"), numeric=("balance",))
SHAPE = Shape(dim=16, depth=2, heads=2, context=24, position="learned")
RECIPE = Recipe(shape=SHAPE, score=Score(horizon=6, stride=4, memory=3), batch_size=8, train=TrainConfig(steps=10))


def raw_log(seed: int, count: int, cards: int, gap: float = 40_000.0) -> pd.DataFrame:
    """Payments in order of time, with ties, missing values, and values that no training has seen."""
    draw = np.random.default_rng(seed)
    time = np.cumsum(draw.exponential(gap / cards, count).astype(np.int64) * (draw.random(count) < 0.8)) + 1_600_000_000
    balance = np.where(draw.random(count) < 0.2, np.nan, draw.normal(100, 40, count))
    place = pd.Series(draw.integers(0, 30, count).astype(float)).where(draw.random(count) < 0.9)
    kind = pd.Series(draw.choice(["shop", "online", "odd"], count), dtype=object).where(draw.random(count) < 0.9, None)
    return pd.DataFrame({"who": [f"c{c}" for c in draw.integers(0, cards, count)], "when": time, "sum": draw.lognormal(3, 1, count).round(2), "place": place, "kind": kind, "balance": balance})  # fmt: skip


def as_payments(raw: pd.DataFrame) -> list[dict]:
    return raw.astype(object).where(raw.notna(), None).to_dict("records")


@pytest.fixture(scope="module")
def scorer() -> FraudScorer:
    torch.set_num_threads(1)
    raw = raw_log(0, 900, 12)
    raw["place"] = raw["place"].map(lambda v: v if np.isnan(v) else v % 20)
    recipe = replace(RECIPE, fields=replace(RECIPE.fields, max_categories=10, buckets=8))
    return FraudScorer(TransactionEncoder(recipe).fit(validate(raw, SCHEMA), note=lambda line: None))


def close(a: np.ndarray, b: np.ndarray) -> None:
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


@settings(deadline=None, max_examples=12)
@given(st.integers(1, 10**6), st.integers(1, 80), st.integers(1, 5), st.floats(0, 1))
def test_one_by_one_equals_all_at_once(scorer: FraudScorer, seed: int, count: int, cards: int, known: float) -> None:
    raw = raw_log(seed, count, cards)
    table = validate(raw, SCHEMA)
    batch, why = scorer.parts(table), scorer.reasons(table)
    cut = int(known * count)
    online = OnlineScorer.from_history(scorer, table.where(np.arange(count) < cut))
    found = [online.score(payment, reasons=True) for payment in as_payments(raw)[cut:]]
    close(np.array([[s.score, s.own, s.past] for s in found]).reshape(-1, 3), batch[cut:])
    for name, values in why.items():
        close(np.array([s.reasons[name] for s in found]), values[cut:])


@settings(deadline=None, max_examples=12)
@given(st.integers(1, 10**6), st.lists(st.integers(0, 60), min_size=1, max_size=6))
def test_tables_one_after_the_other_equal_one_table(scorer: FraudScorer, seed: int, sizes: list[int]) -> None:
    table = validate(raw_log(seed, sum(sizes) + 1, 4), SCHEMA)
    part = np.repeat(np.arange(len(sizes) + 1), [*sizes, 1])
    online = OnlineScorer(scorer)
    found = [online.score_table(table.where(part == i)) for i in range(len(sizes) + 1)]
    close(np.concatenate(found), scorer.parts(table))


def test_cards_may_take_turns_in_any_way(scorer: FraudScorer) -> None:
    raw = raw_log(5, 150, 5)
    by_card = raw.sort_values("who", kind="stable")
    one, other = OnlineScorer(scorer), OnlineScorer(scorer)
    first = {i: one.score(p).score for i, p in zip(raw.index, as_payments(raw), strict=True)}
    second = {i: other.score(p).score for i, p in zip(by_card.index, as_payments(by_card), strict=True)}
    assert first == second


def test_values_read_as_in_a_table(scorer: FraudScorer) -> None:
    raw = raw_log(8, 60, 2)
    written = raw.assign(
        when=pd.to_datetime(raw["when"], unit="s").map(lambda t: t.isoformat() + "+00:00"),
        sum=raw["sum"].map(str), place=raw["place"].map(lambda v: None if np.isnan(v) else str(int(v))),
        balance=raw["balance"].map(lambda v: None if np.isnan(v) else repr(v)),
    )  # fmt: skip
    plain, text = OnlineScorer(scorer), OnlineScorer(scorer)
    assert [plain.score(p) for p in as_payments(raw)] == [text.score(p) for p in as_payments(written)]


def test_going_on_from_a_file_equals_never_having_stopped(scorer: FraudScorer, tmp_path: Path) -> None:
    payments = as_payments(raw_log(9, 120, 4))
    whole, first = OnlineScorer(scorer), OnlineScorer(scorer)
    uninterrupted = [whole.score(p) for p in payments]
    for payment in payments[:70]:
        first.score(payment)
    second = OnlineScorer.load(scorer, first.save(tmp_path / "cards.safetensors"))
    assert [second.score(p) for p in payments[70:]] == uninterrupted[70:]
    empty = OnlineScorer.load(scorer, OnlineScorer(scorer).save(tmp_path / "none.safetensors"))
    assert empty.score(payments[0]) == uninterrupted[0]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cards.safetensors", "none.safetensors"]


def test_a_damaged_or_foreign_file_is_refused(scorer: FraudScorer, log: Transactions, tmp_path: Path) -> None:
    online = OnlineScorer.from_history(scorer, validate(raw_log(3, 50, 3), SCHEMA))
    path = online.save(tmp_path / "cards.safetensors")
    content = path.read_bytes()
    (tmp_path / "short").write_bytes(content[:-9])
    (tmp_path / "text").write_text("no tensors")
    for name in ("short", "text"):
        with pytest.raises(UserError, match="damaged"):
            OnlineScorer.load(scorer, tmp_path / name)
    with pytest.raises(UserError, match="no saved states"):
        OnlineScorer.load(scorer, tmp_path / "nothing")
    assert scorer.encoder is not None
    with pytest.raises(UserError, match="another run"):
        OnlineScorer.load(FraudScorer(scorer.encoder.untrained()), path)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"when": 1_600_000_000}, "before the card's last"),
        ({"when": None}, "time is missing"),
        ({"when": "yesterday"}, "time is missing or unreadable"),
        ({"when": 1e15}, "time is missing or unreadable"),
        ({"when": True}, "time is missing or unreadable"),
        ({"who": None}, "card is missing"),
        ({"who": ["c1"]}, "neither text nor a number"),
        ({"who": "stranger"}, "never paid"),
        ({"sum": "much"}, "not a finite number"),
        ({"sum": float("inf")}, "not a finite number"),
        ({"sum": None}, "not a finite number"),
        ({"balance": "low"}, "unreadable"),
        ({"balance": 10**400}, "infinite"),
        ({"place": {"city": 1}}, "neither text nor a number"),
    ],
)
def test_a_refused_payment_is_one_line_and_changes_nothing(scorer: FraudScorer, change: dict, what: str) -> None:
    raw = raw_log(4, 60, 2)
    online = OnlineScorer.from_history(scorer, validate(raw, SCHEMA), new_cards=False)
    good = {**as_payments(raw)[-1], "when": 1_800_000_000}
    with pytest.raises(UserError, match=what) as refused:
        online.score({**good, **change})
    assert "\n" not in str(refused.value)
    with pytest.raises(UserError, match="no 'sum'"):
        online.score({k: v for k, v in good.items() if k != "sum"})
    with pytest.raises(UserError, match="no payment"):
        online.score([1, 2])  # type: ignore[arg-type]
    again = OnlineScorer.from_history(scorer, validate(raw, SCHEMA))
    assert online.score(good) == again.score(good)


def test_a_table_with_a_payment_out_of_order_is_refused_whole(scorer: FraudScorer) -> None:
    table = validate(raw_log(6, 80, 3), SCHEMA)
    online = OnlineScorer.from_history(scorer, table.where(np.arange(80) < 60))
    with pytest.raises(UserError, match="before their card's last"):
        online.score_table(table.where(np.arange(80) >= 50))
    close(online.score_table(table.where(np.arange(80) >= 60)), scorer.parts(table)[60:])


def test_what_is_remembered_of_a_card_does_not_grow(scorer: FraudScorer) -> None:
    table = validate(raw_log(7, 10_000, 1, gap=4_000.0), SCHEMA)
    online = OnlineScorer.from_history(scorer, table)
    (card,) = online.states.cards.values()
    assert card.count == 10_000 and card.ids.shape[1] == card.numbers.shape[1] < SHAPE.context and len(card.past) == 3
    payment = as_payments(raw_log(7, 1, 1))[0]
    for i in range(50):
        found = online.score({**payment, "when": 2_900_000_000 + i})
        assert isinstance(found, Scored) and np.isfinite(found.score)
        (card,) = online.states.cards.values()
        assert card.ids.shape[1] < SHAPE.context
        assert card.ids.base is None or card.ids.base.size < 10 * SHAPE.context  # no view that keeps the whole log
