"""Vectors of whole histories: what they hang on, and what they do not."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from recsys import SessionRecommender
from recsys.claims import _probe
from recsys.cooccurrence import vectors
from recsys.data import from_frame
from recsys.histories import whole
from recsys.synthetic import World, generate

TABLE = generate(World(users=120, intents=3, stages=4, items=3), 0)


@pytest.fixture(scope="module")
def model() -> SessionRecommender:
    return SessionRecommender(steps=40, changes=("train.lr=0.01", "batch_size=32", "model.length=6")).fit(TABLE)


def test_a_history_alone_gets_the_vector_that_it_gets_among_others(model):
    everyone = from_frame(TABLE).sequences
    together = whole(model, everyone, batch=7)
    assert together.shape == (len(everyone), 3 * 128 + 1)
    for row in (0, 5, len(everyone) - 1):
        assert np.allclose(whole(model, everyone.select(np.array([row])))[0], together[row], atol=1e-4)


def test_events_before_the_last_ones_that_the_model_reads_count(model):
    items = TABLE["item_id"].unique()[:9]

    def asked(*first: object) -> pd.DataFrame:
        given = [*first, *items[-6:]]
        return pd.DataFrame({"user_id": "x", "item_id": given, "timestamp": range(len(given))})

    one, other = (model.sequences(asked(item)) for item in items[:2])
    assert np.array_equal(model.hidden(one), model.hidden(other))
    assert not np.allclose(whole(model, one), whole(model, other), atol=1e-3)


def test_a_history_without_a_known_item_has_no_vector(model):
    table = pd.DataFrame(
        {"user_id": ["a", "b"], "item_id": ["never seen", TABLE["item_id"].iloc[0]], "timestamp": [1, 2]}
    )
    found = whole(model, model.sequences(table))
    assert np.isnan(found[0]).all()
    assert np.isfinite(found[1]).all()


def test_further_vectors_of_items_stand_behind_and_change_nothing_before(model):
    everyone = from_frame(TABLE).sequences
    alone, further = whole(model, everyone), whole(model, everyone, beside=vectors(everyone, 8))
    assert np.allclose(further[:, :-17], alone[:, :-1]) and np.allclose(further[:, -1], alone[:, -1])
    assert np.allclose(np.linalg.norm(further[:, -17:-9], axis=1), further[:, -1], atol=1e-4)


@pytest.mark.filterwarnings("error::FutureWarning")
def test_labels_are_told_from_vectors_and_from_bags_of_items():
    label = np.arange(80) % 2
    bags = np.random.default_rng(0).random((80, 4)) + np.eye(4)[label]
    for x in (bags, sparse.csr_matrix(bags)):
        score = _probe(x, label, np.arange(40), np.arange(40, 80))
        assert score[label[40:] == 1].min() > score[label[40:] == 0].mean()
