"""Views: seeded, each image with parameters of its own, within range, and an identity where everything is off."""

from __future__ import annotations

import pytest
import torch

from healthcare.pretext import Labelled
from healthcare.views import ImageViews, ViewConfig, augment, fixed_views, geometry

OFF = ViewConfig(
    area=1.0, stretch=1.0, rotate=0.0, flip=0.0, brightness=0.0, contrast=1.0, gamma=1.0, noise=0.0, blur=0.0, erase=0.0
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def image() -> torch.Tensor:
    return torch.rand(16, 1, 28, 28, generator=generator(7))


def test_everything_off_changes_nothing(image: torch.Tensor) -> None:
    torch.testing.assert_close(augment(image, OFF, generator()), image, atol=1e-5, rtol=1e-4)


def test_flip_alone_mirrors_left_and_right(image: torch.Tensor) -> None:
    flipped = geometry(image, ViewConfig(**{**OFF.__dict__, "flip": 1.0}), generator())
    torch.testing.assert_close(flipped, image.flip(3), atol=1e-5, rtol=1e-4)


def test_equal_seeds_give_equal_views_and_the_two_views_differ(image: torch.Tensor) -> None:
    first = ImageViews()({"image": image}, generator(1))
    again = ImageViews()({"image": image}, generator(1))
    other = ImageViews()({"image": image}, generator(2))
    a, b = (view["image"] for view in first.views)
    assert torch.equal(a, again.views[0]["image"]) and torch.equal(b, again.views[1]["image"])
    assert not torch.equal(a, other.views[0]["image"]) and (a - b).abs().mean() > 0.01


@pytest.mark.parametrize("name", ["area", "rotate", "brightness", "contrast", "gamma", "noise", "blur", "erase"])
def test_every_part_works_alone_and_differs_between_images(name: str, image: torch.Tensor) -> None:
    strength = {
        "area": 0.3,
        "rotate": 15.0,
        "brightness": 0.3,
        "contrast": 2.0,
        "gamma": 2.0,
        "noise": 0.1,
        "blur": 1.0,
        "erase": 0.5,
    }[name]
    same = image[:1].expand(16, -1, -1, -1)
    out = augment(same, ViewConfig(**{**OFF.__dict__, name: strength}), generator())
    assert out.shape == same.shape and out.min() >= 0 and out.max() <= 1 and torch.isfinite(out).all()
    assert len({(*view.flatten()[:50].tolist(), round(view.sum().item(), 3)) for view in out}) > 4


def test_colour_channels_move_together() -> None:
    grey = torch.rand(4, 1, 20, 20).expand(-1, 3, -1, -1)
    quiet = ViewConfig(noise=0.0)
    out = augment(grey, quiet, generator())
    torch.testing.assert_close(out[:, 0], out[:, 2])


def test_the_classifier_sees_the_label_of_its_image(image: torch.Tensor) -> None:
    pseudo = Labelled(OFF)({"image": image, "label": torch.arange(16)}, generator())
    assert pseudo.label.tolist() == list(range(16))
    torch.testing.assert_close(pseudo.batch["image"], image, atol=1e-5, rtol=1e-4)


def test_fixed_views_are_the_image_and_its_four_corners(image: torch.Tensor) -> None:
    views = fixed_views(image, 0.5)
    assert len(views) == 5 and torch.equal(views[0], image) and len(fixed_views(image, 1.0)) == 1
    ramp = torch.linspace(0, 1, 28)[None, None, :, None].expand(2, 1, 28, 28)
    top, bottom = (fixed_views(ramp, 0.5)[i].mean().item() for i in (1, 3))
    assert top == pytest.approx(0.25, abs=0.02) and bottom == pytest.approx(0.75, abs=0.02)
    torch.testing.assert_close(fixed_views(image[3:4], 0.8)[2], fixed_views(image, 0.8)[2][3:4])
