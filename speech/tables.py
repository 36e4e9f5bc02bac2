"""Tables for the data's owner: rows carry the file's name, or its keyed hash; text cells are safe to open in a spreadsheet."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from core.cli import say

if TYPE_CHECKING:
    from core.quarantine import Quarantine
    from speech.data import Recordings


def hashed(name: str, key: str | None) -> str:
    """A name, or with a key its hash (HMAC-SHA-256)."""
    import hashlib
    import hmac

    return name if key is None else hmac.new(key.encode(), name.encode(), hashlib.sha256).hexdigest()[:32]


def names(recordings: Recordings, key: str | None) -> list[str]:
    """File names, or their keyed hashes."""
    return [hashed(name, key) for name in recordings.names]


def aside(recordings: Recordings, out: Path) -> None:
    """Say and list what was set aside."""
    say(recordings.summary())
    list_aside(recordings.quarantine, out)


def list_aside(quarantine: Quarantine, out: Path) -> None:
    """List what was set aside beside a table."""
    if len(quarantine):
        say(f"set aside: {quarantine.write(out.with_suffix('.quarantine.csv'))}")
