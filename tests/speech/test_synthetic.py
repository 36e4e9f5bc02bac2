"""The generator: seeded, scales to any size, and plants words that outlive a change of voice."""

import numpy as np
import pytest

from core.errors import UserError
from speech.data import read
from speech.synthetic import SynthConfig, generate, recordings, utter, voice


def test_equal_seeds_give_equal_files_and_a_larger_set_begins_with_the_smaller(tmp_path):
    small = generate(tmp_path / "a", SynthConfig(size=6, speakers=3, seed=5))
    large = generate(tmp_path / "b", SynthConfig(size=9, speakers=3, seed=5))
    other = generate(tmp_path / "c", SynthConfig(size=6, speakers=3, seed=6))
    for path in sorted(small.glob("*.wav")):
        assert path.read_bytes() == (large / path.name).read_bytes()
        assert path.read_bytes() != (other / path.name).read_bytes()


def test_what_is_written_is_what_data_reads_and_speakers_are_apart(spoken):
    got = read(spoken)
    assert len(got) == 120 and len(got.quarantine) == 0 and len(set(got.label)) == 10
    assert not set(got.speaker[got.split == "train"]) & set(got.speaker[got.split == "test"])
    assert all(len(set(got.label[got.speaker == s])) == 10 for s in set(got.speaker))


def test_formants_carry_the_word_and_the_tract_moves_them():
    """The vowel of "three" has its second formant far above that of "two", for a short and for a long vocal tract."""

    def centroid(word, tract):
        who = voice(0, 0)
        who = type(who)(pitch=120, tract=tract, pace=1.0, tilt=-6, noise=-60, room=(0.0,))
        wave = utter(word, who, 8000, np.random.default_rng(0))
        power = np.abs(np.fft.rfft(wave[len(wave) // 2 :])) ** 2
        hertz = np.fft.rfftfreq(len(wave) - len(wave) // 2, 1 / 8000)
        upper = hertz > 600
        return (power * hertz)[upper].sum() / power[upper].sum()

    assert centroid(3, 1.0) > centroid(2, 1.0) + 300
    assert centroid(3, 1.2) > centroid(3, 0.9) + 200


def test_a_linear_model_hears_words_well_above_chance_but_not_perfectly(recordings):
    from core.probes import linear
    from speech.baselines import floor_features

    train = recordings.split == "train"
    features = floor_features(recordings.signals)["log-mel in 8 segments"]
    said = linear(features[train], recordings.label[train], features[~train], None, (0.01,)).argmax(1)
    accuracy = (np.unique(recordings.label)[said] == recordings.label[~train]).mean()
    assert 0.3 < accuracy < 0.97


def test_every_voice_says_every_word_before_any_is_repeated():
    rows = recordings(SynthConfig(size=30, speakers=3))
    assert len({(word, speaker) for _, word, speaker, _ in rows}) == 30


def test_a_folder_that_holds_something_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(UserError, match="holds something"):
        generate(tmp_path)
    with pytest.raises(UserError, match="not something"):
        SynthConfig(size=0)
