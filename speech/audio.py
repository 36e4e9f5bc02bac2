"""One recording: bytes to a checked mono wave. Every refusal has a reason; nothing odd reaches the decoder."""

from __future__ import annotations

import hashlib
import io
import mmap
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile as sf
from numpy.typing import NDArray

from core.config import within
from core.errors import UserError
from speech.containers import CUT, Rejected, check_container

__all__ = ["SUFFIXES", "ReadConfig", "Rejected", "Wave", "blocks_of", "decode", "digest_of", "opened"]

# what is looked at; `decode` accepts wav, flac, ogg and mp3 by their first bytes and says so of the others
SUFFIXES = (".wav", ".flac", ".ogg", ".oga", ".mp3", ".m4a", ".aac", ".aif", ".aiff", ".opus", ".wma", ".sph")
_SUBTYPES = {
    "PCM_S8", "PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "VORBIS", "OPUS", "MPEG_LAYER_III",
}  # fmt: skip
_UNKNOWN_LENGTH = 1 << 60
BLOCK = 1 << 16  # frames read at once: a header that promises much costs no memory before the samples are there
FULL_SCALE = 0.99


@dataclass(frozen=True)
class ReadConfig:
    """What a usable recording is.

    Attributes:
        min_seconds, max_seconds: its length.
        min_peak: of full scale 1, the mean taken off: below is silence.
        max_bytes: of the encoded file.
        max_channels, min_rate, max_rate: channels, and Hz.
        max_clipped: share of the samples that stand at a peak of full scale; a clean recording touches it once or twice.
        max_offset: of the mean, as a share of the peak: above, the recorder added a constant.
        channel: which one is taken, counted from 0; None for the mean of all.
    """

    min_seconds: float = 0.05
    max_seconds: float = 60.0
    min_peak: float = 1e-4
    max_bytes: int = 64 * 1024 * 1024
    max_channels: int = 8
    min_rate: int = 4000
    max_rate: int = 192_000
    max_clipped: float = 0.01
    max_offset: float = 0.5
    channel: int | None = None

    def __post_init__(self) -> None:
        within(
            self, min_seconds=(0, 1e6), max_seconds=(0, 1e6), min_peak=(0, 1), max_clipped=(0, 1), max_offset=(0, 1),
            channel=(0, 255),
        )  # fmt: skip
        if self.max_seconds < self.min_seconds:
            raise UserError("max_seconds is below min_seconds", where="read", mend="give a longer one")


@dataclass(frozen=True)
class Wave:
    """A decoded recording: `samples` (N,) float32 mono, `rate` in Hz, `digest` of the samples."""

    samples: NDArray[np.float32]
    rate: int
    digest: str

    @property
    def seconds(self) -> float:
        return len(self.samples) / self.rate


def digest_of(samples: NDArray[np.float32], rate: int) -> str:
    """A hash (SHA-256) of samples (N,) and their rate."""
    return hashlib.sha256(struct.pack("<I", rate) + samples.tobytes()).hexdigest()


def decode(data: bytes, config: ReadConfig | None = None) -> Wave:
    """Decode wav, flac, ogg or mp3 bytes; several channels become their mean, or the one that `config` chooses.

    Raises:
        Rejected: too large, too long or short, another format or codec, unreadable, cut off, not finite, silent, clipped, or
            far from zero on the whole.
    """
    config = config or ReadConfig()
    if len(data) == 0:
        raise Rejected("empty file")
    if len(data) > config.max_bytes:
        raise Rejected("file too large", f"{len(data)} bytes")
    check_container(data)
    with _readable(), sf.SoundFile(io.BytesIO(data)) as file:
        check_header(file, config)
        samples, rate = np.concatenate(list(blocks_of(file, config))), int(file.samplerate)
    if len(samples) < config.min_seconds * rate:
        raise Rejected("too short", f"{len(samples) / rate:.3f} s")
    check_samples(samples, config)
    return Wave(samples, rate, digest_of(samples, rate))


@contextmanager
def opened(path: Path, config: ReadConfig) -> Iterator[sf.SoundFile]:
    """A recording of any size on disk, its container and header checked; nothing of it is in memory yet.

    Raises:
        Rejected: as `decode`, also while the block reads on.
        OSError: the file cannot be opened.
    """
    with path.open("rb") as raw:
        if raw.seek(0, io.SEEK_END) == 0:
            raise Rejected("empty file")
        raw.seek(0)
        with mmap.mmap(raw.fileno(), 0, access=mmap.ACCESS_READ) as data:
            check_container(data)
        with _readable(), sf.SoundFile(raw) as file:
            check_header(file, config)
            yield file


@contextmanager
def _readable() -> Iterator[None]:
    try:
        yield
    except (sf.LibsndfileError, MemoryError, ValueError, RuntimeError) as error:
        raise Rejected("unreadable", type(error).__name__) from error


def check_header(file: sf.SoundFile, config: ReadConfig) -> None:
    """Raise `Rejected` where what the header says is not usable."""
    if file.subtype not in _SUBTYPES:
        raise Rejected("unsupported codec", file.subtype)
    if not 1 <= file.channels <= config.max_channels:
        raise Rejected("too many channels", file.channels)
    if config.channel is not None and config.channel >= file.channels:
        raise Rejected("no such channel", f"{config.channel} of {file.channels}")
    if not config.min_rate <= file.samplerate <= config.max_rate:
        raise Rejected("sample rate out of range", f"{file.samplerate} Hz")
    if file.frames == 0:
        raise Rejected("no samples")
    if file.frames > _UNKNOWN_LENGTH:
        raise Rejected("unreadable", "the header tells no length")
    if file.frames > config.max_seconds * file.samplerate:
        raise Rejected("too long", f"{file.frames / file.samplerate:.1f} s")


def blocks_of(file: sf.SoundFile, config: ReadConfig) -> Iterator[NDArray[np.float32]]:
    """The samples of an open recording, mono, in blocks (≤ BLOCK,); at the end their number is what the header promised.

    Raises:
        Rejected: not finite, or fewer than promised.
    """
    count = 0
    while len(block := file.read(BLOCK, dtype="float32", always_2d=True)):
        if not np.isfinite(block).all():
            raise Rejected("not finite", "NaN or infinite samples")
        count += len(block)
        one = block.mean(axis=1, dtype=np.float64) if config.channel is None else block[:, config.channel]
        yield one.astype(np.float32)
    if count != file.frames:
        raise Rejected(CUT, f"header {file.frames} frames, read {count}")


def check_samples(samples: NDArray[np.float32], config: ReadConfig) -> None:
    """Raise `Rejected` for samples (N,) that are silent, clipped or far from zero on the whole."""
    magnitude, mean = np.abs(samples), float(samples.mean())
    peak = float(magnitude.max())
    if not np.isfinite(peak) or np.abs(samples - mean).max() < config.min_peak:  # a constant offset is silence too
        raise Rejected("silent", f"peak {peak:.1e}")
    if peak >= FULL_SCALE:
        clipped = float((magnitude >= peak * (1 - 1e-4)).mean())
        if clipped > config.max_clipped:
            raise Rejected("clipped", f"{100 * clipped:.1f} % of the samples at full scale")
    if abs(mean) > config.max_offset * peak:
        raise Rejected("constant offset", f"mean {mean:+.3f}, peak {peak:.3f}")
