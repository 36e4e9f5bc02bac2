"""The benchmark: what was said is kept and read back, gains are paired, thresholds hold what they promise."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from core.errors import UserError
from core.statistics import Estimate
from healthcare import benchmark, pneumonia_bench
from healthcare.benchmark import bench
from healthcare.estimators import ImageEncoder
from healthcare.evaluation import EvaluationConfig
from healthcare.pneumonia_bench import Bed, over_seeds, said
from healthcare.pneumonia_uses import at_sensitivity, neighbours_alike, specificity_at
from healthcare.supervised import SupervisedConfig

BRIEF = SupervisedConfig(rates=(1e-3,), epochs=1, least_steps=3, most_steps=3)
CONFIG = EvaluationConfig(fractions=(0.2, 1.0), draws=2, headline=0.2, supervised=BRIEF, resamples=20)


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few steps, few draws, two fractions."""
    monkeypatch.setattr(benchmark, "STEPS", 4)
    monkeypatch.setattr(benchmark, "Bed", lambda *given: replace(Bed(*given), config=CONFIG))
    tests = {"pneumonia-20": pneumonia_bench.labelled, "pneumonia-tuned": pneumonia_bench.tuned}
    kept = {
        name: test for name, test in benchmark.PNEUMONIA.items() if name not in ("pneumonia-1", "pneumonia-10", "pneumonia-100")
    }  # fmt: skip
    kept["pneumonia-20"] = lambda bed, seed: tests["pneumonia-20"](0.2, bed, seed)  # type: ignore[operator]
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
        "raw pixels", "random init", "scratch",
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
    for floor in ("raw pixels", "random init", "scratch"):
        one = rows[bed.place(0.2), f"{ours}, minus {floor}"]
        assert one["value"] == pytest.approx(figures[ours] - figures[floor], abs=1e-9)
        assert ("does not lie above 0" in one["note"]) == (one["low"] <= 0)
    best = rows[bed.place(0.2), f"{ours}, minus the best floor"]
    assert best["value"] == pytest.approx(figures[ours] - max(v for m, v in figures.items() if m != ours), abs=1e-9)
    assert best["goal"] == 0 and best["metric"].startswith("gain ")


def test_what_was_said_of_other_steps_is_not_read_back(cohort: Path, tmp_path: Path) -> None:
    bed = Bed(tmp_path, steps=3, seeds=1, data=str(cohort), config=CONFIG)
    first = said(bed, 0, 0.2, ("pretrained",)).test["pretrained"][0.2]
    same = said(bed, 0, 0.2, ("pretrained",)).test["pretrained"][0.2]
    other = said(replace(bed, steps=6), 0, 0.2, ("pretrained",)).test["pretrained"][0.2]
    assert len(first) == 2 and all(np.array_equal(a, b) for a, b in zip(first, same, strict=True))
    assert not np.allclose(first[0], other[0])


def test_an_interval_over_seeds_is_wider_than_that_of_equal_seeds() -> None:
    equal = over_seeds([Estimate(0.02, 0.01, 0.03)] * 3)
    apart = over_seeds([Estimate(v, v - 0.01, v + 0.01) for v in (-0.02, 0.02, 0.06)])
    assert equal.low == pytest.approx(0.01, abs=1e-3) and apart.value == pytest.approx(0.02) and apart.low < 0


def test_a_threshold_calls_the_share_of_positives_that_it_was_chosen_for(random: np.random.Generator) -> None:
    target = np.arange(200) % 2
    score = random.uniform(size=200) + 0.3 * target
    table = np.stack([1 - score, score], 1)
    point = at_sensitivity(target, table, 0.95)
    assert point.sensitivity(target, table) == pytest.approx(0.95)
    from sklearn.metrics import roc_curve

    false, true, _ = roc_curve(target, score, drop_intermediate=False)
    assert specificity_at(target, table, 0.95) == pytest.approx(1 - false[true >= 0.95].min())
    with pytest.raises(ValueError, match="no positive"):
        at_sensitivity(np.zeros(3), table[:3])


def test_neighbours_of_the_same_class_are_counted(random: np.random.Generator) -> None:
    label = np.arange(60) % 2
    apart = random.normal(size=(60, 8)) + 20 * label[:, None]
    assert neighbours_alike(apart[:40], label[:40], apart[40:], label[40:]).tolist() == [1.0] * 20
    noise = neighbours_alike(random.normal(size=(40, 8)), label[:40], random.normal(size=(20, 8)), label[40:])
    assert 0.2 < noise.mean() < 0.8


@pytest.mark.parametrize(
    "given", [("none-such", None, 1, None), (None, 0.0, 1, None), (None, None, 0, None), (None, None, 1, 0)]
)
def test_what_cannot_be_run_is_one_clear_error(given: tuple, tmp_path: Path) -> None:
    only, minutes, seeds, steps = given
    with pytest.raises(UserError):
        bench(only, minutes, tmp_path, seeds, None, steps=steps)
