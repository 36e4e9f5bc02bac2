"""The recommender: equal seeds, saved and loaded, new sessions of every kind."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import torch

from core.codec import FIRST
from core.errors import UserError
from recsys import SessionRecommender
from recsys.data import from_frame
from recsys.offers import DROPPED, EMPTY, SHORT
from recsys.ranking import rank_all
from recsys.sequences import Sequences
from recsys.split import leave_one_out, without_last
from recsys.synthetic import World, generate

TABLE = generate(World(users=150, intents=3, stages=4, items=3), 0)
ITEMS = TABLE["item_id"].nunique()


@pytest.fixture(scope="module")
def model() -> SessionRecommender:
    return SessionRecommender(steps=60, changes=("train.lr=0.01", "batch_size=32")).fit(TABLE)


def session(*items: object, user: str = "new") -> pd.DataFrame:
    return pd.DataFrame({"user_id": [user] * len(items), "item_id": list(items), "timestamp": range(len(items))})


def test_equal_seeds_give_equal_models_and_other_seeds_others():
    def scores(seed: int) -> np.ndarray:
        found = SessionRecommender(steps=5, seed=seed).fit(TABLE)
        return found.scores(found.sequences(TABLE.head(40)))

    assert np.array_equal(scores(1), scores(1))
    assert not np.allclose(scores(1), scores(2))


def test_fitting_leaves_torchs_own_random_numbers_where_build_found_them(model):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    SessionRecommender.build(model.describe())
    assert torch.equal(torch.rand(3), expected)


def test_saved_and_loaded_it_recommends_the_same(model, tmp_path):
    model.save(tmp_path / "run")
    again = SessionRecommender.load(tmp_path / "run")
    pd.testing.assert_frame_equal(again.recommend(TABLE.head(200)), model.recommend(TABLE.head(200)))
    assert again.steps_spent() == 60


def test_a_run_folder_holds_no_user(model, tmp_path):
    table = TABLE.assign(user_id=TABLE["user_id"].map(lambda user: f"customer-{user}"))
    SessionRecommender(steps=2).fit(table).save(tmp_path / "run")
    for file in (tmp_path / "run").rglob("*"):
        if file.is_file():
            assert b"customer-" not in file.read_bytes()


def test_a_tampered_run_is_refused(model, tmp_path):
    model.save(tmp_path / "run")
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    config["catalogue"] = config["catalogue"][:-1]
    (tmp_path / "run" / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError):
        SessionRecommender.load(tmp_path / "run")


def test_recommendations_are_ranked_new_and_k(model):
    found = model.recommend(TABLE, k=4)
    assert (found.groupby("user")["rank"].apply(list).map(lambda ranks: ranks == [1, 2, 3, 4])).all()
    assert (found.groupby("user")["score"].diff().dropna() <= 0).all()
    past = set(zip(TABLE["user_id"].astype(str), TABLE["item_id"], strict=True))
    assert not past & set(zip(found["user"], found["item"], strict=True))
    assert model.recommend(TABLE.head(20), k=2, repeat=True)["note"].eq("").all()


def test_an_answer_is_typed_as_pandas_types_it(model):
    found = model.recommend(TABLE.head(20), k=2)
    pd.testing.assert_frame_equal(
        found, pd.DataFrame({name: found[name].tolist() for name in found}).astype({"score": "float32"})
    )


def test_the_batch_a_session_stands_in_does_not_matter(model):
    together = model.recommend(TABLE, k=3)
    user = TABLE["user_id"].iloc[0]
    alone = model.recommend(TABLE[TABLE["user_id"] == user], k=3)
    same = together[together["user"] == str(user)].reset_index(drop=True)
    assert list(same["item"]) == list(alone["item"])
    assert np.allclose(same["score"], alone["score"], atol=1e-5)


def test_unseen_items_are_dropped_and_said(model):
    known = TABLE["item_id"].iloc[:2].tolist()
    found = model.recommend(session(known[0], "never-seen", known[1]), k=3)
    assert (found["note"] == DROPPED).all()
    assert found["item"].tolist() == model.recommend(session(*known), k=3)["item"].tolist()


@pytest.mark.parametrize(
    "more", [{}, {"repeat": True}, {"k": 10_000}, {"without": list(TABLE["item_id"].unique()[:9])}, {"only": ["never seen", TABLE["item_id"].iloc[0]]}]
)  # fmt: skip
@pytest.mark.parametrize("extra", [[], ["never seen"], [None, 7]])
def test_one_session_without_tables_is_offered_what_its_table_is(model, extra, more):
    items = [*TABLE["item_id"].iloc[:4], *extra]
    asked = {"k": 5, **more}
    table, offer = model.recommend(session(*items), **asked), model.recommend_session(items, **asked)
    assert offer.items == table["item"].tolist()
    assert offer.scores == pytest.approx(table["score"].tolist(), abs=1e-6)
    assert table["note"].tolist() == [offer.note] * len(table)


def test_one_session_of_nothing_known_gets_popularity(model):
    offer = model.recommend_session([], k=3)
    assert (offer.items, offer.note) == (model.recommend(session("never seen"), k=3)["item"].tolist(), EMPTY)


def test_one_text_is_no_session(model):
    with pytest.raises(UserError, match="give a list of items"):
        model.recommend_session("item-1")


@pytest.mark.parametrize("items", [["never-seen"], [None], ["a", None, "b"]])
def test_a_history_without_any_known_item_gets_popularity_and_says_so(model, items):
    found = model.recommend(session(*items), k=3)
    assert (found["note"] == EMPTY).all()
    assert (
        found["item"].tolist()
        == TABLE["item_id"].value_counts().sort_index().sort_values(ascending=False, kind="stable").index[:3].tolist()
    )


def test_more_than_the_catalogue_gives_all_there_is_and_says_so(model):
    found = model.recommend(session(TABLE["item_id"].iloc[0]), k=10_000)
    assert len(found) == ITEMS - 1
    assert (found["note"] == SHORT).all()


def test_k_below_one_is_refused(model):
    with pytest.raises(UserError, match="k is 0"):
        model.recommend(session("x"), k=0)


def test_vectors_are_rows_by_user_and_missing_where_nothing_is_known(model):
    table = pd.concat([TABLE[TABLE["user_id"] <= 3], session("never-seen")])
    found = model.transform(table)
    assert found.shape == (4, 128)
    assert found.loc["new"].isna().all()
    assert np.isfinite(found.drop(index="new").to_numpy()).all()


def test_a_history_longer_than_the_model_reads_is_cut_to_its_latest(model):
    short = SessionRecommender(steps=2, changes=("model.length=4",)).fit(TABLE)
    items = TABLE["item_id"].unique()[:7]
    long, cut = short.transform(session(*items)), short.transform(session(*items[-4:]))
    assert np.allclose(long, cut, atol=1e-6)


def test_windows_at_random_places_teach_what_stands_before_the_latest_events():
    """Histories start with a walk around a ring of ten items and end in noise as long as the model reads."""
    random = np.random.default_rng(0)
    rows = [
        (user, item, place)
        for user in range(64)
        for place, item in enumerate([*((user + np.arange(8)) % 10), *random.integers(10, 20, 5)])
    ]
    log = pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"])

    def told(crop: str) -> int:
        changes = ("model.length=4", "train.lr=0.01", "batch_size=32", f"crop={crop}")
        found = SessionRecommender(steps=60, changes=changes).fit(log)
        asked = pd.concat([session(i, (i + 1) % 10, user=f"u{i}") for i in range(10)])
        first = found.recommend(asked, k=1)
        return sum(str((i + 2) % 10) == str(item) for i, item in enumerate(first["item"]))

    assert told("random") >= 8
    assert told("last") <= 4


def test_training_never_sees_what_is_held_out():
    """Other last events must give the same weights: nothing of them reaches training."""
    sequences = from_frame(TABLE).sequences
    other = Sequences(sequences.keys, sequences.items.copy(), sequences.offsets, sequences.catalogue)
    ends = other.offsets[1:][other.lengths >= 3]
    generator = np.random.default_rng(0)
    for back in (1, 2):
        other.items[ends - back] = generator.permutation(other.items[ends - back])
    fits = [
        SessionRecommender(steps=4, hold_out=2).fit_sequences(given).encoder_.state_dict()
        for given in (sequences, other)
    ]
    assert not np.array_equal(sequences.items, other.items)
    assert all(torch.equal(fits[0][name], fits[1][name]) for name in fits[0])


def test_hold_out_takes_two_or_none():
    sequences = from_frame(TABLE).sequences
    assert len(without_last(sequences, 2).items) == len(leave_one_out(sequences).train.items)
    with pytest.raises(UserError, match="hold-out"):
        without_last(sequences, 1)


def test_bert4rec_learns_too():
    sequences = from_frame(TABLE).sequences
    split = leave_one_out(sequences)
    found = SessionRecommender(
        "bert4rec", steps=120, hold_out=2, changes=("train.lr=0.01", "batch_size=64", "model.depth=1")
    ).fit_sequences(sequences)
    ours, untrained = (rank_all(m, split.test).per_user("ndcg@10") for m in (found, found.untrained()))
    assert ours.mean() > untrained.mean() + 0.1


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (session("x", "x", "x"), "one item only"),
        (session("x", "y"), "fewer than 2 sequences"),
        (pd.DataFrame({"user_id": [], "item_id": [], "timestamp": []}), "no rows"),
        (pd.DataFrame({"a": [1]}), "no user column"),
    ],
)
def test_tables_that_teach_nothing_end_in_one_line(table, message):
    with pytest.raises(UserError, match=message):
        SessionRecommender(steps=2).fit(table)


def test_fewer_rows_than_a_batch_are_enough():
    table = pd.concat([session("x", "y", "z", user="a"), session("y", "z", "x", user="b")])
    found = SessionRecommender(steps=2).fit(table).recommend(session("x"), k=1)
    assert found["item"].item() in ("y", "z")


def test_unknown_methods_and_settings_end_in_one_line():
    with pytest.raises(UserError, match="no method 'gru'"):
        SessionRecommender("gru", steps=1).fit(TABLE)
    with pytest.raises(UserError, match="unknown setting"):
        SessionRecommender(steps=1, changes=("model.width=3",)).fit(TABLE)
    with pytest.raises(UserError, match="both minutes and steps"):
        SessionRecommender(steps=1, minutes=1.0).fit(TABLE)
    with pytest.raises(UserError, match="not fitted"):
        SessionRecommender().recommend(TABLE)


def test_similar_items_are_those_of_the_nearest_vectors(model):
    items = model.catalogue_.decode([FIRST, FIRST + 5])
    found = model.similar(items, k=4)
    assert found["item"].tolist() == [items[0]] * 4 + [items[1]] * 4
    assert found["rank"].tolist() == [1, 2, 3, 4] * 2
    assert not (found["item"] == found["similar"]).any()
    vectors = model.item_vectors()
    cosine = vectors @ vectors[5] / np.linalg.norm(vectors, axis=1) / np.linalg.norm(vectors[5])
    best = np.argsort(-np.delete(cosine, 5))[0]
    assert found["similar"].iloc[4] == np.delete(model.catalogue_.decode(np.arange(len(vectors)) + FIRST), 5)[best]
    with pytest.raises(UserError, match="not in the run's catalogue, such as 'never'"):
        model.similar(["never"])


def test_filters_leave_only_what_is_allowed(model):
    allowed = list(model.catalogue_.values[:6])
    table = session(*model.catalogue_.values[6:9])
    found = model.recommend(table, k=4, only=allowed, without=allowed[:1])
    assert set(found["item"]) <= set(allowed[1:]) and len(found) == 4
    few = model.recommend(table, k=10, only=[*allowed[:2], "never seen"])
    assert set(few["item"]) == set(allowed[:2]) and (few["note"] == SHORT).all()
    everything = model.recommend(table, k=4)
    assert (
        model.recommend(table, k=4, without=everything["item"].iloc[:1])["item"].iloc[0] == everything["item"].iloc[1]
    )
    with pytest.raises(UserError, match="leave no item"):
        model.recommend(table, only=["never seen"])


def test_fine_tuning_goes_on_from_weights_and_refuses_others(model):
    sequences = model.sequences(TABLE)
    still = SessionRecommender(steps=1, changes=("train.lr=1e-9", "train.warmup=0")).fit_sequences(
        sequences, start=model
    )
    assert np.allclose(still.item_vectors(), model.item_vectors(), atol=1e-5)
    with pytest.raises(UserError, match="another shape"):
        SessionRecommender(steps=1, changes=("model.dim=32",)).fit_sequences(sequences, start=model)
    with pytest.raises(UserError, match="other items"):
        SessionRecommender(steps=1).fit_sequences(
            from_frame(TABLE[TABLE["item_id"] != "i000001"].head(99)).sequences, start=model
        )
