"""The scikit-learn face: parameters, clones, unfitted use, and DataFrames in and out in the frame's own order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.utils.validation import check_is_fitted

from core.errors import UserError
from core.training import TrainConfig
from finance import FraudClassifier, FraudScorer, TransactionEncoder
from finance.data import Transactions, validate
from finance.encoders import Shape
from finance.explain import explain
from finance.presets import Recipe
from finance.schema import Schema

SMALL = Recipe(
    shape=Shape(dim=32, depth=1, heads=2, context=64), batch_size=16, train=TrainConfig(steps=30, lr=5e-3)
)  # fmt: skip


@pytest.fixture(scope="module")
def frame(folder: Path) -> pd.DataFrame:
    log = pd.read_parquet(folder / "transactions.parquet")
    return log.drop_duplicates(["card", "time"]).sample(
        frac=1.0, random_state=0
    )  # the order of rows tells which of two is first


@pytest.fixture(scope="module")
def schema(folder: Path) -> Schema:
    return Schema.read(folder / "schema.toml")


@pytest.fixture(scope="module")
def encoder(frame: pd.DataFrame, schema: Schema) -> TransactionEncoder:
    return TransactionEncoder(SMALL, schema).fit(frame, note=lambda line: None)


def test_parameters_are_cloned_and_fitting_leaves_them_alone(frame, schema, encoder):
    scorer = FraudScorer(encoder)
    copy = clone(scorer)
    assert copy.encoder is not encoder and copy.encoder.recipe == SMALL and copy.encoder.schema == schema
    check_is_fitted(scorer)
    with pytest.raises(NotFittedError):
        check_is_fitted(copy)
    scorer.set_params(encoder__recipe=SMALL)
    before, weights = copy.get_params(deep=False)["encoder"], encoder.transform(frame)
    assert copy.fit(frame) is copy and copy.encoder is before and not hasattr(copy.encoder, "encoder_")
    assert np.array_equal(copy.encoder_.transform(frame), weights)  # equal seeds
    assert np.isfinite(copy.score_samples(frame)).all()


def test_unfitted_use_is_one_line_and_scikit_learns_error(frame, log):
    for ask in (TransactionEncoder().transform, FraudScorer().score_samples, FraudClassifier().predict_proba):
        for data in (frame, log):
            with pytest.raises(UserError, match="is not fitted; call fit first") as found:
                ask(data)
            assert isinstance(found.value, NotFittedError) and "\n" not in str(found.value)


def test_results_stand_in_the_order_of_the_frames_rows(frame, schema, encoder):
    table = validate(frame.sort_values("transaction"), schema)
    order = frame["transaction"].to_numpy()
    by_id = pd.Series(np.arange(len(table)), index=table.frame["id"])[order].to_numpy()
    scorer = FraudScorer(encoder)
    assert np.allclose(encoder.transform(frame), encoder.transform(table)[by_id], atol=1e-5)
    assert np.allclose(scorer.score_samples(frame), scorer.score_samples(table)[by_id], atol=1e-5)
    reasons = scorer.reasons(table)
    assert all(np.allclose(values, reasons[name][by_id], atol=1e-4) for name, values in scorer.reasons(frame).items())
    some = frame["channel"].to_numpy() == "online"
    part = scorer.score_samples(frame, some)
    assert np.isfinite(part[some]).all() and np.isnan(part[~some]).all()
    few = np.zeros(len(frame), bool)
    few[[3, 77]] = True
    assert set(explain(scorer, frame, few)["row"]) == {3, 77}


def test_a_classifier_and_a_pipeline_take_frames(frame, encoder):
    classifier = FraudClassifier(encoder, label_days=30).fit(frame)
    chance = classifier.predict_proba(frame)
    assert chance.shape == (len(frame), 2) and np.allclose(chance.sum(1), 1)
    y = frame["fraud"].to_numpy()
    assert chance[y == 1, 1].mean() > chance[y == 0, 1].mean()
    pipe = make_pipeline(TransactionEncoder(SMALL, encoder.schema), LogisticRegression(max_iter=200)).fit(frame, y)
    found = pipe.predict_proba(frame)[:, 1]
    assert found[y == 1].mean() > 2 * found[y == 0].mean()


def test_a_loaded_run_knows_its_schema_and_needs_no_labels(frame, encoder, tmp_path):
    loaded = TransactionEncoder.load(encoder.save(tmp_path / "run"))
    new = frame.drop(columns=["fraud", "scenario"]).head(300)
    assert np.array_equal(loaded.transform(new), encoder.transform(new))


def test_a_schema_may_be_its_keys_or_its_file(frame, schema, folder):
    keys = {"entity": "card", "time": "time", "amount": "amount", "categorical": ["channel"]}
    for given in (keys, folder / "schema.toml", str(folder / "schema.toml")):
        assert TransactionEncoder(SMALL, given)._read(frame).schema.entity == "card"


def test_what_is_no_log_is_one_line(frame, schema, encoder):
    cases = {
        "ndarray is no log": np.zeros((3, 2)),
        "column 'amount' is missing": frame.drop(columns="amount"),
        "0 of 0 rows": frame.head(0),
        f"{len(frame) - 1} of {len(frame)} rows are usable: 1 record set aside": frame.assign(
            amount=frame["amount"].where(np.arange(len(frame)) != 5)
        ),
    }
    for said, data in cases.items():
        with pytest.raises(UserError, match=said):
            encoder.transform(data)
    with pytest.raises(UserError, match="a DataFrame needs a schema"):
        TransactionEncoder(SMALL).fit(frame)
    assert isinstance(validate(frame.head(5), schema), Transactions)
