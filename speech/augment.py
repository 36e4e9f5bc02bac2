"""Changes of log-mel that keep the words and change the voice: whole batches on their device, each sample its own parameters.

All take and give log-power mel (B, T, F) in natural log units, 0 at the loudest cell of a recording, before normalisation.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

DECIBEL = math.log(10) / 10  # one decibel in natural log units of power


def uniform(generator: Generator, count: int, low: float, high: float) -> Tensor:
    """(count,) numbers in [low, high)."""
    return torch.rand(count, generator=generator, device=generator.device) * (high - low) + low


def lengths(mel: Tensor, pad: Tensor | None) -> Tensor:
    """Real frames of each sample, (B,) float."""
    if pad is None:
        return torch.full((len(mel),), float(mel.shape[1]), device=mel.device)
    return (~pad).sum(1).to(mel.dtype)


def band_edges(low: float, high: float) -> tuple[float, float]:
    """A frequency range in Hz on the mel scale (O'Shaughnessy 1987)."""
    return 2595 * math.log10(1 + low / 700), 2595 * math.log10(1 + high / 700)


def resample(
    mel: Tensor, length: Tensor, start: Tensor, end: Tensor, bend: Tensor, stretch: Tensor, shift: Tensor, frames: int,
    hertz: tuple[float, float],
) -> Tensor:  # fmt: skip
    """Cut, pace and vocal tract at once, by one bilinear look-up: (B, T, F) -> (B, frames, F).

    Args:
        length: (B,) real frames; nothing behind them is read.
        start, end: (B,) the cut as shares of the real length; outside [0, 1] the first or last frame is held.
        bend: (B, 2) weights of half and whole sine waves by which time runs unevenly; below 0.3 in all keeps it monotone.
        stretch: (B,) frequencies are multiplied by it, in Hz: a vocal tract shorter or longer (Jaitly & Hinton 2013).
        shift: (B,) share of the mel range by which the picture moves.
        hertz: the mel range in Hz.
    """
    time, bands = mel.shape[1:]
    u = torch.linspace(0, 1, frames, device=mel.device)[None]
    u = u + bend[:, :1] * torch.sin(math.pi * u) + bend[:, 1:] * torch.sin(2 * math.pi * u)
    t = (start[:, None] + (end - start)[:, None] * u) * (length[:, None] - 1)
    t = torch.minimum(t.clamp_min(0), (length[:, None] - 1).clamp_min(0))  # (B, frames)
    low, high = band_edges(*hertz)
    centre = 700 * (10 ** (torch.linspace(low, high, bands, device=mel.device) / 2595) - 1)
    source = 2595 * torch.log10(1 + centre[None] * stretch[:, None] / 700)
    f = (source - low) / (high - low) + shift[:, None]  # (B, F) in [0, 1]
    shape = (len(mel), frames, bands)
    across = (2 * f - 1)[:, None, :].expand(shape)
    along = (2 * t / max(time - 1, 1) - 1)[:, :, None].expand(shape)
    grid = torch.stack([across, along], -1)
    return F.grid_sample(mel[:, None], grid, mode="bilinear", padding_mode="border", align_corners=True)[:, 0]


def fit_frames(
    mel: Tensor, pad: Tensor | None, frames: int, hertz: tuple[float, float], stretch: float = 1.0
) -> Tensor:
    """A whole recording in a fixed number of frames, unchanged but for the pace (and a vocal tract where asked)."""
    count = len(mel)
    zero = torch.zeros(count, device=mel.device)
    one = zero + 1
    bend = torch.zeros(count, 2, device=mel.device)
    return resample(mel, lengths(mel, pad), zero, one, bend, one * stretch, zero, frames, hertz)


def smooth_curve(generator: Generator, count: int, size: int, waves: int) -> Tensor:
    """(count, size) random curves of unit variance: sums of the first `waves` cosines."""
    weight = torch.randn(count, waves, generator=generator, device=generator.device)
    place = (torch.arange(size, device=generator.device) + 0.5) / size
    basis = torch.cos(math.pi * torch.arange(1, waves + 1, device=generator.device)[:, None] * place)
    return weight @ basis * math.sqrt(2 / waves)


def blur(mel: Tensor, sigma: Tensor) -> Tensor:
    """Smooth over bands by a Gaussian of `sigma` (B,) bands: what resolves a voice's harmonics resolves its pitch."""
    reach = 4
    place = torch.arange(-reach, reach + 1, device=mel.device)
    kernel = torch.exp(-0.5 * (place / sigma[:, None].clamp_min(0.05)) ** 2)
    kernel = kernel / kernel.sum(1, keepdim=True)
    rows = F.pad(mel.transpose(0, 1), (reach, reach), mode="replicate")  # (T, B, F + 2·reach): samples as groups
    return F.conv1d(rows, kernel[:, None], groups=len(mel)).transpose(0, 1)


def mix(mel: Tensor, other: Tensor, level: Tensor) -> Tensor:
    """Add another recording `level` (B,) dB below, as powers (the log-mixup-exp of BYOL-A, Niizumi et al. 2021)."""
    return torch.logaddexp(mel, other + DECIBEL * level[:, None, None])


def stripes(mel: Tensor, share: float, axis: int, generator: Generator) -> Tensor:
    """Zero one random stripe of up to `share` of time (axis 1) or of the bands (axis 2) (SpecAugment, Park et al. 2019)."""
    size, count = mel.shape[axis], len(mel)
    width = uniform(generator, count, 0, share) * size
    start = uniform(generator, count, 0, 1) * (size - width)
    place = torch.arange(size, device=mel.device)[None]
    hidden = (place >= start[:, None]) & (place < (start + width)[:, None])
    return mel.masked_fill(hidden[:, :, None] if axis == 1 else hidden[:, None, :], 0.0)
