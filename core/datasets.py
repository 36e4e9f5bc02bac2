"""Finds data: a path that exists, or the name of a known data set under `TACIT_DATA`."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path

from core.errors import UserError


@dataclass(frozen=True)
class Known:
    """A published data set: where it lies under `TACIT_DATA`, its files' sha256, its source and licence."""

    folder: str
    sha256: dict[str, str] = field(default_factory=dict)
    source: str = ""
    licence: str = ""


def locate(data: str | Path, known: dict[str, Known] | None = None) -> Path:
    """The file or folder that `data` names.

    Args:
        data: an existing path, or a key of `known` (`beauty`, `fsdd`, …) looked up under `$TACIT_DATA`.
        known: the domain's data sets.

    Raises:
        UserError: neither a path nor a known name, or a known set that is not there.
    """
    known = known or {}
    path = Path(data).expanduser()
    if str(data) in known:
        entry = known[str(data)]
        root = os.environ.get("TACIT_DATA")
        if root and (Path(root) / entry.folder).exists():
            return Path(root) / entry.folder
        if not path.exists():
            raise UserError(
                f"data set '{data}' is not on this machine",
                where=Path(root) / entry.folder if root else "TACIT_DATA is not set",
                mend=f"get it from {entry.source} and set TACIT_DATA to the folder that holds {entry.folder}",
            )
    if not path.exists():
        names = ", ".join(known) or "none"
        raise UserError("no such file or folder", where=data, mend=f"give a path, or one of the known sets: {names}")
    if path.is_dir() and not any(path.iterdir()):
        raise UserError("the folder is empty", where=data, mend="give a folder that holds data")
    if path.is_file() and path.stat().st_size == 0:
        raise UserError("the file is empty", where=data, mend="give a file that holds data")
    return path


def sha256(path: Path) -> str:
    """Hex digest of a file's bytes: a report names the data it was made from by this."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def verify(folder: Path, entry: Known) -> None:
    """Raise `UserError` where a known set's file differs from the published one."""
    for name, expected in entry.sha256.items():
        file = folder / name
        if not file.exists():
            raise UserError("a file of the data set is missing", where=file, mend=f"get it again from {entry.source}")
        if sha256(file) != expected:
            raise UserError(
                "the file differs from the published one", where=file, mend=f"get it again from {entry.source}"
            )
