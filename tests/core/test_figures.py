"""What benchmarks found comes into the record test by test, and nothing else of it changes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from core.bench import Row, row
from core.errors import UserError
from core.figures import aim, short_table, take
from core.statistics import Estimate


def write(path: Path, *rows: tuple[str, float]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([{"test": test, "value": value} for test, value in rows]), encoding="utf-8")
    return path


def test_a_test_that_was_run_again_replaces_what_was_known_of_it(tmp_path: Path) -> None:
    record = write(tmp_path / "docs" / "speech.json", ("fsdd", 0.7), ("old", 0.1), ("fsdd", 0.8))
    take(write(tmp_path / "bench" / "speech" / "results.json", ("fsdd", 0.9), ("new", 0.5)), record.parent)
    rows = [(r["test"], r["value"]) for r in json.loads(record.read_text(encoding="utf-8"))]
    assert rows == [("old", 0.1), ("fsdd", 0.9), ("new", 0.5)]


def test_what_is_no_domains_or_empty_is_refused_and_the_record_stays(tmp_path: Path) -> None:
    record = write(tmp_path / "docs" / "speech.json", ("fsdd", 0.7))
    before = record.read_bytes()
    with pytest.raises(UserError, match="no domain of that name"):
        take(write(tmp_path / "bench" / "spech" / "results.json", ("fsdd", 0.9)), record.parent)
    with pytest.raises(UserError, match="no rows"):
        take(write(tmp_path / "bench" / "speech" / "results.json"), record.parent)
    with pytest.raises(UserError, match="no results"):
        take(tmp_path / "nowhere" / "speech" / "results.json", record.parent)
    assert record.read_bytes() == before


def test_the_short_table_has_one_line_a_test_and_says_what_was_missed(tmp_path: Path) -> None:
    rows = [
        row("d", "ours", "ours", "auroc", 0.8, goal=0.9),
        row("d", "trees", "floor", "auroc", 0.7),
        row("d", "knn", "floor", "auroc", 0.6),
        row("d", "paper", "published", "auroc", 0.85),
        row("d", "ours", "ours", "accuracy", 0.5, goal=0.4),
    ]
    made = [{"test": "t", "seeds": 2, "minutes": 1, **r, "low": None, "high": None} for r in rows]
    (tmp_path / "x.json").write_text(json.dumps(made))
    lines = short_table(tmp_path).splitlines()[2:]
    assert len(lines) == 1
    assert "trees 0.7" in lines[0] and "paper 0.85" in lines[0] and "**≥ 0.9, missed**" in lines[0]


def test_a_goal_that_was_missed_is_never_left_out(tmp_path: Path) -> None:
    rows: list[Row] = [
        row("d", "ours", "ours", "auroc", 0.9, goal=0.8),
        row("d", "ours", "ours", "recall", 0.7, goal=0.6),
        row("d", "ours", "ours", "ece", 0.3, goal=0.1),
        row("d", "ours, tuned", "ours", "ece", 0.2, goal=0.1),
    ]
    made = [{"test": test, "seeds": 1, "minutes": 1, **r, "low": None, "high": None} for r in rows for test in "tu"]
    made[-1]["goal"] = 0.05  # the same figure, asked for more
    (tmp_path / "x.json").write_text(json.dumps(made))
    table = short_table(tmp_path)
    assert table.count("| auroc |") == 1 and "| recall |" not in table  # what two tests hold stands once
    assert "| ours | ece | 0.300 |" in table and "| ours, tuned | ece | 0.200 |" in table
    assert table.count("**≤ 0.1, missed**") == 2 and table.count("**≤ 0.05, missed**") == 1


@pytest.mark.parametrize(
    ("low", "goal"), [(0.001, "interval above 0"), (0.0, "**interval above 0, missed**"), (-0.1, "**interval above 0, missed**")]
)  # fmt: skip
def test_a_gain_that_is_to_be_above_0_is_so_with_its_whole_interval(low: float, goal: str) -> None:
    assert aim(row("d", "ours", "ours", "gain auroc", Estimate(0.1, low, 0.2), goal=0.0)) == goal


@pytest.mark.parametrize(
    ("metric", "value", "goal", "words"),
    [
        ("gain auroc", 0.0, 0.0, "≥ 0"), ("gain auroc", -0.1, 0.0, "**≥ 0, missed**"), ("auroc", 0.9, 0.9, "≥ 0.9"),
        ("seconds", 61.0, 60.0, "**≤ 60, missed**"), ("eer", 0.1, 0.2, "≤ 0.2"),
    ],
)  # fmt: skip
def test_other_goals_ask_for_the_figure_alone(metric: str, value: float, goal: float, words: str) -> None:
    assert aim({**row("d", "ours", "ours", metric, value, goal=goal), "low": None, "high": None}) == words


def test_the_best_floor_of_what_should_be_small_is_the_smallest(tmp_path: Path) -> None:
    rows: list[Row] = [
        row("d", "ours", "ours", "eer", 0.1, goal=0.2),
        row("d", "strong", "floor", "eer", 0.2),
        row("d", "weak", "floor", "eer", 0.4),
    ]
    made = [{"test": "t", "seeds": 1, "minutes": 1, **r, "low": None, "high": None} for r in rows]
    (tmp_path / "x.json").write_text(json.dumps(made))
    assert "| strong 0.2 |" in short_table(tmp_path)
