"""Similar cases are near ones of other patients; maps mark what the answer rests on, in images, volumes and token networks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from core.errors import UserError
from healthcare import ImageClassifier, ImageEncoder, Images
from healthcare.encoders import EncoderConfig
from healthcare.evaluation import EvaluationConfig, evaluate
from healthcare.explain import explain
from healthcare.neighbours import nearest, precision, similar_precision
from healthcare.presets import simclr
from healthcare.saliency import Network, _deleted, check, grad_cam, saliency


def test_the_nearest_are_found_and_a_patients_own_images_passed_over(random: np.random.Generator) -> None:
    x = random.normal(size=(40, 6))
    rows, cosine = nearest(x, x, 3)
    assert (rows[:, 0] == np.arange(40)).all() and np.allclose(cosine[:, 0], 1) and (np.diff(cosine) <= 0).all()
    owner = np.arange(40) // 2
    others, _ = nearest(x, x, 3, owner, owner)
    assert (owner[others] != owner[:, None]).all()
    moved, _ = nearest(x * 7 + 100, x * 7 + 100, 3)  # neither scale nor offset matters
    np.testing.assert_array_equal(moved, rows)
    for k in (0, 41):
        with pytest.raises(UserError, match="similar cases"):
            nearest(x, x, k)
    with pytest.raises(UserError, match="other patients"):
        nearest(x, x, 3, np.zeros(40), np.zeros(40))


def test_precision_counts_same_class_neighbours_and_shared_findings() -> None:
    rows = np.array([[0, 1], [1, 2]])
    np.testing.assert_array_equal(precision(rows, np.array([0, 1]), np.array([0, 0, 1])), [1.0, 0.5])
    have, archive = np.array([[1, 1], [0, 0]]), np.array([[1, 0], [1, 1], [0, 0]])
    np.testing.assert_array_equal(precision(rows, have, archive), [0.75, 0.5])


def classifier(images: Images, encoder: EncoderConfig, size: int = 28) -> ImageClassifier:
    recipe = simclr(steps=3)
    recipe = replace(recipe, batch=16, encoder=encoder, reading=replace(recipe.reading, size=size))
    return ImageClassifier.on_top_of(ImageEncoder(recipe).fit(images, note=lambda line: None)).fit(images)


@pytest.fixture(scope="module")
def few(images: Images) -> Images:
    return images.select(np.arange(0, len(images), 3))


@pytest.fixture(scope="module")
def conv(few: Images) -> ImageClassifier:
    return classifier(few, EncoderConfig(width=8))


def test_similar_precision_has_both_arms_and_their_difference(few: Images, conv: ImageClassifier) -> None:
    found = similar_precision(conv, few, k=3, draws=50)
    assert found["difference"].value == pytest.approx(found["encoder"].value - found["raw_pixels"].value)
    with pytest.raises(UserError, match="no labelled"):
        similar_precision(conv, replace(few, label=np.full(len(few), -1)))


def test_grad_cam_equals_monais_where_monai_does_not_cut_it_off(few: Images, conv: ImageClassifier) -> None:
    from monai.visualize import GradCAM

    network = Network(conv.encoder_, conv.heads_, False).eval()
    image = torch.from_numpy(few.pixels[:4])
    cut = 0
    for column in (0, 1):
        ours = grad_cam(network, image, column).detach()
        theirs = GradCAM(network, "encoder.stages.1").compute_map(image, class_idx=column).detach()
        torch.testing.assert_close(ours.clamp(min=0), theirs)
        cut += int((ours < 0).sum())
    assert cut > 0


def test_the_two_classes_have_opposite_maps(few: Images, conv: ImageClassifier) -> None:
    network = Network(conv.encoder_, conv.heads_, False)
    maps = [saliency(network, few.pixels[:4], np.full(4, k)) for k in (0, 1)]
    np.testing.assert_allclose(maps[0], 1 - maps[1], atol=1e-3)


def test_deletion_takes_the_marked_fifth_and_nothing_else() -> None:
    pixels = np.random.default_rng(0).random((2, 1, 10, 10)).astype(np.float32)
    maps = np.zeros((2, 10, 10), np.float32)
    maps[:, :2] = 1
    gone = _deleted(pixels, maps)
    np.testing.assert_array_equal(gone[:, :, 2:], pixels[:, :, 2:])
    assert np.allclose(gone[:, :, :2], pixels.mean((2, 3), keepdims=True))


def test_token_networks_and_volumes_are_explained_too(few: Images, random: np.random.Generator) -> None:
    tokens = classifier(few, EncoderConfig(kind="vit", width=16, patch=7, depth=2, heads=2))
    found = check(tokens, few.pixels[:5])
    assert found.maps.shape == (5, 28, 28) and found.maps.max() == 1 and np.isfinite(found.whole).all()
    volumes = replace(few, pixels=random.random((len(few), 1, 16, 16, 16)).astype(np.float32))
    made = classifier(volumes, EncoderConfig(width=8), size=16)
    explained = explain(made, volumes, most=3)
    assert explained.checked.maps.shape == (3, 16, 16, 16) and len(explained.lines()) == 3
    again = explain(made, volumes, most=3)
    np.testing.assert_array_equal(again.checked.whole, explained.checked.whole)
    config = EvaluationConfig(
        fractions=(0.5,),
        headline=0.5,
        draws=1,
        arms=("pretrained", "raw_pixels", "random_init"),
        resamples=10,
        gallery=2,
    )
    assert "Where it looks" in [s.title for s in evaluate(made, volumes, config, lambda line: None).sections]


def test_attention_watched_is_attention_as_it_runs(few: Images) -> None:
    made = classifier(few, EncoderConfig(kind="vit", width=16, patch=7, depth=2, heads=2))
    tokens = made.encoder_.stem({"image": torch.from_numpy(few.pixels[:3])})
    states, weights = made.encoder_.trunk.watched(tokens)
    torch.testing.assert_close(states.x, made.encoder_.trunk(tokens).x, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(weights[0].sum(-1), torch.ones_like(weights[0].sum(-1)))
