"""A run at work: tags of long files, recordings that sound alike, speakers told apart, features frame by frame."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import soundfile as sf

from core.errors import UserError
from core.quarantine import Quarantine
from speech.activity import ActivityConfig
from speech.alike import similar
from speech.audio import ReadConfig
from speech.classifier import AudioClassifier
from speech.cli import main
from speech.data import read
from speech.estimators import AudioEncoder
from speech.framewise import frames_of, write_frames
from speech.prepare import prepare
from speech.presets import recipe
from speech.tagging import TagConfig, tag
from speech.verification import verify
from tests.speech.sounds import RATE, encoded, tone


@pytest.fixture(scope="module")
def pitched(tmp_path_factory):
    """Low and high tones, half a second each, in folders by class."""
    folder = tmp_path_factory.mktemp("pitched")
    generator = np.random.default_rng(0)
    for label, low in (("low", 200), ("high", 1800)):
        (folder / label).mkdir()
        for i in range(12):
            wave = tone(0.5, low * generator.uniform(0.9, 1.1)) + 0.01 * generator.normal(size=RATE // 2)
            (folder / label / f"{i}.wav").write_bytes(encoded(wave.astype(np.float32)))
    return folder


@pytest.fixture(scope="module")
def paused(pitched, tmp_path_factory):
    """The same tones, named alike, each between half a second and a whole one of a room's faint noise."""
    folder, generator = tmp_path_factory.mktemp("paused"), np.random.default_rng(1)
    for path in sorted(pitched.rglob("*.wav")):
        wave, _ = sf.read(path, dtype="float32")
        parts = [1e-4 * generator.normal(size=RATE // 2), wave, 1e-4 * generator.normal(size=RATE)]
        (folder / path.parent.name).mkdir(exist_ok=True)
        (folder / path.parent.name / path.name).write_bytes(encoded(np.concatenate(parts).astype(np.float32)))
    return folder


@pytest.fixture(scope="module")
def pitch(fitted, pitched, tmp_path_factory):
    """A classifier of them, saved."""
    run = tmp_path_factory.mktemp("runs") / "pitch"
    AudioClassifier(fitted).fit(read_with(fitted, pitched)).save(run)
    return run


def read_with(encoder, folder):
    return encoder.read(folder)


def long_file(path, pieces):
    """A file of (label, seconds) one after the other."""
    generator = np.random.default_rng(1)
    sounds = {"low": lambda s: tone(s, 200), "high": lambda s: tone(s, 1800), "": lambda s: np.zeros(int(s * RATE))}
    wave = np.concatenate([sounds[label](seconds) for label, seconds in pieces])
    noise = 0.01 * generator.normal(size=len(wave)) * (wave != 0)
    sf.write(path, wave + noise, RATE, subtype="PCM_16")
    return path


def test_a_recipe_that_trims_hears_the_sound_between_its_pauses(small, pitched, paused, tmp_path):
    plain, trimming = AudioEncoder(small, steps=2, seed=0), AudioEncoder(replace(small, trim=True), steps=2, seed=0)
    alone, kept, cut = plain.read(pitched), plain.read(paused), trimming.read(paused)
    assert (cut.digest == kept.digest).all(), "the leak audit knows a recording by all of it"
    assert kept.seconds.min() == 2.0 and not kept.start.any()
    assert cut.start.min() > 0.4 and cut.start.max() < 0.5 and cut.seconds.max() < 0.7
    assert all(len(a) <= len(b) <= len(a) + 14 for a, b in zip(alone.signals, cut.signals, strict=True))
    trimming.fit(cut, note=lambda line: None)
    write_frames(trimming, cut, [str(n) for n in cut.names], tmp_path / "f.parquet")
    table = pd.read_parquet(tmp_path / "f.parquet")
    bounds = table.groupby("file").agg(start=("start", "min"), end=("end", "max"))
    assert bounds["start"].between(0.4, 0.5).all() and bounds["end"].between(1.0, 1.1).all()
    trimming.save(tmp_path / "run")
    again = AudioEncoder.load(tmp_path / "run").read(paused)
    assert (again.start == cut.start).all(), "a run remembers how it hears"


def test_what_is_all_quiet_or_too_short_without_its_pauses_is_heard_whole(tmp_path):
    generator = np.random.default_rng(0)
    hum, click = 2e-3 * generator.normal(size=RATE), 1e-4 * generator.normal(size=RATE)
    click[4000:4300] += 0.5
    for name, wave in (("hum", hum), ("click", click)):
        (tmp_path / f"{name}.wav").write_bytes(encoded(wave.astype(np.float32)))
    found = read(tmp_path, ReadConfig(min_seconds=0.2), trim=ActivityConfig(hang=0.0))
    assert not found.start.any() and (found.seconds == 1.0).all()


def test_a_long_file_is_tagged_where_its_sounds_are(pitch, tmp_path):
    path = long_file(tmp_path / "long.wav", [("low", 5), ("high", 4), ("", 3), ("low", 2.3)])
    found = tag(AudioClassifier.load(pitch), path, TagConfig(0.5, 0.25), Quarantine())
    assert found["label"].tolist() == ["low", "high", "", "low"]
    assert np.allclose(found["start"], [0, 5, 9, 12], atol=0.3) and found["end"].iloc[-1] == 14.3
    assert np.allclose(found["start"][1:], found["end"][:-1]), "no gap, nothing twice"
    assert found["probability"].between(0, 1).all() and found["probability"][2] == 0


@pytest.mark.parametrize("seconds", [0.1, 0.5, 0.74, 0.76, 8.2])
def test_windows_cover_a_file_of_any_length(pitch, tmp_path, seconds):
    path = long_file(tmp_path / "x.wav", [("low", seconds)])
    found = tag(AudioClassifier.load(pitch), path, TagConfig(0.5, 0.25, merge=False), Quarantine())
    assert found["start"].iloc[0] == 0 and found["end"].iloc[-1] == pytest.approx(seconds, abs=1e-3)
    assert np.allclose(found["start"][1:], found["end"][:-1]) and set(found["label"]) == {"low"}


def test_bad_files_are_set_aside_and_none_usable_is_one_clear_line(pitch, tmp_path):
    long_file(tmp_path / "a.wav", [("low", 2)])
    (tmp_path / "cut.mp3").write_bytes(encoded(tone(3.0), "MP3", None)[:2000])
    (tmp_path / "bad.wav").write_bytes(b"RIFF")
    (tmp_path / "loop.wav").symlink_to(tmp_path / "loop.wav")
    (tmp_path / "nan.wav").write_bytes(
        encoded(np.r_[tone(20.0), np.float32(np.nan)].astype(np.float32), subtype="FLOAT")
    )
    quarantine = Quarantine()
    found = tag(AudioClassifier.load(pitch), tmp_path, TagConfig(), quarantine)
    assert set(found["file"]) == {"a.wav"} and {where for where, *_ in quarantine.records} == {
        "cut.mp3", "bad.wav", "loop.wav", "nan.wav",
    }  # fmt: skip
    with pytest.raises(UserError, match="no usable recording"):
        tag(AudioClassifier.load(pitch), tmp_path / "bad.wav", TagConfig(), quarantine)


def test_memory_does_not_grow_with_the_length_of_a_file(pitch, tmp_path):
    path = long_file(tmp_path / "long.wav", [("low", 30), ("high", 30)] * 20)
    classifier, config = AudioClassifier.load(pitch), TagConfig(4.0, 4.0)
    tag(classifier, long_file(tmp_path / "short.wav", [("low", 10)]), config, Quarantine())  # what is imported stays
    tracemalloc.start()
    try:
        found = tag(classifier, path, config, Quarantine())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found["end"].iloc[-1] == 1200 and len(found) >= 40
    assert peak < 16e6, "twenty minutes are 38 MB as float32; 32 windows and their spectrograms are there at once"


def test_what_sounds_alike_is_near_and_never_the_recording_itself(fitted, pitched):
    recordings = fitted.read(pitched)
    found = similar(fitted, recordings, k=3)
    assert len(found) == 3 * 24 and (found["file"] != found["similar"]).all()
    kind = [a.split("/")[0] == b.split("/")[0] for a, b in zip(found["file"], found["similar"], strict=True)]
    assert np.mean(kind) > 0.9
    assert (found.groupby("file")["cosine"].diff().dropna() <= 0).all()
    asked = similar(fitted, recordings, recordings.select(np.array([0])), k=100)
    assert len(asked) == 23 and set(asked["file"]) == {recordings.names[0]}
    with pytest.raises(UserError, match="no like"):
        similar(fitted, recordings.select(np.array([0])))


def test_verification_is_of_held_out_speakers_and_beside_its_floors(fitted, recordings):
    found = verify(fitted, recordings, most=200)
    assert "held-out speakers" in found.words and found.speakers == 2
    assert set(found.eer) >= {"pretrained", "random init", "log-mel mean and deviation"}
    assert all(0 <= e.low <= e.value <= e.high <= 1 for e in found.eer.values())
    speaker = recordings.speaker
    assert all((speaker[a] == speaker[b]) == s for a, b, s in zip(found.left, found.right, found.same, strict=True))
    assert set(recordings.split[np.r_[found.left, found.right]]) == {"test"}
    assert not any(name in str(found.json()) for name in [*recordings.names, *speaker])
    again = verify(fitted, recordings, most=200)
    assert again.json() == found.json()
    with pytest.raises(UserError, match="too few speakers"):
        verify(fitted, recordings.select(speaker == speaker[0]))


def test_frames_have_their_place_in_time_and_no_padding(fitted, recordings, tmp_path):
    few = recordings.select(np.arange(5))
    hidden = list(frames_of(fitted, few))
    alone = list(frames_of(fitted, few.select(np.array([3]))))
    assert len(hidden) == 5 and len(alone) == 1 and np.allclose(alone[0], hidden[3], atol=1e-4)
    rows, width = write_frames(fitted, few, [str(n) for n in few.names], tmp_path / "f.parquet")
    table = pd.read_parquet(tmp_path / "f.parquet")
    assert len(table) == rows == sum(map(len, hidden)) and width == hidden[0].shape[1]
    last = table.groupby("file", sort=False)["end"].max().to_numpy()
    assert np.allclose(last, few.seconds, atol=1e-3)
    with pytest.raises(UserError, match="parquet"):
        write_frames(fitted, few, ["x"] * 5, tmp_path / "f.csv")


def ended(*arguments):
    with pytest.raises(SystemExit) as end:
        main([str(a) for a in arguments])
    return end.value.code or 0


def test_the_verbs_write_tables(fitted, pitch, pitched, spoken, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("TACIT_KEY", "k")
    run = tmp_path / "run"
    fitted.save(run)
    assert ended("prepare", "--data", spoken, "--out", tmp_path / "packed", "--activity", "trim") == 0
    assert ended("check", "--data", tmp_path / "packed", "--out", tmp_path) == 0
    assert ended("tag", "--run", pitch, "--data", pitched, "--out", tmp_path / "t.parquet", "--pseudonymise") == 0
    assert "low" not in "".join(pd.read_parquet(tmp_path / "t.parquet")["file"])
    assert ended("similar", "--run", run, "--data", tmp_path / "packed", "--out", tmp_path / "s.csv", "--k", "2") == 0
    assert len(pd.read_csv(tmp_path / "s.csv")) == 240
    for more in (["20"], ["50", "--pseudonymise"]):  # the second time into a folder that is there
        assert ended("verify", "--run", run, "--data", spoken, "--out", tmp_path / "v", "--trials", *more) == 0
    trials = pd.read_csv(tmp_path / "v" / "trials.csv")
    assert (tmp_path / "v" / "verification.json").is_file() and len(trials) == 100
    assert not trials.astype(str).apply(lambda column: column.str.contains(".wav", regex=False)).any(axis=None)
    assert ended("embed", "--run", run, "--data", pitched, "--out", tmp_path / "e.parquet", "--frames") == 0
    capsys.readouterr()
    assert ended("tag", "--run", pitch, "--data", pitched, "--out", tmp_path / "t.txt") == 2
    assert "no table format" in capsys.readouterr().err
    assert (
        ended("tag", "--run", pitch, "--data", pitched, "--window", "1", "--hop", "2", "--out", tmp_path / "t.csv") == 2
    )


def test_the_own_folds_of_a_set_are_held_out(tmp_path):
    from speech.protocol import split

    rows = [f"{i}.wav,{i % 2},{i % 5 + 1}" for i in range(10)]
    (tmp_path / "metadata.csv").write_text("\n".join(["file,label,fold", *rows]) + "\n")
    for i in range(10):
        (tmp_path / f"{i}.wav").write_bytes(encoded(tone(frequency=200 + 50 * i)))
    got = read(tmp_path)
    held = split(got, 3)
    assert set(got.fold[held.test]) == {"4"} and "4" not in set(got.fold[held.train]) and "own folds" in held.words
    prepare(tmp_path, tmp_path / "out")
    assert read(tmp_path / "out").fold.tolist() == got.fold.tolist()


def test_an_encoder_of_waveforms_does_the_same_jobs(pitched, spoken, tmp_path):
    shape = replace(recipe("wav2vec2").encoder, dim=16, depth=1, heads=2)
    settings = replace(recipe("wav2vec2"), encoder=shape, batch_size=8)
    encoder = AudioEncoder(settings, steps=2, seed=0)
    words = encoder.read(spoken)
    encoder.fit(words.select(words.split == "train"), note=lambda line: None)
    found = verify(encoder, words, most=50)
    assert set(found.eer) >= {"pretrained", "log-mel mean and deviation"}
    few = words.select(np.arange(3))
    rows, _ = write_frames(encoder, few, ["a", "b", "c"], tmp_path / "f.parquet")
    table = pd.read_parquet(tmp_path / "f.parquet")
    assert len(table) == rows and np.allclose(table.groupby("file")["end"].max(), few.seconds, atol=1e-3)
    classifier = AudioClassifier(encoder).fit(encoder.read(pitched))
    tags = tag(classifier, long_file(tmp_path / "x.wav", [("low", 2), ("high", 2)]), TagConfig(0.5, 0.25), Quarantine())
    assert tags["end"].iloc[-1] == 4.0 and set(tags["label"]) <= {"low", "high"}
