"""The floors, exact on small cases."""

import numpy as np

from speech.baselines import floor_features, mean_std, segments


def test_mean_and_deviation_by_hand():
    mel = np.array([[0.0, 2.0], [4.0, 2.0]], np.float32)
    assert mean_std(mel).tolist() == [2.0, 2.0, 2.0, 0.0]


def test_segments_by_hand():
    mel = np.arange(8, dtype=np.float32)[:, None]
    got = segments(mel, 4)
    assert np.allclose(got[:4], [0.5, 2.5, 4.5, 6.5]) and np.isclose(got[4], mel.std())


def test_fewer_frames_than_segments_share_frames():
    got = segments(np.array([[1.0], [3.0]], np.float32), 8)
    assert np.allclose(got[:8], [1, 1, 1, 1, 3, 3, 3, 3]) and np.isfinite(got).all()


def test_every_floor_has_a_row_for_each_recording():
    mels = [np.random.default_rng(i).normal(size=(10 + i, 5)).astype(np.float32) for i in range(3)]
    for features in floor_features(mels).values():
        assert features.shape[0] == 3 and np.isfinite(features).all()
