"""Session sets: prefixes, the sessions that examples were cut from, and one clear line for what cannot be read."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.codec import FIRST, UNKNOWN, Categories
from core.errors import UserError
from recsys.data import KNOWN, find
from recsys.known import SESSIONS
from recsys.sequences import Sequences
from recsys.sessions import groups, last_sessions, read_sessions
from recsys.split import prefixes

LISTS = st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=5), min_size=1, max_size=6)


def sequences(*lists: list[int], items: int = 9) -> Sequences:
    return Sequences.of(lists, Categories(tuple(map(str, range(items)))))


def as_lists(given: Sequences) -> list[list[int]]:
    return [list(given.items[a:b] - FIRST) for a, b in zip(given.offsets[:-1], given.offsets[1:], strict=True)]


def write(folder: Path, train: list, test: list, target: list) -> Path:
    pd.DataFrame({"session_id": np.arange(len(train)), "items": train}).to_parquet(folder / "train_sessions.parquet")
    pd.DataFrame({"prefix": test, "target": target}).to_parquet(folder / "test_examples.parquet")
    return folder


def test_training_and_test_share_one_catalogue_and_what_training_never_saw_is_unknown(tmp_path):
    found = read_sessions(write(tmp_path, [[7, 8, 7], [8, 9]], [[8, 5], [8]], [9, 5]))
    decode = found.train.catalogue.decode
    assert list(decode(found.train.items)) == ["7", "8", "7", "8", "9"]
    assert list(decode(found.test.history.items)) == ["8", "<unknown>", "8"]
    assert list(decode(found.test.target)) == ["9", "<unknown>"] and found.test.target[1] == UNKNOWN
    assert list(found.test.group) == [0, 0]  # (8, 5) -> 9, then (8) -> 5: one session


@given(LISTS)
@settings(max_examples=60, deadline=None)
def test_every_prefix_comes_with_what_followed(lists):
    asked = prefixes(sequences(*lists))
    wanted = [(one[:i], one[i], n) for n, one in enumerate(lists) for i in range(1, len(one))]
    assert list(zip(as_lists(asked.history), asked.target - FIRST, asked.group, strict=True)) == wanted


def test_examples_of_one_session_are_found_by_their_prefixes():
    history = sequences([1, 2, 3], [1, 2], [1], [5, 6], [4], [1, 2], [9], [1])
    target = np.array([4, 3, 2, 7, 6, 3, 2, 8]) + FIRST
    #  (5,6)->7 is followed by (4)->6, whose prefix differs; (1,2)->3 by (9)->2, likewise; the last one starts anew
    assert list(groups(history, target)) == [0, 0, 0, 1, 2, 3, 4, 5]


def test_validation_is_the_last_sessions_and_asks_for_no_item_that_only_they_hold():
    train = sequences(*[[0, 1, 2]] * 8, [0, 1, 5], [2, 0])
    earlier, asked = last_sessions(train, share=0.2)
    assert len(earlier) == 8
    assert list(zip(as_lists(asked.history), asked.target - FIRST, asked.group, strict=True)) == [
        ([0], 1, 0),
        ([2], 0, 1),
    ]


def test_what_is_no_session_set_is_one_clear_line(tmp_path):
    write(tmp_path, [[1, 2]], [[1]], [2])
    pd.DataFrame({"items": ["a b"]}).to_parquet(tmp_path / "train_sessions.parquet")
    with pytest.raises(UserError, match="items does not hold lists"):
        read_sessions(tmp_path)
    pd.DataFrame({"item": [[1]]}).to_parquet(tmp_path / "train_sessions.parquet")
    with pytest.raises(UserError, match="no column items"):
        read_sessions(tmp_path)
    (tmp_path / "train_sessions.parquet").unlink()
    with pytest.raises(UserError, match="file of the session set is missing"):
        read_sessions(tmp_path)


def test_a_known_set_that_was_changed_is_refused(tmp_path, monkeypatch):
    folder = tmp_path / SESSIONS["tmall"].folder
    folder.mkdir(parents=True)
    write(folder, [[1, 2]], [[1]], [2])
    monkeypatch.setenv("TACIT_DATA", str(tmp_path))
    for read in (read_sessions, find):
        with pytest.raises(UserError, match="differs from the published one"):
            read("tmall")


@pytest.mark.parametrize("name", KNOWN)
def test_the_known_sets_lie_where_the_table_says(name):
    root = Path(os.environ.get("TACIT_DATA", "/nowhere")) / KNOWN[name].folder
    if not root.exists():
        pytest.skip("the set is not here")
    assert find(name).suffix == ".parquet"


@pytest.mark.skipif(
    not (Path(os.environ.get("TACIT_DATA", "/nowhere")) / SESSIONS["retailrocket"].folder).exists(), reason="not here"
)
def test_a_published_set_has_its_published_counts():
    found = read_sessions("retailrocket")
    assert (len(found.train), len(found.train.items), found.train.n_items) == (126_168, 685_984, 36_968)
    assert len(found.test) == 15_132 and found.test.known.all()
    assert len(prefixes(found.train)) == 685_984 - 126_168
