"""Prepared sets: the same every time, read like what they were made of, split by speaker, streamed by seconds."""

import json
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from core.errors import UserError
from speech.activity import ActivityConfig, active, segments, trimmed
from speech.audio import ReadConfig
from speech.data import read, scan
from speech.prepare import PrepareConfig, parted, prepare
from speech.shards import Prepared, ShardWriter
from tests.speech.sounds import RATE, encoded, tone


def speech_with_pauses(*seconds):
    """Noise at -60 dB in which tones of so many seconds stand a second apart."""
    generator = np.random.default_rng(0)
    parts = [np.zeros(RATE)]
    for i, length in enumerate(seconds):
        parts += [tone(length, 300 + 100 * i), np.zeros(RATE)]
    wave = np.concatenate(parts)
    return (wave + 1e-3 * generator.normal(size=len(wave))).astype(np.float32)


def bytes_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_same_data_give_the_same_files_and_read_like_their_source(spoken, tmp_path):
    first = prepare(spoken, tmp_path / "a", PrepareConfig(shard_samples=100_000))
    prepare(spoken, tmp_path / "b", PrepareConfig(shard_samples=100_000))
    assert bytes_of(tmp_path / "a") == bytes_of(tmp_path / "b") and first.shards > 2
    raw, packed = read(spoken), read(tmp_path / "a")
    assert packed.names.tolist() == raw.names.tolist() and packed.speaker.tolist() == raw.speaker.tolist()
    assert packed.label.tolist() == raw.label.tolist() and packed.split.tolist() == raw.split.tolist()
    assert max(np.abs(a - b).max() for a, b in zip(raw.signals, packed.signals, strict=True)) < 1 / 32767
    before = bytes_of(tmp_path / "a")
    prepare(tmp_path / "a", tmp_path / "c", PrepareConfig(shard_samples=100_000))
    assert bytes_of(tmp_path / "c")["shard-00000.npy"] == before["shard-00000.npy"], "what is prepared stays"


