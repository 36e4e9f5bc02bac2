"""Files that are written whole or not at all.

Until it is whole, a file or folder has a hidden name beside its own, with the machine and the process in it. A process that is killed
cannot remove it: the next one that writes the same file does.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
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
    temporary = _hidden(path, "tmp")
    try:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _sweep(path)
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
    temporary, old = _hidden(path, "tmp"), _hidden(path, "old")
    try:
        try:
            _sweep(path)
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


@contextmanager
def scratch(folder: str | Path, what: str) -> Iterator[Path]:
    """A hidden folder in `folder` for what is needed only until the block ends, however it ends.

    Raises:
        UserError: it cannot be made.
    """
    place = Path(folder).absolute() / what
    temporary = _hidden(place, "tmp")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        _sweep(place)
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
    except OSError as error:
        raise cannot_write("temporary files", place.parent, error) from error
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@cache
def _machine() -> str:
    """Short name of where process numbers mean the same: the machine, and on it the container."""
    try:
        space = os.readlink("/proc/self/ns/pid")
    except OSError:
        space = ""
    return hashlib.blake2b(f"{socket.gethostname()} {space}".encode(), digest_size=4).hexdigest()


def _hidden(path: Path, end: str) -> Path:
    return path.with_name(f".{path.name}.{_machine()}.{os.getpid()}.{end}")


def _sweep(path: Path) -> None:
    """Remove what processes of this machine that have ended left of `path`, and put back what one of them had only moved away."""
    if os.name != "posix":  # elsewhere a process cannot be asked without a risk to it
        return
    ours = re.compile(rf"{re.escape(f'.{path.name}.{_machine()}.')}(\d+)\.(tmp|old)")
    with suppress(OSError):
        for left in list(path.parent.iterdir()):
            found = ours.fullmatch(left.name)
            if found is None or _runs(int(found[1])):
                continue
            if found[2] == "old" and not path.exists():
                os.replace(left, path)
            elif left.is_dir() and not left.is_symlink():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink(missing_ok=True)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # it belongs to somebody else, or is no number of a process
        return True
    return True


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
