"""Files that are written whole or not at all."""

from __future__ import annotations

import os
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


def cannot_write(what: str, path: Path, error: OSError) -> UserError:
    """The line for a full disk, a folder without permission, or a file where a folder should be."""
    return UserError(
        f"{what} could not be written: {error.strerror or error}", where=path,
        mend="free some space, or give another place",
    )  # fmt: skip
