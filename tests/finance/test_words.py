"""Merchants' descriptions as subwords: what is read of them, what is hidden, and what is learned from them."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from core.batches import SequenceBatches
from core.codec import FIRST, MISSING, UNKNOWN
from core.encoders import Field, FieldStem
from core.errors import UserError
from core.training import TrainConfig
from finance.data import Transactions, read
from finance.drift import drift
from finance.encoders import Shape
from finance.estimators import FraudScorer, TransactionEncoder
from finance.explain import _evidence, _oddest, explain
from finance.histories import EventCodec
from finance.online import OnlineScorer
from finance.presets import Recipe
from finance.pretext import Masks
from finance.split import default_split
from finance.synthetic import TOWNS, World, generate, write
from finance.words import END, Words

TEXTS = ["Bakery Miller 0123 GHENT", "bakery miller 77 ghent", "Cinema Rossi 5 HALLE", None] * 5


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Transactions:
    return read(
        write(tmp_path_factory.mktemp("told") / "data", World(cards=50, days=40, leaked=12.0, descriptions=True))
    )


@pytest.fixture(scope="module")
def encoder(told: Transactions) -> TransactionEncoder:
    recipe = Recipe(
        shape=Shape(dim=32, depth=1, heads=2, context=64), batch_size=16, train=TrainConfig(steps=120, lr=5e-3)
    )
    return TransactionEncoder(recipe).fit(told, note=lambda line: None)


def masks_of(log: Transactions, masks: Masks):
    codec = EventCodec.fit(log)
    batch = SequenceBatches(codec.encode(log).ragged, 8, 0, max_length=40).batch(0, 0)
    return batch, masks.bound(codec.fields)(batch, torch.Generator().manual_seed(0))


def test_missing_unknown_short_and_long_texts_stay_different():
    words = Words.fit(TEXTS, count=8, min_count=2)
    ids = words.encode([None, "¤¤¤", "bakery", "bakery miller 1 ghent " * 3, ""])
    assert ids.shape == (5, 8) and (ids[0] == MISSING).all()
    assert ids[1, :2].tolist() == [UNKNOWN, END] and (ids[1, 2:] == MISSING).all()
    assert ids[2, 0] > END and ids[2, 1] == END
    assert (ids[3] > END).all()  # cut: no end is seen
    assert ids[4].tolist() == [END, *[MISSING] * 7]
    assert ids.max() < words.size


def test_case_and_the_digits_of_a_number_make_no_difference():
    words = Words.fit(TEXTS, min_count=2)
    one, two, other = words.encode(["BAKERY Miller 0123 Ghent", "bakery miller ９ ghent", "cinema miller 1 ghent"])
    assert np.array_equal(one, two) and not np.array_equal(one, other)
    assert "0123" not in json.dumps(words.json())


def test_rare_words_are_no_words_of_the_vocabulary():
    vocabulary = Words.fit([*TEXTS, "Mrs Featherstonehaugh"], min_count=5).tokenizer["model"]["vocab"]
    assert "bakery" in vocabulary and not any(len(word) > 3 and word in "featherstonehaugh" for word in vocabulary)


def test_words_are_the_same_each_time_and_after_saving():
    one, two = (Words.fit(TEXTS, min_count=2) for _ in range(2))
    assert one == two
    back = Words.from_json(json.loads(json.dumps(one.json())))
    assert back.size == one.size and np.array_equal(back.encode(TEXTS), one.encode(TEXTS))
    assert np.array_equal(one.encode(TEXTS)[2:3], one.encode(TEXTS[2:3]))  # each by itself


def test_damaged_words_are_one_line():
    good = Words.fit(TEXTS).json()
    for bad in ({**good, "tokenizer": {"version": "1.0"}}, {**good, "count": 0}):
        with pytest.raises(UserError, match="subwords cannot be read"):
            Words.from_json(bad)


def test_words_share_one_table_and_have_a_head_each():
    stem = FieldStem(tuple(Field(f"word{i}", "categorical", 20, table="words") for i in range(3)), 8)
    assert list(stem.embeddings) == ["words"] and sorted(stem.heads()) == ["word0", "word1", "word2"]
    batch = {f"word{i}": torch.tensor([[4 + i]]) for i in range(3)}
    mixed = {"word0": batch["word2"], "word1": batch["word0"], "word2": batch["word1"]}
    assert torch.allclose(stem(batch).x, stem(mixed).x)  # a sum of words


def test_a_description_is_hidden_whole_and_single_words_where_there_is_one(told):
    batch, made = masks_of(told, Masks(words=0.0))
    masks = [made.mask[f"word{i}"] for i in range(8)]
    assert masks[0].any() and all(torch.equal(masks[0], mask) for mask in masks)
    _, more = masks_of(told, Masks(words=0.3, events=0.0))
    for i in range(8):
        value, alone = batch[f"word{i}"], more.mask[f"word{i}"] & ~made.mask[f"word{i}"]
        assert not (alone & ((value == MISSING) | batch["pad"])).any()
        assert (more.target[f"word{i}"][value == MISSING] == -100).all()
    assert (more.mask["word0"] & ~more.mask["word1"] & (batch["word1"] != MISSING)).any()


def test_logs_without_a_text_are_hidden_as_before(log):
    assert all(
        torch.equal(a, b)
        for a, b in zip(*(masks_of(log, Masks(words=w))[1].mask.values() for w in (0.0, 0.5)), strict=True)
    )


def test_a_generated_description_tells_the_town_and_changes_nothing_else(told):
    plain, described = (generate(World(cards=30, days=10, descriptions=d)) for d in (False, True))
    assert plain.equals(described.drop(columns="description"))
    assert 0.02 < described["description"].isna().mean() < 0.1
    town = told.frame["text"].dropna().str.split().str[-1]
    assert set(town) <= set(TOWNS) and town.nunique() > 5
    card = told.card[told.frame["text"].notna().to_numpy()]
    share = [Counter(town[card == c]).most_common(1)[0][1] / (card == c).sum() for c in np.unique(card)]
    assert np.mean(share) > 2 * town.value_counts(normalize=True).max()  # a card pays near its home


def test_an_unheard_of_description_becomes_a_reason(told, encoder):
    late = np.flatnonzero(
        (told.day >= default_split(told).test) & told.frame["text"].notna().to_numpy() & (told.label == 0)
    )
    chosen = np.zeros(len(told), bool)
    chosen[late[np.unique(told.card[late], return_index=True)[1]][:30]] = True
    odd = replace(told, frame=told.frame.assign(text=told.frame["text"].mask(chosen, "XX WIRE 1 XX WIRE 2")))
    scorer = FraudScorer(encoder)
    honest, moved = (explain(scorer, data, chosen).set_index(["row", "field"])["surprise"] for data in (told, odd))
    assert (moved.xs("description", level=1) > honest.xs("description", level=1)).mean() > 0.9
    first = [found.groupby("row").idxmax().str[1].eq("description").mean() for found in (honest, moved)]
    assert first[1] > 0.75 > first[0] + 0.3, first
    reasons = scorer.reasons(odd, chosen)
    assert set(reasons) == {"amount", "gap", "hour", "weekday", "terminal", "channel", "description"}


def test_a_text_is_as_odd_as_the_oddest_of_so_many_words():
    odder = torch.tensor([[0.01, 1.0, 1.0], [0.01, 0.5, 0.3], [0.01, 1.0, 1.0], [1.0, 1.0, 1.0]])
    known = torch.tensor([[True, True, True], [True, False, False], [False, False, False], [True, True, True]])
    expected = [1 - 0.99**3, 0.01, 1.0, 1.0]
    assert torch.allclose(_oddest(odder, known), _evidence(torch.tensor(expected)), atol=1e-4)


def test_reason_codes_say_texts_as_the_data_does(told, encoder):
    chosen = np.zeros(len(told), bool)
    chosen[-40:] = True
    found = explain(FraudScorer(encoder), told, chosen)
    assert (found.groupby("row")["field"].nunique() == 7).all() and (found["surprise"] >= 0).all()
    said = found[found["field"] == "description"]
    text = told.frame.set_index("row")["text"]
    for row in said.itertuples():
        assert row.seen == (text[row.row] if pd.notna(text[row.row]) else "missing")
        card = told.frame["entity"][told.frame["row"] == row.row].iloc[0]
        known = told.frame["text"][told.frame["entity"] == card]
        assert row.expected == "no text is known yet" or row.expected.rsplit(" (", 1)[0] in set(known)


def test_a_saved_run_reads_the_same_words(told, encoder, tmp_path: Path):
    loaded = TransactionEncoder.load(encoder.save(tmp_path / "run"))
    assert np.array_equal(loaded.transform(told), encoder.transform(told))
    changed = replace(told, frame=told.frame.assign(text="cinema rossi"))
    assert not np.allclose(loaded.transform(changed), encoder.transform(told), atol=1e-2)
    assert "description" in set(drift(loaded, told, default_split(told).test)["column"])
    with pytest.raises(UserError, match="column 'description' is missing"):
        loaded.transform(replace(told, frame=told.frame.drop(columns="text")))


def test_online_scores_of_described_payments_are_the_logs_own(told, encoder):
    scorer = FraudScorer(encoder)
    log = told.where(told.card < 5)
    online, whole = OnlineScorer(scorer), scorer.score_samples(log)
    reasons = scorer.reasons(log)
    for i, row in enumerate(log.frame.to_dict("records")[:150]):
        given = {**row, "card": row["entity"], "description": row["text"]}
        found = online.score(given, reasons=True)
        assert found.score == pytest.approx(whole[i], abs=1e-4)
        assert found.reasons["description"] == pytest.approx(reasons["description"][i], abs=1e-3)
    with pytest.raises(UserError, match="'description'"):
        online.score({name: value for name, value in given.items() if name != "description"})


def test_a_recipe_may_leave_the_text_out(told):
    assert (
        EventCodec.fit(told, words=0).fields
        == EventCodec.fit(replace(told, schema=replace(told.schema, text=""))).fields
    )
    assert FIRST < EventCodec.fit(told, vocabulary=100).columns["text"].size <= 103
