"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from core.errors import UserError


@contextmanager
def whole(path: str | Path, what: str) -> Iterator[Path]:
    """A temporary path beside `path`, which takes its name when the block ends; folders on the way are made.

    with whole(out, "the report") as temporary:
        temporary.write_text(page)

    Raises:
        UserError: the disk is full or the place cannot be written; what was there stays, and nothing else is left.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            os.replace(temporary, path)
        finally:
            with suppress(OSError):
                temporary.unlink()
    except OSError as error:
        raise cannot_write(what, path, error) from error


@contextmanager
def whole_folder(path: str | Path, what: str) -> Iterator[Path]:
    """As `whole`, for a folder; one that was there is replaced when the block ends, so the caller says whether it may be.

    Raises:
        UserError: the disk is full or the place cannot be written; what was there stays.
    """
    path = Path(path).absolute()
    temporary, old = (path.with_name(f".{path.name}.{os.getpid()}.{end}") for end in ("tmp", "old"))
    try:
        try:
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
            yield temporary
            if path.exists():
                os.replace(path, old)
            try:
                os.replace(temporary, path)
            except OSError:
                if old.exists():
                    os.replace(old, path)
                raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
            shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise cannot_write(what, path, error) from error


def cannot_write(what: str, path: Path, error: OSError) -> UserError:
    """The line for a full disk, a folder without permission, or a file where a folder should be."""
    return UserError(
        f"{what} could not be written: {error.strerror or error}", where=path,
        mend="free some space, or give another place",
    )  # fmt: skip


def unreadable(path: Path, error: Exception) -> UserError:
    """The line for a file that a reader refuses; the readers raise a dozen kinds, the user needs one."""
    reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
    return UserError(
        "the file cannot be read", where=path, mend=f"check that it is a whole {path.suffix[1:]} file: {reason}"
    )
