"""What is trained on, what is asked, and what may be the answer."""

from __future__ import annotations

import numpy as np
import pytest

from core.codec import FIRST, Categories
from core.errors import UserError
from recsys.sequences import Sequences
from recsys.split import later_sessions, leave_one_out, prefixes


def sequences(*lists: list[int], items: int = 9) -> Sequences:
    """Sequences of items 0, 1, …, of which those below `items` are known."""
    return Sequences.of(lists, Categories(tuple(map(str, range(items)))))


def as_lists(given: Sequences) -> list[list[int]]:
    return [list(part - FIRST) for part in np.split(given.items, given.offsets[1:-1])]


def test_the_last_item_is_the_test_and_the_one_before_the_validation():
    split = leave_one_out(sequences([0, 1, 2, 3, 4], [5, 6], [7, 8, 0]))
    assert as_lists(split.train) == [[0, 1, 2], [5, 6], [7]]
    assert as_lists(split.validation.history) == [[0, 1, 2], [7]]
    assert as_lists(split.test.history) == [[0, 1, 2, 3], [7, 8]]
    assert list(split.validation.target - FIRST) == [3, 8]
    assert list(split.test.target - FIRST) == [4, 0]
    assert list(split.test.history.keys) == ["0", "2"]
    assert not split.repeats


def test_too_few_long_sequences_end_in_one_line():
    with pytest.raises(UserError, match="1 sequences have 3 or more"):
        leave_one_out(sequences([0, 1, 2], [3, 4]))


def test_every_event_but_the_first_is_the_answer_to_those_before_it():
    asked = prefixes(sequences([0, 1, 2], [3], [4, 4]))
    assert as_lists(asked.history) == [[0], [0, 1], [4]]
    assert list(asked.target - FIRST) == [1, 2, 4]
    assert list(asked.group) == [0, 0, 2]


def test_later_sessions_allow_repeats_and_ask_only_what_the_catalogue_holds():
    train, test = sequences([0, 1], [1, 2], items=4), sequences([0, 0, 8, 1], [2, 3], items=4)
    split, lost = later_sessions(train, test, test).rankable()
    assert (lost, split.repeats, split.unit) == (1, True, "sessions")
    assert list(split.test.target - FIRST) == [0, 1, 3]
    with pytest.raises(UserError, match="the test sessions ask 1"):
        later_sessions(train, test, sequences([0, 1], [2], items=4))


def test_a_sample_leaves_unknown_answers_out_and_is_seeded():
    asked = prefixes(sequences(*[[i % 9, (i + 1) % 12] for i in range(60)]))
    one, again = asked.sample(20, 0), asked.sample(20, 0)
    assert len(one) == 20 and one.known.all()
    assert np.array_equal(one.target, again.target)
    assert np.array_equal(one.group, np.sort(one.group))
    assert len(asked.sample(1000, 0)) == int(asked.known.sum())
