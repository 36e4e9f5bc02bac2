"""Every preset: trains, is saved and read back whole, and says in one line what does not fit together."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from core.config import from_dict, settings, to_dict
from core.errors import UserError
from healthcare import ImageEncoder, Images
from healthcare.cli import Pretrain
from healthcare.data import Reading
from healthcare.presets import PRESETS, Recipe, preset


def tiny(name: str, steps: int = 2) -> Recipe:
    """The preset with a network and a batch that a test can afford; a queue shrinks with the batch."""
    recipe = preset(name, steps=steps)
    narrow = replace(recipe.encoder, width=16, depth=min(recipe.encoder.depth, 2))
    changes = [f"objective.queue={64}"] if getattr(recipe.objective, "queue", 0) else []
    if name == "deepcluster":
        changes.append("objective.clusters=8")
    return settings(replace(recipe, batch=32, encoder=narrow), changes)


def quiet(line: str) -> None:
    """Progress goes nowhere."""


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_trains_and_its_features_outlive_a_save(
    name: str, images: Images, coloured: Images, tmp_path: Path
) -> None:
    recipe = tiny(name)
    images = coloured if name == "colour" else images
    assert recipe.method == name and PRESETS[name].__doc__
    encoder = ImageEncoder(recipe).fit(images, note=quiet)
    features = encoder.transform(images)
    assert features.shape == (len(images), encoder.encoder_.dim) and np.isfinite(features).all()
    untrained = encoder.untrained(recipe.train.seed).transform(images)
    assert np.abs(features - untrained).max() > 1e-4
    loaded = ImageEncoder.load(encoder.save(tmp_path / "run"))
    assert loaded.recipe_ == recipe and loaded.views_ >= 2 * 32
    np.testing.assert_array_equal(loaded.transform(images), features)


@pytest.mark.parametrize("name", PRESETS)
def test_a_recipe_survives_json(name: str) -> None:
    recipe = preset(name, steps=3, seed=4)
    assert from_dict(Recipe, to_dict(recipe)) == recipe
    assert preset(name, minutes=0.5).train.minutes == 0.5 and recipe.train.steps == 3


@pytest.mark.parametrize("name", PRESETS)
def test_a_docstring_says_how_to_run_a_preset_and_what_to_expect(name: str) -> None:
    text = PRESETS[name].__doc__ or ""
    assert f"--method {name} " in text and "Expected" in text and re.search(r"\d+ minutes?|two\s+minutes", text)


def test_the_command_line_names_every_method() -> None:
    listed = Pretrain.__doc__ or ""
    assert all(re.search(rf"\b{name}\b", listed) for name in PRESETS)


@pytest.mark.parametrize(
    "name, change, words",
    [
        ("mae", "encoder.kind=small", "needs tokens"),
        ("data2vec", "encoder.kind=resnet18", "tokens"),
        ("mae", "pretext.ratio=1.0", "mask ratio"),
        ("mae", "pretext.ratio=0", "mask ratio"),
        ("mae", "encoder.patch=5", "do not divide"),
        ("jigsaw", "pretext.tiles=1", "tiles"),
        ("jigsaw", "pretext.orders=25", "25 orders"),
        ("jigsaw", "pretext.tiles=9", "9 × 9 tiles"),
        ("moco", "objective.queue=4", "into a queue of 4"),
        ("deepcluster", "objective.clusters=100000", "clusters"),
        ("swav", "pretext.local=-1", "small crops"),
        ("swav", "pretext.local_area=[0.5,0.1]", "small crops"),
        ("vae", "objective.beta=-1", "beta is -1"),
        ("colour", "batch=16", "no colours to lose"),
        ("colour", "pretext.scale=0", "a scale of 0"),
        ("position", "pretext.tiles=1", "base crops"),
        ("position", "pretext.crops=0", "base crops"),
        ("position", "objective.apart=-1", "apart is -1"),
        ("simclr", "objective.nonsense=1", "unknown setting"),
        ("simclr", "batch=1", "batch"),
    ],
)
def test_what_does_not_fit_together_stops_with_one_line(name: str, change: str, words: str, images: Images) -> None:
    with pytest.raises(UserError, match=words) as caught:
        ImageEncoder(settings(tiny(name, steps=3), [change])).fit(images, note=quiet)
    assert "\n" not in str(caught.value)


def test_no_puzzle_in_views_stops_with_one_line(images: Images) -> None:
    recipe = replace(tiny("rotation"), pretext=tiny("simclr").pretext)
    with pytest.raises(UserError, match="no puzzle"):
        ImageEncoder(recipe).fit(images, note=quiet)


def test_images_of_another_size_suit_every_preset_whose_patches_divide_them() -> None:
    random = np.random.default_rng(0)
    raw = random.integers(0, 256, (40, 32, 32, 3), dtype=np.uint8)
    for name in ("dino", "mae", "restore", "jigsaw"):
        recipe = replace(tiny(name), reading=Reading(size=32))
        assert np.isfinite(ImageEncoder(recipe).fit(raw, note=quiet).transform(raw)).all()
