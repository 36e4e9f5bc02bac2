"""Batched augmentation: every operation against torchvision's on single images, draws against its distributions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torchvision.transforms.functional as F
from PIL import Image
from scipy.stats import ks_2samp
from torch import Generator, Tensor
from torchvision.transforms import RandomResizedCrop

from core import augment as module
from core.augment import (
    BRIGHTNESS,
    CONTRAST,
    HUE,
    IMAGENET,
    SATURATION,
    AugmentConfig,
    apply,
    augment,
    blur,
    draw,
    resample,
    turn_hue,
    views,
)
from core.errors import UserError

STILL = AugmentConfig(area=(1, 1), ratio=(1, 1), flip=0, jitter=0, grey=0, blur=0)  # nothing happens


def seeded(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def pictures(n: int, height: int = 20, width: int = 20, channels: int = 3, seed: int = 0) -> Tensor:
    """Smooth random images in [0, 1], with grey, black and saturated places."""
    x = torch.rand(n, channels, 5, 6, generator=seeded(seed)) * 1.4 - 0.2
    x = torch.nn.functional.interpolate(x, (height, width), mode="bilinear").clamp(0, 1)
    x[:, :, :2] = 0.4
    return x


def reference(image: Tensor, p: module.Parameters, row: int, size: tuple[int, int], config: AugmentConfig) -> Tensor:
    """One image through torchvision's functions, in the order of lightly's transform."""
    top, left, h, w = (int(v) for v in p.box[row])
    x = F.resized_crop(image, top, left, h, w, list(size), antialias=True)
    if p.flip[row]:
        x = F.hflip(x)
    adjust = {
        BRIGHTNESS: F.adjust_brightness, CONTRAST: F.adjust_contrast, SATURATION: F.adjust_saturation, HUE: F.adjust_hue,
    }  # fmt: skip
    for operation in p.order[row].tolist():
        x = adjust[operation](x, float(p.factor[row, operation]))
    if p.grey[row] and len(image) == 3:
        x = F.rgb_to_grayscale(x, 3)
    if p.sigma[row] > 0:  # torchvision mirrors at the edge, Pillow lets the edge go on
        padded = torch.nn.functional.pad(x[None], (6, 6, 6, 6), mode="replicate")
        x = F.gaussian_blur(padded, 13, float(p.sigma[row]))[0, :, 6:-6, 6:-6]
    return F.normalize(x, config.mean, config.std) if config.mean is not None else x


@pytest.mark.parametrize(
    ("channels", "height", "width", "size"), [(3, 20, 20, 20), (3, 31, 24, 16), (3, 18, 22, None), (1, 20, 20, 24)]
)
def test_equals_torchvision_on_single_images(channels: int, height: int, width: int, size: int | None) -> None:
    config = AugmentConfig(size=size, mean=IMAGENET[0][:channels], std=IMAGENET[1][:channels])
    x = pictures(60, height, width, channels)
    p = draw(x, seeded(1), config)
    out = apply(x, p, config)
    shape = (height, width) if size is None else (size, size)
    for row in range(len(x)):
        expected = reference(x[row], p, row, shape, config)
        assert torch.allclose(out[row], expected, atol=2e-4), (row, (out[row] - expected).abs().max())


def test_hue_equals_torchvisions_for_every_colour() -> None:
    levels = torch.linspace(0, 1, 6)
    cube = torch.cartesian_prod(levels, levels, levels).T.reshape(1, 3, 6, 36)
    for turn in (-0.5, -0.2, 0.1, 0.5):
        mine = turn_hue(cube, torch.full((1, 1, 1, 1), turn))
        assert torch.allclose(mine, F.adjust_hue(cube, turn), atol=1e-5)


def test_comes_near_pillow() -> None:
    """Pillow works in whole 255ths, and blurs by boxes."""
    x = pictures(8, 32, 32)
    pil = [Image.fromarray((image * 255).round().byte().permute(1, 2, 0).numpy()) for image in x]
    box = torch.tensor([[3, 5, 20, 17]]).repeat(8, 1).float()
    mine = resample(x, box, torch.zeros(8, dtype=torch.bool), (24, 24))
    theirs = torch.stack([F.to_tensor(F.resized_crop(image, 3, 5, 20, 17, [24, 24])) for image in pil])
    assert (mine - theirs).abs().max() < 1.6 / 255
    from PIL.ImageFilter import GaussianBlur

    mine = x.clone()
    blur(mine, torch.full((8,), 1.5), 2.0)
    theirs = torch.stack([F.to_tensor(image.filter(GaussianBlur(1.5))) for image in pil])
    assert (mine - theirs).abs().mean() < 1 / 255 and (mine - theirs).abs().max() < 8 / 255


def test_nothing_configured_changes_nothing() -> None:
    x = pictures(4)
    assert torch.equal(augment(x, seeded(), STILL), x)
    assert torch.allclose(augment((x * 255).round().byte(), seeded(), STILL), x, atol=0.51 / 255)


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_range_is_kept(channels: int) -> None:
    for x in (pictures(40, channels=channels), torch.zeros(20, channels, 9, 9), torch.ones(20, channels, 9, 9)):
        out = augment(x, seeded(), AugmentConfig(hue=0.5, size=12))
        assert out.dtype == torch.float32 and out.shape == (len(x), channels, 12, 12)
        assert torch.isfinite(out).all() and out.min() >= -1e-6 and out.max() <= 1 + 1e-6


def test_each_image_has_parameters_of_its_own_and_the_generator_decides_all() -> None:
    same = pictures(1).expand(32, -1, -1, -1)
    out = augment(same, seeded(3))
    assert len(torch.unique(out.flatten(1), dim=0)) == 32
    torch.manual_seed(0)
    assert torch.equal(out, augment(same, seeded(3)))
    assert not torch.equal(out, augment(same, seeded(4)))


def test_groups_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    x = pictures(40)
    whole = augment(x, seeded(5))
    monkeypatch.setattr(module, "CACHED", 3 * 400 * 4)
    assert torch.allclose(augment(x, seeded(5)), whole, atol=1e-6)


def test_stays_in_fp32_under_autocast_and_leaves_the_input_alone() -> None:
    x = pictures(12)
    before = x.clone()
    expected = augment(x, seeded(6))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(augment(x, seeded(6)), expected)
    assert torch.equal(x, before)


@pytest.mark.parametrize(("height", "width"), [(28, 28), (20, 64)])
def test_crops_are_distributed_as_torchvisions(height: int, width: int) -> None:
    n = 2500
    config = AugmentConfig()
    box = draw(torch.empty(n, 3, height, width), seeded(7), config).box.numpy()
    torch.manual_seed(8)
    empty = torch.empty(3, height, width)
    theirs = np.array(
        [RandomResizedCrop.get_params(empty, list(config.area), list(config.ratio)) for _ in range(n)], dtype=float
    )
    assert (
        (box[:, :2] >= 0).all() and (box[:, 0] + box[:, 2] <= height).all() and (box[:, 1] + box[:, 3] <= width).all()
    )
    for mine, other in (
        (box[:, 2] * box[:, 3], theirs[:, 2] * theirs[:, 3]), (box[:, 3] / box[:, 2], theirs[:, 3] / theirs[:, 2]),
        (box[:, 0], theirs[:, 0]), (box[:, 1], theirs[:, 1]),
    ):  # fmt: skip
        assert ks_2samp(mine, other).pvalue > 0.003


def test_probabilities_and_ranges_are_those_asked_for() -> None:
    n = 6000
    p = draw(torch.empty(n, 3, 8, 8), seeded(9), AugmentConfig())
    changed = (p.factor != module.nothing(p.factor.device)).any(1)
    for share, expected in ((p.flip, 0.5), (changed, 0.8), (p.grey, 0.2), (p.sigma > 0, 0.5)):
        assert abs(float(share.float().mean()) - expected) < 4 * (expected * (1 - expected) / n) ** 0.5
    for operation, (low, high) in enumerate([(0.2, 1.8)] * 3 + [(-0.2, 0.2)]):
        uniform = (p.factor[changed, operation].numpy() - low) / (high - low)
        assert ks_2samp(uniform, np.random.default_rng(0).random(20_000)).pvalue > 0.003
    sigma = p.sigma[p.sigma > 0].numpy()
    assert 0.1 <= sigma.min() < 0.15 and 1.95 < sigma.max() <= 2
    orders = torch.unique(p.order, dim=0, return_counts=True)[1]
    assert len(orders) == 24 and orders.min() > n / 24 * 0.7  # all orders of four, equally often


def test_multi_crop() -> None:
    x = pictures(6, 32, 32)
    made = views({"image": x, "index": torch.arange(6)}, seeded(), AugmentConfig(area=(0.3, 1)), 2, 4, local_size=12)
    assert made.n_global == 2 and [v["image"].shape[-1] for v in made.views] == [32, 32, 12, 12, 12, 12]
    assert not torch.equal(made.views[0]["image"], made.views[1]["image"])
    area = (
        draw(x.repeat(200, 1, 1, 1), seeded(), replace(AugmentConfig(), area=(0.05, 0.25))).box[:, 2:].prod(1) / 32**2
    )
    assert area.max() < 0.28  # a small view sees a small part


def test_bad_input_is_one_clear_line() -> None:
    with pytest.raises(UserError, match=r"give \(B, C, H, W\)"):
        augment(torch.rand(3, 8, 8), seeded())
    with pytest.raises(UserError, match="3 means for images of 1 channels"):
        augment(torch.rand(2, 1, 8, 8), seeded(), AugmentConfig(mean=IMAGENET[0], std=IMAGENET[1]))
    for wrong in (
        {"flip": 1.2},
        {"hue": 0.6},
        {"area": (0.5, 0.2)},
        {"sigma": (0, 1)},
        {"size": 0},
        {"brightness": -1},
    ):
        with pytest.raises(UserError, match="is out of range"):
            AugmentConfig(**wrong)
    with pytest.raises(UserError, match="belong together"):
        AugmentConfig(mean=(0.5,))
