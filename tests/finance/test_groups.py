"""Peer groups: prototypes that slices of one card share, and cards that spend alike."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from core.errors import UserError
from core.training import TrainConfig
from finance.data import Transactions
from finance.encoders import Shape
from finance.estimators import TransactionEncoder
from finance.presets import recipe_for
from finance.tables import embedding_table


def fitted(log: Transactions, method: str, steps: int) -> TransactionEncoder:
    shape = Shape(dim=32, depth=1, heads=2, context=64)
    recipe = replace(recipe_for(method), shape=shape, batch_size=32, train=TrainConfig(steps=steps, lr=3e-3))
    return TransactionEncoder(recipe).fit(log, note=lambda line: None)


@pytest.fixture(scope="module")
def encoder(log: Transactions) -> TransactionEncoder:
    return fitted(log, "swav", 150)


def test_a_card_stays_in_its_group_more_often_than_chance_has_it(encoder, log):
    middle = pd.Series(log.time).groupby(log.card).transform("median").to_numpy()
    halves = [dict(zip(*encoder.groups(log.where(at)), strict=True)) for at in (log.time < middle, log.time >= middle)]
    cards = sorted(set(halves[0]) & set(halves[1]))
    first, second = (np.array([half[card] for card in cards]) for half in halves)
    alike = (first == second).mean()
    chance = np.mean([(first == np.roll(second, k)).mean() for k in range(1, len(cards))])
    assert len(np.unique(first)) > 3 and alike > 2 * chance, (alike, chance)


def test_groups_are_saved_with_the_run_and_shown_beside_each_card(encoder, log, tmp_path):
    names, groups = encoder.groups(log)
    loaded = TransactionEncoder.load(encoder.save(tmp_path / "run"))
    assert np.array_equal(loaded.groups(log)[1], groups) and groups.min() >= 0 and groups.max() < 16
    table = embedding_table(loaded, log, "card")
    assert list(table.columns[:3]) == ["card", "group", "0"]
    assert table["group"].tolist() == groups.tolist() and table["card"].tolist() == list(names)


def test_a_run_of_another_method_knows_no_groups(log):
    made = fitted(log, "simclr", 2)
    with pytest.raises(UserError, match="knows no groups"):
        made.groups(log)
    assert "group" not in embedding_table(made, log, "card")
