"""Probes against scikit-learn, intervals against what is known of them, codecs back and forth."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import KNeighborsClassifier

from core.codec import Categories, Scale, from_json
from core.errors import UserError
from core.evaluation import EQUAL, HELPS, HURTS, labels_saved, verdict
from core.monitors import feature_std, rankme
from core.probes import knn, label_subset, linear
from core.quarantine import Quarantine
from core.statistics import Estimate, bootstrap, mean_interval, over_seeds, paired

draw = np.random.default_rng(0)
Y = draw.integers(0, 3, 300)
X = np.eye(3)[Y] * 2 + draw.standard_normal((300, 3))


def test_knn_equals_scikit_learns_under_equal_weights() -> None:
    ours = knn(X[:200], Y[:200], X[200:], k=15, temperature=1e9)
    unit = X / np.linalg.norm(X, axis=1, keepdims=True)
    theirs = KNeighborsClassifier(15, metric="cosine").fit(unit[:200], Y[:200]).predict_proba(unit[200:])
    np.testing.assert_allclose(ours, theirs, atol=1e-6)
    assert knn(X[:4], Y[:4], X[4:6], k=20).shape[0] == 2  # more neighbours asked for than there are rows


def test_the_linear_probe_finds_what_is_linear_and_refuses_one_class() -> None:
    right = (linear(X[:200], Y[:200], X[200:]).argmax(1) == Y[200:]).mean()
    assert right > 0.8
    with pytest.raises(UserError, match="one class only"):
        linear(X[:5], np.zeros(5), X)
    assert linear(X[:3], np.array([0, 0, 1]), X).shape == (300, 2)  # too few for folds


def test_the_probe_keeps_groups_together() -> None:
    # a feature that names the group is useless for new groups; only grouped folds notice and choose strong shrinkage
    groups = np.repeat(np.arange(30), 10)
    y = np.repeat(draw.integers(0, 2, 30), 10)
    names = np.eye(30)[groups]
    blind = linear(names, y, names[:1], None)[0].max()
    grouped = linear(names, y, names[:1], groups)[0].max()
    assert grouped < blind


def test_label_draws_are_nested_stratified_and_keep_the_rare_class() -> None:
    y = np.array([0] * 990 + [1] * 10)
    small, large = label_subset(y, 0.01, 3), label_subset(y, 0.1, 3)
    assert set(small) <= set(large) and y[small].sum() == 2 and len(large) == 101
    with pytest.raises(UserError, match="not in"):
        label_subset(y, 0.0, 0)


def test_a_bootstrap_interval_covers_about_as_often_as_it_says() -> None:
    hits = 0
    for seed in range(200):
        values = np.random.default_rng(seed).standard_normal(60)
        estimate = mean_interval(values, draws=300, seed=seed)
        hits += estimate.low <= 0 <= estimate.high
    assert 175 <= hits <= 200


def test_clustered_intervals_are_wider_where_rows_of_a_cluster_agree() -> None:
    groups = np.repeat(np.arange(25), 20)
    values = np.repeat(np.random.default_rng(1).standard_normal(25), 20)
    plain, clustered = mean_interval(values), mean_interval(values, groups)
    assert clustered.high - clustered.low > 2.5 * (plain.high - plain.low)
    y = (values > 0).astype(int)
    score = values + np.random.default_rng(2).standard_normal(500)
    a, b = bootstrap(roc_auc_score, y, score, draws=200), bootstrap(roc_auc_score, y, score, groups, draws=200)
    assert a.value == b.value and b.high - b.low > a.high - a.low


def test_a_paired_difference_is_sharper_than_two_intervals() -> None:
    y = draw.integers(0, 2, 400)
    base = y + 1.5 * draw.standard_normal(400)
    better = base + 0.4 * y
    difference = paired(roc_auc_score, y, better, base, draws=300)
    one = bootstrap(roc_auc_score, y, base, draws=300)
    assert difference.low > 0 and difference.high - difference.low < one.high - one.low
    assert paired(roc_auc_score, y, base, base, draws=50) == Estimate(0, 0, 0)


def test_one_seed_has_no_interval_and_several_have_students() -> None:
    assert np.isnan(over_seeds([0.5]).low)
    estimate = over_seeds([1.0, 2.0, 3.0])
    assert estimate.value == 2 and estimate.high == pytest.approx(2 + 4.302653 / np.sqrt(3), rel=1e-5)


def test_verdicts_follow_the_interval() -> None:
    assert verdict(Estimate(0.1, 0.01, 0.2)) == HELPS
    assert verdict(Estimate(0.1, -0.01, 0.2)) == EQUAL
    assert verdict(Estimate(-0.1, -0.2, -0.01)) == HURTS
    assert verdict(Estimate(0.1, float("nan"), float("nan"))) == EQUAL


def test_labels_saved_reads_the_other_curve() -> None:
    def rows(arm: str, points: dict[int, float]) -> list[dict]:
        return [
            {"arm": arm, "labels": n, "seed": s, "metric": "auroc", "value": v, "fraction": n / 1000}
            for n, v in points.items()
            for s in range(3)
        ]

    curve = rows("pretrained", {10: 0.8, 1000: 0.9}) + rows("scratch", {10: 0.6, 100: 0.8, 1000: 0.9})
    assert labels_saved(curve, "auroc").estimate.value == pytest.approx(10)
    never = rows("pretrained", {10: 0.95}) + rows("scratch", {10: 0.6, 1000: 0.9})
    assert labels_saved(never, "auroc").verdict == "at least 100.0× the labels"
    assert labels_saved(rows("pretrained", {10: 0.5}), "auroc").verdict == "not measured"


def test_collapse_shows_in_the_monitors() -> None:
    healthy, constant = torch.randn(512, 32), torch.ones(512, 32) + 1e-6 * torch.randn(512, 32)
    assert feature_std(healthy) > 0.8 and feature_std(constant) < 0.01
    line = torch.randn(512, 1) * torch.ones(1, 32) + 10
    assert rankme(healthy) > 28 and rankme(line) < 1.5 and rankme(torch.ones(64, 8)) == 1.0


texts = st.lists(st.one_of(st.none(), st.text(max_size=5), st.integers(-5, 5)), min_size=1, max_size=30)


@settings(max_examples=50, deadline=None)
@given(texts)
def test_categories_keep_missing_and_unknown_apart(values: list) -> None:
    column = pd.Series(values, dtype=object)
    codec = from_json(Categories.fit(column).json())
    ids = codec.encode(column)
    assert (ids == 0).tolist() == column.isna().tolist() and not (ids == 1).any() and not (ids == 2).any()
    assert [str(v) for v in column[column.notna()]] == list(codec.decode(ids[ids >= 3]))
    assert codec.encode(["never seen before"])[0] == 1


def test_a_gap_in_a_column_of_numbers_changes_no_category() -> None:
    codec = Categories.fit(pd.Series([3, 4, 4]))
    assert codec.encode(pd.Series([3.0, np.nan, 4.0])).tolist() == [4, 0, 3]
    assert Categories.fit(pd.Series(["a", "a", "b"]), min_count=2).values == ("a",)


def test_scales_standardise_and_come_back() -> None:
    values = np.array([1.0, 10.0, 1000.0, np.nan, np.inf, -5.0])
    scale = from_json(Scale.fit(values, log=True).json())
    encoded = scale.encode(values)
    assert np.isnan(encoded[[3, 4]]).all() and abs(np.nanmean(encoded)) < 1e-6
    np.testing.assert_allclose(scale.decode(encoded)[[0, 1, 2, 5]], [1, 10, 1000, -5], rtol=1e-4)
    assert Scale.fit([2.0, 2.0]).encode([2.0])[0] == 0 and Scale.fit([np.nan]).encode([1.0])[0] == 1


def test_quarantine_counts_and_writes_no_formula(tmp_path) -> None:
    bad = Quarantine()
    bad.add(3, "unreadable", "=cmd()")
    bad.add(4, "empty")
    bad.add(5, "empty")
    assert bad.summary() == "3 records set aside: empty 2, unreadable 1"
    lines = bad.write(tmp_path / "q.csv").read_text().splitlines()
    assert lines[0] == "where,reason,detail" and lines[1] == "3,unreadable,'=cmd()"
