"""Decoding in a process of its own: a file that crashes the decoder, hangs it or eats memory costs that file alone.

The parent sends `length, bytes` and reads back a JSON line, then the samples; nothing is pickled. A child that dies or is late
is replaced for the next file.
"""

from __future__ import annotations

import json
import os
import select
import struct
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import numpy as np

from speech.audio import ReadConfig, Rejected, Wave, decode

MEMORY = 2 << 30  # bytes of address space for the child: Python, numpy and libsndfile take a quarter of it
SECONDS = 30.0  # for one file; a minute of sound takes a fraction of a second
_START = "from speech.decoding import serve; serve()"


class Decoder:
    """`decoder(bytes) -> Wave`, as speech.audio.decode, in a child process that is started when it is first needed.

    Args:
        config: what a usable recording is.
        seconds: after which a file is given up.
        start: the program that the child runs.
    """

    def __init__(self, config: ReadConfig | None = None, seconds: float = SECONDS, start: str = _START) -> None:
        self.config, self.seconds, self.start = config or ReadConfig(), seconds, start
        self.child: subprocess.Popen[bytes] | None = None
        self.restarts = 0

    def __call__(self, data: bytes) -> Wave:
        """Decode.

        Raises:
            Rejected: as speech.audio.decode; or the file crashed the decoder or took too long.
        """
        if len(data) > self.config.max_bytes:  # not worth the way there
            raise Rejected("file too large", f"{len(data)} bytes")
        child = self.child or self._started()
        deadline = time.monotonic() + self.seconds
        try:
            self._send(child, data)
            answer = json.loads(self._line(child, deadline))
            if "reason" in answer:
                raise Rejected(answer["reason"], answer["detail"])
            samples = np.frombuffer(self._exactly(child, 4 * answer["samples"], deadline), "<f4").astype(np.float32)
        except TimeoutError as error:
            self._stop()
            raise Rejected("takes too long to decode", f"over {self.seconds:g} s") from error
        except (EOFError, BrokenPipeError, ConnectionError) as error:
            self._stop()
            raise Rejected("crashes the decoder") from error
        return Wave(samples, answer["rate"], answer["digest"])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:  # fmt: skip
        self._stop()

    def _started(self) -> subprocess.Popen[bytes]:
        here = str(Path(__file__).parent.parent)  # the child imports this very package
        path = os.pathsep.join(p for p in (here, os.environ.get("PYTHONPATH", "")) if p)
        self.child = subprocess.Popen(
            # -P: what is called core or numpy in the working folder is not ours
            [sys.executable, "-P", "-c", self.start, json.dumps(asdict(self.config))],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,  # libmpg123 talks there
            env={**os.environ, "PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1"},
        )  # fmt: skip
        self.restarts += 1
        return self.child

    def _stop(self) -> None:
        if self.child is not None:
            self.child.kill()
            for pipe in (self.child.stdin, self.child.stdout):
                if pipe is not None:
                    with suppress(OSError):
                        pipe.close()
            self.child.wait()
            self.child = None

    @staticmethod
    def _send(child: subprocess.Popen[bytes], data: bytes) -> None:
        assert child.stdin is not None
        child.stdin.write(struct.pack("<Q", len(data)) + data)
        child.stdin.flush()

    def _line(self, child: subprocess.Popen[bytes], deadline: float) -> bytes:
        (length,) = struct.unpack("<I", self._exactly(child, 4, deadline))
        return self._exactly(child, length, deadline)

    @staticmethod
    def _exactly(child: subprocess.Popen[bytes], length: int, deadline: float) -> bytes:
        assert child.stdout is not None
        number, parts = child.stdout.fileno(), []
        while length > 0:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([number], [], [], left)[0]:
                raise TimeoutError
            part = os.read(number, min(length, 1 << 20))
            if not part:
                raise EOFError
            parts.append(part)
            length -= len(part)
        return b"".join(parts)


def serve() -> None:
    """The child: decodes what comes in, under a limit of memory, until the parent closes the pipe."""
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    config = ReadConfig(**json.loads(sys.argv[1]))
    source, out = sys.stdin.buffer, sys.stdout.buffer
    while len(head := source.read(8)) == 8:
        try:
            wave = decode(source.read(struct.unpack("<Q", head)[0]), config)
        except Rejected as rejected:
            _answer(out, {"reason": rejected.reason, "detail": rejected.detail})
        else:
            _answer(out, {"rate": wave.rate, "digest": wave.digest, "samples": len(wave.samples)}, wave.samples)


def _answer(out: BinaryIO, facts: dict[str, object], samples: np.ndarray | None = None) -> None:
    line = json.dumps(facts).encode()
    out.write(struct.pack("<I", len(line)) + line)
    if samples is not None:
        out.write(samples.astype("<f4").tobytes())
    out.flush()
