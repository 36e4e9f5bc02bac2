"""Speaker verification: pairs of recordings by one speaker or two, scored by the cosine of their features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from core.errors import UserError
from core.statistics import Estimate, bootstrap
from core.verification import eer, trials
from speech.alike import directions
from speech.baselines import floor_features
from speech.data import Recordings
from speech.estimators import AudioEncoder
from speech.features import as_mel
from speech.outcome import PRETRAINED, RANDOM_FLOOR
from speech.protocol import split

MOST_RECORDINGS = 4000  # all pairs of so many are 8 million


@dataclass(frozen=True)
class Verification:
    """Equal error rates with 95 % intervals (whole speakers drawn), by features; the pairs and their scores."""

    words: str
    eer: dict[str, Estimate]
    left: NDArray
    right: NDArray
    same: NDArray[np.bool_]
    score: NDArray[np.float64]
    speakers: int

    def json(self) -> dict[str, Any]:
        """Plain JSON, without names."""
        return {
            "protocol": self.words, "pairs": len(self.same), "speakers": self.speakers,
            "eer": {name: value.json() for name, value in self.eer.items()},
        }  # fmt: skip

    def table(self, names: list[str]) -> pd.DataFrame:
        """`left, right, same, score` of each pair, for the data's owner."""
        files = np.array(names, dtype=object)
        return pd.DataFrame(
            {"left": files[self.left], "right": files[self.right], "same": self.same, "score": self.score.round(5)}
        )


def scores(features: NDArray, left: NDArray, right: NDArray) -> NDArray[np.float64]:
    """Cosine of the rows `left` and `right` of features (N, D), whose columns count alike and are counted from their mean."""
    spread = features / np.maximum(features.std(0), 1e-6)  # else the loudest features alone would speak
    towards = directions(spread, spread.mean(0))
    return (towards[left] * towards[right]).sum(1).astype(np.float64)


def verify(encoder: AudioEncoder, recordings: Recordings, most: int = 5000, seed: int = 0) -> Verification:
    """Measure a run on pairs of recordings; what is told of the features is the mean of all of them, nothing else.

    Where two or more speakers are held out, the pairs are theirs alone; else they are of all speakers, and the words say so.

    Raises:
        UserError: fewer than two speakers, or none with two recordings.
    """
    if most < 1:
        raise UserError(f"{most} pairs", where="--trials", mend="ask for 1 or more")
    known = recordings.speaker != ""
    held, words = np.zeros(len(recordings), bool), "pairs of all speakers, whom pretraining may have heard, unlabelled"
    if len(set(recordings.speaker[known])) >= 2 and known.all():
        found = split(recordings, encoder.fold_)
        if len(set(recordings.speaker[found.test])) >= 2:
            held, words = found.test & known, f"pairs of held-out speakers ({found.words})"
    rows = np.flatnonzero(held if held.any() else known)
    speaker = recordings.speaker[rows].astype(str)
    counts = np.unique(speaker, return_counts=True)[1]
    if len(counts) < 2 or counts.max() < 2:
        raise UserError(
            "too few speakers", where="speaker", mend="name two speakers or more, one of them with two recordings"
        )
    generator = np.random.default_rng(seed)
    if len(rows) > MOST_RECORDINGS:
        pick = np.sort(generator.choice(len(rows), MOST_RECORDINGS, replace=False))
        rows, speaker = rows[pick], speaker[pick]
    left, right, same = trials(speaker, most, generator)
    chosen = recordings.select(rows)
    arms = {
        PRETRAINED: encoder.transform(chosen),
        RANDOM_FLOOR.split(" +")[0]: encoder.untrained(seed).transform(chosen),
    }
    arms |= floor_features(as_mel(chosen.signals, encoder.recipe_.mel))
    groups = speaker[left]
    score = {name: scores(features, left, right) for name, features in arms.items()}
    measured = {
        name: bootstrap(eer, same, value, groups if len(counts) >= 3 else None, draws=200, seed=seed)
        for name, value in score.items()
    }
    return Verification(words, measured, rows[left], rows[right], same, score[PRETRAINED], len(counts))
