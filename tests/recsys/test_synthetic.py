"""The generator: seeded, of any size, with the planted structure there."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from core.errors import UserError
from recsys.data import load
from recsys.synthetic import World, generate, successor_table, write


def test_equal_seeds_give_equal_tables_and_other_seeds_others():
    world = World(users=50)
    pd.testing.assert_frame_equal(generate(world, 3), generate(world, 3))
    assert not generate(world, 3).equals(generate(world, 4))


def test_a_few_successors_of_each_item_follow_it_most_often():
    world = World(users=3000, intents=3, items=10)
    table = generate(world, 0).sort_values(["user_id", "timestamp"], kind="stable")
    codes = pd.factorize(table["item_id"])[0]
    same = table["user_id"].to_numpy()[1:] == table["user_id"].to_numpy()[:-1]
    counts = np.zeros((30, 30))
    np.add.at(counts, (codes[:-1][same], codes[1:][same]), 1)
    share = np.sort(counts, axis=1)[:, -world.successors :].sum(1) / counts.sum(1)
    assert share.mean() > 0.7  # by chance: 2 of 9
    forth, back = counts[counts > counts.T].sum(), counts.T[counts > counts.T].sum()
    assert forth > 3 * back  # an order, not a likeness


def test_successors_stay_inside_their_intent_and_no_item_follows_itself():
    world = World(intents=4, items=6)
    table = successor_table(world, 0)
    assert (table // world.items == (np.arange(24) // world.items)[:, None]).all()
    assert (table != np.arange(24)[:, None]).all()


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_what_is_written_is_read_back_whole(tmp_path, form):
    world = World(users=40)
    write(tmp_path, world, 0, form)
    loaded = load(tmp_path)
    assert len(loaded.quarantine) == 0
    assert len(loaded.sequences) == 40
    assert loaded.rows == len(generate(world, 0))


def test_no_item_comes_twice_in_a_session():
    assert not generate(World(users=200), 1).duplicated(["user_id", "item_id"]).any()


def test_a_size_below_two_is_refused():
    with pytest.raises(UserError, match="at least 2"):
        World(users=1)
