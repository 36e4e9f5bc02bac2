"""Waves to log-mel: the one place of speech where a wave becomes numbers for an encoder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from core.errors import UserError
from speech.audio import Wave

Norm = Literal["utterance", "band", "none"]


@dataclass(frozen=True)
class MelConfig:
    """Log-mel: `rate` in Hz that recordings are resampled to, `window` and `hop` in seconds, `range_db` below the peak kept."""

    rate: int = 8000
    bands: int = 40
    window: float = 0.032
    hop: float = 0.010
    low: float = 60.0
    range_db: float = 80.0

    def __post_init__(self) -> None:
        if not (2 <= self.bands <= 256 and 0 < self.hop <= self.window < 1 and 0 <= self.low < self.rate / 2):
            raise UserError(
                "not a usable log-mel", where=self, mend="2-256 bands, 0 < hop <= window < 1 s, low < rate/2"
            )
        if not 1000 <= self.rate <= 192_000 or self.range_db <= 0:
            raise UserError("not a usable log-mel", where=self, mend="rate 1000-192000 Hz, range_db above 0")


def log_mel(config: MelConfig) -> Callable[[Wave], NDArray[np.float32]]:
    """A function from a wave to its log-mel (T, bands): natural log of power, 0 at the loudest cell, floored at `range_db`.

    The floor is relative, so gain drops out; what lies deeper than `range_db` is the recorder's noise, not the voice's.
    """
    from torchaudio import transforms  # here, not on top: torchaudio must match torch, and only this needs it
    from torchaudio.functional import resample

    window = round(config.window * config.rate)
    n_fft = 1 << (2 * window - 1).bit_length()  # twice the window: fine enough for narrow low bands
    mel = transforms.MelSpectrogram(
        sample_rate=config.rate,
        n_fft=n_fft,
        win_length=window,
        hop_length=round(config.hop * config.rate),
        f_min=config.low,
        n_mels=config.bands,
        mel_scale="htk",
    )
    floor = -config.range_db * np.log(10) / 10

    @torch.no_grad()
    def keep(wave: Wave) -> NDArray[np.float32]:
        samples = torch.from_numpy(wave.samples - wave.samples.mean())
        if wave.rate != config.rate:
            samples = resample(samples, wave.rate, config.rate)
        power = mel(samples).T  # (T, bands)
        peak = power.max()
        if not torch.isfinite(peak) or peak <= 0:  # sound only above the new Nyquist frequency, say
            return np.full(tuple(power.shape), floor, np.float32)
        return (power / peak).clamp_min(1e-30).log().clamp_min(floor).numpy()

    return keep


def samples_at(rate: int) -> Callable[[Wave], NDArray[np.float32]]:
    """A function from a wave to its samples (S,) at `rate` Hz."""
    from torchaudio.functional import resample

    def keep(wave: Wave) -> NDArray[np.float32]:
        if wave.rate == rate:
            return wave.samples
        return resample(torch.from_numpy(wave.samples), wave.rate, rate).numpy()

    return keep


def as_mel(signals: list[NDArray], config: MelConfig) -> list[NDArray[np.float32]]:
    """Log-mel (T, bands) of each signal: as it is where it is log-mel, computed where it is samples (S,) at the config's rate."""
    if not signals or signals[0].ndim == 2:
        return signals
    mel = log_mel(config)
    return [mel(Wave(samples, config.rate, "")) for samples in signals]


def normalise(mel: Tensor, pad: Tensor | None, norm: Norm) -> Tensor:
    """Zero mean, unit variance of log-mel (B, T, F): over the utterance, each band apart, or not at all; padding becomes 0."""
    if norm == "none":
        return mel if pad is None else mel.masked_fill(pad[..., None], 0.0)
    keep = torch.ones_like(mel[..., :1]) if pad is None else (~pad)[..., None].to(mel.dtype)  # (B, T, 1)
    axes = (1, 2) if norm == "utterance" else (1,)
    count = keep.sum(1, keepdim=True).clamp_min(1.0) * (mel.shape[-1] if norm == "utterance" else 1)
    mean = (mel * keep).sum(axes, keepdim=True) / count
    variance = ((mel - mean).square() * keep).sum(axes, keepdim=True) / count
    return (mel - mean) / (variance + 1e-4).sqrt() * keep
