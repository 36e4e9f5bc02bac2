from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import spearmanr

from core.errors import UserError
from core.training import TrainConfig
from finance.data import Transactions
from finance.encoders import Shape
from finance.estimators import FraudScorer, TransactionEncoder
from finance.metrics import auroc
from finance.presets import METHODS, Recipe, recipe_for
from finance.scoring import Score, and_past, with_past
from finance.split import default_split, rows

SMALL = Recipe(
    shape=Shape(dim=32, depth=1, heads=2, context=64), score=Score(horizon=15, stride=10, memory=5), batch_size=16,
    train=TrainConfig(steps=120, lr=5e-3),
)  # fmt: skip


def quiet(line: str) -> None:
    pass


@pytest.fixture(scope="module")
def encoder(log: Transactions) -> TransactionEncoder:
    return TransactionEncoder(SMALL).fit(log, note=quiet)


@pytest.fixture(scope="module")
def untrained(encoder: TransactionEncoder) -> TransactionEncoder:
    return encoder.untrained()


def test_means_over_the_past_by_hand():
    offsets = np.array([0, 4, 6])
    values = np.array([1.0, 3.0, np.nan, 5.0, 7.0, 9.0])
    assert with_past(values, offsets, 2).tolist() == [0.0, 1.0, 2.0, 3.0, 0.0, 7.0]
    wanted = np.array([False, False, False, True, True, False])
    assert and_past(wanted, offsets, 2).tolist() == [False, True, True, True, True, False]


def test_pretraining_learns_what_is_large_for_whom(log, encoder, untrained):
    test = rows(log, default_split(log)).test
    same = Transactions(log.frame.assign(amount=np.where(test, 60.0, log.amount)), log.schema)
    genuine = (log.label == 0) & ~test
    habit = np.bincount(log.card[genuine], log.amount[genuine], 60) / np.maximum(
        np.bincount(log.card[genuine], minlength=60), 1
    )
    ours, fresh = (FraudScorer(e).parts(same, test)[test, 1] for e in (encoder, untrained))
    # one amount for all: odd for who pays little, usual for who pays much; random weights know nobody
    assert spearmanr(ours, habit[log.card[test]]).statistic < -0.8
    assert abs(spearmanr(fresh, habit[log.card[test]]).statistic) < 0.5


def test_pretraining_finds_leaked_cards(log, encoder):
    test = rows(log, default_split(log)).test
    at = test & ((log.label == 0) | (log.scenario == 3))
    assert auroc(log.label[at], FraudScorer(encoder).score_samples(log, test)[at])[0] > 0.85


def test_no_score_and_no_state_depends_on_a_later_payment(log, encoder):
    cut = int(np.median(log.time))
    early = log.time <= cut
    frame = log.frame.copy()
    frame.loc[~early, ["amount", "channel"]] = [9999.0, "telephone"]
    changed = Transactions(frame, log.schema)
    scorer = FraudScorer(encoder)
    for make in (scorer.score_samples, encoder.transform):
        before, after = make(log), make(changed)
        assert np.allclose(before[early], after[early], atol=1e-4)
        assert not np.allclose(before[~early], after[~early], atol=1e-2)
    cut_off = log.where(early)
    assert np.allclose(scorer.score_samples(cut_off), scorer.score_samples(log)[early], atol=1e-4)


def test_other_cards_change_nothing(log, encoder):
    one = log.card == 3
    assert np.allclose(encoder.transform(log)[one], encoder.transform(log.where(one)), atol=1e-4)


def test_asking_for_some_rows_gives_what_asking_for_all_gives(log, encoder):
    some = log.time > np.quantile(log.time, 0.8)
    scorer = FraudScorer(encoder)
    part, whole = scorer.parts(log, some), scorer.parts(log)
    assert np.isnan(part[~some]).all()
    assert np.allclose(part[some], whole[some], atol=1e-4)


def test_a_log_encoded_once_gives_what_the_log_gives(log, encoder, untrained):
    encoded, scorer = encoder.encode(log), FraudScorer(encoder)
    assert encoder.encode(encoded) is encoded
    assert np.array_equal(scorer.parts(encoded), scorer.parts(log))
    assert np.array_equal(encoder.transform(encoded), encoder.transform(log))
    other = TransactionEncoder(replace(SMALL, train=TrainConfig(steps=2))).fit(log.where(log.amount > 30), note=quiet)
    assert np.array_equal(other.transform(encoded), other.transform(log))  # it has a codec of its own


