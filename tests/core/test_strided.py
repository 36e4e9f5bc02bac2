"""Convolutions as products of matrices: values and gradients are torch's, with padding and without, in blocks of any size."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from core.encoders import WaveformStem, strided, waveform

SHAPES = {
    "the usual": (((10, 5), (8, 4), (4, 2), (2, 2)), 1303),
    "windows of many strides": (((7, 3), (9, 2), (3, 3)), 101),
    "a stride of one": (((4, 1), (3, 2)), 57),
    "shorter than a window": (((10, 5), (3, 2)), 3),
}


def waves(samples: int, padded: bool) -> dict[str, Tensor]:
    wave = torch.randn(3, samples, generator=torch.Generator().manual_seed(1))
    lengths = torch.tensor([samples, samples // 2, 1])
    return {"wave": wave} | ({"pad": torch.arange(samples)[None] >= lengths[:, None]} if padded else {})


def learned(stem: WaveformStem, batch: dict[str, Tensor]) -> list[Tensor]:
    """The latents, and the gradients of everything behind them."""
    stem.zero_grad()
    x = stem.latent(batch).x
    (x * torch.randn(x.shape, generator=torch.Generator().manual_seed(2))).sum().backward()
    return [x.detach(), *(p.grad.clone() for p in stem.parameters() if p.grad is not None)]


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("name", SHAPES)
def test_values_and_gradients_are_those_of_torchs_convolutions(
    name: str, padded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    convolutions, samples = SHAPES[name]
    torch.manual_seed(0)
    stem, batch = WaveformStem(16, 8, convolutions), waves(samples, padded)
    assert strided.quick(batch["wave"])
    found = {}
    for block in (1 << 18, 40):  # all at once, and five rows at a time
        monkeypatch.setattr(strided, "BLOCK", block)
        found[block] = learned(stem, batch)
    monkeypatch.setattr(waveform, "quick", lambda x: False)
    expected = learned(stem, batch)
    assert len(expected) == 4 * len(convolutions) + 3 and all(len(f) == len(expected) for f in found.values())
    for mine in found.values():
        for one, other in zip(mine, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4 * float(other.abs().max()))


def test_where_it_does_not_apply_torchs_convolutions_do() -> None:
    stem = WaveformStem(16, 8, ((10, 5), (3, 2)))
    batch = waves(203, True)
    plain = stem.latent(batch).x
    asked = batch["wave"].clone().requires_grad_()  # what a saliency map asks for
    assert not strided.quick(asked) and not strided.quick(batch["wave"].bfloat16())
    x = stem.latent({**batch, "wave": asked}).x
    x.sum().backward()
    assert asked.grad is not None and asked.grad.abs().max() > 0
    torch.testing.assert_close(x, plain, rtol=1e-4, atol=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        assert not strided.quick(batch["wave"])
        torch.testing.assert_close(stem.latent(batch).x.float(), plain, rtol=0.1, atol=0.1)
    with torch.no_grad():
        torch.testing.assert_close(stem.latent(batch).x, plain)
