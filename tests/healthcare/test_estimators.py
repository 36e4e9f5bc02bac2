"""The encoder and the classifier: seeded, saved whole, honest about what they are given."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from core.errors import UserError
from core.probes import linear_model
from healthcare import ImageClassifier, ImageEncoder, Images
from healthcare.encoders import EncoderConfig
from healthcare.estimators import _as_layer
from healthcare.presets import preset, simclr

TINY = replace(simclr(steps=6), batch=32, encoder=EncoderConfig(width=8))


def quiet(line: str) -> None:
    """Progress goes nowhere."""


@pytest.fixture(scope="module")
def fitted(images: Images) -> ImageEncoder:
    return ImageEncoder(TINY).fit(images, note=quiet)


def test_equal_seeds_give_equal_features_and_others_differ(images: Images, fitted: ImageEncoder) -> None:
    again = ImageEncoder(TINY).fit(images, note=quiet)
    np.testing.assert_array_equal(again.transform(images), fitted.transform(images))
    other = ImageEncoder(replace(TINY, train=replace(TINY.train, seed=1))).fit(images, note=quiet)
    assert np.abs(other.transform(images) - fitted.transform(images)).max() > 1e-3


def test_pretraining_never_looks_at_validation_or_test_images_nor_at_labels(
    images: Images, fitted: ImageEncoder
) -> None:
    kept = images.rows("train")
    pixels, label = images.pixels.copy(), images.label.copy()
    pixels[np.setdiff1d(np.arange(len(images)), kept)] = 0.5
    label[:] = -1
    blind = ImageEncoder(TINY).fit(replace(images, pixels=pixels, label=label), note=quiet)
    np.testing.assert_array_equal(blind.transform(images), fitted.transform(images))


def test_a_saved_encoder_gives_the_same_features(images: Images, fitted: ImageEncoder, tmp_path: Path) -> None:
    loaded = ImageEncoder.load(fitted.save(tmp_path / "run"))
    np.testing.assert_array_equal(loaded.transform(images), fitted.transform(images))
    assert loaded.recipe_ == TINY and loaded.history_.steps == 6
    assert {p.name for p in (tmp_path / "run").iterdir()} >= {"config.json", "encoder.safetensors", "card.md"}
    assert str(tmp_path) not in (tmp_path / "run" / "card.md").read_text()


def test_the_untrained_twin_is_another_network_of_the_same_shape(images: Images, fitted: ImageEncoder) -> None:
    twin, again = fitted.untrained(3).transform(images), fitted.untrained(3).transform(images)
    np.testing.assert_array_equal(twin, again)
    assert twin.shape == fitted.transform(images).shape and np.abs(twin - fitted.transform(images)).max() > 1e-3


def test_features_do_not_depend_on_the_other_images(images: Images, fitted: ImageEncoder) -> None:
    np.testing.assert_allclose(fitted.transform(images)[:5], fitted.transform(images.select(np.arange(5))), atol=1e-5)


def test_arrays_work_like_read_images(images: Images, fitted: ImageEncoder) -> None:
    raw = (images.pixels[:9, 0] * 255).round().astype(np.uint8)
    np.testing.assert_allclose(fitted.transform(raw), fitted.transform(images.select(np.arange(9))), atol=1e-4)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((3, 28)),
        np.zeros((0, 28, 28)),
        np.zeros((2, 28, 28)),
        np.full((2, 28, 28), np.nan),
        np.zeros((2, 28, 28, 2)),
    ],
)
def test_unusable_arrays_stop_with_one_line(array: np.ndarray, fitted: ImageEncoder) -> None:
    with pytest.raises(UserError):
        fitted.transform(array)


def test_colour_images_do_not_fit_a_grey_encoder(fitted: ImageEncoder, random: np.random.Generator) -> None:
    with pytest.raises(UserError, match="3 channels"):
        fitted.transform(random.integers(0, 256, (2, 28, 28, 3), dtype=np.uint8))


def test_fewer_images_than_a_batch_train_and_fewer_than_two_do_not(images: Images) -> None:
    few = images.select(images.rows("train")[:9])
    assert ImageEncoder(TINY).fit(few, note=quiet).transform(few).shape[0] == 9
    for count in (0, 1):
        with pytest.raises(UserError, match="nothing to learn from"):
            ImageEncoder(TINY).fit(images.select(images.rows("train")[:count]), note=quiet)


def test_an_unfitted_encoder_says_so(images: Images) -> None:
    with pytest.raises(UserError, match="not fitted"):
        ImageEncoder().transform(images)
    with pytest.raises(UserError, match="no method 'magic'"):
        preset("magic")
    with pytest.raises(UserError, match="no method"):
        ImageEncoder(replace(TINY, method="magic")).fit(images)


def test_the_linear_layer_equals_scikit_learn(random: np.random.Generator) -> None:
    import torch

    x = random.normal(size=(90, 7)) * 5 + 2
    for classes in (2, 3):
        y = random.integers(0, classes, 90)
        model = linear_model(x, y, costs=(1.0,))
        ours = _as_layer(model, classes)(torch.from_numpy(x)).softmax(1).detach().numpy()
        np.testing.assert_allclose(ours, model.predict_proba(x), atol=1e-8)


def test_a_classifier_is_saved_whole(images: Images, fitted: ImageEncoder, tmp_path: Path) -> None:
    classifier = ImageClassifier.on_top_of(fitted).fit(images)
    probability = classifier.predict_proba(images)
    np.testing.assert_allclose(probability.sum(1), 1)
    assert classifier.threshold_ is not None and set(classifier.predict(images)) <= {"0", "1"}
    loaded = ImageClassifier.load(classifier.save(tmp_path / "run"))
    np.testing.assert_array_equal(loaded.predict_proba(images), probability)
    assert loaded.threshold_ == classifier.threshold_
    val = images.rows("val")
    called = classifier.called(probability)[val]
    assert called[images.label[val] == 0].mean() <= 0.1


def test_one_class_and_an_encoder_without_a_classifier_stop_with_one_line(
    images: Images, fitted: ImageEncoder, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="fewer than two classes"):
        ImageClassifier.on_top_of(fitted).fit(images.select(np.flatnonzero(images.label == 0)))
    with pytest.raises(UserError, match="without a classifier"):
        ImageClassifier.load(fitted.save(tmp_path / "run"))
    (tmp_path / "run" / "encoder.safetensors").write_bytes(b"damaged")
    with pytest.raises(UserError, match="changed"):
        ImageEncoder.load(tmp_path / "run")