def test_a_much_larger_amount_scores_higher_and_is_its_own_reason(log, encoder):
    frame = log.frame.copy()
    last = len(frame) - 1
    frame.loc[last, "amount"] *= 50
    changed = Transactions(frame, log.schema)
    scorer = FraudScorer(encoder)
    assert scorer.score_samples(changed)[last] > scorer.score_samples(log)[last] + 1
    reasons = scorer.reasons(changed)
    assert set(reasons) == {"amount", "gap", "hour", "weekday", "terminal", "channel"}
    assert reasons["amount"][last] > np.quantile(reasons["amount"], 0.95)
    assert all((values[np.isfinite(values)] > -10).all() for values in reasons.values())


def test_a_scored_log_needs_no_labels_and_may_hold_new_cards_and_categories(log, encoder):
    frame = log.frame.tail(50).assign(entity="new", channel="telephone", terminal="t-new", label=-1)
    scores = FraudScorer(encoder).score_samples(Transactions(frame.reset_index(drop=True), log.schema))
    assert np.isfinite(scores).all()


def test_equal_seeds_give_equal_states(log):
    short = replace(SMALL, train=TrainConfig(steps=5))
    one, two = (TransactionEncoder(short).fit(log, note=quiet) for _ in range(2))
    assert np.array_equal(one.transform(log), two.transform(log))
    other = TransactionEncoder(replace(short, train=TrainConfig(steps=5, seed=1))).fit(log, note=quiet)
    assert not np.allclose(one.transform(log), other.transform(log), atol=1e-2)


def test_a_saved_run_gives_the_same_scores(log, encoder, tmp_path):
    loaded = FraudScorer.load(encoder.save(tmp_path / "run"))
    assert np.array_equal(loaded.score_samples(log), FraudScorer(encoder).score_samples(log))


def test_a_run_holds_no_card_and_no_rare_category(log, encoder, tmp_path):
    text = (encoder.save(tmp_path / "run") / "config.json").read_text() + (tmp_path / "run" / "card.md").read_text()
    assert not any(card in text for card in log.frame["entity"].unique())


def test_the_test_period_is_not_seen(log):
    short = replace(SMALL, train=TrainConfig(steps=5))
    early = log.day < default_split(log).test
    frame = log.frame.assign(amount=np.where(early, log.amount, 1e6))
    one, two = (TransactionEncoder(short).fit(d, note=quiet) for d in (log, Transactions(frame, log.schema)))
    assert one.describe()["codec"] == two.describe()["codec"]
    assert np.array_equal(one.transform(log.where(early)), two.transform(log.where(early)))


@pytest.mark.parametrize("method", sorted(METHODS))
def test_every_method_trains_is_saved_and_only_masked_fields_score(log, method, tmp_path):
    steps = 60 if method in ("masked", "next") else 3
    train = TrainConfig(steps=steps, lr=3e-3, log_every=10)
    recipe = replace(recipe_for(method), shape=SMALL.shape, score=SMALL.score, batch_size=16, train=train)
    made = TransactionEncoder(recipe).fit(log, note=quiet)
    assert steps == 3 or made.history_.losses[-1] < made.history_.losses[0]
    states = made.transform(log)
    assert np.isfinite(states).all() and states.std() > 0.01
    made.save(tmp_path / "run")
    assert np.allclose(TransactionEncoder.load(tmp_path / "run").transform(log), states, atol=1e-5)
    if method.startswith("masked"):
        assert np.isfinite(FraudScorer(made).score_samples(log)).all()
    else:
        with pytest.raises(UserError, match="gives no score"):
            FraudScorer(made).score_samples(log)


def test_cards_have_one_state_each(log, encoder):
    names, states = encoder.transform_cards(log)
    assert sorted(names) == sorted(log.frame["entity"].unique())
    card = names[0]
    last = np.flatnonzero(log.frame["entity"] == card)[-1]
    assert np.allclose(states[0], encoder.transform(log)[last], atol=1e-5)


def test_unfitted_and_too_little_are_user_errors(log):
    with pytest.raises(UserError, match="not fitted"):
        FraudScorer().score_samples(log)
    with pytest.raises(UserError):
        TransactionEncoder(SMALL).fit(log.where(log.card == 0), note=quiet)
    with pytest.raises(UserError, match="before the test period"):
        TransactionEncoder(SMALL).fit(log, until=0, note=quiet)
