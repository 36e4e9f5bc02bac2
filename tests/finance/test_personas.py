"""Personas show in what goes together, not in any column by itself; both sides of the comparison embed the same customers."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.benchmark import installed
from core.errors import UserError
from core.probes import linear
from finance.coles import SIDES, coles_vs_ptls, handmade, ours, ptls
from finance.data import DAY, Transactions
from finance.histories import EventCodec
from finance.peers import read, write
from finance.personas import PERSONAS, Crowd, generate

CROWD = Crowd(customers=400, events=60)


@pytest.fixture(scope="module")
def crowd() -> tuple[Transactions, np.ndarray]:
    return generate(CROWD)


def accuracy(x: np.ndarray, persona: np.ndarray) -> float:
    half = len(x) // 2
    return float((linear(x[:half], persona[:half], x[half:], costs=(0.1,)).argmax(1) == persona[half:]).mean())


def together(data: Transactions) -> np.ndarray:
    """What the generator hides: evenings by half of the categories, weekend's amounts, changes of half. (C, 3)."""
    first = (data.frame["category"].str[1:].astype(int) < CROWD.categories // 2).to_numpy()
    evening, weekend, amount = data.time % DAY >= 14 * 3600, (data.day + 3) % 7 >= 5, np.log(data.amount)
    made = []
    for card in range(CROWD.customers):
        own = data.card == card
        a, e, w, m = first[own], evening[own], weekend[own], amount[own]
        made.append([(a == e).mean(), m[w].mean() - m[~w].mean(), (a[1:] == a[:-1]).mean()])
    return np.array(made)


def test_personas_show_together_and_hardly_in_single_columns(crowd: tuple[Transactions, np.ndarray]) -> None:
    data, persona = crowd
    assert sorted(np.bincount(persona)) == [CROWD.customers // PERSONAS] * PERSONAS
    assert accuracy(together(data), persona) > 0.9
    assert accuracy(handmade(data), persona) < 0.3
    amount = np.array([[data.amount[data.card == c].mean()] for c in range(CROWD.customers)])
    assert accuracy(amount, persona) < 0.2


def test_equal_seeds_give_equal_crowds_and_impossible_ones_are_refused() -> None:
    small = Crowd(customers=20, events=10)
    one, two, other = generate(small), generate(small), generate(Crowd(customers=20, events=10, seed=1))
    assert one[0].frame.equals(two[0].frame) and (one[1] == two[1]).all() and not one[0].frame.equals(other[0].frame)
    with pytest.raises(UserError, match="a crowd needs"):
        generate(Crowd(customers=0))


class Counted:
    """Rounds without a clock."""

    def __init__(self) -> None:
        self.begun, self.counts = 0, list[int]()

    def go(self) -> bool:
        self.begun += 1
        return True

    def done(self, count: int) -> None:
        self.counts.append(count)


@pytest.mark.parametrize("side", [ours, ptls])
def test_a_side_trains_for_its_epochs_and_embeds_every_customer(
    side: Any, crowd: tuple[Transactions, np.ndarray], tmp_path: Path
) -> None:
    if side is ptls and find_spec("ptls") is None:
        pytest.skip("pytorch-lifestream is not installed; make peers does that")
    codec = EventCodec.fit(crowd[0])
    ragged, fields = read(str(write(tmp_path / "log.npz", codec.encode(crowd[0]).ragged, codec.fields)))
    settings = {
        "dim": 16,
        "batch": 32,
        "shortest": 10,
        "longest": 40,
        "rate": 1e-3,
        "seed": 0,
    }
    made = []
    for epochs in (1, 3):
        rounds = Counted()
        embedded, weights = side(ragged, fields, {**settings, "epochs": epochs}, rounds)
        assert embedded.shape == (CROWD.customers, 16) and weights > 1000
        assert rounds.begun == len(rounds.counts) == epochs + 1 and rounds.counts[-1] == CROWD.customers
        made.append(embedded)
    assert np.abs(made[0] - made[1]).max() > 1e-3


def test_both_sides_are_measured_and_gains_are_differences(tmp_path: Path) -> None:
    rows = coles_vs_ptls(tmp_path, 0, Crowd(customers=80, events=40), epochs=1)
    value = {(r["method"], r["metric"]): r["value"] for r in rows}
    others = [r["method"] for r in rows if r["metric"] == "accuracy, trees" and r["role"] != "ours"]
    assert "hand-made features" in others and len(others) == len(SIDES) - (not installed("ptls"))
    for probe in ("logistic regression", "trees"):
        for other in others:
            gain = value[SIDES["ours"], f"accuracy, {probe}"] - value[other, f"accuracy, {probe}"]
            assert value[SIDES["ours"], f"gain accuracy, {probe}, over {other}"] == pytest.approx(gain)
    assert len({value[m, "accuracy, trees"] for m in (SIDES["ours"], *others)}) > 1
    assert 0 < value[SIDES["ours"], "processor seconds to train and embed"] < 60
