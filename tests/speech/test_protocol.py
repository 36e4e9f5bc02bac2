"""Who is held out, and the audit that fails a run that looked."""

from dataclasses import replace

import numpy as np
import pytest

from core.errors import UserError
from speech.evaluation import audit
from speech.protocol import speaker_folds, split


def test_the_datas_own_split_is_taken_where_speakers_are_apart(recordings):
    held = split(recordings)
    assert (
        held.fold is None and (held.test == (recordings.split == "test")).all() and not (held.train & held.test).any()
    )


def test_a_split_that_shares_speakers_gives_way_to_a_held_out_speaker(recordings):
    mixed = replace(recordings, split=np.array(["train", "test"] * 60, dtype=object))
    held = split(mixed)
    assert held.fold == 0 and len(set(mixed.speaker[held.test])) == 1
    assert not set(mixed.speaker[held.test]) & set(mixed.speaker[held.train])


def test_every_speaker_is_a_fold_of_its_own(recordings):
    folds = speaker_folds(recordings)
    assert all(len(set(recordings.speaker[folds == f])) == 1 for f in range(6)) and folds.max() == 5


def test_without_speakers_folds_stay_with_the_recordings(recordings):
    unnamed = replace(recordings, speaker=np.array([""] * 120, dtype=object))
    folds = speaker_folds(unnamed)
    assert (speaker_folds(unnamed.select(np.arange(119, -1, -1)))[::-1] == folds).all()
    assert set(folds) <= set(range(5))


def test_half_named_speakers_and_unknown_folds_are_one_clear_line(recordings):
    half = replace(recordings, speaker=np.where(np.arange(120) < 60, "", recordings.speaker))
    with pytest.raises(UserError, match="have no speaker"):
        split(half, 0)
    with pytest.raises(UserError, match="no fold 9"):
        split(recordings, 9)


def test_an_encoder_that_saw_the_test_recordings_fails_the_audit(recordings, fitted, small):
    from speech.estimators import AudioEncoder

    held = split(recordings)
    audit(fitted, recordings, held)
    leaky = AudioEncoder(small, steps=1).fit(recordings, note=lambda line: None)
    with pytest.raises(UserError, match="saw 40 of 40 test recordings"):
        audit(leaky, recordings, held)
