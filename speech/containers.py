"""What a file says of itself, read before any decoder sees it: WAV, FLAC, Ogg and MP3, each whole and of an allowed codec.

libsndfile shortens a WAV, Ogg or MP3 file that was cut off without a word, and its IMA-ADPCM reader has an integer overflow
(CVE-2026-37555, in the version that soundfile bundles). So chunks, pages and frames are walked here; nothing is decoded.
"""

from __future__ import annotations

import mmap
import struct

Data = bytes | mmap.mmap
_WAVE_CODECS = {0x0001, 0x0003}  # integer and float PCM
_EXTENSIBLE, _STREAMED = 0xFFFE, 0xFFFFFFFF
_OGG_CODECS = (b"\x01vorbis", b"OpusHead")
CUT = "length differs from the header"
# of MPEG 1 and of MPEG 2 and 2.5, layer III: kbit/s by index
_BITRATES = (
    (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
)
_MP3_RATES = (44100, 48000, 32000)


class Rejected(Exception):
    """A recording that is set aside: `reason` is short and countable, `detail` says more."""

    def __init__(self, reason: str, detail: object = "") -> None:
        super().__init__(reason)
        self.reason, self.detail = reason, str(detail)


def check_container(data: Data) -> None:
    """Allow RIFF WAVE with plain PCM, FLAC, Ogg with Vorbis or Opus, and MP3; whatever else is refused unseen.

    Raises:
        Rejected: another format or codec, or a file that does not hold all that it promises.
    """
    opening = bytes(data[:12])
    if opening[:4] == b"fLaC":
        return  # the decoder itself fails where one is cut off
    if opening[:4] == b"RIFF" and opening[8:12] == b"WAVE":
        _wave(data)
    elif opening[:4] == b"OggS":
        _ogg(data)
    elif opening[:3] == b"ID3" or _frame(opening) is not None:
        _mp3(data)
    else:
        raise Rejected("unsupported format", "not WAV, FLAC, Ogg or MP3")


def _wave(data: Data) -> None:
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
            # all ones is what a streaming writer leaves
            if size != _STREAMED and body + size > len(data):
                raise Rejected(CUT, f"{size} bytes promised, {len(data) - body} there")
            if size != _STREAMED:
                _behind(data, body + size + size % 2)
            return
        position = body + size + size % 2
    raise Rejected("unreadable", "no data chunk")


def _behind(data: Data, position: int) -> None:
    """Behind the samples stand further chunks or zeros; anything else is sound that the header keeps quiet about."""
    while position + 8 <= len(data):
        name, size = struct.unpack_from("<4sI", data, position)
        if not all(32 <= byte < 127 for byte in name) or position + 8 + size > len(data):
            if any(data[position : position + 65536]):
                raise Rejected(CUT, f"{len(data) - position} bytes behind the samples")
            return
        position += 8 + size + size % 2


def _ogg(data: Data) -> None:
    """Pages one after the other, the last of them marked as the end of its stream."""
    position, ended = 0, False
    while position < len(data):
        if bytes(data[position : position + 4]) != b"OggS" or position + 27 > len(data):
            raise Rejected(CUT, "a page is cut off") if position else Rejected("unreadable", "no page")
        lengths = bytes(data[position + 27 : position + 27 + data[position + 26]])
        start = position + 27 + len(lengths)
        if position == 0 and not bytes(data[start : start + 8]).startswith(_OGG_CODECS):
            raise Rejected("unsupported codec", "Ogg without Vorbis or Opus")
        if len(lengths) < data[position + 26] or start + sum(lengths) > len(data):
            raise Rejected(CUT, "the last page is cut off")
        ended = bool(data[position + 5] & 4)
        position = start + sum(lengths)
    if not ended:
        raise Rejected(CUT, "no end of the stream")


def _frame(header: bytes) -> tuple[int, int] | None:
    """(bytes, samples) of an MPEG layer III frame by the first 4 of its bytes; None where there is none."""
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE6 != 0xE2:
        return None
    version, rate, bits = header[1] >> 3 & 3, header[2] >> 2 & 3, header[2] >> 4
    if version == 1 or rate == 3 or bits in (0, 15):
        return None
    later = version != 3  # MPEG 2 and 2.5 have half as many samples a frame
    hertz = _MP3_RATES[rate] >> (0, 1, 2)[(3, 2, 0).index(version)]
    length = (72 if later else 144) * 1000 * _BITRATES[later][bits] // hertz + (header[2] >> 1 & 1)
    return length, 576 if later else 1152


def _mp3(data: Data) -> None:
    """Frames one after the other; where the first promises a number of them (Xing, Info), so many are there."""
    position = 0
    if bytes(data[:3]) == b"ID3":
        tag = bytes(data[5:10])
        if len(tag) < 5:
            raise Rejected("unreadable", "tag")
        position = 10 + sum((byte & 127) << shift for byte, shift in zip(tag[1:], (21, 14, 7, 0), strict=True))
        position += 10 if tag[0] & 16 else 0
    first, count, promised = position, 0, None
    while (frame := _frame(bytes(data[position : position + 4]))) is not None:
        length = frame[0]
        if position + length > len(data):
            raise Rejected(CUT, "the last frame is cut off")
        if position == first:
            promised = _promised(bytes(data[position : position + min(length, 64)]))
        count += 1
        position += length
    if count == 0:
        raise Rejected("unsupported format", "no MP3 frame")
    # the frame that promises is itself not counted by most writers
    if promised is not None and count < promised:
        raise Rejected(CUT, f"{promised} frames promised, {count} there")


def _promised(frame: bytes) -> int | None:
    """How many frames a Xing or Info header says there are."""
    for name in (b"Xing", b"Info"):
        place = frame.find(name)
        if place >= 0 and place + 12 <= len(frame) and frame[place + 7] & 1:
            return struct.unpack_from(">I", frame, place + 8)[0]
    return None
