"""BYOL-A's views: a mix of powers, a crop that is the picture itself at sides of 1, and what is outside at the floor."""

from __future__ import annotations

import pytest
import torch

from core.errors import UserError
from speech.crops import mixed_in, resized_crop
from speech.presets import recipe
from speech.tasks import MixedCrops


def drawn(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_powers_are_mixed_within_the_share() -> None:
    mel = torch.randn(6, 9, 5, generator=drawn())
    mixed = mixed_in(mel, 0.4, drawn(1))
    power = mixed.exp()
    least, most = mel.exp().amin(0), mel.exp().amax(0)
    assert (power >= 0.6 * mel.exp() - 1e-6).all() and (power <= most + 1e-6).all() and (power >= least - 1e-6).all()
    assert not torch.allclose(mixed, mel)
    torch.testing.assert_close(mixed_in(mel, 1e-7, drawn(1)), mel, atol=1e-4, rtol=0)


def test_a_crop_of_the_whole_is_the_picture() -> None:
    mel = torch.randn(4, 16, 10, generator=drawn())
    torch.testing.assert_close(resized_crop(mel, 1.0, 1.0, 1.0, -5.0, drawn(2)), mel, atol=1e-4, rtol=1e-4)


def test_a_crop_twice_as_large_is_the_picture_at_half_its_size_on_the_floor() -> None:
    mel = torch.zeros(3, 32, 32)
    seen = resized_crop(mel, 2.0, 2.0, 2.0, -5.0, drawn(2))
    assert (seen[:, 11:21, 11:21].abs() < 0.1).all() and (seen[:, :6] + 5).abs().max() < 0.1
    assert (seen[:, :, -6:] + 5).abs().max() < 0.1


def test_rectangles_lie_within_the_canvas() -> None:
    """With no canvas beyond the picture nothing of the floor is seen, and rows differ in what they show."""
    mel = torch.linspace(0, 1, 40)[None, :, None].expand(64, 40, 12).contiguous()
    seen = resized_crop(mel, 0.6, 0.9, 1.0, -50.0, drawn(3))[:, 2:-2, 2:-2]
    assert seen.min() > -0.1 and seen.max() < 1.1
    slope = (seen[:, -1, 0] - seen[:, 0, 0]) / 36 * 40
    assert 0.5 < slope.min() < 0.7 and 0.8 < slope.max() < 1.0


def test_views_are_equal_for_equal_seeds_and_never_look_at_padding() -> None:
    settings = recipe("byola")
    make = settings.pretext.bound(settings)
    pad = torch.arange(50)[None] >= torch.tensor([50, 30, 12, 44])[:, None]
    mel = -10 * torch.rand(4, 50, 40, generator=drawn())
    a = make({"mel": mel, "pad": pad, "index": torch.arange(4)}, drawn(4)).views
    b = make({"mel": mel.masked_fill(pad[..., None], 99.0), "pad": pad, "index": torch.arange(4)}, drawn(4)).views
    for x, y in zip(a, b, strict=True):
        assert x["mel"].shape == (4, settings.views.frames, 40)
        torch.testing.assert_close(x["mel"], y["mel"], atol=1e-3, rtol=0)  # the look-up between frames rounds
    assert not torch.allclose(a[0]["mel"], a[1]["mel"])


def test_settings_out_of_range_are_one_line() -> None:
    with pytest.raises(UserError, match="crops"):
        MixedCrops(low=1.6)
    with pytest.raises(UserError, match="mix"):
        MixedCrops(mix=1.0)
