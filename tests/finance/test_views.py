"""The same log by counterparty: its history is what is learned and scored, and the card is a field."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from core.errors import UserError
from core.training import TrainConfig
from finance.cli import main
from finance.data import Transactions, read
from finance.encoders import Shape
from finance.estimators import FraudScorer, TransactionEncoder
from finance.explain import explain
from finance.online import OnlineScorer
from finance.presets import Recipe
from finance.schema import Schema
from finance.tables import embedding_table, score_table

RECIPE = Recipe(
    shape=Shape(dim=32, depth=1, heads=2, context=64), batch_size=16, train=TrainConfig(steps=60, lr=5e-3),
    view="counterparty",
)  # fmt: skip


@pytest.fixture(scope="module")
def encoder(log: Transactions) -> TransactionEncoder:
    return TransactionEncoder(RECIPE).fit(log, note=lambda line: None)


def test_entity_and_counterparty_change_roles_and_nothing_else(log):
    turned = log.seen_by("counterparty")
    assert turned.schema.entity == "terminal" and turned.schema.counterparty == "card"
    assert turned.schema.categorical == ("card", "channel")
    assert turned.frame["entity"].tolist() == log.frame["terminal"].tolist()
    assert turned.frame["card"].tolist() == log.frame["entity"].tolist()
    assert np.array_equal(turned.time, log.time) and np.array_equal(turned.label, log.label)
    assert turned.seen_by("counterparty") is turned and log.seen_by("card") is log
    with pytest.raises(UserError, match="already seen by counterparty"):
        turned.seen_by("card")


def test_payments_without_a_counterparty_are_set_aside_with_their_reason(log, encoder):
    gone = np.arange(len(log)) % 10 == 3
    some = replace(log, frame=log.frame.assign(counterparty=log.frame["counterparty"].mask(gone, None)))
    turned = some.seen_by("counterparty")
    assert len(turned) == (~gone).sum() and len(turned.quarantine) == gone.sum()
    assert f"row {some.frame['row'][gone].iloc[0]}" in [where for where, *_ in turned.quarantine.records]
    assert np.isfinite(encoder.transform(turned)).all()
    with pytest.raises(UserError, match=f"{gone.sum()} payments have no counterparty"):
        encoder.transform(some)
    with pytest.raises(UserError, match="no usable row"):
        replace(log, frame=log.frame.assign(counterparty=None)).seen_by("counterparty")


def test_a_schema_that_cannot_be_turned_is_one_line():
    given = {"entity": "card", "time": "time", "amount": "amount", "categorical": ["terminal"]}
    with pytest.raises(UserError, match="names no counterparty"):
        Schema.from_dict(given).turned()
    with pytest.raises(UserError, match="cannot be called 'entity'"):
        Schema.from_dict({**given, "entity": "entity", "counterparty": "terminal"}).turned()


def test_a_terminals_history_alone_decides(log, encoder):
    terminal = log.frame["terminal"].value_counts().index[0]
    at = (log.frame["terminal"] == terminal).to_numpy()
    scorer = FraudScorer(encoder)
    assert np.allclose(scorer.score_samples(log)[at], scorer.score_samples(log.where(at)), atol=1e-4)
    early = log.time <= np.median(log.time)
    assert np.allclose(encoder.transform(log)[early], encoder.transform(log.where(early)), atol=1e-4)
    by_card = TransactionEncoder(replace(RECIPE, view="card")).fit(log, note=lambda line: None)
    assert not np.allclose(FraudScorer(by_card).score_samples(log), scorer.score_samples(log), atol=1e-2)


def test_a_saved_run_remembers_how_it_sees_and_holds_no_card(log, encoder, tmp_path):
    run = encoder.save(tmp_path / "run")
    loaded = TransactionEncoder.load(run)
    assert loaded.recipe_.view == "counterparty"
    assert np.array_equal(loaded.transform(log), encoder.transform(log))
    assert np.array_equal(loaded.transform(log.seen_by("counterparty")), encoder.transform(log))
    text = (run / "config.json").read_text() + (run / "card.md").read_text()
    assert not any(card in text for card in log.frame["entity"].unique())
    assert not any(terminal in text for terminal in log.frame["terminal"].unique())


def test_what_is_told_of_payments_keeps_the_logs_rows_and_what_is_told_of_terminals_their_names(log, encoder):
    table = score_table(FraudScorer(encoder), log)
    assert table["row"].tolist() == sorted(log.frame["row"]) and "why: card" in table and "why: terminal" not in table
    named = embedding_table(encoder, log, "card")
    assert sorted(named["terminal"]) == sorted(log.frame["terminal"].unique())
    chosen = np.zeros(len(log), bool)
    chosen[-3:] = True
    assert set(explain(FraudScorer(encoder), log, chosen)["field"]) == {
        "amount",
        "gap",
        "hour",
        "weekday",
        "card",
        "channel",
    }


def test_online_scores_are_the_logs_own(folder: Path, log, encoder):
    raw = pd.read_parquet(folder / "transactions.parquet").iloc[: len(log)]
    scorer = FraudScorer(encoder)
    whole, online = scorer.score_samples(log), OnlineScorer.from_history(scorer, log.where(np.arange(len(log)) < 400))
    for i in range(400, 430):
        assert online.score(raw.iloc[i].to_dict()).score == pytest.approx(whole[i], abs=1e-4)
    rest = log.where((np.arange(len(log)) >= 430) & (np.arange(len(log)) < 600))
    assert np.allclose(online.score_table(rest)[:, 0], whole[430:600], atol=1e-4)


def test_commands_read_the_same_files_by_counterparty(folder: Path, tmp_path: Path):
    def tacit_finance(*arguments: object) -> None:
        with pytest.raises(SystemExit) as end:
            main([str(a) for a in arguments])
        assert not end.value.code

    run, settings = tmp_path / "run", ("shape.dim=32", "shape.depth=1", "shape.heads=2", "batch_size=16")
    tacit_finance(
        "pretrain", "--data", folder, "--out", run, "--steps", 5, "--view", "counterparty", "--set", *settings
    )
    tacit_finance("score", "--run", run, "--data", folder, "--out", tmp_path / "scores.parquet")
    tacit_finance("embed", "--run", run, "--data", folder, "--out", tmp_path / "states.parquet", "--per", "card")
    since = str(np.datetime64(int(read(folder).day.max()) - 5, "D"))
    tacit_finance(
        "threshold", "--run", run, "--data", folder, "--since", since, "--per-day", 3, "--out", tmp_path / "t.json"
    )
    tacit_finance("explain", "--run", run, "--data", folder, "--top", 2)
    tacit_finance("drift", "--run", run, "--data", folder)
    assert len(pd.read_parquet(tmp_path / "scores.parquet")) == len(read(folder))
    assert len(pd.read_parquet(tmp_path / "states.parquet")) == read(folder).frame["terminal"].nunique()
