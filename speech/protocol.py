"""Who is held out: which recordings pretraining and probes may see, and which are kept for the test."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.errors import UserError
from speech.data import Recordings

MAX_FOLDS = 10  # up to this many speakers each is a fold of their own


@dataclass(frozen=True)
class Split:
    """Boolean masks (N,) of the training and test recordings, and how they came about, in words without names."""

    train: NDArray[np.bool_]
    test: NDArray[np.bool_]
    words: str
    fold: int | None


def speaker_folds(recordings: Recordings) -> NDArray[np.int64]:
    """Fold of each recording (N,): the set's own; else each speaker a fold, or speakers dealt into 10; else by recording."""
    if own_folds(recordings):
        return np.unique(recordings.fold.astype(str), return_inverse=True)[1].astype(np.int64)
    known = recordings.speaker != ""
    if not known.all():
        if known.any():
            raise UserError(
                "some recordings have no speaker", where="speaker", mend="name every speaker, or drop the column"
            )
        # the digest is as good as a random number, and stays with its recording when others come or go
        return np.array([int(digest[:8], 16) % 5 for digest in recordings.digest], dtype=np.int64)
    _, number = np.unique(recordings.speaker.astype(str), return_inverse=True)
    return number % MAX_FOLDS


def own_folds(recordings: Recordings) -> bool:
    """Whether the data names the fold of every recording, as ESC-10 does."""
    return bool((recordings.fold != "").all()) and len(set(recordings.fold)) >= 2


def split(recordings: Recordings, fold: int | None = None) -> Split:
    """Hold out a test set: the `split` column where no speaker stands on both sides and no fold is asked for, else one fold.

    Args:
        fold: which speaker (or group of speakers) is held out; None takes the column, or fold 0 where the column shares
            speakers or is not there.

    Raises:
        UserError: one side would be empty, or there is no such fold.
    """
    part = recordings.split
    test, train = part == "test", part == "train"
    shared = set(recordings.speaker[test]) & set(recordings.speaker[train]) - {""}
    if fold is None and test.any() and train.any() and not shared:
        ignored = int((~test & ~train).sum())
        words = "the data's own split" + (", speakers apart" if (recordings.speaker[test] != "").all() else "")
        return Split(train, test, words + (f", {ignored} recordings in neither part" if ignored else ""), None)
    number = speaker_folds(recordings)
    count = int(number.max()) + 1
    chosen = fold or 0
    if not 0 <= chosen < count:
        raise UserError(f"there is no fold {chosen}", where="--fold", mend=f"use 0 to {count - 1}")
    test = number == chosen
    if test.all() or not test.any():
        raise UserError("holding out a fold leaves one side empty", where="speaker", mend="give at least two speakers")
    by_speaker = bool((recordings.speaker != "").all())
    kind = "speakers" if by_speaker else "recordings, since no speaker is named"
    kind = "the data's own folds" if own_folds(recordings) else kind
    return Split(~test, test, f"fold {chosen + 1} of {count} held out, by {kind}", chosen)
