"""Tables for the data's owner: rows carry the file's name, or its keyed hash; text cells are safe to open in a spreadsheet."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from core.cli import say

if TYPE_CHECKING:
    from core.quarantine import Quarantine
    from speech.data import Recordings


def names(recordings: Recordings, pseudonymise: bool) -> list[str]:
    """File names, or their keyed hashes."""
    from core.tables import pseudonyms

    return pseudonyms(recordings.names) if pseudonymise else list(recordings.names)


def aside(recordings: Recordings, out: Path) -> None:
    """Say and list what was set aside."""
    say(recordings.summary())
    list_aside(recordings.quarantine, out)


def list_aside(quarantine: Quarantine, out: Path) -> None:
    """List what was set aside beside a table."""
    if len(quarantine):
        say(f"set aside: {quarantine.write(out.with_suffix('.quarantine.csv'))}")
