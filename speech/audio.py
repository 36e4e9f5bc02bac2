"""One recording: bytes to a checked mono wave. Every refusal has a reason; nothing odd reaches the decoder.

libsndfile 1.2.2, which soundfile bundles, has an integer overflow in its IMA-ADPCM reader (CVE-2026-37555), so the
container and codec of a file are read here first and compared with an allow-list.
"""

from __future__ import annotations

import hashlib
import io
import struct
from dataclasses import dataclass

import numpy as np
import soundfile as sf
from numpy.typing import NDArray

# what is looked at; `decode` accepts wav, flac and ogg by their first bytes and says so of the others
SUFFIXES = (".wav", ".flac", ".ogg", ".oga", ".mp3", ".m4a", ".aac", ".aif", ".aiff", ".opus", ".wma", ".sph")
_SUBTYPES = {"PCM_S8", "PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "VORBIS", "OPUS"}
_WAVE_CODECS = {0x0001, 0x0003}  # integer and float PCM
_EXTENSIBLE, _STREAMED = 0xFFFE, 0xFFFFFFFF


@dataclass(frozen=True)
class ReadConfig:
    """What a usable recording is. Lengths in seconds, `min_peak` of full scale 1, `max_bytes` of the encoded file."""

    min_seconds: float = 0.05
    max_seconds: float = 60.0
    min_peak: float = 1e-4
    max_bytes: int = 64 * 1024 * 1024
    max_channels: int = 8
    min_rate: int = 4000
    max_rate: int = 192_000


class Rejected(Exception):
    """A recording that is set aside: `reason` is short and countable, `detail` says more."""

    def __init__(self, reason: str, detail: object = "") -> None:
        super().__init__(reason)
        self.reason, self.detail = reason, str(detail)


@dataclass(frozen=True)
class Wave:
    """A decoded recording: `samples` (N,) float32 mono, `rate` in Hz, `digest` of the samples."""

    samples: NDArray[np.float32]
    rate: int
    digest: str

    @property
    def seconds(self) -> float:
        return len(self.samples) / self.rate


def decode(data: bytes, config: ReadConfig | None = None) -> Wave:
    """Decode wav, flac or ogg bytes; several channels become their mean.

    Raises:
        Rejected: too large, too long or short, another format or codec, unreadable, cut off, not finite, silent.
    """
    config = config or ReadConfig()
    if len(data) == 0:
        raise Rejected("empty file")
    if len(data) > config.max_bytes:
        raise Rejected("file too large", f"{len(data)} bytes")
    _check_container(data)
    try:
        with sf.SoundFile(io.BytesIO(data)) as file:
            _check_header(file, config)
            frames = file.frames
            # one frame more than the header promises, so that a header that lies low is seen too
            block = file.read(frames + 1, dtype="float32", always_2d=True)
            rate = int(file.samplerate)
    except (sf.LibsndfileError, MemoryError, ValueError, RuntimeError) as error:
        raise Rejected("unreadable", type(error).__name__) from error
    if len(block) != frames:
        raise Rejected("length differs from the header", f"header {frames} frames, read {len(block)}")
    if len(block) < config.min_seconds * rate:
        raise Rejected("too short", f"{len(block) / rate:.3f} s")
    if not np.isfinite(block).all():
        raise Rejected("not finite", "NaN or infinite samples")
    samples = block.mean(axis=1, dtype=np.float64).astype(np.float32)
    if np.abs(samples - samples.mean()).max() < config.min_peak:  # a constant offset is silence too
        raise Rejected("silent", f"peak {np.abs(samples).max():.1e}")
    digest = hashlib.sha256(struct.pack("<I", rate) + samples.tobytes()).hexdigest()
    return Wave(samples, rate, digest)


def _check_header(file: sf.SoundFile, config: ReadConfig) -> None:
    if file.subtype not in _SUBTYPES:
        raise Rejected("unsupported codec", file.subtype)
    if not 1 <= file.channels <= config.max_channels:
        raise Rejected("too many channels", file.channels)
    if not config.min_rate <= file.samplerate <= config.max_rate:
        raise Rejected("sample rate out of range", f"{file.samplerate} Hz")
    if file.frames == 0:
        raise Rejected("no samples")
    if file.frames > config.max_seconds * file.samplerate:
        raise Rejected("too long", f"{file.frames / file.samplerate:.1f} s")


def _check_container(data: bytes) -> None:
    """Allow RIFF WAVE with plain PCM, FLAC and Ogg; whatever else the decoder would guess at is refused unseen."""
    if data[:4] in (b"fLaC", b"OggS"):
        return
    if data[:4] != b"RIFF" or data[8:12] != b"WAVE":
        raise Rejected("unsupported format", "not WAV, FLAC or Ogg")
    codec, position = None, 12
    while position + 8 <= len(data):
        name, size = struct.unpack_from("<4sI", data, position)
        body = position + 8
        if name == b"fmt ":
            if codec is not None or size < 16 or body + size > len(data):
                raise Rejected("unreadable", "format chunk")
            (codec,) = struct.unpack_from("<H", data, body)
            if codec == _EXTENSIBLE:  # the real codec opens the sub-format GUID
                codec = struct.unpack_from("<H", data, body + 24)[0] if size >= 40 else -1
            if codec not in _WAVE_CODECS:
                raise Rejected("unsupported codec", f"WAVE format {codec}")
        elif name == b"data":
            if codec is None:
                raise Rejected("unreadable", "no format chunk before the data")
            # libsndfile shortens such a file silently; all ones is what a streaming writer leaves
            if size != _STREAMED and body + size > len(data):
                raise Rejected("length differs from the header", f"{size} bytes promised, {len(data) - body} there")
            return
        position = body + size + size % 2
    raise Rejected("unreadable", "no data chunk")
