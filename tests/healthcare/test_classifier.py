"""The classifier: saved whole, calibrated on what it did not learn from, honest about one finding or several."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError

from core.errors import UserError
from core.probes import linear_model
from healthcare import ImageClassifier, ImageEncoder, Images
from healthcare.clinical_card import clinical_card
from healthcare.encoders import EncoderConfig
from healthcare.linear import fit_linear, held_out, replicates
from healthcare.presets import simclr
from healthcare.supervised import SupervisedConfig
from healthcare.tables import predictions

TINY = replace(simclr(steps=6), batch=32, encoder=EncoderConfig(width=8))
QUICK = SupervisedConfig(rates=(1e-3,), least_steps=8, most_steps=8)


@pytest.fixture(scope="module")
def fitted(images: Images) -> ImageEncoder:
    return ImageEncoder(TINY).fit(images, note=lambda line: None)


@pytest.fixture(scope="module")
def several(images: Images) -> Images:
    """The same images with three findings: lesion, a bright image, and one that is told of few and never there in them."""
    bright = images.pixels.mean((1, 2, 3)) > np.median(images.pixels.mean((1, 2, 3)))
    rare = np.where(np.arange(len(images)) % 9 == 0, 0, -1)
    findings = np.stack([images.label, bright, rare], 1).astype(np.int8)
    findings[::7, 1] = -1
    return replace(images, label=np.full(len(images), -1), findings=findings, classes=("lesion", "bright", "rare"))


def test_the_regression_equals_scikit_learn(random: np.random.Generator) -> None:
    x = random.normal(size=(90, 7)) * 5 + 2
    for classes in (2, 3):
        y = random.integers(0, classes, 90)
        expected = linear_model(x, y, costs=(1.0,)).predict_proba(x)
        np.testing.assert_allclose(fit_linear(x, y, classes, costs=(1.0,)).predict_proba(x), expected, atol=1e-8)
    both = np.stack([y > 0, y > 1], 1).astype(np.int8)
    expected = linear_model(x, both[:, 1], costs=(1.0,)).predict_proba(x)[:, 1]
    found = fit_linear(x, both, 2, costs=(1.0, 1.0)).predict_proba(x)
    np.testing.assert_allclose(found[:, 1], expected, atol=1e-8)
    both[:40, 1] = -1
    expected = linear_model(x[40:], both[40:, 1], costs=(1.0,)).predict_proba(x)[:, 1]
    np.testing.assert_allclose(fit_linear(x, both, 2, costs=(1.0, 1.0)).predict_proba(x)[:, 1], expected, atol=1e-8)


def test_each_view_of_an_image_is_a_row_in_the_fold_of_its_image(random: np.random.Generator) -> None:
    """A feature that framing changes counts less than one it leaves alone; no image is judged by a regression that saw a view of it."""
    y = np.arange(40) % 2
    kept, framed = (np.where(y, 1.0, -1.0) + random.normal(size=40) for _ in range(2))
    views = np.stack([np.stack([kept, framed + shift], 1) for shift in (-4.0, 0.0, 4.0)])  # (V, N, D)
    weight = fit_linear(views, y, 2).weight[1]
    assert weight[0] > 4 * weight[1]
    mean = fit_linear(views.mean(0), y, 2).weight[1]
    assert mean[0] < 4 * mean[1]
    noise = random.normal(size=(40, 60))
    copies = np.stack([noise, noise])
    linear = fit_linear(copies, y, 2)
    guesses = held_out(copies, y, linear)
    assert guesses.shape == (40, 2) and (guesses.argmax(1) == y).mean() < 0.75
    several = np.stack([y, 1 - y], 1).astype(np.int8)
    found = fit_linear(views, several, 2, costs=(1.0, 1.0))
    np.testing.assert_allclose(found.weight[0], -found.weight[1], atol=1e-6)
    assert len(replicates(views, y, linear, None, 3)) == 3


def test_a_class_without_labels_is_never_told(random: np.random.Generator) -> None:
    x, y = random.normal(size=(40, 3)), np.arange(40) % 2 * 2
    found = fit_linear(x, y, 3).predict_proba(x)
    assert found.shape == (40, 3) and found[:, 1].max() < 1e-3


def test_held_out_probabilities_have_not_seen_their_label(random: np.random.Generator) -> None:
    """Of noise a regression remembers its own labels; held out it knows nothing, and patients stay together."""
    x, y = random.normal(size=(60, 40)), random.integers(0, 2, 60)
    linear = fit_linear(x, y, 2, costs=(10.0,))
    seen, unseen = linear.predict_proba(x).argmax(1) == y, held_out(x, y, linear).argmax(1) == y
    assert seen.mean() > 0.95 and unseen.mean() < 0.7
    twice, labels, owner = np.repeat(x, 2, 0), np.repeat(y, 2), np.repeat(np.arange(60), 2)
    assert (held_out(twice, labels, linear, owner).argmax(1) == labels).mean() < 0.7
    assert np.isnan(held_out(x[:3], np.array([0, 1, 1]), linear)).all()  # one label of a class leaves no fold


def test_a_classifier_is_saved_whole(images: Images, fitted: ImageEncoder, tmp_path: Path) -> None:
    classifier = ImageClassifier.on_top_of(fitted).fit(images)
    probability = classifier.predict_proba(images)
    np.testing.assert_allclose(probability.sum(1), 1)
    assert set(classifier.predict(images)) <= {"0", "1"} and classifier.decision_.rows > 100
    loaded = ImageClassifier.load(classifier.save(tmp_path / "run"))
    np.testing.assert_array_equal(loaded.predict_proba(images), probability)
    np.testing.assert_array_equal(loaded.intervals(images)[0], classifier.intervals(images)[0])
    assert loaded.decision_ == classifier.decision_
    assert classifier.called(probability)["1"].shape == (len(images),)


def test_equal_seeds_give_equal_classifiers(images: Images, fitted: ImageEncoder) -> None:
    first, again = (ImageClassifier.on_top_of(fitted).fit(images) for _ in range(2))
    assert first.decision_ == again.decision_
    np.testing.assert_array_equal(first.intervals(images)[1], again.intervals(images)[1])


def test_fewer_labels_spread_the_replicates_wider(random: np.random.Generator) -> None:
    x, y = random.normal(size=(400, 5)), np.arange(400) % 2
    x[:, 0] += y

    def width(count: int) -> float:
        linear = fit_linear(x[:count], y[:count], 2, costs=(1.0,))
        return float(np.std([r.logits(x[:, :]) for r in replicates(x[:count], y[:count], linear, None, 20)], 0).mean())

    assert width(20) > 2 * width(400)


def test_several_findings_have_probabilities_of_their_own(
    several: Images, fitted: ImageEncoder, tmp_path: Path
) -> None:
    classifier = ImageClassifier.on_top_of(fitted).fit(several)
    probability = classifier.predict_proba(several)
    assert probability.shape == (len(several), 3) and np.abs(probability.sum(1) - 1).max() > 0.1
    known = several.findings[:, 1] >= 0
    assert ((probability[known, 1] > 0.5) == several.findings[known, 1]).mean() > 0.8  # brightness is easy
    assert probability[:, 2].max() < 0.2 and np.ptp(probability[:, 2]) < 1e-9  # never there: a constant
    loaded = ImageClassifier.load(classifier.save(tmp_path / "run"))
    np.testing.assert_array_equal(loaded.predict_proba(several), probability)
    table = predictions(loaded, several, coverage=0.8)
    assert {"p(bright)", "low(bright)", "high(bright)", "positive(bright)", "abstain(bright)"} <= set(table)
    assert set("|".join(table["predicted"]).split("|")) <= {"lesion", "bright", "rare", ""}
    with pytest.raises(UserError, match="several findings"):
        loaded.predict_proba(several, prevalence=0.1)


def test_a_tuned_network_is_another_and_leaves_the_encoder_alone(
    images: Images, several: Images, fitted: ImageEncoder, tmp_path: Path
) -> None:
    before = fitted.transform(images)
    for data in (images, several):
        tuned = ImageClassifier.on_top_of(fitted, tune=True).fit(data, supervised=QUICK)
        np.testing.assert_array_equal(fitted.transform(images), before)
        assert np.abs(tuned.transform(images) - before).max() > 1e-4
        low, high = tuned.intervals(data)
        probability = tuned.predict_proba(data)
        assert probability.shape == (len(data), len(data.classes)) and (low <= high).all()
        loaded = ImageClassifier.load(tuned.save(tmp_path / f"{len(data.classes)}"))
        np.testing.assert_allclose(loaded.predict_proba(data), probability)
    no_val = images.select(np.flatnonzero(images.split != "val"))
    assert ImageClassifier.on_top_of(fitted, tune=True).fit(no_val, supervised=QUICK).decision_.rows > 20


def test_arrays_with_labels_work_like_read_images(images: Images, fitted: ImageEncoder) -> None:
    train = images.select(images.rows("train"))
    raw = (train.pixels[:, 0] * 255).round().astype(np.uint8)
    names = np.where(train.label == 1, "ill", "well")
    classifier = ImageClassifier.on_top_of(fitted).fit(raw, names)
    assert classifier.classes_.tolist() == ["ill", "well"] and classifier.score(raw, names) > 0.5
    both = np.stack([train.label, 1 - train.label], 1)
    assert ImageClassifier.on_top_of(fitted).fit(raw, both).predict(raw[:4]).shape == (4, 2)
    for bad in (None, names[:3], both + 1, np.zeros((len(raw), 2, 2))):
        with pytest.raises(UserError):
            ImageClassifier.on_top_of(fitted).fit(raw, bad)


def test_one_class_and_an_encoder_without_a_classifier_stop_with_one_line(
    images: Images, several: Images, fitted: ImageEncoder, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="fewer than two classes"):
        ImageClassifier.on_top_of(fitted).fit(images.select(np.flatnonzero(images.label == 0)))
    nothing = replace(several, findings=np.where(several.findings == 1, 0, several.findings))
    with pytest.raises(UserError, match="no finding"):
        ImageClassifier.on_top_of(fitted).fit(nothing)
    with pytest.raises(NotFittedError):
        ImageClassifier.on_top_of(fitted).predict_proba(images)
    with pytest.raises(UserError, match="without a classifier"):
        ImageClassifier.load(fitted.save(tmp_path / "run"))
    (tmp_path / "run" / "encoder.safetensors").write_bytes(b"damaged")
    with pytest.raises(UserError, match="changed"):
        ImageEncoder.load(tmp_path / "run")


def test_the_card_says_how_probabilities_were_calibrated(fitted: ImageEncoder, several: Images) -> None:
    classifier = ImageClassifier.on_top_of(fitted).fit(several)
    assert "and a bias a finding, from" in clinical_card(classifier)
    classifier.decision_ = replace(classifier.decision_, bias=())  # as runs saved earlier are
    assert "- calibration: temperature " in clinical_card(classifier) and "a bias" not in clinical_card(classifier)
