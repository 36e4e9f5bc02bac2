"""What a command costs: its seconds and its peak memory, run as a user runs it, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence

from core.errors import UserError

# the peak is known to the process alone, so it prints it behind whatever the command says
CHILD = """
import importlib, json, resource, sys
main = importlib.import_module(sys.argv[1]).main
try:
    main(sys.argv[2:])
except SystemExit as end:
    code = end.code or 0
print(json.dumps({"code": code, "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20}))
"""


def measured(module: str, arguments: Sequence[str], where: str) -> tuple[float, float]:
    """Seconds, and GiB at the peak, of one command.

    Args:
        module: whose `main` takes the arguments, such as `finance.cli`.
        arguments: the verb and its flags.
        where: what it worked on, for the error.

    Raises:
        UserError: the command failed; its last words are told.
    """
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", CHILD, module, *arguments], capture_output=True, text=True, check=False
    )
    seconds = time.monotonic() - started
    said = done.stdout.strip().splitlines()
    found = json.loads(said[-1]) if said and said[-1].startswith("{") else {"code": done.returncode or 1}
    if found["code"]:
        mend = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise UserError(f"{arguments[0]} failed", where=where, mend=mend)
    return seconds, found["peak"]
