"""Settings found one at a time: on a hill the top, and nothing for noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from core.errors import UserError
from recsys.tuning import GRID, START, climb, session_worth


@dataclass(frozen=True)
class Point:
    x: float = 0.0
    y: float = 5.0


STEPS = {"x": (0.0, 1.0, 2.0, 3.0, 4.0), "y": (0.0, 1.0, 5.0)}


def test_the_top_of_a_hill_is_found_and_no_point_asked_twice():
    asked: list[Point] = []

    def worth(point: Point) -> float:
        asked.append(point)
        return -((point.x - 3) ** 2) - (point.y - point.x / 3) ** 2

    assert climb(Point(), STEPS, worth) == (Point(3.0, 1.0), 0.0)
    assert len(asked) == len(set(asked))


def test_a_gain_that_noise_explains_moves_nothing():
    assert climb(Point(), STEPS, lambda point: 1e-4 * point.x)[0] == Point()


def test_a_start_off_its_grid_is_one_clear_line():
    with pytest.raises(UserError, match=r"x starts at 0\.5, off its grid"):
        climb(Point(0.5), STEPS, lambda point: 0.0)


def test_the_neighbours_start_on_their_grid_and_grids_rise():
    for name, values in GRID.items():
        assert getattr(START, name) in values and list(values) == sorted(values)


def test_the_worth_of_ranks_is_written_out():
    assert session_worth(np.array([0.0, 3.0, 20.0, 19.5])) == pytest.approx(3 / 4 + 2 * (1 + 1 / 4 + 1 / 20.5) / 4)
