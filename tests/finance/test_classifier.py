"""The classifier learns from the labels that were known, from nothing later, and says probabilities that mean something."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from core.errors import UserError
from core.training import TrainConfig
from finance.classifier import FILE, FraudClassifier, learned_from
from finance.data import DAY, Transactions, read
from finance.encoders import Shape
from finance.estimators import TransactionEncoder
from finance.handmade import NEVER, NEWEST, REMEMBERED, HandMade, handmade_features
from finance.metrics import average_precision
from finance.presets import Recipe
from finance.synthetic import World, write
from finance.trees import Trees, rising
from tests.finance.test_cli import tacit_finance

FEW = Trees(count=60, rate=0.1)


@pytest.fixture(scope="module")
def payments(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("log") / "data", World(cards=60, days=60, compromised=12.0, leaked=12.0))


@pytest.fixture(scope="module")
def table(payments: Path) -> Transactions:
    return read(payments)


@pytest.fixture(scope="module")
def until(table: Transactions) -> int:
    return int(table.day.max()) - 9


@pytest.fixture(scope="module")
def encoder(table: Transactions, until: int) -> TransactionEncoder:
    recipe = Recipe(
        shape=Shape(dim=16, depth=1, heads=2, context=64), batch_size=16, train=TrainConfig(steps=40, lr=5e-3)
    )
    return TransactionEncoder(recipe).fit(table, until=until, note=lambda line: None)


@pytest.fixture(scope="module")
def classifier(encoder: TransactionEncoder, table: Transactions) -> FraudClassifier:
    return FraudClassifier(encoder, label_days=30, trees=FEW).fit(table)


def test_it_finds_fraud_on_later_days_and_its_probabilities_mean_something(
    classifier: FraudClassifier, table: Transactions, until: int
) -> None:
    late = (table.day >= until) & (table.label >= 0)
    found = classifier.predict_proba(table, late)
    assert np.isnan(found[~late]).all() and np.allclose(found[late].sum(1), 1)
    share = table.label[late].mean()
    assert average_precision(table.label[late], found[late, 1])[0] > 5 * share
    assert 0.3 * share < found[late, 1].mean() < 3 * share
    assert classifier.trained_on_["held_out_calibration_error"] < share


def test_labels_that_were_not_known_by_then_and_later_rows_change_nothing(
    classifier: FraudClassifier, encoder: TransactionEncoder, table: Transactions, until: int
) -> None:
    unknown = table.label_time >= until * DAY
    frame = table.frame.assign(label=np.where(unknown, 1 - table.label, table.label))
    frame.loc[table.day >= until, "amount"] = 1e5
    again = FraudClassifier(encoder, label_days=30, trees=FEW).fit(replace(table, frame=frame))
    assert again.grown_.booster.model_to_string() == classifier.grown_.booster.model_to_string()
    assert not (learned_from(table, until, 30) & unknown).any()
    known = np.flatnonzero(learned_from(table, until, 30))
    frame = table.frame.copy()
    frame.loc[known, "label"] = 1 - frame.loc[known, "label"]
    other = FraudClassifier(encoder, label_days=30, trees=FEW).fit(replace(table, frame=frame))
    assert other.grown_.booster.model_to_string() != classifier.grown_.booster.model_to_string()


def test_features_of_few_labels_are_those_of_a_log_with_few_labels(table: Transactions) -> None:
    few = np.where(np.random.default_rng(0).random(len(table)) < 0.3, table.label, -1)
    made = HandMade(table).features(few)
    alone = handmade_features(replace(table, frame=table.frame.assign(label=few)))
    assert made.names == alone.names and np.array_equal(made.values, alone.values)
    assert not handmade_features(replace(table, frame=table.frame.assign(label=-1))).from_labels.any()


def test_a_fraud_counts_from_the_day_on_which_it_is_known(table: Transactions) -> None:
    made = handmade_features(table)
    values = dict(zip(made.names, made.values.T, strict=True))
    card = int(table.card[table.label == 1][0])
    own = np.flatnonzero(table.card == card)
    frauds = own[table.label[own] == 1]
    for at in own:
        known = frauds[table.label_time[frauds] < table.time[at]]
        recent = known[table.label_time[known] >= table.time[at] - 7 * DAY]
        assert values["card frauds known, 7 d"][at] == len(recent)
        if len(recent):
            since = (table.time[at] - table.time[known].max()) / DAY
            assert values["days since the last known fraud, card"][at] == pytest.approx(since)


def test_frauds_in_a_row_are_the_newest_labels_known_by_then(table: Transactions) -> None:
    name = table.schema.categorical[0]
    made = handmade_features(table)
    values = dict(zip(made.names, made.values.T, strict=True))
    place = table.frame[name].to_numpy()
    some = np.random.default_rng(0).choice(len(table), 60, replace=False)
    for at in [*some, *np.flatnonzero(values[f"{name} frauds known in a row"])[:60]]:
        known = np.flatnonzero((place == place[at]) & (table.label >= 0) & (table.label_time < table.time[at]))
        known = known[table.label_time[known] >= table.time[at] - REMEMBERED * DAY]
        known = known[np.lexsort((known, table.label_time[known]))]
        genuine = known[table.label[known] == 0]
        row = known[np.flatnonzero(known == genuine[-1])[0] + 1 :] if len(genuine) else known
        assert values[f"{name} frauds known in a row"][at] == len(row)
        since = (table.time[at] - table.time[row[0]]) / DAY if len(row) else NEVER
        assert values[f"days since the first of the row, {name}"][at] == pytest.approx(since)
        since = (table.time[at] - table.time[genuine[-1]]) / DAY if len(genuine) else NEVER
        assert values[f"days since the last known genuine payment, {name}"][at] == pytest.approx(since)
        newest = table.label[known[-NEWEST:]].mean() if len(known) else 0
        assert values[f"{name} fraud share, newest {NEWEST}"][at] == pytest.approx(newest)
    assert values[f"{name} frauds known in a row"].max() > 0


def test_trees_go_on_from_a_score_that_needed_no_labels_so_that_few_labels_suffice() -> None:
    rng = np.random.default_rng(0)
    label = (rng.random(6000) < 0.03).astype(np.int64)
    score = rng.normal(size=6000) + 3 * label
    x = np.column_stack([rng.normal(size=(6000, 30)), score])
    few = np.concatenate([np.flatnonzero(label == 1)[:6], np.flatnonzero(label == 0)[:200]])
    late = np.arange(3000, 6000)
    found = {start: Trees().odds(x[few], label[few], x[late], start=start) for start in (None, -1)}
    quality = {start: average_precision(label[late], odds)[0] for start, odds in found.items()}
    assert quality[-1] > quality[None] + 0.05
    assert quality[-1] > 0.8 * average_precision(label[late], score[late])[0]


def test_a_score_that_does_not_rise_with_the_labels_starts_nothing() -> None:
    rng = np.random.default_rng(0)
    label = np.arange(200) % 10 == 0
    assert rising(-1.0 * label + 0.1 * rng.normal(size=200), label.astype(np.int64)) == (
        0.0,
        pytest.approx(np.log(1 / 9)),
    )
    line = rising(1.0 * label + 0.1 * rng.normal(size=200), label.astype(np.int64))
    assert line.slope > 0 and np.allclose(line(np.zeros(3)), 1 / (1 + np.exp(-line.odds(np.zeros(3)))))


def test_saved_and_loaded_it_says_the_same_and_a_damaged_file_is_one_line(
    classifier: FraudClassifier, encoder: TransactionEncoder, table: Transactions, tmp_path: Path
) -> None:
    run = encoder.save(tmp_path / "run")
    with pytest.raises(UserError, match="has not learned from labels"):
        FraudClassifier.load(run)
    classifier.save(run)
    rows = np.arange(len(table)) > len(table) - 200
    loaded = FraudClassifier.load(run)
    assert np.array_equal(loaded.predict_proba(table, rows), classifier.predict_proba(table, rows), equal_nan=True)
    content = json.loads((run / FILE).read_text())
    wrong = ({"booster": "tree"}, {"names": ["amount"]}, {"line": [1.0]})
    for damaged in ("{", *(json.dumps(content | part) for part in wrong), "[]"):
        (run / FILE).write_text(damaged)
        with pytest.raises(UserError) as error:
            FraudClassifier.load(run)
        assert "\n" not in str(error.value)


def test_without_labels_or_with_one_class_it_does_not_learn(encoder: TransactionEncoder, table: Transactions) -> None:
    for label, says in ((-1, "no labels"), (0, "every label is genuine")):
        with pytest.raises(UserError, match=says):
            FraudClassifier(encoder).fit(replace(table, frame=table.frame.assign(label=label)))
    with pytest.raises(UserError, match="not fitted"):
        FraudClassifier(encoder).predict_proba(table)


def test_learn_choose_and_score_by_labels(
    payments: Path,
    encoder: TransactionEncoder,
    table: Transactions,
    until: int,
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
) -> None:
    run, threshold = encoder.save(tmp_path / "run"), tmp_path / "threshold.json"
    assert tacit_finance("learn", "--run", run, "--data", payments) == 0
    assert "on cards held out: average precision" in capsys.readouterr().out
    day = np.datetime64(until, "D")
    chosen = ["--run", run, "--data", payments, "--since", day, "--per-day", 2, "--out", threshold]
    assert tacit_finance("threshold", *chosen, "--by", "labels") == 0
    scored = [
        "score",
        "--run",
        run,
        "--data",
        payments,
        "--since",
        day,
        "--threshold",
        threshold,
        "--out",
        tmp_path / "s.csv",
    ]
    assert tacit_finance(*scored) == 2
    assert "that threshold belongs to scores by labels" in capsys.readouterr().err
    assert tacit_finance(*scored, "--by", "labels") == 0
    made = pd.read_csv(tmp_path / "s.csv")
    alerted = table.frame.set_index("row").loc[made["row"][made["alert"]], ["entity", "time"]]
    days = len(np.unique(table.day[table.day >= until]))
    assert made["probability of fraud"].between(0, 1).all() and len(alerted) > 0
    assert len(set(zip(alerted["entity"], alerted["time"] // DAY, strict=True))) <= 2 * days
