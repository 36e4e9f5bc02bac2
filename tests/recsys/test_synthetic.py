"""The generator: seeded, of any size, with the planted structure there."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from core.errors import UserError
from recsys.data import load
from recsys.synthetic import World, favourites, generate, write


def test_equal_seeds_give_equal_tables_and_other_seeds_others():
    world = World(users=50)
    pd.testing.assert_frame_equal(generate(world, 3), generate(world, 3))
    assert not generate(world, 3).equals(generate(world, 4))


def transitions(world: World) -> tuple[np.ndarray, np.ndarray]:
    """(items, items) how often each follows each, and the names in that order."""
    table = generate(world, 0).sort_values(["user_id", "timestamp"], kind="stable")
    codes, names = pd.factorize(table["item_id"])
    same = table["user_id"].to_numpy()[1:] == table["user_id"].to_numpy()[:-1]
    counts = np.zeros((len(names), len(names)))
    np.add.at(counts, (codes[:-1][same], codes[1:][same]), 1)
    return counts, names


def test_who_follows_whom_has_an_order_that_who_stands_with_whom_has_not():
    counts, _ = transitions(World(users=3000, intents=3, stages=6, items=3))
    forth, back = counts[counts > counts.T].sum(), counts.T[counts > counts.T].sum()
    assert forth > 5 * back


def test_each_item_has_a_favourite_successor():
    counts, _ = transitions(World(users=3000, intents=3, stages=6, items=3, follow=0.8))
    share = counts.max(1) / counts.sum(1)
    assert share.mean() > 0.6  # by chance one of the three items of the next stage: 0.3
    none, _ = transitions(World(users=3000, intents=3, stages=6, items=3, follow=0.0))
    assert (none.max(1) / none.sum(1)).mean() < 0.6


def test_favourites_stand_in_the_next_stage_of_the_same_intent():
    world = World(intents=4, stages=5, items=6, favourites=2)
    table, number = favourites(world, 0), np.arange(world.catalogue)[:, None]
    assert (table // 30 == number // 30).all()
    assert (table // 6 % 5 == (number // 6 % 5 + 1) % 5).all()


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
