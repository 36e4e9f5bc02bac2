"""Damage stays within its bounds, on planes and in volumes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from core import damage
from core.errors import UserError


def planes(rows: int = 16, channels: int = 2, height: int = 28, width: int = 28) -> Tensor:
    """Images no two pixels of which are alike."""
    count = rows * channels * height * width
    return torch.randperm(count, generator=torch.Generator().manual_seed(1)).view(rows, channels, height, width) / count


def test_grey_has_lost_the_colour_and_kept_the_shape() -> None:
    image = planes(3, 3)
    plain = damage.grey(image)
    assert plain.shape == image.shape and torch.equal(plain[:, 0], plain[:, 2])
    white = torch.ones(1, 3, 4, 4)
    torch.testing.assert_close(damage.grey(white), white)
    with pytest.raises(UserError, match="no colours to lose"):
        damage.grey(image[:, :1])


def test_holes_hide_about_their_share_and_nothing_else(generator: torch.Generator) -> None:
    image = planes(300, 1, 40, 30)
    holed, gone = damage.missing(image, generator, share=0.1, count=1)
    assert 0.085 < gone.float().mean() < 0.115
    assert torch.equal(holed[:, 0][~gone], image[:, 0][~gone])
    torch.testing.assert_close(holed[:, 0], torch.where(gone, image.mean((1, 2, 3))[:, None, None], image[:, 0]))
    centre = gone.float().mean(0)
    assert (centre[5:-5, 5:-5] > 0).all()  # anywhere
    assert len({tuple(hole.flatten().tolist()) for hole in gone}) > 290  # each its own
    _, kept = damage.missing(image, generator, share=0.1, count=1, outside=True)
    assert 0.885 < kept.float().mean() < 0.915
    with pytest.raises(UserError, match="use a share"):
        damage.missing(image, generator, share=1.0)


def test_bent_intensities_keep_order_and_range(generator: torch.Generator) -> None:
    image = planes(20, 1) * 7 - 3
    bent = damage.bend(image, generator)
    assert (bent - image).abs().flatten(1).amax(1).min() > 0.01
    for before, after in zip(image.flatten(1), bent.flatten(1), strict=True):
        torch.testing.assert_close(after.min(), before.min())
        torch.testing.assert_close(after.max(), before.max())
        assert (after[before.argsort()].diff() >= -1e-5).all()
    flat = torch.zeros(2, 1, 4, 4)
    assert torch.equal(damage.bend(flat, generator), flat)


def test_shuffled_pixels_stay_in_their_square(generator: torch.Generator) -> None:
    place = torch.arange(30 * 21).view(1, 1, 30, 21).expand(8, 2, 30, 21).float()
    mixed = damage.shuffle_pixels(place, generator, side=4, share=0.5)
    assert torch.equal(mixed[:, 0], mixed[:, 1])
    assert torch.equal(mixed.flatten(2).sort(2).values, place.flatten(2))
    moved = mixed[:, 0].long()
    down = (moved // 21 - torch.arange(30)[:, None]).abs()
    right = (moved % 21 - torch.arange(21)).abs()
    assert int(down.max()) <= 3 and int(right.max()) <= 3
    assert 0.3 < float((moved != place[:, 0]).float().mean()) < 0.6
    assert torch.equal(damage.shuffle_pixels(place, generator, chosen=torch.zeros(8, dtype=torch.bool)), place)


def test_restoration_damages_within_the_images_range_and_by_its_probabilities(generator: torch.Generator) -> None:
    image = planes(64, 1) * 4 - 2
    worse = damage.restore(image, generator)
    assert worse.shape == image.shape
    assert (worse >= image.flatten(1).amin(1).view(-1, 1, 1, 1) - 1e-5).all() and (worse <= image.max() + 1e-5).all()
    assert (worse != image).flatten(1).any(1).float().mean() > 0.9
    assert torch.equal(damage.restore(image, generator, curve=0, shuffle=0, paint=0), image)
    inner = damage.restore(image, generator, curve=0, shuffle=0, paint=1, outside=0)
    outer = damage.restore(image, generator, curve=0, shuffle=0, paint=1, outside=1)
    assert (inner != image).float().mean() < 0.25 < (outer != image).float().mean()


def volumes(rows: int = 60, sides: tuple[int, int, int] = (12, 10, 8)) -> Tensor:
    return planes(rows, sides[0], sides[1], sides[2])[:, None]


def test_boxes_hide_their_share_of_a_volume_anywhere(generator: torch.Generator) -> None:
    volume = volumes(300, (20, 16, 12))
    holed, gone = damage.missing(volume, generator, share=0.1, count=1, dims=3)
    assert gone.shape == (300, 20, 16, 12) and 0.08 < gone.float().mean() < 0.12
    assert torch.equal(holed[:, 0][~gone], volume[:, 0][~gone])
    assert (gone.float().mean(0)[2:-2, 2:-2, 2:-2] > 0).all()
    first = gone[0].nonzero()
    assert int(gone[0].sum()) == int((first.amax(0) - first.amin(0) + 1).prod())  # one box, without gaps


def test_shuffled_voxels_stay_in_their_cube(generator: torch.Generator) -> None:
    place = torch.arange(9 * 10 * 11).view(1, 1, 9, 10, 11).expand(6, 2, 9, 10, 11).float()
    mixed = damage.shuffle_pixels(place, generator, side=3, share=0.5, dims=3)
    assert torch.equal(mixed[:, 0], mixed[:, 1])
    assert torch.equal(mixed.flatten(2).sort(2).values, place.flatten(2))
    moved, own = mixed[:, 0].long(), place[:, 0].long()
    for away in (moved // 110 - own // 110, moved // 11 % 10 - own // 11 % 10, moved % 11 - own % 11):
        assert int(away.abs().max()) == 2
    assert 0.3 < float((moved != own).float().mean()) < 0.6


def test_a_volume_is_restored_within_its_range(generator: torch.Generator) -> None:
    volume = volumes() * 4 - 2
    worse = damage.restore(volume, generator, dims=3)
    assert worse.shape == volume.shape and (worse != volume).flatten(1).any(1).float().mean() > 0.9
    assert worse.min() >= volume.min() - 1e-5 and worse.max() <= volume.max() + 1e-5
    assert torch.equal(damage.restore(volume, generator, curve=0, shuffle=0, paint=0, dims=3), volume)


def test_equal_seeds_do_equal_damage_and_others_do_not() -> None:
    image, volume = planes(8), volumes(8)

    def all_of_them(seed: int) -> list[Tensor]:
        g = torch.Generator().manual_seed(seed)
        return [
            *damage.missing(image, g), damage.restore(image, g), *damage.missing(volume, g, dims=3), damage.restore(volume, g, dims=3),
        ]  # fmt: skip

    first, again, other = all_of_them(0), all_of_them(0), all_of_them(1)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(first, other, strict=True))
