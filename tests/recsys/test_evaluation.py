"""The protocol: floors beside, nothing leaked, three answers, and the truth where pretraining does not help."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from core.errors import UserError
from recsys.data import from_frame
from recsys.estimators import SessionRecommender
from recsys.evaluation import check_held_out, evaluate, over_draws, sparser, tuned_floors, users_saved
from recsys.ranking import rank_all
from recsys.split import Examples, leave_one_out
from recsys.synthetic import World, generate

SEQUENCES = from_frame(generate(World(users=400, intents=4, stages=6, items=3), 0)).sequences
SPLIT = leave_one_out(SEQUENCES)
FAST = ("train.lr=0.01", "batch_size=64", "model.dropout=0.1")


@pytest.fixture(scope="module")
def model() -> SessionRecommender:
    return SessionRecommender(steps=120, hold_out=2, changes=FAST).fit_sequences(SEQUENCES, data="abc")


@pytest.fixture(scope="module")
def result(model):
    return evaluate(model, SPLIT, data="abc", draws=3, note=lambda line: None)


def test_the_planted_order_is_found_and_floors_stand_beside(result):
    assert {"popularity", "item_knn", "session_knn", "markov", "ease", "untrained"} <= set(result.floors)
    assert result.answers["pretraining"].verdict == "helps"
    assert result.metrics["ndcg@10"].value > result.floors["untrained"]["ndcg@10"].value + 0.2
    assert result.floors["item_knn"]["ndcg@10"].value > result.floors["popularity"]["ndcg@10"].value
    for name, answer in result.answers.items():
        assert answer.estimate.low <= answer.estimate.value <= answer.estimate.high, name


def test_every_arm_stands_at_every_fraction_of_users_and_draw(result):
    seen = {(row["arm"], row["fraction"], row["seed"]) for row in result.label_curve}
    arms = {"pretrained", "scratch", "popularity", "item_knn", "session_knn"}
    assert {(arm, fraction, draw) for arm in arms for fraction in (0.1, 1.0) for draw in range(3)} <= seen


def test_what_is_written_holds_no_user(result, tmp_path):
    result.write(tmp_path)
    written = json.loads((tmp_path / "evaluation.json").read_text())
    assert written["protocol"]["users"] == len(SPLIT.test)
    assert written["answers"]["labels_saved"]["verdict"]
    assert "<script" not in (tmp_path / "report.html").read_text()


def test_an_untrained_encoder_is_not_said_to_help(model):
    found = evaluate(model.untrained(), SPLIT, draws=1, note=lambda line: None)
    assert found.answers["pretraining"].verdict != "helps"
    assert found.answers["best_tool"].verdict == "hurts"
    assert found.answers["labels_saved"].verdict.startswith("none")


def test_a_run_that_saw_the_test_items_is_refused(model):
    seen = SessionRecommender(steps=2, hold_out=0).fit_sequences(SEQUENCES, data="abc")
    with pytest.raises(UserError, match="test items among them"):
        evaluate(seen, SPLIT, data="abc")
    assert "other data" in check_held_out(seen, "def", SPLIT)
    assert "without each user's last two" in check_held_out(model, "abc", SPLIT)


def test_floors_are_tuned_without_the_test_items():
    """Other test items, the same settings: the last event of a user decides nothing."""
    shuffled = np.random.default_rng(0).permutation(SPLIT.test.target)
    other = replace(SPLIT, test=Examples.of(SPLIT.test.history, shuffled))
    for name, floor in tuned_floors(SPLIT).items():
        again = tuned_floors(other)[name]
        assert np.array_equal(floor.scores(SPLIT.test.history), again.scores(SPLIT.test.history))


def test_unknown_test_items_are_left_out_and_counted(model):
    table = generate(World(users=400, intents=4, stages=6, items=3), 0)
    table.loc[table.groupby("user_id").tail(1).index[:50], "item_id"] = "new-in-the-shop"
    sequences = from_frame(table, catalogue=model.catalogue_).sequences
    found = evaluate(model, leave_one_out(sequences), draws=1, note=lambda line: None)
    assert found.protocol["test items unknown to the run (left out)"] == 50
    assert found.protocol["users"] == len(SPLIT.test) - 50
    foreign = from_frame(table.assign(item_id="x" + table["item_id"]), catalogue=model.catalogue_).sequences
    with pytest.raises(UserError, match="no test item is in the run's catalogue"):
        evaluate(model, leave_one_out(foreign))


def test_draws_of_users_are_nested_and_seeded():
    small, large = (set(sparser(SPLIT, fraction, 0).keys) for fraction in (0.1, 0.3))
    assert small < large
    assert len(small) == 40
    assert small != set(sparser(SPLIT, 0.1, 1).keys)


def test_the_interval_over_draws_is_wider_where_draws_disagree():
    generator = np.random.default_rng(0)
    users = generator.normal(size=200) * 0.1
    agree, disagree = np.stack([users] * 3), users + np.array([[-1.0], [0.0], [1.0]])
    assert over_draws(agree).value == pytest.approx(over_draws(disagree).value)
    narrow, wide = over_draws(agree), over_draws(disagree)
    assert wide.high - wide.low > 5 * (narrow.high - narrow.low)


def test_users_saved_reads_the_curve():
    def row(arm: str, users: int, value: float, seed: int) -> dict:
        return {
            "fraction": users / 1000,
            "labels": users,
            "arm": arm,
            "seed": seed,
            "metric": "ndcg@10",
            "value": value,
        }

    curve = [row("scratch", 100, 0.1, s) for s in range(3)] + [row("scratch", 1000, 0.3, s) for s in range(3)]
    half = users_saved([*curve, *(row("item_knn", 1000, 0.2, s) for s in range(3))], "item_knn", 1000)
    assert half.estimate.value == pytest.approx(np.sqrt(10))  # half way on a logarithmic scale of users
    low = users_saved([*curve, *(row("item_knn", 1000, 0.05, s) for s in range(3))], "item_knn", 1000)
    assert low.verdict == "at least 10.0× the users"
    high = users_saved([*curve, *(row("item_knn", 1000, 0.4, s) for s in range(3))], "item_knn", 1000)
    assert high.verdict.startswith("none")


def test_the_same_model_gives_the_same_ranks_twice(model):
    assert np.array_equal(rank_all(model, SPLIT.test).ranks, rank_all(model, SPLIT.test, batch=37).ranks)
