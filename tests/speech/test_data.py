"""Reading recordings: what is usable is read as it is, the rest is set aside with its reason."""

import io
import struct
import tarfile

import numpy as np
import pytest
import soundfile as sf

from core.errors import UserError
from speech.audio import ReadConfig, Rejected, decode
from speech.data import read, scan
from tests.speech.sounds import RATE, encoded, tone


def folder_with(tmp_path, rows, header="file,label,speaker,split", waves=None):
    (tmp_path / "metadata.csv").write_text("\n".join([header, *rows]) + "\n")
    for i, name in enumerate(waves or []):
        (tmp_path / name).write_bytes(encoded(tone(frequency=200 + 50 * i)))
    return tmp_path


@pytest.mark.parametrize(
    ("form", "subtype"),
    [
        ("WAV", "PCM_16"),
        ("WAV", "PCM_24"),
        ("WAV", "FLOAT"),
        ("WAVEX", "PCM_16"),
        ("FLAC", "PCM_16"),
        ("OGG", "VORBIS"),
    ],
)
def test_wav_flac_and_ogg_are_decoded(form, subtype):
    wave = tone()
    got = decode(encoded(wave, form, subtype))
    assert got.rate == RATE and len(got.samples) == len(wave)
    assert np.corrcoef(got.samples, wave)[0, 1] > 0.98


def test_channels_become_their_mean():
    stereo = np.stack([tone(frequency=300), tone(frequency=700)], axis=1)
    got = decode(encoded(stereo, subtype="FLOAT"))
    assert np.allclose(got.samples, stereo.mean(1), atol=1e-6)


BAD = {
    "empty file": b"",
    "unsupported format": b"this is text, not sound" * 10,
    "not finite": encoded(np.array([0.1, np.nan] * 1000, np.float32), subtype="FLOAT"),
    "silent": encoded(np.zeros(4000, np.float32)),
    "too short": encoded(tone(0.01)),
    "too long": encoded(tone(3.0)),
    "length differs from the header": encoded(tone())[:-1000],
    "unreadable": encoded(tone(), "FLAC")[:600],
    "unsupported codec": encoded(tone(), subtype="IMA_ADPCM"),
    "sample rate out of range": encoded(tone(), rate=1000),
    "too many channels": encoded(tone(channels=9)),
    "file too large": encoded(tone(1.9)) + bytes(40_000),
}


@pytest.mark.parametrize("reason", BAD)
def test_a_bad_recording_is_rejected_with_its_reason(reason):
    with pytest.raises(Rejected) as caught:
        decode(BAD[reason], ReadConfig(max_seconds=2.0, max_bytes=60_000))
    assert caught.value.reason == reason


def test_infinite_samples_and_a_constant_offset_are_rejected():
    with pytest.raises(Rejected, match="not finite"):
        decode(encoded(np.array([0.1, np.inf] * 1000, np.float32), subtype="FLOAT"))
    with pytest.raises(Rejected, match="silent"):
        decode(encoded(np.full(4000, 0.25, np.float32)))


def test_adpcm_is_refused_before_the_decoder_sees_it(monkeypatch):
    monkeypatch.setattr(sf, "SoundFile", lambda *a, **k: pytest.fail("the decoder was called"))
    for subtype in ("IMA_ADPCM", "MS_ADPCM"):
        with pytest.raises(Rejected, match="unsupported codec"):
            decode(BAD["unsupported codec"] if subtype == "IMA_ADPCM" else _ms_adpcm())


def _ms_adpcm():
    data = bytearray(encoded_before)
    struct.pack_into("<H", data, 20, 2)  # the format tag
    return bytes(data)


encoded_before = encoded(tone())


def test_flipped_bytes_never_raise_anything_but_a_rejection():
    generator = np.random.default_rng(0)
    for form, subtype in (("WAV", "PCM_16"), ("FLAC", "PCM_16"), ("OGG", "VORBIS")):
        clean = encoded(tone(), form, subtype)
        for _ in range(40):
            data = bytearray(clean)
            for place in generator.integers(0, min(len(data), 400), 3):
                data[place] = int(generator.integers(0, 256))
            try:
                assert np.isfinite(decode(bytes(data)).samples).all()
            except Rejected as rejected:
                assert rejected.reason


def test_class_folders_give_labels(tmp_path):
    for i, label in enumerate(["yes", "no"]):
        (tmp_path / label).mkdir()
        (tmp_path / label / "a.wav").write_bytes(encoded(tone(frequency=300 + 100 * i)))
    got = read(tmp_path)
    assert dict(zip(got.names, got.label, strict=True)) == {"no/a.wav": "no", "yes/a.wav": "yes"}


def test_metadata_gives_label_speaker_and_split_and_digit_counts_as_label(tmp_path):
    folder_with(tmp_path, ["a.wav,7,ann,train", "b.wav,3,bob,test"], "file,digit,speaker,split", ["a.wav", "b.wav"])
    got = read(tmp_path)
    assert (
        got.label.tolist() == ["7", "3"]
        and got.speaker.tolist() == ["ann", "bob"]
        and got.split.tolist() == ["train", "test"]
    )


