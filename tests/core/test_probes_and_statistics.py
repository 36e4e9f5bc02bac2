"""Probes against scikit-learn, intervals against what is known of them, codecs back and forth."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import RidgeClassifier
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from core.attentive import AttentiveConfig, FrozenTokens, attentive, embed_tokens
from core.codec import FEW, Categories, Scale, from_json
from core.encoders import ItemStem, TokenEncoder, Transformer, TransformerConfig
from core.errors import UserError
from core.evaluation import EQUAL, HELPS, HURTS, labels_saved, verdict
from core.monitors import feature_std, rankme
from core.probes import COSTS, choose_cost, knn, label_subset, linear, ridge
from core.quarantine import Quarantine
from core.statistics import Estimate, bootstrap, mean_interval, paired

draw = np.random.default_rng(0)
Y = draw.integers(0, 3, 300)
X = np.eye(3)[Y] * 2 + draw.standard_normal((300, 3))


@pytest.mark.parametrize("temperature", [0.1, 1e9])
def test_knn_equals_scikit_learns_under_the_same_weights(temperature: float) -> None:
    ours = knn(X[:200], Y[:200], X[200:], k=15, temperature=temperature)
    unit = X / np.linalg.norm(X, axis=1, keepdims=True)
    by_cosine = KNeighborsClassifier(15, metric="cosine", weights=lambda d: np.exp((1 - d) / temperature))
    theirs = by_cosine.fit(unit[:200], Y[:200]).predict_proba(unit[200:])
    np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_fewer_rows_than_neighbours_all_vote_and_no_temperature_is_too_low() -> None:
    few = knn(X[:4], [0, 1, 1, 1], X[4:6], k=20, temperature=1e9)
    np.testing.assert_allclose(few, [[0.25, 0.75]] * 2)
    sharp = knn(X[:50], Y[:50], X[50:60], temperature=1e-5)
    np.testing.assert_array_equal(sharp.argmax(1), knn(X[:50], Y[:50], X[50:60], k=1).argmax(1))
    assert np.isfinite(sharp).all()


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("penalty", [0.1, 30.0])
def test_ridge_equals_scikit_learns(classes: int, penalty: float) -> None:
    y = Y % classes
    ours = ridge(X[:200], y[:200], X[200:], penalties=(penalty,))
    theirs = make_pipeline(StandardScaler(), RidgeClassifier(penalty)).fit(X[:200], y[:200]).decision_function(X[200:])
    np.testing.assert_allclose(ours if classes > 2 else ours[:, 1], theirs, atol=1e-8)
    if classes == 2:
        np.testing.assert_allclose(ours[:, 0], -ours[:, 1], atol=1e-8)


def test_ridge_chooses_its_penalty_inside_the_labels_and_takes_wide_and_constant_features() -> None:
    y = draw.integers(0, 2, 60)
    noise = np.column_stack([0.7 * y + draw.standard_normal(60), draw.standard_normal((60, 200)), np.ones(60)])
    chosen = ridge(noise, y, noise)
    strongest = ridge(noise, y, noise, penalties=(1e4,))
    weakest = ridge(noise, y, noise, penalties=(1e-1,))
    assert chosen.std() < weakest.std() / 2 and chosen.std() >= strongest.std() * 0.99
    clean = np.column_stack([y * 2.0 - 1, draw.standard_normal((60, 3))])
    assert ridge(clean, y, clean).std() > 0.95
    groups = np.repeat(np.arange(30), 2)
    assert (
        ridge(np.eye(30)[groups], np.repeat(y[:30], 2), np.eye(30), groups).std() < 0.2
    )  # names of groups tell nothing


def test_the_linear_probes_find_what_is_linear() -> None:
    for probe in (linear, ridge):
        assert (probe(X[:200], Y[:200], X[200:]).argmax(1) == Y[200:]).mean() > 0.8
        assert probe(X[:3], np.array([0, 0, 1]), X).shape == (300, 2)  # too few for folds


def tokens_of(x: np.ndarray) -> FrozenTokens:
    return FrozenTokens(torch.from_numpy(x).float()[:, None], torch.zeros(len(x), 1, dtype=torch.bool))


PROBES = {
    "knn": knn,
    "ridge": ridge,
    "linear": linear,
    "attentive": lambda x, y, test: attentive(tokens_of(x), y, tokens_of(test), AttentiveConfig(steps=2)),
}


@pytest.mark.parametrize("name", PROBES)
def test_what_no_probe_can_read_is_one_clear_line(name: str) -> None:
    probe, bad = PROBES[name], X[:9].copy()
    bad[4, 1] = np.nan
    with pytest.raises(UserError, match=r"NaN or infinite \(labelled row 4\)"):
        probe(bad, Y[:9], X)
    with pytest.raises(UserError, match=r"NaN or infinite \(test row 4\)"):
        probe(X[:9], Y[:9], bad)
    with pytest.raises(UserError, match="one class only"):
        probe(X[:9], np.zeros(9), X)
    with pytest.raises(UserError, match="8 labels for 9 rows"):
        probe(X[:9], Y[:8], X)
    with pytest.raises(UserError, match=r"\(9, 3\) and \(9, 2\)|width 3 and 2"):
        probe(X[:9], Y[:9], X[:9, :2])
    assert probe(X[:9].astype(np.float32), [f"kind {y}" for y in Y[:9]], X).shape == (300, len(np.unique(Y[:9])))


# the rule of one standard error


def accuracy(codes: np.ndarray, shares: np.ndarray) -> float:
    return float((shares.argmax(1) == codes).mean())


def auroc(codes: np.ndarray, shares: np.ndarray) -> float:
    return float(roc_auc_score(codes, shares[:, 1]))


def test_ties_go_to_the_simplest_model() -> None:
    label = np.arange(60) % 2
    x = np.random.default_rng(1).standard_normal((60, 2))
    x[:, 0] += 20 * label
    assert choose_cost(x, label, score=auroc) == COSTS[0]


def test_a_model_that_must_be_sharp_may_be() -> None:
    """A direction that heavy shrinkage cannot follow: two nearly equal features whose difference is the class."""
    label = np.arange(600) % 2
    shared = draw.standard_normal(600)
    x = np.stack([shared, shared + 0.02 * (2 * label - 1) + 0.01 * draw.standard_normal(600)], 1)
    assert choose_cost(x, label, score=auroc) > COSTS[0]


def test_too_few_labels_or_groups_for_folds_get_a_fixed_cost() -> None:
    label = np.array([0, 1, 1, 1])
    assert choose_cost(X[:4], label, score=accuracy) == 1e-2 and choose_cost(X[:4], label) == COSTS[2]
    one_group_a_class = np.array([0, 0, 1, 1])
    assert choose_cost(X[:4], np.array([0, 0, 1, 1]), one_group_a_class, score=accuracy) == 1e-2


# attentive


def pointed(rows: int, seed: int, time: int = 12) -> tuple[FrozenTokens, np.ndarray]:
    """One token of each row carries a mark and the class; the others are noise, which a mean drowns it in."""
    g = torch.Generator().manual_seed(seed)
    y = torch.randint(0, 2, (rows,), generator=g)
    x = torch.randn(rows, time, 6, generator=g)
    at = torch.randint(0, time - 4, (rows,), generator=g)
    x[torch.arange(rows), at, 0] += 6.0
    x[torch.arange(rows), at, 1] = 2.0 * (2 * y - 1).float()
    lengths = torch.randint(time - 4, time + 1, (rows,), generator=g)
    pad = torch.arange(time)[None] >= lengths[:, None]
    return FrozenTokens(x.masked_fill(pad[..., None], 0.0), pad), y.numpy()


def test_the_attentive_probe_finds_the_token_that_knows() -> None:
    (train, y), (test, truth) = pointed(200, 0), pointed(200, 1)
    shares = attentive(train, y, test, AttentiveConfig(steps=120, heads=2))
    mean = [(t.x.sum(1) / (~t.pad).sum(1, keepdim=True)).numpy() for t in (train, test)]
    assert accuracy(truth, shares) > 0.9 > accuracy(truth, linear(mean[0], y, mean[1])) + 0.1
    first, same, other = (attentive(train, y, test, AttentiveConfig(steps=3), seed) for seed in (0, 0, 1))
    assert np.array_equal(first, same) and not np.array_equal(first, other)


def test_padding_changes_no_attentive_probe() -> None:
    train, y = pointed(60, 0)
    wider = FrozenTokens(F.pad(train.x, (0, 0, 0, 3)), F.pad(train.pad, (0, 3), value=True))
    config = AttentiveConfig(steps=5)
    one, other = attentive(train, y, train, config), attentive(wider, y, wider, config)
    np.testing.assert_allclose(one, other, atol=1e-5)
    nothing = FrozenTokens(torch.zeros(1, 12, 6), torch.ones(1, 12, dtype=torch.bool))
    assert np.isfinite(attentive(train, y, nothing, config)).all()


def test_frozen_tokens_are_the_encoders_padded_to_the_longest() -> None:
    encoder = TokenEncoder(ItemStem(12, 8), Transformer(TransformerConfig(8, heads=2)))
    items = [torch.randint(3, 12, (2, time)) for time in (3, 5)]
    batches = [{"item": item, "pad": torch.zeros_like(item, dtype=torch.bool)} for item in items]
    batches[1]["pad"][1, 3:] = True
    found = embed_tokens(encoder, batches)
    assert found.x.shape == (4, 5, 8) and found.pad.sum(1).tolist() == [2, 2, 0, 2]
    assert (found.x[found.pad] == 0).all()
    with torch.no_grad():
        torch.testing.assert_close(found.x[:2, :3], encoder(batches[0]).x)
    assert len(found.select([3, 0])) == 2 and torch.equal(found.select([3, 0]).x[1], found.x[0])


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


@settings(max_examples=50, deadline=None)
@given(texts)
def test_a_few_values_get_the_ids_that_many_get(values: list) -> None:
    column = np.array([*values, "never seen before"], dtype=object)
    codec = Categories.fit(pd.Series(values[::2], dtype=object))
    many = np.tile(column, 1 + FEW // len(column))
    assert codec.encode(many)[: len(column)].tolist() == codec.encode(column).tolist()


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


def test_quarantine_counts_and_writes_no_formula(tmp_path, capsys) -> None:
    bad = Quarantine()
    bad.add(3, "unreadable", "=cmd()")
    bad.add(4, "empty")
    bad.add(5, "empty")
    assert bad.summary() == "3 records set aside: empty 2, unreadable 1"
    bad.tell(tmp_path, "aside.csv")
    assert capsys.readouterr().out.splitlines() == [
        "  2 × empty",
        "  1 × unreadable",
        f"each with its reason: {tmp_path / 'aside.csv'}",
    ]
    lines = bad.write(tmp_path / "q.csv").read_text().splitlines()
    assert lines[0] == "where,reason,detail" and lines[1] == "3,unreadable,'=cmd()"
