"""The benchmark on session sets: every role and metric, the goal on the best of ours, and a weight chosen on validation alone."""

from __future__ import annotations

from functools import partial

import pytest

from recsys import session_bench
from recsys.data import from_frame
from recsys.estimators import SessionRecommender
from recsys.sessions import last_sessions
from recsys.split import Split, prefixes
from recsys.synthetic import World, generate

SEQUENCES = from_frame(generate(World(users=240, intents=3, stages=5, items=4), 0)).sequences


@pytest.fixture
def split(monkeypatch: pytest.MonkeyPatch) -> Split:
    """Generated sessions in the place of a published set."""
    train, test = SEQUENCES.select(range(200)), SEQUENCES.select(range(200, 240))
    earlier, validation = last_sessions(train)
    made = Split(
        "generated", train, validation, prefixes(test), repeats=True, unit="sessions", held_out=0, earlier=earlier
    )
    monkeypatch.setattr(session_bench, "read_sessions", lambda data: made)
    return made


def fitted(fresh: SessionRecommender, train) -> SessionRecommender:
    return fresh.fit_sequences(train, note=lambda line: None)


def fresh(steps: int = 60) -> SessionRecommender:
    return SessionRecommender(steps=steps, changes=("train.lr=0.01", "batch_size=32", "model.dim=32"))


@pytest.mark.parametrize(("data", "best"), [("diginetica", "hybrid"), ("tmall", "neighbours")])
def test_the_goal_stands_on_the_best_of_ours_beside_floors_and_published(split, data, best):
    rows = session_bench.session_quality(data, partial(fitted, fresh()))
    assert {row["method"] for row in rows if row["goal"] is not None} == {best}
    assert {row["role"] for row in rows} == {"ours", "floor", "published"}
    shown = {(row["method"], row["metric"]): row["value"] for row in rows}
    assert all((best, metric) in shown for metric in session_bench.METRICS)
    assert (("next", "mrr@20") in shown) == (best == "hybrid")
    assert shown["neighbours", "mrr@20"] > shown["session_popularity", "mrr@20"]


def test_the_hybrids_weight_comes_from_sessions_that_taught_nothing(split):
    """An untrained model gets no weight, one that learned the planted order gets most of it."""
    trained = fitted(fresh(200), split.earlier)
    weight, trials = session_bench.choose("diginetica", trained)
    assert weight >= 0.3 and len(trials) == 11
    assert session_bench.choose("diginetica", trained.untrained())[0] <= 0.1
