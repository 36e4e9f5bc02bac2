"""Where recordings come from: a folder, a tar, one file; no path leaves the place that was named, nothing is extracted."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from core.errors import UserError
from core.quarantine import Quarantine
from speech.audio import SUFFIXES, ReadConfig
from speech.manifest import MAX_BYTES, NAMES, TABLES, outside, plain


@dataclass(frozen=True)
class Layout:
    """What lies at a path: a tar, or `files` under `root`; `manifest` lists them (bytes where it is inside the tar)."""

    root: Path
    files: list[Path] = field(default_factory=list)
    tar: Path | None = None
    manifest: Path | bytes | None = None


def layout(root: Path) -> Layout:
    """What `root` holds.

    Raises:
        UserError: another kind of file, several tars, or a tar that cannot be read.
    """
    if root.is_file() and root.suffix.lower() in TABLES:
        return _folder(root.parent, root)
    if root.is_dir():
        return _folder(root, next((root / name for name in NAMES if (root / name).is_file()), None))
    if root.suffix.lower() == ".tar":
        beside = root.with_name(NAMES[0])
        return Layout(root.parent, tar=root, manifest=beside if beside.is_file() else _manifest_within(root))
    if root.suffix.lower() in SUFFIXES:
        return Layout(root.parent, [root])
    raise UserError(
        "not a kind of file that is read here", where=root,
        mend="give a folder, .tar, .csv, .parquet, .wav, .flac, .ogg or .mp3",
    )  # fmt: skip


def members(found: Layout, config: ReadConfig, quarantine: Quarantine) -> Iterator[tuple[str, bytes]]:
    """(name, content) of each recording, in memory; those that cannot be read are set aside."""
    if found.tar is not None:
        return _from_tar(found.tar, config, quarantine)
    return _from_files(found.files, found.root, config, quarantine)


def _folder(root: Path, manifest: Path | None) -> Layout:
    tars = sorted(root.glob("*.tar"))
    files = sorted(path for path in root.rglob("*") if path.suffix.lower() in SUFFIXES)
    if len(tars) == 1 and not files:
        return Layout(root, tar=tars[0], manifest=manifest or _manifest_within(tars[0]))
    if tars and not files:
        raise UserError("several tar files", where=root, mend="name the one to read")
    return Layout(root, files, manifest=manifest)


def _manifest_within(tar: Path) -> bytes | None:
    with _open_tar(tar) as archive:
        try:
            for member in archive:
                if member.isreg() and plain(member.name) == NAMES[0] and member.size <= MAX_BYTES:
                    file = archive.extractfile(member)
                    return file.read() if file else None
        except (tarfile.TarError, OSError, EOFError):
            return None  # cut off: `_from_tar` comes to the same place and sets it aside
    return None


def _open_tar(path: Path) -> tarfile.TarFile:
    try:
        return tarfile.open(path, "r:")  # no compression: a small file cannot unpack into a large one
    except (tarfile.TarError, OSError, EOFError) as error:
        raise UserError("the tar file cannot be read", where=path, mend="give an uncompressed .tar") from error


def contained(path: Path, folder: Path) -> bool:
    """Whether a path, links followed, lies in a folder."""
    try:
        return path.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError, ValueError):  # a loop of links, or a zero byte in the name
        return False


def _from_files(
    files: list[Path], root: Path, config: ReadConfig, quarantine: Quarantine
) -> Iterator[tuple[str, bytes]]:
    for path in files:
        name = path.relative_to(root).as_posix()
        if not contained(path, root):
            quarantine.add(name, "points outside the folder")
            continue
        try:
            if path.is_dir():
                quarantine.add(name, "a folder, not a file")
                continue
            if not path.is_file():  # a pipe would wait for ever
                quarantine.add(name, "not a regular file")
                continue
            size = path.stat().st_size
            if size > config.max_bytes:
                quarantine.add(name, "file too large", f"{size} bytes")
                continue
            content = path.read_bytes()
        except OSError as error:
            quarantine.add(name, "unreadable", type(error).__name__)
            continue
        yield name, content


def _from_tar(tar: Path, config: ReadConfig, quarantine: Quarantine) -> Iterator[tuple[str, bytes]]:
    seen: set[str] = set()
    with _open_tar(tar) as archive:
        while True:
            try:
                member = archive.next()
            except (tarfile.TarError, OSError, EOFError) as error:
                quarantine.add(tar.name, "the archive is cut off", type(error).__name__)
                return
            if member is None:
                return
            name = plain(member.name)
            if member.isdir() or name in NAMES or PurePosixPath(name).suffix.lower() not in SUFFIXES:
                continue
            if outside(name):
                quarantine.add(name, "path leaves the archive")
            elif not member.isreg():
                quarantine.add(name, "not a regular file")
            elif member.size > config.max_bytes:
                quarantine.add(name, "file too large", f"{member.size} bytes")
            elif name in seen:
                quarantine.add(name, "twice in the archive")
            else:
                seen.add(name)
                file = archive.extractfile(member)
                try:
                    content = file.read() if file else b""
                except (tarfile.TarError, OSError, EOFError):
                    content = b""
                if len(content) != member.size:
                    quarantine.add(name, "cut off", f"{member.size} bytes promised, {len(content)} there")
                    continue
                yield name, content
