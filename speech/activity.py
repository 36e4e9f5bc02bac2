"""Where somebody speaks: voice activity by energy, against the recording's own quietest tenth. No model, no training."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from core.config import within
from speech.audio import Wave

Span = tuple[int, int]
SILENCE_DB = -100.0  # below the last bit of 16


@dataclass(frozen=True)
class ActivityConfig:
    """When a frame counts as sound.

    Attributes:
        frame: seconds.
        above_db: over the recording's quiet level (the 10th percentile of its frames).
        range_db: below the loudest frame: what lies deeper is never sound, what lies within a third of it always is, since a short
            recording without a pause has no quiet level.
        hang: seconds of quiet that a stretch outlives, and that are left on either side of it.
        least: seconds; shorter stretches are dropped.
    """

    frame: float = 0.02
    above_db: float = 12.0
    range_db: float = 40.0
    hang: float = 0.2
    least: float = 0.03

    def __post_init__(self) -> None:
        within(self, frame=(0.005, 0.5), above_db=(0, 100), range_db=(1, 200), hang=(0, 10), least=(0, 60))


def levels(samples: NDArray[np.float32], rate: int, config: ActivityConfig) -> NDArray[np.float64]:
    """Energy of each frame in dB, (frames,); the mean is taken off first."""
    size = max(1, round(config.frame * rate))
    count = -(-len(samples) // size)
    padded = np.zeros(count * size, np.float64)
    padded[: len(samples)] = samples - samples.mean(dtype=np.float64)
    return 10 * np.log10(np.square(padded).reshape(count, size).mean(1) + 1e-12)


def active(samples: NDArray[np.float32], rate: int, config: ActivityConfig | None = None) -> list[Span]:
    """Stretches of sound of samples (N,), as [start, end) in samples, rising and apart; empty where all is quiet."""
    config = config or ActivityConfig()
    if len(samples) == 0:
        return []
    level, size = levels(samples, rate, config), max(1, round(config.frame * rate))
    loudest, quiet = float(level.max()), float(np.percentile(level, 10))
    if loudest <= SILENCE_DB:
        return []
    threshold = np.clip(quiet + config.above_db, loudest - config.range_db, loudest - config.range_db / 3)
    loud = level >= threshold
    edges = np.flatnonzero(np.diff(np.concatenate([[False], loud, [False]]).astype(int)))
    spans = [(int(a) * size, min(int(b) * size, len(samples))) for a, b in edges.reshape(-1, 2)]
    hang, joined = round(config.hang * rate), list[Span]()
    for start, end in spans:
        if joined and start - joined[-1][1] <= 2 * hang:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((start, end))
    kept = [(start, end) for start, end in joined if end - start >= config.least * rate]
    return [(max(0, start - hang), min(len(samples), end + hang)) for start, end in kept]


def trimmed(samples: NDArray[np.float32], rate: int, config: ActivityConfig | None = None) -> Span | None:
    """From the first sound to the end of the last; all of it where no stretch is long enough; None where there is silence alone."""
    config = config or ActivityConfig()
    spans = active(samples, rate, config)
    if spans:
        return spans[0][0], spans[-1][1]
    loud = len(samples) > 0 and float(levels(samples, rate, config).max()) > SILENCE_DB
    return (0, len(samples)) if loud else None


def sounding(wave: Wave, config: ActivityConfig, least: float) -> tuple[float, Wave]:
    """Where a recording's sound begins, in seconds, and the recording without the quiet at its ends; its digest stays.

    Args:
        least: seconds; where less would be left, the whole recording comes back.
    """
    start, end = trimmed(wave.samples, wave.rate, config) or (0, 0)
    if end - start < max(least * wave.rate, 1):
        return 0.0, wave
    return start / wave.rate, replace(wave, samples=np.ascontiguousarray(wave.samples[start:end]))


def segments(
    samples: NDArray[np.float32], rate: int, longest: float, config: ActivityConfig | None = None
) -> list[Span]:
    """Stretches of sound of at most `longest` seconds: longer ones are cut at the quietest frame of their second half."""
    config = config or ActivityConfig()
    most, size = int(longest * rate), max(1, round(config.frame * rate))
    level, found = levels(samples, rate, config), list[Span]()
    for start, end in active(samples, rate, config):
        while end - start > most:
            first, last = -(-(start + most // 2) // size), (start + most) // size
            cut = (first + int(level[first:last].argmin())) * size if last > first else start + most
            found.append((start, cut))
            start = cut
        found.append((start, end))
    return found
