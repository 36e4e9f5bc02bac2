"""Views, masks, damage and puzzles: seeded, each image with parameters of its own, and an identity where everything is off."""

from __future__ import annotations

import pytest
import torch

from core.errors import UserError
from core.pretext import Pieces, Pseudo
from healthcare.encoders import EncoderConfig
from healthcare.pretext import Damaged, HiddenPatches, Labelled, Noisy, Shuffled, Turned, Whole, detail
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


def test_small_crops_stand_behind_the_two_views_and_show_less(image: torch.Tensor) -> None:
    ramp = torch.linspace(0, 1, 28)[None, None, :, None].expand(64, 1, 28, 28)
    pretext = ImageViews(view=OFF, local=3, local_area=(0.1, 0.3), local_side=0.6)
    made = pretext({"image": ramp, "index": torch.arange(64)}, generator())
    sides = [view["image"].shape[-1] for view in made.views]
    assert sides == [28, 28, 17, 17, 17] and made.n_global == 2
    assert all(torch.equal(view["index"], torch.arange(64)) for view in made.views)
    shown = torch.stack([v["image"].amax((1, 2, 3)) - v["image"].amin((1, 2, 3)) for v in made.views[2:]])
    assert (
        (shown > 0.25).all() and (shown < 0.58).all() and shown.std() > 0.02
    )  # sides of sqrt(.1) to sqrt(.3), less an edge
    assert pretext.passes() == pytest.approx(2 + 3 * 0.36)


@pytest.mark.parametrize("shape", ["random", "block"])
def test_patches_are_hidden_at_the_exact_ratio_on_the_encoders_grid(shape: str, image: torch.Tensor) -> None:
    task = HiddenPatches(view=OFF, ratio=0.75, shape=shape)  # type: ignore[arg-type]
    made = task.bound(EncoderConfig(kind="vit", patch=7))({"image": image}, generator())
    assert made.mask.shape == (16, 16) and (made.mask.sum(1) == 12).all() and len(made.mask.unique(dim=0)) > 2  # type: ignore[union-attr]
    torch.testing.assert_close(made.batch["image"], image, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    "task", [Damaged(view=OFF, window=0), Noisy(view=OFF, window=0), Noisy(view=OFF, window=0, holes=0)]
)
def test_damage_is_done_to_what_is_seen_alone(task: Damaged | Noisy, image: torch.Tensor) -> None:
    made, again = task({"image": image}, generator(3)), task({"image": image}, generator(3))
    torch.testing.assert_close(made.clean["image"], image, atol=1e-5, rtol=1e-4)
    change = (made.batch["image"] - image).abs().mean((1, 2, 3))
    assert (change > 0.01).all() and torch.isfinite(made.batch["image"]).all()
    assert torch.equal(made.batch["image"], again.batch["image"])


def test_nothing_is_done_to_whole_images(image: torch.Tensor) -> None:
    made = Whole(view=OFF, window=0)({"image": image}, generator())
    assert made.batch["image"] is made.clean["image"]


def test_detail_is_standardised_around_each_pixel_whatever_the_exposure(image: torch.Tensor) -> None:
    shade = torch.linspace(0, 1, 28)
    found = detail(0.3 * image + shade, 7)
    torch.testing.assert_close(found, detail(0.3 * image + shade + 0.4, 7), atol=1e-3, rtol=1e-3)
    near = found[:, :, 10:17, 10:17]  # one window's worth
    assert near.mean().abs() < 0.1 and 0.7 < near.std() < 1.3
    assert torch.equal(detail(image, 0), image)
    seen = Damaged(view=OFF)({"image": image}, generator())
    torch.testing.assert_close(seen.clean["image"], detail(image, 7), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("window", [-1, 1, 4])
@pytest.mark.parametrize("task", [Damaged, Noisy, Whole])
def test_a_window_without_a_middle_is_refused(task: type, window: int) -> None:
    with pytest.raises(UserError, match="window"):
        task(window=window)


def test_a_turned_image_can_be_turned_back(image: torch.Tensor) -> None:
    made = Turned(view=OFF)({"image": image}, generator())
    assert isinstance(made.label, torch.Tensor) and len(made.label.unique()) == 4
    back = torch.stack([torch.rot90(x, -int(k), (1, 2)) for x, k in zip(made.batch["image"], made.label, strict=True)])
    torch.testing.assert_close(back, image, atol=1e-5, rtol=1e-4)


def test_tiles_are_those_of_the_image_in_the_order_that_is_asked(image: torch.Tensor) -> None:
    from core.puzzles import permutations

    levels = torch.arange(4.0).repeat_interleave(14)[::14].view(1, 1, 2, 2).expand(40, 1, 2, 2)
    quarters = levels.repeat_interleave(14, 2).repeat_interleave(14, 3) / 4 + 0.1
    whole = Shuffled(view=OFF, tiles=2, orders=24, alone=False)({"image": quarters}, generator())
    pieces = Shuffled(view=OFF, tiles=2, orders=24)({"image": quarters}, generator())
    assert isinstance(whole, Pseudo) and isinstance(pieces, Pieces)
    middle = whole.batch["image"][:, 0, 7::14, 7::14].flatten(1)  # of each tile
    alone = torch.stack([piece["image"][:, 0, 5, 5] for piece in pieces.pieces], 1)
    for label, centres in ((whole.label, middle), (pieces.label, alone)):
        assert isinstance(label, torch.Tensor) and len(label.unique()) > 10
        shown = ((centres - 0.1) * 4).round().long()
        assert torch.equal(shown, permutations(4, 24)[label])
