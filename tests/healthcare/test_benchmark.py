"""The benchmark: what was said is kept and read back, gains are paired, thresholds hold what they promise."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from core.errors import UserError
from core.statistics import Estimate
from healthcare import benchmark, pneumonia_bench, reading_speed, volume_speed
from healthcare.benchmark import bench
from healthcare.estimators import ImageEncoder
from healthcare.guesses import EvaluationConfig
from healthcare.pneumonia_bench import Bed, over_seeds, said
from healthcare.supervised import SupervisedConfig

BRIEF = SupervisedConfig(rates=(1e-3,), epochs=1, least_steps=3, most_steps=3)
CONFIG = EvaluationConfig(fractions=(0.2, 1.0), draws=2, headline=0.2, supervised=BRIEF, resamples=20)
ONE = replace(CONFIG, fractions=(0.2,))
SHARES = [pneumonia_bench.TESTS[f"pneumonia-{share}"] for share in (1, 10, 100)]


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few steps, few draws, one fraction."""
    monkeypatch.setattr(benchmark, "STEPS", 4)
    monkeypatch.setattr(benchmark, "Bed", lambda *given: replace(Bed(*given), config=ONE))
    kept = {name: test for name, test in benchmark.PNEUMONIA.items() if test not in SHARES}
    kept = {"pneumonia-20": partial(pneumonia_bench.labelled, 0.2), **kept}
    monkeypatch.setattr(benchmark, "PNEUMONIA", kept)


def test_every_test_gives_rows_and_a_second_call_trains_nothing(
    cohort: Path, tmp_path: Path, brief: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert bench(None, None, tmp_path, 2, str(cohort)) == 0
    first = json.loads((tmp_path / "results.json").read_text())
    assert {r["test"] for r in first} == {"pneumonia-20", "pneumonia-tuned", "pneumonia-gain", "calibration", "similar"}
    ours = next(r for r in first if r["test"] == "pneumonia-20" and r["role"] == "ours" and r["metric"] == "auroc")
    assert ours["seeds"] == 2 and ours["low"] <= ours["value"] <= ours["high"]
    assert {r["method"] for r in first if r["test"] == "pneumonia-20" and r["role"] == "floor"} == {
        "raw pixels", "self training", "random init", "scratch",
    }  # fmt: skip
    monkeypatch.setattr(ImageEncoder, "fit", lambda *given, **more: pytest.fail("trained again"))
    assert bench(None, None, tmp_path, 2, str(cohort)) == 0
    assert json.loads((tmp_path / "results.json").read_text()) == first
    # the parts are gone, but not what the arms said
    for part in (tmp_path / "parts").glob("pneumonia-20*"):
        part.unlink()
    monkeypatch.setattr(pneumonia_bench, "guess", lambda *given: pytest.fail("asked again"))
    assert bench("pneumonia-20", None, tmp_path, 2, str(cohort)) == 0
    again = json.loads((tmp_path / "results.json").read_text())
    assert [r["value"] for r in again] == [r["value"] for r in first]


def test_the_gain_is_the_difference_of_the_figures_and_says_whether_it_is_above_zero(
    cohort: Path, tmp_path: Path
) -> None:
    bed = Bed(tmp_path, steps=4, seeds=1, data=str(cohort), config=CONFIG)
    figures = {r["method"]: r["value"] for r in pneumonia_bench.labelled(0.2, bed, 0) if r["metric"] == "auroc"}
    rows = {(r["data"], r["method"]): r for r in pneumonia_bench.gains(bed)}
    ours = pneumonia_bench.NAMES["pretrained"]
    for floor in ("raw pixels", "self training", "random init", "scratch"):
        one = rows[bed.place(0.2), f"{ours}, minus {floor}"]
        assert one["value"] == pytest.approx(figures[ours] - figures[floor], abs=1e-9)
        assert ("does not lie above 0" in one["note"]) == (one["low"] <= 0)
    best = rows[bed.place(0.2), f"{ours}, minus the best floor"]
    assert best["value"] == pytest.approx(figures[ours] - max(v for m, v in figures.items() if m != ours), abs=1e-9)
    assert best["goal"] == 0 and best["metric"].startswith("gain ")


def test_what_was_said_of_other_steps_is_not_read_back(cohort: Path, tmp_path: Path) -> None:
    bed = Bed(tmp_path, steps=3, seeds=1, data=str(cohort), config=ONE)
    first = said(bed, 0, 0.2, ("pretrained",)).test["pretrained"][0.2]
    same = said(bed, 0, 0.2, ("pretrained",)).test["pretrained"][0.2]
    other = said(replace(bed, steps=6), 0, 0.2, ("pretrained",)).test["pretrained"][0.2]
    assert len(first) == 2 and all(np.array_equal(a, b) for a, b in zip(first, same, strict=True))
    assert not np.allclose(first[0], other[0])


def test_an_interval_over_seeds_is_wider_than_that_of_equal_seeds() -> None:
    equal = over_seeds([Estimate(0.02, 0.01, 0.03)] * 3)
    apart = over_seeds([Estimate(v, v - 0.01, v + 0.01) for v in (-0.02, 0.02, 0.06)])
    assert equal.low == pytest.approx(0.01, abs=1e-3) and apart.value == pytest.approx(0.02) and apart.low < 0


def test_the_speed_tests_make_the_folder_that_they_work_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple] = []
    for module in (reading_speed, volume_speed):
        monkeypatch.setattr(module, "measured", lambda *arguments: asked.append(arguments) or (1.0, 1.0))
    monkeypatch.setattr(volume_speed, "SIDE", 16)
    assert {r["metric"] for r in reading_speed.reading_speed(tmp_path / "a" / "runs", 10)} >= {"seconds", "peak GiB"}
    assert len(volume_speed.volume_speed(tmp_path / "b" / "runs", ("mae",))) == 2 and len(asked) == 2


@pytest.mark.parametrize(
    "given", [("none-such", None, 1, None), (None, 0.0, 1, None), (None, None, 0, None), (None, None, 1, 0)]
)
def test_what_cannot_be_run_is_one_clear_error(given: tuple, tmp_path: Path) -> None:
    only, minutes, seeds, steps = given
    with pytest.raises(UserError):
        bench(only, minutes, tmp_path, seeds, None, steps=steps)
