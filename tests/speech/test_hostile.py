"""Bad input of every kind ends in a record with its reason, or in one clear line."""

import io
import resource
import struct
import tarfile
import time

import numpy as np
import pandas as pd
import pytest
import soundfile as sf

from core.errors import UserError
from speech.audio import ReadConfig, Rejected, decode
from speech.data import read, scan
from speech.decoding import Decoder
from tests.speech.sounds import RATE, encoded, tone

MP3 = encoded(tone(2.0), "MP3", None)
OGG = encoded(tone(2.0), "OGG", "VORBIS")
FLAC = encoded(tone(2.0), "FLAC")


def lying(data, place, value, form="<I"):
    """The bytes with another number in their header."""
    changed = bytearray(data)
    struct.pack_into(form, changed, place, value)
    return bytes(changed)


def hours(count):
    """A FLAC whose header promises so many hours."""
    changed = bytearray(FLAC)
    total = int(count * 3600 * RATE)
    changed[21] = changed[21] & 0xF0 | total >> 32 & 0x0F
    struct.pack_into(">I", changed, 22, total & 0xFFFFFFFF)
    return bytes(changed)


def clipped():
    return np.clip(4 * tone(), -1, 1)


BAD = {
    "0 bytes": (b"", "empty file"),
    "0 samples": (encoded(np.zeros(0, np.float32)), "no samples"),
    "1 sample": (encoded(np.array([0.5], np.float32)), "too short"),
    "9 channels": (encoded(tone(channels=9)), "too many channels"),
    "1 kHz": (encoded(tone(), rate=1000), "sample rate out of range"),
    "384 kHz": (encoded(tone(), rate=384_000), "sample rate out of range"),
    "nan": (encoded(np.array([0.1, np.nan] * 1000, np.float32), subtype="FLOAT"), "not finite"),
    "infinite": (encoded(np.array([0.1, np.inf] * 1000, np.float64), subtype="DOUBLE"), "not finite"),
    "silence": (encoded(np.zeros(4000, np.float32)), "silent"),
    "only a constant": (encoded(np.full(4000, 0.25, np.float32)), "silent"),
    "far from zero": (encoded(0.1 * tone() + np.float32(0.6)), "constant offset"),
    "clipped": (encoded(clipped()), "clipped"),
    "cut wav": (encoded(tone())[:-1000], "length differs from the header"),
    "cut mp3": (MP3[: len(MP3) * 2 // 3], "length differs from the header"),
    "cut mp3 between two frames": (MP3[:-144], "length differs from the header"),
    "cut ogg": (OGG[:-300], "length differs from the header"),
    "cut flac": (FLAC[: len(FLAC) * 2 // 3], "unreadable"),
    "wav that promises more": (lying(encoded(tone()), 40, 1 << 30), "length differs from the header"),
    "wav that promises less": (lying(encoded(tone()), 40, 1000), "length differs from the header"),
    "flac of 100 hours": (hours(100), "too long"),
    "flac that promises more": (hours(0.01), "unreadable"),
    "wav of 9 GHz": (lying(encoded(tone()), 24, 4_000_000_000), "unreadable"),
    "ima adpcm": (encoded(tone(), subtype="IMA_ADPCM"), "unsupported codec"),
    "ms adpcm": (encoded(tone(), subtype="MS_ADPCM"), "unsupported codec"),
    "gsm": (encoded(tone(), subtype="GSM610"), "unsupported codec"),
    "u-law": (encoded(tone(), subtype="ULAW"), "unsupported codec"),
    "aiff": (encoded(tone(), "AIFF"), "unsupported format"),
    "au": (encoded(tone(), "AU"), "unsupported format"),
    "w64": (encoded(tone(), "W64"), "unsupported format"),
    "text": (b"this is text, not sound" * 10, "unsupported format"),
    "noise": (np.random.default_rng(0).bytes(5000), "unsupported format"),
    "an id3 tag and nothing behind it": (b"ID3\x04\x00\x00\x00\x00\x00\x0a" + bytes(10), "unsupported format"),
    "a tag that is cut off": (b"ID3", "unreadable"),
    "half a wav header": (encoded(tone())[:30], "unreadable"),
    "ogg of another codec": (OGG.replace(b"\x01vorbis", b"\x01theora"), "unsupported codec"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_is_set_aside_with_its_reason_and_the_good_one_beside_it_stays(tmp_path, case):
    content, reason = BAD[case]
    (tmp_path / "bad.wav").write_bytes(content)
    (tmp_path / "good.wav").write_bytes(encoded(tone(frequency=700)))
    got = scan(tmp_path)
    assert got.names.tolist() == ["good.wav"] and [r[:2] for r in got.quarantine.records] == [("bad.wav", reason)]


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 22050, 44100, 48000, 96000])
@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
def test_every_usual_rate_and_depth_is_read(rate, subtype):
    wave = tone(0.1, rate=rate)
    got = decode(encoded(wave, "WAV", subtype, rate))
    assert got.rate == rate and np.abs(got.samples - wave).max() < (0.02 if subtype == "PCM_U8" else 1e-4)


@pytest.mark.parametrize(("form", "subtype"), [("MP3", None), ("OGG", "OPUS"), ("OGG", "VORBIS"), ("FLAC", "PCM_24")])
@pytest.mark.parametrize("rate", [16000, 48000])
def test_every_allowed_codec_is_read_whole(form, subtype, rate):
    wave = tone(0.5, rate=rate)
    got = decode(encoded(wave, form, subtype, rate))
    assert len(got.samples) == len(wave) and np.corrcoef(got.samples, wave)[0, 1] > 0.95


@pytest.mark.parametrize("count", [1, 2, 8])
def test_channels_are_mixed_or_one_is_chosen(count):
    wave = np.stack([0.1 * (i + 1) / count * tone(frequency=300 + i) for i in range(count)], axis=1)
    data = encoded(wave, subtype="FLOAT")
    assert np.allclose(decode(data).samples, wave.mean(1), atol=1e-6)
    assert np.allclose(decode(data, ReadConfig(channel=count - 1)).samples, wave[:, -1], atol=1e-6)
    with pytest.raises(Rejected, match="no such channel"):
        decode(data, ReadConfig(channel=count))


def test_a_header_that_promises_much_costs_no_memory():
    data = lying(lying(encoded(tone(0.1)), 4, 0xFFFFFFFF), 40, 0xFFFFFFFF)  # streamed: no length is told
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        decode(data)
    except Rejected as rejected:
        assert rejected.reason in ("too long", "length differs from the header")
    with pytest.raises(Rejected):
        decode(hours(0.016), ReadConfig(max_seconds=60))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000, "KiB"


def test_a_folder_named_like_a_recording_is_set_aside_and_a_pipe_is_not_waited_for(tmp_path):
    import os

    (tmp_path / "folder.wav").mkdir()
    os.mkfifo(tmp_path / "pipe.wav")
    (tmp_path / "loop.wav").symlink_to(tmp_path / "loop.wav")
    (tmp_path / "good.wav").write_bytes(encoded(tone()))
    got = scan(tmp_path)
    assert got.names.tolist() == ["good.wav"]
    assert {r[0]: r[1] for r in got.quarantine.records} == {
        "folder.wav": "a folder, not a file",
        "pipe.wav": "not a regular file",
        "loop.wav": "points outside the folder",
    }


def test_an_empty_tar_is_one_clear_line(tmp_path):
    tarfile.open(tmp_path / "d.tar", "w").close()
    with pytest.raises(UserError, match="no usable recording"):
        read(tmp_path / "d.tar")


def test_what_a_spreadsheet_would_run_is_written_as_text(tmp_path):
    (tmp_path / "=cmd()|x.wav").write_bytes(b"")
    (tmp_path / "b.wav").write_bytes(encoded(tone()))
    got = scan(tmp_path)
    text = got.quarantine.write(tmp_path / "quarantine.csv").read_text()
    assert "'=cmd()|x.wav,empty file" in text


def listed(tmp_path, frame, name="manifest.csv"):
    for i, file in enumerate(("a.wav", "b.wav")):
        (tmp_path / file).write_bytes(encoded(tone(2.0, 300 + 200 * i)))
    table = pd.DataFrame(frame)
    table.to_parquet(tmp_path / name) if name.endswith("parquet") else table.to_csv(tmp_path / name, index=False)
    return tmp_path / name


@pytest.mark.parametrize("name", ["manifest.csv", "manifest.parquet", "list.csv"])
def test_a_manifest_takes_stretches_of_files(tmp_path, name):
    rows = {
        "path": ["a.wav", "a.wav", "b.wav"], "start": [0.0, 0.5, None], "end": [0.5, 1.1, None], "speaker": ["s", "s", "t"],
        "text": ["one", "two", ""], "label": [1, 2, 3], "split": ["Training", "test", "dev"],
    }  # fmt: skip
    got = read(listed(tmp_path, rows, name))
    assert len(got) == 3 and len(got.quarantine) == 0
    assert sorted(got.text) == ["", "one", "two"] and sorted(got.split) == ["test", "train", "val"]
    assert np.allclose(sorted(got.seconds), [0.5, 0.6, 2.0])


BAD_STRETCHES = {
    "a word": ("x", "1", "start and end are no stretch"),
    "backwards": ("1", "0.5", "start and end are no stretch"),
    "before the start": ("-1", "0.5", "start and end are no stretch"),
    "nan": ("nan", "1", "start and end are no stretch"),
    "behind the end": ("5", "6", "the stretch lies outside the recording"),
    "over the end": ("1", "3", "the stretch lies outside the recording"),
    "next to nothing": ("1", "1.001", "too short"),
}


@pytest.mark.parametrize("case", BAD_STRETCHES)
def test_a_bad_stretch_is_set_aside(tmp_path, case):
    start, end, reason = BAD_STRETCHES[case]
    got = scan(listed(tmp_path, {"file": ["a.wav", "b.wav"], "start": [start, "0"], "end": [end, "1"]}))
    assert len(got) == 1 and got.quarantine.counts() == {reason: 1}


def test_paths_of_a_manifest_stay_in_its_folder(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "secret.wav").write_bytes(encoded(tone(frequency=900)))
    table = listed(tmp_path / "in", {"file": ["a.wav", "../secret.wav", str(tmp_path / "secret.wav"), "b.wav"]})
    got = read(table)
    assert got.names.tolist() == ["a.wav", "b.wav"] and got.quarantine.counts() == {"path leaves the folder": 2}


@pytest.mark.parametrize("content", [b"PAR1 and no more", b"", np.random.default_rng(1).bytes(300)])
def test_a_damaged_parquet_is_one_clear_line(tmp_path, content):
    (tmp_path / "a.wav").write_bytes(encoded(tone()))
    (tmp_path / "m.parquet").write_bytes(content)
    with pytest.raises(UserError, match=r"cannot be read|is empty"):
        read(tmp_path / "m.parquet")


def test_1400_files_with_flipped_bytes_crash_nothing_hang_nothing_and_eat_no_memory():
    generator, slowest, counts = np.random.default_rng(0), 0.0, {"read": 0, "set aside": 0}
    wave = tone()
    kinds = [("WAV", "PCM_16"), ("WAV", "FLOAT"), ("WAV", "PCM_24"), ("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", None)]  # fmt: skip
    clean = [encoded(wave, *kind) for kind in kinds]
    with Decoder() as decoder:
        for number in range(1400):
            data = bytearray(clean[number % len(clean)])
            for place in generator.integers(0, len(data) if number % 2 else 200, 4):
                data[place] = int(generator.integers(0, 256))
            started = time.monotonic()
            try:
                got = decoder(bytes(data))
                assert np.isfinite(got.samples).all() and got.seconds <= 60
                counts["read"] += 1
            except Rejected as rejected:
                assert rejected.reason not in ("", "crashes the decoder", "takes too long to decode")
                counts["set aside"] += 1
            slowest = max(slowest, time.monotonic() - started)
        assert decoder.child is not None
        with open(f"/proc/{decoder.child.pid}/status") as status:
            peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
    assert min(counts.values()) > 300 and slowest < 5 and peak < 300_000, (counts, slowest, peak)


CRASH = "import os, sys; data = sys.stdin.buffer.read(8); os.abort()"
HANG = "import time; time.sleep(60)"
GREEDY = """
import speech.decoding as d
def eat(data, config):
    if data == b"eat":
        bytearray(64 << 30)
    return real(data, config)
def guarded(data, config):
    try:
        return eat(data, config)
    except MemoryError as error:
        raise d.Rejected("unreadable", "MemoryError") from error
real, d.decode = d.decode, guarded
d.serve()
"""


def test_a_child_that_crashes_or_hangs_costs_one_file_and_is_replaced():
    good = encoded(tone())
    for program, reason in ((CRASH, "crashes the decoder"), (HANG, "takes too long to decode")):
        with Decoder(seconds=0.5 if program is HANG else 20, start=program) as decoder:
            with pytest.raises(Rejected, match=reason):
                decoder(good)
            ordinary = Decoder()
            decoder.start, decoder.seconds = ordinary.start, ordinary.seconds
            assert decoder(good).rate == RATE and decoder.restarts == 2


def test_a_child_is_refused_memory_without_end():
    with Decoder(start=GREEDY) as decoder:
        with pytest.raises(Rejected) as caught:
            decoder(b"eat")
        assert (caught.value.reason, caught.value.detail) == ("unreadable", "MemoryError")
        assert decoder(encoded(tone())).rate == RATE and decoder.restarts == 1


def test_the_child_gives_what_this_process_gives():
    with Decoder() as decoder:
        for data in (encoded(tone()), MP3, OGG, FLAC):
            here, there = decode(data), decoder(data)
            assert here.digest == there.digest and np.array_equal(here.samples, there.samples)


def test_wav_chunks_behind_the_samples_are_no_fault():
    data = encoded(tone())
    assert decode(data + b"LIST\x04\x00\x00\x00abcd").rate == RATE
    assert decode(data + bytes(100)).rate == RATE
    buffer = io.BytesIO(data)
    assert sf.info(buffer).frames == len(decode(data).samples)


def test_what_is_called_as_our_packages_are_in_the_working_folder_is_not_ours(tmp_path, monkeypatch):
    for name in ("speech", "numpy", "core"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit('a stranger')")
    monkeypatch.chdir(tmp_path)
    with Decoder() as decoder:
        assert decoder(encoded(tone())).rate == RATE
