"""The evaluation: floors beside it, few labels that stay few, intervals that hold their figure, and no flattery."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from core.errors import UserError
from core.evaluation import Evaluation
from core.report import svg
from healthcare import EvaluationConfig, ImageEncoder, Images, evaluate
from healthcare.audit import MEANING, Audit
from healthcare.baselines import raw_pixels
from healthcare.curves import Drawn, precision_section, roc_section
from healthcare.encoders import EncoderConfig
from healthcare.evaluation import Guesses, gain, interval, on_rows
from healthcare.findings import fewer
from healthcare.gallery import pictures
from healthcare.guesses import affordable
from healthcare.metrics import SENSITIVITY, auroc
from healthcare.presets import simclr
from healthcare.sections import leak_section
from healthcare.supervised import SupervisedConfig

QUICK = EvaluationConfig(
    fractions=(0.1, 1.0),
    draws=2,
    resamples=30,
    gallery=4,
    supervised=SupervisedConfig(rates=(1e-3,), least_steps=12, most_steps=12),
)


def quiet(line: str) -> None:
    """Progress goes nowhere."""


@pytest.fixture(scope="module")
def encoder(images: Images) -> ImageEncoder:
    recipe = replace(simclr(steps=8), batch=32, encoder=EncoderConfig(width=8))
    return ImageEncoder(recipe).fit(images, note=quiet)


@pytest.fixture(scope="module")
def evaluation(images: Images, encoder: ImageEncoder) -> Evaluation:
    return evaluate(encoder, images, QUICK, quiet)


def test_floors_stand_beside_ours_with_the_same_metrics(evaluation: Evaluation) -> None:
    assert set(evaluation.floors) == {"raw_pixels", "self_training", "random_init", "scratch"}
    for metrics in (evaluation.metrics, *evaluation.floors.values()):
        assert {"auroc", "average_precision", "accuracy", "ece", SENSITIVITY} <= set(metrics)
        assert all(
            e.low - 1e-9 <= e.value <= e.high + 1e-9
            for name, e in metrics.items()
            if name not in ("ece", "calibration_slope")
        )
    assert set(evaluation.answers) == {"pretraining", "best_tool", "labels_saved"}


def test_every_arm_has_every_point_of_the_curve(evaluation: Evaluation) -> None:
    points = {(row["arm"], row["fraction"]) for row in evaluation.label_curve}
    assert points == {
        (arm, f) for arm in ("pretrained", "raw_pixels", "self_training", "random_init", "scratch") for f in (0.1, 1.0)
    }
    assert all(0 <= row["value"] <= 1 for row in evaluation.label_curve)


def test_the_report_is_written_and_names_no_image_and_no_path(
    images: Images, evaluation: Evaluation, tmp_path: Path
) -> None:
    bad = replace(images, where=np.array([f"JohnDoe{i}" for i in range(len(images))], dtype=object))
    assert bad.where[0] == "JohnDoe0"
    page = evaluation.write(tmp_path).read_text()
    text = (tmp_path / "evaluation.json").read_text() + page
    assert "JohnDoe" not in text and str(tmp_path) not in text and "train row" not in text
    assert json.loads((tmp_path / "evaluation.json").read_text())["main"] == "auroc"


def test_every_count_of_the_audit_is_in_the_report_and_what_was_found_says_what_it_means(images: Images) -> None:
    found = leak_section(replace(images, audit=Audit(near_copies_across_splits=3)))
    rows = {name: (number, words) for name, number, words in found.rows}
    assert {name.replace(" ", "_") for name in rows} == {one.name for one in fields(Audit)} == set(MEANING)
    assert rows["near copies across splits"] == (3, MEANING["near_copies_across_splits"])
    assert rows["surplus copies"] == (0, "")


def test_equal_seeds_give_equal_figures(images: Images, encoder: ImageEncoder) -> None:
    config = replace(QUICK, fractions=(0.1,), draws=1, gallery=0)
    first, again = (evaluate(encoder, images, config, quiet).json() for _ in range(2))
    assert all(first[part] == again[part] for part in ("label_curve", "metrics", "floors"))


def test_test_labels_change_no_prediction(images: Images, encoder: ImageEncoder) -> None:
    """Labels of test images must only ever be compared with."""
    from healthcare.evaluation import guess

    config = replace(QUICK, fractions=(0.1,), draws=1)
    turned = images.label.copy()
    turned[images.rows("test")] = 1 - turned[images.rows("test")]
    honest, other = guess(encoder, images, config, quiet), guess(encoder, replace(images, label=turned), config, quiet)
    for arm in config.arms:
        np.testing.assert_array_equal(honest.test[arm][0.1][0], other.test[arm][0.1][0])
        assert honest.points[arm] == other.points[arm]


@pytest.mark.parametrize("most", [2, 3, 7, 20, 500])
def test_validation_labels_never_outnumber_training_labels(most: int, random: np.random.Generator) -> None:
    label = random.integers(0, 3, 60)
    rows = fewer(label, most, 0)
    assert len(rows) == len(set(rows.tolist())) <= min(most, 60)


def guesses(random: np.random.Generator, n: int = 400, shift: float = 0.5) -> tuple[Guesses, list[np.ndarray]]:
    label = random.integers(0, 2, n)
    scores = [1 / (1 + np.exp(-(shift * label + random.normal(size=n)))) for _ in range(3)]
    return Guesses(label, np.arange(n)), [np.stack([1 - s, s], 1) for s in scores]


def test_the_interval_holds_the_mean_and_widens_with_the_spread_of_draws(random: np.random.Generator) -> None:
    about, draws = guesses(random)
    same = interval(about, [on_rows(auroc, draws[0])] * 3, 200)
    assert same.low < same.value < same.high
    _, others = guesses(np.random.default_rng(1), shift=3.0)
    spread = interval(about, [on_rows(auroc, s) for s in (draws[0], draws[0], others[0])], 200)
    assert spread.high - spread.low > same.high - same.low


def test_patients_with_many_images_widen_the_interval(random: np.random.Generator) -> None:
    about, draws = guesses(random)
    label = np.repeat(about.label[:80], 5)
    score = np.repeat(draws[0][:80], 5, axis=0)
    apart = interval(Guesses(label, np.arange(400)), [on_rows(auroc, score)], 200)
    together = interval(Guesses(label, np.repeat(np.arange(80), 5)), [on_rows(auroc, score)], 200)
    assert together.high - together.low > 1.6 * (apart.high - apart.low)


def test_the_gain_over_itself_is_nothing_and_over_noise_is_something(random: np.random.Generator) -> None:
    about, draws = guesses(random, shift=2.0)
    nothing = gain(about, draws, draws, 100)
    assert nothing.value == nothing.low == nothing.high == 0
    noise = [np.full((400, 2), 0.5)] * 3
    assert gain(about, draws, noise, 100).low > 0.2


def test_scratch_never_sees_more_images_than_pretraining(images: Images, encoder: ImageEncoder) -> None:
    label = images.label[images.rows("train")]
    full = EvaluationConfig(fractions=(0.1, 1.0))
    short = affordable(encoder, label, full)
    assert short.steps(len(label)) < full.supervised.steps(len(label))
    encoder.views_, before = 10**9, encoder.views_
    assert affordable(encoder, label, full) == full.supervised
    encoder.views_ = before


def test_raw_pixels_are_the_pixels(images: Images) -> None:
    assert raw_pixels(images).shape == (len(images), 784)
    np.testing.assert_array_equal(raw_pixels(images)[3].reshape(28, 28), images.pixels[3, 0])


def test_one_class_no_labels_and_no_test_images_stop_with_one_line(images: Images, encoder: ImageEncoder) -> None:
    cases = {
        "one class": images.select(np.flatnonzero(images.label == 1)),
        "no labelled training image": replace(images, label=np.full(len(images), -1)),
        "no labelled test image": images.select(np.flatnonzero(images.split != "test")),
    }
    for words, broken in cases.items():
        with pytest.raises(UserError, match=words):
            evaluate(encoder, broken, QUICK, quiet)


def test_settings_that_make_no_sense_are_refused() -> None:
    for change in ({"headline": 0.5}, {"draws": 0}, {"arms": ("raw_pixels",)}, {"arms": ("pretrained", "magic")}):
        with pytest.raises(UserError):
            EvaluationConfig(**change)


def test_without_validation_images_cross_validated_ones_decide_and_a_network_has_no_threshold(
    images: Images, encoder: ImageEncoder
) -> None:
    found = evaluate(
        encoder, images.select(np.flatnonzero(images.split != "val")), replace(QUICK, fractions=(0.1,), draws=1), quiet
    )
    assert (
        SENSITIVITY in found.metrics
        and SENSITIVITY not in found.floors["scratch"]
        and "auroc" in found.floors["scratch"]
    )


def test_several_findings_are_evaluated_with_unknown_ones_left_out(
    images: Images, encoder: ImageEncoder, tmp_path: Path
) -> None:
    bright = images.pixels.mean((1, 2, 3)) > np.median(images.pixels.mean((1, 2, 3)))
    findings = np.stack([images.label, bright], 1).astype(np.int8)
    findings[::5, 1] = -1
    several = replace(images, label=np.full(len(images), -1), findings=findings, classes=("lesion", "bright"))
    config = replace(QUICK, fractions=(0.3,), headline=0.3, draws=1, resamples=10, gallery=2, prevalence=0.1)
    found = evaluate(encoder, several, config, quiet)
    assert found.metrics["auroc"].value > 0.6  # brightness is easy
    assert {"ppv@sensitivity=0.95,prevalence=0.1", "npv@sensitivity=0.95,prevalence=0.1"} <= set(found.metrics)
    table = next(section for section in found.sections if section.title == "Question by question")
    assert [row[0] for row in table.rows] == ["lesion", "bright"]
    assert set(found.floors) == {"raw_pixels", "self_training", "random_init", "scratch"}
    assert found.write(tmp_path).stat().st_size > 10_000


def test_the_report_shows_all_its_parts(evaluation: Evaluation) -> None:
    assert [section.title for section in evaluation.sections] == [
        "Intended use", "Cohort", "Leaks", "Sensitivity against specificity", "Precision against sensitivity", "Confusion",
        "Calibration", "Saying nothing when unsure", "Operating points", "Map of the features", "Where it looks", "Worst errors",
    ]  # fmt: skip
    assert "NOT for clinical use" in evaluation.sections[0].text


def test_names_of_classes_are_drawn_as_they_are_and_are_no_formulas(random: np.random.Generator) -> None:
    names = (r"$\frac{no$", "$x^2$", "plain", "_of_no_legend")
    score = random.dirichlet(np.ones(4), 60)
    label = random.integers(0, 4, 60)
    drawn = Drawn(names, label, np.arange(60), {"pretrained": [score]}, {}, 0.1, 10, None, names, several=False)
    for section in (roc_section(drawn), precision_section(drawn)):
        assert all(f">{name}</text>" in section.svg.replace("> _", ">_") for name in names)
    titles = svg(pictures(np.zeros((2, 1, 8, 8), np.float32), list(names[:2])))
    assert all(f">{name}</text>" in titles for name in names[:2])
