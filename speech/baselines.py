"""The floors: log-mel statistics with logistic regression. No encoder that loses to these is worth its training."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def mean_std(mel: NDArray) -> NDArray[np.float32]:
    """Mean and standard deviation over time of a log-mel (T, F): (2F,)."""
    return np.concatenate([mel.mean(0), mel.std(0)]).astype(np.float32)


def segments(mel: NDArray, count: int = 8) -> NDArray[np.float32]:
    """Means of `count` equal stretches of time and the standard deviation over all: ((count + 1)·F,).

    Where there are fewer frames than stretches, neighbouring stretches share a frame.
    """
    edges = np.linspace(0, len(mel), count + 1)
    starts = np.minimum(np.floor(edges[:-1]).astype(int), len(mel) - 1)
    ends = np.maximum(np.ceil(edges[1:] - 1e-9).astype(int), starts + 1)
    parts = [mel[start:end].mean(0) for start, end in zip(starts, ends, strict=True)]
    return np.concatenate([*parts, mel.std(0)]).astype(np.float32)


def floor_features(mels: list[NDArray]) -> dict[str, NDArray[np.float32]]:
    """Every floor's features (N, D) of log-mels [(T, F)], by name."""
    return {
        "log-mel mean and deviation": np.stack([mean_std(mel) for mel in mels]),
        "log-mel in 8 segments": np.stack([segments(mel) for mel in mels]),
    }
