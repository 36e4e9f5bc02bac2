"""The encoder and the classifier: seeded, saved whole, honest about what they are given."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from core.errors import UserError
from healthcare import ImageEncoder, Images
from healthcare.encoders import EncoderConfig
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


def test_a_probe_learns_from_every_crop_of_few_images(
    images: Images, fitted: ImageEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    some = images.select(np.arange(6))
    np.testing.assert_array_equal(fitted.labelled(some), fitted.each_view(some))
    monkeypatch.setattr("healthcare.estimators.FEW", 5)
    np.testing.assert_array_equal(fitted.labelled(some), fitted.transform(some))


def test_drawn_views_are_seeded_and_change_the_features(images: Images, fitted: ImageEncoder) -> None:
    some = images.select(np.arange(6))
    first, again = fitted.transform(some, views=2), fitted.transform(some, views=2)
    np.testing.assert_array_equal(first, again)
    assert fitted.each_view(some, 2).shape[0] == fitted.each_view(some).shape[0] + 2
    assert np.abs(first - fitted.transform(some)).max() > 1e-4
    with pytest.raises(UserError, match="views"):
        fitted.transform(some, views=-1)
