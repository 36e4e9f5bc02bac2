"""The benchmark: rows of every role, resumed and not repeated; a smoke that can fail."""

from __future__ import annotations

import json
from dataclasses import replace

import pandas as pd
import pytest

from recsys import benchmark
from recsys.data import from_frame
from recsys.estimators import SessionRecommender
from recsys.synthetic import World, generate


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, tmp_path):
    """Generated sessions in the place of the public sets, and 30 steps in the place of minutes."""
    file = tmp_path / "data.csv"
    file.write_text("generated")
    loaded = from_frame(generate(World(users=200, intents=3, stages=5, items=4), 0))
    items = loaded.sequences.catalogue.values
    told = pd.DataFrame({"item_id": items, "attributes": [[f"kind {i % 4}"] for i in range(len(items))]})
    told.to_parquet(tmp_path / "data_item_attributes.parquet")
    monkeypatch.setattr(benchmark, "load", lambda name: replace(loaded, file=file))
    monkeypatch.setattr(benchmark.session_bench, "quick_recall", lambda: 0.5)
    fits: list[str] = []

    class Quick(SessionRecommender):
        def recipe(self):
            chosen = super().recipe()
            return replace(chosen, batch_size=32, train=replace(chosen.train, steps=30, minutes=None, lr=0.01))

        def fit_sequences(self, *arguments, **named):
            fits.append(self.method)
            return super().fit_sequences(*arguments, **named)

    monkeypatch.setattr(benchmark, "SessionRecommender", Quick)
    return fits


def test_every_role_stands_beside_ours(small, tmp_path):
    path = benchmark.bench(tmp_path / "bench", "beauty", 1.0, 2, "cpu")
    rows = json.loads(path.read_text())
    assert {row["role"] for row in rows} == {"ours", "floor", "published"}
    main = [row for row in rows if row["role"] == "ours" and row["metric"] == "ndcg@10"]
    assert len(main) == 1
    assert (main[0]["goal"], main[0]["seeds"]) == (0.0531, 2)
    assert main[0]["low"] < main[0]["value"] < main[0]["high"]
    assert {"popularity", "markov", "item_knn", "session_knn", "untrained"} <= {
        row["method"] for row in rows if row["role"] == "floor"
    }


def test_a_second_call_trains_nothing_again_and_other_tests_share_the_run(small, tmp_path):
    for _ in range(2):
        benchmark.bench(tmp_path / "bench", "beauty", 1.0, 1, "cpu")
    assert small == ["next"]
    path = benchmark.bench(tmp_path / "bench", "users", 1.0, 1, "cpu")
    assert small == ["next"]  # models on fewer users are made elsewhere; the one on all users was read back
    methods = {row["method"] for row in json.loads(path.read_text()) if row["test"] == "users"}
    assert {"next, 10% of users", "next, 30% of users", "next, 100% of users", "item_knn, 10% of users"} <= methods


def test_the_smoke_is_fine_where_the_order_was_learned(small):
    assert benchmark.smoke() == 0


def test_the_smoke_says_what_is_wrong(small, monkeypatch, capsys):
    monkeypatch.setattr(benchmark.SessionRecommender, "fit_sequences", lambda self, s, **kw: _untrained(self, s))
    assert benchmark.smoke() == 1
    assert "no better than the untrained one" in capsys.readouterr().err


def _untrained(model: SessionRecommender, sequences) -> SessionRecommender:
    """Fresh weights, as if training had done nothing."""
    from recsys.estimators import popularity

    model._prepare(model.recipe(), sequences.catalogue, popularity(sequences), 2, "")
    return model


def test_a_task_beside_the_next_item_is_measured_at_equal_cost(small, tmp_path):
    rows = benchmark.ssl_gain("beauty", benchmark.Budget(1.0, "cpu", tmp_path), 0)
    assert set(small) == {"next", *benchmark.DEARER}
    [gain] = [row for row in rows if row["goal"] == 0.02]
    assert gain["low"] <= gain["value"] <= gain["high"] and gain["note"].split(",")[0] in benchmark.DEARER
    rows = benchmark.with_attributes("beauty", benchmark.Budget(1.0, "cpu", tmp_path), 0)
    assert [row["goal"] for row in rows if row["goal"]] == [0.0531, 0.0921, 0.02] and len(small) == 1 + len(
        benchmark.DEARER
    )


def test_the_hybrid_stands_beside_its_parts(small, tmp_path):
    rows = benchmark.with_neighbours("beauty", benchmark.Budget(1.0, "cpu", tmp_path), 0)
    assert {row["method"] for row in rows} == {
        "hybrid",
        *(f"hybrid minus {part}" for part in ("next", "session_knn", "item_knn", "markov")),
    }
    assert [row["goal"] for row in rows if row["metric"] == "ndcg@10"] == [0.0531]


def test_few_sessions_and_injected_sessions_have_intervals(small, monkeypatch):
    from recsys import claims

    monkeypatch.setattr(claims, "SessionRecommender", benchmark.SessionRecommender)
    table = generate(World(users=300, intents=3, stages=5, items=4), 1)
    rows = claims.few_sessions("generated", table, 30, 0, "cpu", print)
    assert [row["method"] for row in rows][:2] == ["pretrained, fine-tuned on 10%", "from scratch on 10%"]
    assert rows[-1]["goal"] == 0.1 and rows[-1]["low"] <= rows[-1]["value"] <= rows[-1]["high"]
    monkeypatch.setattr(claims, "load", benchmark.load)
    kept = {
        row["method"]: row["value"] for row in claims.injected("beauty", 30, 0, "cpu") if row["metric"] == "overlap@10"
    }
    assert all(0 < value <= 1 for value in kept.values())