def test_everything_that_is_not_used_is_counted_with_its_reason(tmp_path):
    rows = [
        "a.wav,x,s,",
        "a.wav,x,s,",
        "b.wav,x,s,",
        "b.wav,y,s,",
        "gone.wav,x,s,",
        "../up.wav,x,s,",
        "bad.wav,x,s,",
        ",x,s,",
        "c.wav,,s,",
    ]
    folder_with(tmp_path, rows, waves=["a.wav", "b.wav", "c.wav", "unlisted.wav"])
    (tmp_path / "bad.wav").write_bytes(b"RIFF")
    (tmp_path / "song.mp3").write_bytes(b"ID3")
    got = read(tmp_path)
    assert got.names.tolist() == ["a.wav", "c.wav"] and got.label.tolist() == ["x", ""]
    reasons = {where: reason for where, reason, _ in got.quarantine.records}
    assert reasons["b.wav"] == "listed twice with different facts" and reasons["gone.wav"] == "missing file"
    assert reasons["../up.wav"] == "path leaves the folder" and reasons["unlisted.wav"] == "not listed in metadata.csv"
    assert reasons["a.wav"] == "listed twice" and "bad.wav" in reasons and "song.mp3" in reasons
    assert "no file named" in reasons.values()


def test_the_same_audio_twice_is_kept_once(tmp_path):
    for name in ("a.wav", "b.wav"):
        (tmp_path / name).write_bytes(encoded(tone()))
    got = read(tmp_path)
    assert got.names.tolist() == ["a.wav"] and got.quarantine.counts() == {"same audio as another recording": 1}


def test_a_length_that_differs_from_metadata_is_set_aside(tmp_path):
    folder_with(tmp_path, ["a.wav,x,2400", "b.wav,x,99"], "file,label,n_samples", ["a.wav", "b.wav"])
    got = read(tmp_path)
    assert got.names.tolist() == ["a.wav"] and got.quarantine.counts() == {"length differs from metadata.csv": 1}


def test_a_link_out_of_the_folder_is_not_followed(tmp_path):
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "x.wav").write_bytes(encoded(tone()))
    inside = tmp_path / "data"
    inside.mkdir()
    (inside / "a.wav").write_bytes(encoded(tone(frequency=300)))
    (inside / "b.wav").symlink_to(tmp_path / "secret" / "x.wav")
    got = read(inside)
    assert got.names.tolist() == ["a.wav"] and got.quarantine.counts() == {"points outside the folder": 1}


def tar_with(path, members, kind=None):
    with tarfile.open(path, "w") as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            if kind and name == "link.wav":
                info.type, info.linkname, info.size = kind, "/etc/passwd", 0
            archive.addfile(info, io.BytesIO(content))
    return path


def test_a_tar_is_read_in_memory_and_bad_members_are_set_aside(tmp_path):
    good, other = encoded(tone()), encoded(tone(frequency=900))
    members = [
        ("metadata.csv", b"file,label\na.wav,x\nlink.wav,x\n"),
        ("a.wav", good),
        ("../out.wav", other),
        ("/abs.wav", other),
        ("link.wav", b""),
        ("a.wav", other),
    ]
    got = read(tar_with(tmp_path / "d.tar", members, tarfile.SYMTYPE))
    assert got.names.tolist() == ["a.wav"] and got.label.tolist() == ["x"]
    assert got.quarantine.counts() == {"path leaves the archive": 2, "not a regular file": 1, "twice in the archive": 1}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["d.tar"], "nothing is extracted"


def test_a_tar_that_is_cut_off_keeps_what_is_whole(tmp_path):
    path = tar_with(tmp_path / "d.tar", [(f"{i}.wav", encoded(tone(frequency=300 + i))) for i in range(4)])
    path.write_bytes(path.read_bytes()[:12_000])
    got = scan(path)
    assert 0 < len(got) < 4 and len(got.quarantine) >= 1


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "cannot be read"),
        ("name,label\na.wav,x\n", "no column `file`"),
        ("file,label\n", "no rows"),
        (b"file\n\xff\xfe\x00", "cannot be read"),
    ],
)
def test_a_bad_table_is_one_clear_line(tmp_path, content, words):
    (tmp_path / "metadata.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    (tmp_path / "a.wav").write_bytes(encoded(tone()))
    with pytest.raises(UserError, match=words):
        read(tmp_path)


def test_nothing_usable_is_one_clear_line(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        read(tmp_path / "none")
    with pytest.raises(UserError, match="empty"):
        read(tmp_path)
    (tmp_path / "a.wav").write_bytes(b"")
    with pytest.raises(UserError, match="no usable recording: 1 record set aside: empty file 1"):
        read(tmp_path)
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(UserError, match="not a kind of file"):
        read(tmp_path / "notes.txt")
    (tmp_path / "x.tar").write_bytes(b"not a tar" * 100)
    with pytest.raises(UserError, match="tar file cannot be read"):
        read(tmp_path / "x.tar")
