"""Decisions: temperature mends confidence, abstention keeps its coverage, unknown answers decide nothing."""

from __future__ import annotations

import numpy as np
import pytest

from core.errors import UserError
from healthcare.decisions import Decision
from healthcare.findings import fewer, subset
from healthcare.metrics import ece


def overconfident(random: np.random.Generator, n: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    """Labels, and probabilities whose log-odds are three times too large."""
    odds = random.normal(size=n) * 1.5
    label = (random.random(n) < 1 / (1 + np.exp(-odds))).astype(int)
    p = 1 / (1 + np.exp(-3 * odds))
    return label, np.stack([1 - p, p], 1)


def test_temperature_mends_overconfidence_and_changes_no_rank(random: np.random.Generator) -> None:
    label, p = overconfident(random)
    decision = Decision.fit(p[:2000], label[:2000], ("well", "ill"))
    assert decision.temperature[0] == pytest.approx(3, rel=0.15)
    after = decision(p[2000:])
    assert ece(label[2000:], after) < 0.05 < 0.15 < ece(label[2000:], p[2000:])
    np.testing.assert_array_equal(np.argsort(after[:, 1]), np.argsort(p[2000:, 1]))


def test_a_lean_to_one_answer_is_mended_and_can_be_undone(random: np.random.Generator) -> None:
    label, p = overconfident(random)
    odds = np.log(p[:, 1] / p[:, 0]) / 6 + 1  # what a strongly shrunk regression says where most are ill
    leaning = np.stack([1 / (1 + np.exp(odds)), 1 / (1 + np.exp(-odds))], 1)
    for said, target in ((leaning, label), (leaning[:, 1:], label[:, None])):
        decision = Decision.fit(said[:2000], target[:2000], ("well", "ill")[2 - said.shape[1] :])
        after = decision(said)
        assert ece(target[2000:], after[2000:]) < 0.05 < 0.15 < ece(target[2000:], said[2000:])
        np.testing.assert_allclose(decision.undone(after), said, atol=1e-6)


def test_each_finding_has_its_own_temperature_and_unknown_answers_take_no_part(random: np.random.Generator) -> None:
    (a, p), (b, q) = overconfident(random), overconfident(random)
    target, said = np.stack([a, b], 1), np.stack([p[:, 1], (q[:, 1] / q.sum(1))], 1)
    said[:, 1] = 1 / (1 + np.exp(-np.log(said[:, 1] / (1 - said[:, 1])) / 3))  # the second is right already
    hidden = target.copy()
    hidden[:1000] = -1
    first, second = Decision.fit(said, hidden, ("a", "b")).temperature
    assert first == pytest.approx(3, rel=0.2) and second == pytest.approx(1, rel=0.2)
    turned = np.where(hidden < 0, 1 - said, said)
    assert Decision.fit(turned, hidden, ("a", "b")).temperature == (first, second)


def test_the_coverage_asked_for_is_the_coverage_of_new_images(random: np.random.Generator) -> None:
    label, p = overconfident(random)
    decision = Decision.fit(p[:2000], label[:2000], ("well", "ill"))
    after = decision(p[2000:])
    for coverage in (0.5, 0.83, 0.95):
        silent = decision.abstains(after, coverage)[:, 0]
        assert 1 - silent.mean() == pytest.approx(coverage, abs=0.04)
        wrong = after.argmax(1) != label[2000:]
        assert wrong[~silent].mean() < wrong[silent].mean()
    assert not decision.abstains(after, 1.0).any()
    for bad in (0.0, 1.2):
        with pytest.raises(UserError, match="coverage"):
            decision.abstains(after, bad)
    with pytest.raises(UserError, match="no labels were held out"):
        Decision().abstains(after, 0.9)


def test_decisions_come_back_from_json_as_they_were(random: np.random.Generator) -> None:
    label, p = overconfident(random, 100)
    made = Decision.fit(p, label, ("well", "ill"))
    assert Decision.from_json(made.json()) == made
    assert Decision.from_json(Decision().json()) == Decision()
    assert [point.goal for point in made.points["ill"]] == ["specificity=0.90", "specificity=0.95", "sensitivity=0.95"]


@pytest.mark.parametrize("several", [False, True])
def test_a_run_that_was_calibrated_by_temperature_alone_is_read_as_it_was(several: bool) -> None:
    saved = {"temperature": [2.0], "points": None, "confidence": [], "rows": 90, "several": several}
    found = Decision.from_json(saved)(np.array([[0.2, 0.8]]))
    np.testing.assert_allclose(found, [[1 / 3, 2 / 3]])  # odds of 4 and their root


def test_too_few_held_out_rows_change_nothing() -> None:
    p = np.array([[0.2, 0.8], [0.7, 0.3]])
    few = Decision.fit(p, [1, 0], ("well", "ill"))
    np.testing.assert_allclose(few(p), p)
    assert not any(point.kept for point in few.points["ill"])
    assert Decision.fit(np.full((3, 2), np.nan), [0, 1, 1], ("well", "ill")).points is None


def test_draws_of_findings_are_nested_and_hold_every_answer(random: np.random.Generator) -> None:
    target = (random.random((300, 4)) < [0.5, 0.1, 0.02, 0.9]).astype(np.int8)
    target[random.random((300, 4)) < 0.2] = -1
    small, large = subset(target, 0.05, 3), subset(target, 0.3, 3)
    assert set(small) <= set(large) and len(large) == 90 and len(set(small.tolist())) == len(small)
    for column in target.T:
        for answer in (0, 1):
            assert (column[small] == answer).sum() >= min(2, (column == answer).sum())
    assert len(fewer(target, 7, 0)) <= 7
    np.testing.assert_array_equal(small, subset(target, 0.05, 3))
