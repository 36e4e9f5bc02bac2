"""Scores for reading are those of the head, and follow its weights."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from core.heads import TiedHead
from recsys import SessionRecommender
from recsys.scorer import ItemScorer


def head(**more: object) -> TiedHead:
    torch.manual_seed(0)
    made = TiedHead(8, nn.Embedding(30, 8), **more)  # type: ignore[arg-type]
    if made.bias is not None:
        nn.init.normal_(made.bias)
    return made


def same(scorer: ItemScorer, given: TiedHead, hidden: torch.Tensor) -> None:
    expected = given.log_probs(hidden)[:, given.first :].detach().numpy()
    np.testing.assert_allclose(scorer.log_probs(hidden.numpy()), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("more", [{}, {"temperature": 0.1}, {"bias": True}])
@pytest.mark.parametrize("rows", [1, 5])
def test_they_are_the_heads_log_probabilities_without_reserved_ids(more: dict, rows: int) -> None:
    given, hidden = head(**more), torch.randn(rows, 8)
    same(ItemScorer(given), given, hidden)


def test_a_head_of_another_width_than_its_table_is_asked_through_its_projection() -> None:
    torch.manual_seed(0)
    given = TiedHead(6, nn.Embedding(30, 8))
    same(ItemScorer(given), given, torch.randn(1, 6))


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.AdamW])
def test_they_follow_a_table_that_is_trained(optimizer) -> None:
    given, hidden = head(), torch.randn(3, 8)
    scorer = ItemScorer(given)
    before = scorer.log_probs(hidden.numpy())
    step = optimizer(given.table[0].parameters(), lr=0.1)
    given.loss(hidden, torch.tensor([4, 5, 6])).backward()
    step.step()
    assert not np.allclose(before, scorer.log_probs(hidden.numpy()))
    same(scorer, given, hidden)


def test_they_follow_weights_that_are_read_in() -> None:
    given, other, hidden = head(), nn.Embedding(30, 8), torch.randn(3, 8)
    scorer = ItemScorer(given)
    scorer.log_probs(hidden.numpy())
    given.table[0].load_state_dict(other.state_dict())
    same(scorer, given, hidden)


def test_a_recommender_that_is_fitted_again_answers_anew() -> None:
    table = pd.DataFrame({"user_id": [u for u in "abcdef" for _ in range(4)], "item_id": [*"wxyz", *"xyzw"] * 3, "timestamp": range(24)})  # fmt: skip
    model = SessionRecommender(steps=3).fit(table)
    first = model.recommend(table, k=2, repeat=True)
    model.seed = 5
    again = model.fit(table).recommend(table, k=2, repeat=True)
    fresh = SessionRecommender(steps=3, seed=5).fit(table).recommend(table, k=2, repeat=True)
    pd.testing.assert_frame_equal(again, fresh)
    assert not first["score"].equals(again["score"])
