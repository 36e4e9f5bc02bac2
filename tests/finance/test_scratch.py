"""The same network from scratch: it learns, and however long it is trained, nothing looks for the collapse of pretraining."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from core.training import TrainConfig
from finance.data import Transactions
from finance.encoders import Shape
from finance.estimators import TransactionEncoder
from finance.metrics import average_precision
from finance.presets import Recipe
from finance.scratch import scratch_scores
from finance.split import default_split, rows


@pytest.mark.parametrize("looked_at", [0, 5])  # 5: a run far longer than the first look, as on real data
def test_it_finds_fraud_on_later_days(log: Transactions, looked_at: int) -> None:
    train = TrainConfig(steps=5, lr=5e-3, monitor_every=looked_at)
    recipe = Recipe(shape=Shape(dim=16, depth=1, heads=2, context=32), batch_size=16, train=train)
    encoder = TransactionEncoder(replace(recipe, train=replace(train, monitor_every=0))).fit(log)
    encoder.recipe_ = recipe
    split = default_split(log)
    chosen = rows(log, split)
    score = scratch_scores(encoder, log, np.flatnonzero(chosen.train), chosen.test, steps=90, seed=0)
    label = log.label[chosen.test]
    assert average_precision(label, score)[0] > 2 * label.mean()
