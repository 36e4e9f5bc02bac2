"""Item attributes: read and lined up, learned from, and good for items that training never saw."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from core.codec import FIRST, Categories
from core.errors import UserError
from recsys import SessionRecommender
from recsys.attributes import NONE, Attributes
from recsys.cold import cold_vectors, new_items
from recsys.data import from_frame
from recsys.synthetic import World, generate

TABLE = generate(World(users=150, intents=3, stages=4, items=3), 0)
ITEMS = sorted(TABLE["item_id"].unique())
CATALOGUE = Categories(("a", "b", "c"))
LISTS = pd.DataFrame({"item_id": ["c", "a", "new", "d"], "attributes": [["x", "y"], ["x"], ["y", "x", "y"], []]})
PLANTED = pd.DataFrame(
    {"item_id": ITEMS, "attributes": [[f"kind{i % 3}", f"place{i // 3}"] for i in range(len(ITEMS))]}
)


def test_lists_and_one_pair_a_row_read_the_same():
    pairs = LISTS.explode("attributes").rename(columns={"attributes": "attribute", "item_id": "item"})
    for frame in (LISTS, pairs):
        found = Attributes.of(frame, CATALOGUE)
        assert found.names.values == ("x", "y") and len(found) == 2 and found.ignored == 1
        assert found.table[FIRST:].tolist() == [[0, NONE], [NONE, NONE], [0, 1]]
        assert not found.known[:FIRST].any() and found.matrix().toarray()[FIRST:].tolist() == [[1, 0], [0, 0], [1, 1]]
        assert found.lists(CATALOGUE) == {"a": ["x"], "c": ["x", "y"]}


def test_ids_that_are_numbers_read_like_those_of_the_data():
    frame = pd.DataFrame({"item_id": [1, 2], "attributes": [[7], [7, 8]]})
    assert Attributes.of(frame, Categories(("2", "1"))).table[FIRST:].tolist() == [[0, 1], [0, NONE]]


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (pd.DataFrame({"thing": ["a"], "attributes": [["x"]]}), "no item column"),
        (pd.DataFrame({"item_id": ["a"], "colour": ["x"]}), "no attributes column"),
        (pd.DataFrame({"item_id": ["z"], "attributes": [["x"]]}), "no item of the data has an attribute"),
        (pd.DataFrame({"item_id": ["a"], "attributes": [None]}), "no item of the data has an attribute"),
        (pd.DataFrame({"item_id": [], "attributes": []}), "no item of the data has an attribute"),
    ],
)
def test_tables_that_say_nothing_end_in_one_line(frame, message):
    with pytest.raises(UserError, match=message):
        Attributes.of(frame, CATALOGUE)


def test_an_item_of_very_many_attributes_keeps_the_commonest():
    many = pd.DataFrame({"item_id": ["a", "b"], "attributes": [[f"t{i}" for i in range(500)], ["t499"]]})
    found = Attributes.of(many, CATALOGUE)
    assert found.table.shape == (FIRST + 3, 64) and found.names.values[0] == "t499" and found.table[FIRST, 0] == 0


def test_new_items_are_those_that_share_an_attribute():
    frame = pd.DataFrame({"item_id": ["a", "n1", "n2", "n1"], "attribute": ["x", "x", "unheard", "y"]})
    assert new_items(frame, CATALOGUE) == ("n1",)
    with pytest.raises(UserError, match="no new item shares"):
        new_items(frame[frame["item_id"] == "n2"], CATALOGUE)


def test_a_cold_vector_is_what_its_attributes_add_up_to():
    draw = np.random.default_rng(0)
    parts = draw.normal(size=(5, 6)).astype(np.float32)
    rows = [(i % 5, (i * i + 1) % 5) for i in range(40)]
    items = [f"i{i}" for i in range(40)]
    frame = pd.DataFrame({"item_id": items, "attributes": [[f"p{a}", f"p{b}"] for a, b in rows]})
    known = Attributes.of(frame, Categories(tuple(items)))
    vectors = np.concatenate([np.zeros((3, 6)), [sum(parts[p] for p in {a, b}) for a, b in rows]]).astype(np.float32)
    trained = np.arange(FIRST + 40) >= FIRST + 8  # of the first eight nothing is known but their attributes
    found = cold_vectors(known, vectors, trained, np.arange(FIRST, FIRST + 8), 1e-4)
    np.testing.assert_allclose(found, vectors[FIRST : FIRST + 8], atol=2e-2)


@pytest.fixture(scope="module")
def model() -> SessionRecommender:
    changes = ("train.lr=0.01", "batch_size=32", "auxiliary.attributes.weight=0.3")
    return SessionRecommender("next+attributes", steps=60, changes=changes, attributes=PLANTED).fit(TABLE)


def test_a_method_that_needs_attributes_says_so():
    with pytest.raises(UserError, match="needs the items' attributes"):
        SessionRecommender("next+attributes", steps=1).fit(TABLE)


def test_attributes_of_items_that_the_data_do_not_hold_are_said_and_left_out():
    notes: list[str] = []
    more = pd.concat([PLANTED, pd.DataFrame({"item_id": ["elsewhere"], "attributes": [["kind1"]]})])
    found = SessionRecommender("next+attributes", steps=1, attributes=more)
    found.fit_sequences(from_frame(TABLE).sequences, note=notes.append)
    assert (
        "attributes of 1 item not in the data are left out" in notes
        and "elsewhere" not in found.describe()["attributes"]
    )


def test_a_saved_run_keeps_the_attributes(model, tmp_path):
    model.save(tmp_path / "run")
    again = SessionRecommender.load(tmp_path / "run")
    pd.testing.assert_frame_equal(again.recommend(TABLE.head(50)), model.recommend(TABLE.head(50)))
    kept = again.describe()["attributes"]
    assert {item: set(found) for item, found in kept.items()} == {
        item: set(found) for item, found in zip(PLANTED["item_id"], PLANTED["attributes"], strict=True)
    }


def test_items_that_training_never_saw_are_recommended_and_read(model):
    item = TABLE["item_id"].mode()[0]
    twin = pd.DataFrame({"item_id": ["brand-new"], "attributes": [PLANTED.set_index("item_id")["attributes"][item]]})
    wider = model.add_items(twin)
    assert wider.catalogue_.values[:-1] == model.catalogue_.values and wider.catalogue_.values[-1] == "brand-new"
    found = wider.recommend(TABLE, k=len(ITEMS))
    ranks = found.groupby("item")["rank"].mean()
    assert ranks["brand-new"] < ranks.median() * 1.5  # alike a popular item, it is not last
    new = pd.DataFrame({"user_id": ["u"], "item_id": ["brand-new"], "timestamp": [1]})
    assert (wider.recommend(new, k=3)["note"] == "").all()
    known = len(model.catalogue_.values)
    before, after = model.scores(model.sequences(TABLE.head(9))), wider.scores(wider.sequences(TABLE.head(9)))
    np.testing.assert_allclose(
        np.diff(after[:, :known]), np.diff(before), atol=1e-4
    )  # known items keep their odds among themselves


def test_new_vectors_are_as_long_as_trained_ones(model):
    new = pd.DataFrame({"item_id": [f"new{i}" for i in range(9)], "attributes": [[f"kind{i % 3}"] for i in range(9)]})
    table = model.add_items(new).encoder_.stem.embedding.weight.detach().norm(dim=1)
    known = model.catalogue_.size
    assert table[known:].mean().item() == pytest.approx(table[FIRST:known].mean().item(), rel=1e-4)


def test_a_recommender_with_new_items_is_saved_and_read_back(model, tmp_path):
    wider = model.add_items(pd.DataFrame({"item_id": ["brand-new"], "attributes": [["kind1", "place2"]]}))
    wider.save(tmp_path / "run")
    again = SessionRecommender.load(tmp_path / "run")
    pd.testing.assert_frame_equal(again.recommend(TABLE.head(50)), wider.recommend(TABLE.head(50)))


def test_any_recommender_takes_new_items_given_known_ones_too():
    plain = SessionRecommender(steps=2).fit(TABLE)
    wider = plain.add_items(pd.concat([PLANTED, pd.DataFrame({"item_id": ["brand-new"], "attributes": [["kind1"]]})]))
    assert wider.catalogue_.size == plain.catalogue_.size + 1
    with pytest.raises(UserError, match="no new item shares"):
        plain.add_items(pd.DataFrame({"item_id": ["brand-new"], "attributes": [["kind1"]]}))
