"""How a command ends: a reader that has gone ends it quietly, a pipe of our own that broke does not."""

from __future__ import annotations

import subprocess
import sys

GONE = "from core.cli import run_safely; run_safely('x', lambda: [print('line', flush=True) for _ in range(100_000)] and 0)"
OWN = """
import os
from core.cli import run_safely

def work():
    read, write = os.pipe()
    os.close(read)
    os.write(write, b"to a process that has ended")

run_safely("x", work)
"""


def test_a_reader_that_has_gone_ends_the_command_quietly() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", GONE], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        said = process.stderr.read()
        assert process.wait() == 0
    assert said == ""


def test_a_pipe_of_our_own_that_broke_is_not_taken_for_it() -> None:
    done = subprocess.run([sys.executable, "-c", OWN], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "BrokenPipeError" in done.stderr
