"""Generated mixtures: repeatable, of every kind in every scene, and told apart across scenes by the simplest features."""

import numpy as np
import pytest

from core.errors import UserError
from speech.baselines import floor_features
from speech.data import read
from speech.features import MelConfig, log_mel
from speech.mixtures import KINDS, MixConfig, generate_mixtures, mixture, sound
from speech.probes import heard


def test_a_mixture_depends_on_its_seed_and_number_alone():
    few, many = MixConfig(size=3, seconds=0.5), MixConfig(size=300, seconds=0.5)
    assert np.array_equal(mixture(2, few)[0], mixture(2, many)[0])
    assert not np.array_equal(mixture(2, few)[0], mixture(2, MixConfig(seed=1, seconds=0.5))[0])
    wave, label, scene = mixture(0, few)
    assert len(wave) == 4000 and np.abs(wave).max() == pytest.approx(0.5) and label == "speech" and scene == 0
    for kind in KINDS:
        assert np.sqrt(np.mean(sound(kind, 1, few, np.random.default_rng(0)) ** 2)) == pytest.approx(1, abs=1e-6)


def test_kinds_are_heard_across_scenes(tmp_path):
    out = generate_mixtures(tmp_path / "m", MixConfig(size=108, scenes=6, seconds=1.0))
    got = read(out, keep=log_mel(MelConfig()))
    assert len(got) == 108 and all(set(got.label[got.speaker == s]) == set(KINDS) for s in set(got.speaker))
    features = floor_features(got.signals)["log-mel mean and deviation"]
    test = got.split == "test"
    said = heard(features, got.label.astype(str), ~test, test, got.speaker.astype(str))
    assert np.mean(said == got.label[test]) > 0.75
    with pytest.raises(UserError, match="holds something"):
        generate_mixtures(out)