def test_float_samples_are_kept_to_the_bit(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.wav").write_bytes(encoded(tone(), subtype="FLOAT"))
    prepare(tmp_path / "in", tmp_path / "out", PrepareConfig(samples="float32"))
    assert np.array_equal(read(tmp_path / "out").signals[0], tone())


def test_bad_recordings_are_listed_and_none_usable_leaves_nothing(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "bad.wav").write_bytes(encoded(tone())[:-100])
    with pytest.raises(UserError, match="no usable recording: 1 record set aside: length differs"):
        prepare(tmp_path / "in", tmp_path / "out")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in"]
    (tmp_path / "in" / "good.wav").write_bytes(encoded(tone()))
    found = prepare(tmp_path / "in", tmp_path / "out")
    assert found.recordings == 1 and "bad.wav,length differs" in (tmp_path / "out" / "quarantine.csv").read_text()


def test_a_folder_that_is_something_else_is_not_overwritten_and_a_prepared_one_is(spoken, tmp_path):
    with pytest.raises(UserError, match="no prepared set"):
        prepare(spoken, spoken)
    prepare(spoken, tmp_path / "out")
    prepare(spoken, tmp_path / "out", PrepareConfig(rate=16000))
    assert set(Prepared(tmp_path / "out").index["rate"]) == {16000}


@pytest.mark.parametrize("harm", ["index", "cut", "missing", "facts", "newer", "offset"])
def test_a_damaged_set_is_one_clear_line(spoken, tmp_path, harm):
    out = tmp_path / "out"
    prepare(spoken, out, PrepareConfig(shard_samples=100_000))
    facts = json.loads((out / "prepared.json").read_text())
    if harm == "index":
        (out / "index.parquet").write_bytes(b"PAR1")
    elif harm == "cut":
        (out / "shard-00001.npy").write_bytes((out / "shard-00001.npy").read_bytes()[:5000])
    elif harm == "missing":
        (out / "shard-00001.npy").unlink()
    elif harm == "facts":
        (out / "prepared.json").write_text("[1")
    elif harm == "newer":
        (out / "prepared.json").write_text(json.dumps(facts | {"format": 99}))
    else:
        index = pd.read_parquet(out / "index.parquet")
        index["offset"] += 10**7
        index.to_parquet(out / "index.parquet", index=False)
        from core.datasets import sha256

        facts["sha256"]["index.parquet"] = sha256(out / "index.parquet")
        (out / "prepared.json").write_text(json.dumps(facts))
    with pytest.raises(UserError, match=r"damaged|newer"):
        read(out)


def test_samples_that_were_changed_are_set_aside(spoken, tmp_path):
    prepare(spoken, tmp_path / "out")
    shard = np.load(tmp_path / "out" / "shard-00000.npy")
    shard[100] += 5
    np.save(tmp_path / "out" / "shard-00000.npy", shard)
    got = scan(tmp_path / "out")
    assert len(got) == 119 and got.quarantine.counts() == {"samples differ from the index": 1}


def test_quiet_ends_are_cut_off_and_stretches_of_sound_are_found():
    wave = speech_with_pauses(1.0, 0.5)  # 1 s quiet, 1 s tone, 1 s quiet, half a second tone, 1 s quiet
    start, end = np.array(trimmed(wave, RATE)) / RATE
    assert 0.7 <= start <= 1.0 and 3.5 <= end <= 3.8
    found = np.array(segments(wave, RATE, 10.0)) / RATE
    assert np.allclose(found, [[0.8, 2.2], [2.8, 3.7]], atol=0.05)
    assert np.allclose(active(wave + 0.3, RATE), found * RATE, atol=400), "a constant changes nothing"


def test_long_stretches_are_cut_and_lose_nothing():
    wave = speech_with_pauses(5.0)
    found = segments(wave, RATE, 2.0)
    assert all(end - start <= 2.0 * RATE for start, end in found)
    assert all(a[1] == b[0] for a, b in pairwise(found)) and len(found) >= 3


def test_silence_has_no_activity_and_sound_throughout_is_all_active():
    assert active(np.zeros(8000, np.float32), RATE, ActivityConfig()) == []
    assert active(np.zeros(0, np.float32), RATE) == []
    assert trimmed(tone(1.0), RATE) == (0, RATE)


@pytest.mark.parametrize(("activity", "count"), [("none", 0), ("trim", 1), ("segment", 2)])
def test_prepare_trims_or_cuts_and_keeps_stretches_of_a_file_together(tmp_path, activity, count):
    (tmp_path / "in").mkdir()
    for i in range(4):
        wave = speech_with_pauses(0.6, 0.8, 0.3 + 0.1 * i)
        (tmp_path / "in" / f"{i}.wav").write_bytes(encoded(wave))
    config = PrepareConfig(ReadConfig(max_seconds=4.5 if activity == "segment" else 60), activity, test=0.25)
    prepare(tmp_path / "in", tmp_path / "out", config)
    index = Prepared(tmp_path / "out").index
    assert len(index) == {0: 4, 1: 4, 2: 12}[count]
    assert set(index["split"]) == {"train", "test"} and (index.groupby("source")["split"].nunique() == 1).all()
    if activity == "segment":
        assert index["seconds"].max() < 1.5 and (index.groupby("source")["start"].diff().dropna() > 0.5).all()
        assert len(read(tmp_path / "out")) == 12


def test_speakers_are_parted_by_a_hash_that_others_do_not_move():
    names = {f"speaker{i}" for i in range(400)}
    first = parted(names, 0.2, 0.1)
    later = parted(names | {"new"}, 0.2, 0.1)
    assert all(later[name] == part for name, part in first.items())
    shares = {part: sum(p == part for p in first.values()) / 400 for part in ("train", "val", "test")}
    assert abs(shares["test"] - 0.2) < 0.06 and abs(shares["val"] - 0.1) < 0.05
    assert parted(names, 0.2, 0.1, seed=1) != first
    for count in range(2, 8):
        for seed in range(5):
            assert set(parted({f"s{i}" for i in range(count)}, 0.2, 0.0, seed).values()) == {"train", "test"}


def test_split_by_speaker_keeps_speakers_apart_and_own_needs_one(spoken, tmp_path):
    prepare(spoken, tmp_path / "a", PrepareConfig(split="speaker", test=0.3))
    index = Prepared(tmp_path / "a").index
    assert (index.groupby("speaker")["split"].nunique() == 1).all() and set(index["split"]) == {"train", "test"}
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.wav").write_bytes(encoded(tone()))
    with pytest.raises(UserError, match="names no split"):
        prepare(tmp_path / "in", tmp_path / "b", PrepareConfig(split="own"))


def test_streamed_batches_hold_the_waves_within_their_seconds(spoken, tmp_path):
    prepare(spoken, tmp_path / "out", PrepareConfig(shard_samples=50_000))
    packed = Prepared(tmp_path / "out")
    batches = packed.batches(seconds=6.0, seed=1, max_seconds=2.0)
    seen = []
    for number in range(len(batches)):
        batch = batches.batch(0, number)
        assert batch["wave"].numel() <= 6.0 * RATE
        for row, wave, pad in zip(batch["index"], batch["wave"], batch["pad"], strict=True):
            seen.append(int(row))
            if len(packed.samples(int(row))) <= 2.0 * RATE:
                assert np.array_equal(wave[~pad].numpy(), packed.samples(int(row)))
            assert (wave[pad] == 0).all()
    assert sorted(seen) == list(range(120)), "each once an epoch"
    rows = np.array([7, 3, 90, 41])
    few = packed.batches(20.0, rows=rows).at(np.array([2, 0]))
    assert np.array_equal(few["wave"][1][~few["pad"][1]].numpy(), packed.samples(7))


def test_several_rates_are_not_streamed_together(tmp_path):
    writer = ShardWriter(tmp_path)
    for rate in (8000, 16000):
        writer.add(f"{rate}", tone(rate=rate), rate, {"source": "", "start": 0.0})
    writer.finish()
    with pytest.raises(UserError, match="2 sample rates"):
        Prepared(tmp_path).batches(10.0)


def test_one_long_recording_makes_a_shard_of_its_own(tmp_path):
    writer = ShardWriter(tmp_path, limit=1000)
    for i, length in enumerate((0.05, 0.5, 0.05)):
        writer.add(str(i), tone(length), RATE, {"source": "", "start": 0.0})
    assert writer.finish()["shard"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("bad", [{"test": 0.6, "val": 0.5}, {"rate": 10}, {"test": -0.1}])
def test_settings_that_cannot_be_are_one_clear_line(bad):
    with pytest.raises(UserError):
        PrepareConfig(**bad)
