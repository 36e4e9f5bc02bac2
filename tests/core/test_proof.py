"""The proof that a method learns: it sees a gain where there is one, and none where there is none."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from core.errors import UserError
from core.proof import Exam, collapse_signs, examine, learned
from core.statistics import auroc


def exam(metric: str = "accuracy", classes: int = 3) -> tuple[Exam, np.ndarray, np.ndarray]:
    draw = np.random.default_rng(0)
    label = draw.integers(0, classes, 600)
    good = np.eye(classes)[label] @ draw.standard_normal((classes, 8)) + 0.3 * draw.standard_normal((600, 8))
    noise = draw.standard_normal((600, 8))
    train = np.arange(600) < 300
    return Exam(label, train, ~train, metric), good.astype(np.float32), noise.astype(np.float32)


@pytest.mark.parametrize(("metric", "classes"), [("accuracy", 3), ("auroc", 2)])
def test_a_method_that_learned_shows_a_gain_and_one_that_did_not_shows_none(metric: str, classes: int) -> None:
    task, good, noise = exam(metric, classes)
    rows = examine("toy", "simclr", good, noise, task)
    assert learned(rows)
    by = {(r["method"], r["metric"]): r for r in rows}
    for probe in ("kNN", "linear"):
        assert by["simclr", f"{metric} {probe}"]["value"] > 0.9 > by["simclr: untrained", f"{metric} {probe}"]["value"]
        gain = by["simclr", f"gain {metric} {probe}"]
        assert gain["value"] == pytest.approx(
            by["simclr", f"{metric} {probe}"]["value"] - by["simclr: untrained", f"{metric} {probe}"]["value"]
        )
    assert not learned(examine("toy", "simclr", noise, noise[::-1].copy(), task))


def test_collapsed_features_show() -> None:
    draw = np.random.default_rng(0)
    healthy, constant = draw.standard_normal((500, 16)), np.ones((500, 16)) + 1e-7 * draw.standard_normal((500, 16))
    std, rank = collapse_signs(healthy)
    assert std > 0.8 and rank > 0.8
    assert collapse_signs(constant)[0] < 0.01
    assert collapse_signs(draw.standard_normal((500, 1)) * np.ones((1, 16)))[1] < 0.1


def test_auroc_equals_scikit_learns() -> None:
    draw = np.random.default_rng(1)
    target, score = draw.integers(0, 2, 200).astype(bool), draw.integers(0, 20, 200).astype(float)
    assert auroc(target, score) == pytest.approx(roc_auc_score(target, score))
    assert np.isnan(auroc(np.ones(5, bool), np.arange(5.0)))


def test_an_exam_that_cannot_be_is_refused() -> None:
    label, half = np.array([0, 1, 0, 1]), np.array([True, True, False, False])
    with pytest.raises(UserError, match="overlap"):
        Exam(label, half, half)
    with pytest.raises(UserError, match="1 classes"):
        Exam(np.zeros(4), half, ~half)
