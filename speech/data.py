"""Reads recordings: a folder by class, a folder or tar with metadata.csv, or one file. Bad ones go to quarantine.

metadata.csv: `file` and any of `label` (or `digit`), `speaker`, `split`, `n_samples`. Members of a tar are read in memory; nothing
is extracted. Without metadata.csv the first folder of a path is its label; files beside it have none.
"""

from __future__ import annotations

import csv
import io
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from core.datasets import Known, locate, sha256, verify
from core.errors import UserError
from core.quarantine import Quarantine
from speech.audio import SUFFIXES, ReadConfig, Rejected, Wave, decode

KNOWN = {
    "fsdd": Known(
        folder="speech/fsdd",
        sha256={
            "fsdd.tar": "65c189d3355ef479a92bcfff2e20330037962fec885b84f75fa88d41a97aa258",
            "metadata.csv": "a33725d3905a6001af7e0d2264f8d8bb0714cd5861f6581b401e7fc2de1a8873",
        },
        source="github.com/Jakobovski/free-spoken-digit-dataset, commit 26eb9aaf",
        licence="CC BY-SA 4.0",
    ),
}
_COLUMNS = {
    "file": ("file", "path", "filename"),
    "label": ("label", "digit"),
    "speaker": ("speaker",),
    "split": ("split",),
}
_METADATA = "metadata.csv"
_MAX_METADATA = 64 * 1024 * 1024
Keep = Callable[[Wave], NDArray]


@dataclass(frozen=True)
class Recordings:
    """Usable recordings in order of their names, with what was set aside.

    `signals` holds what `keep` made of each wave (the wave itself, or its log-mel). `label`, `speaker` and `split` are
    (N,) arrays of text with "" where unknown; `digest` (N,) is a hash of the samples; `source` the hashes of the input.
    """

    names: NDArray
    signals: list[NDArray]
    seconds: NDArray[np.float64]
    label: NDArray
    speaker: NDArray
    split: NDArray
    digest: NDArray
    quarantine: Quarantine = field(default_factory=Quarantine)
    source: dict[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.names)

    def select(self, rows: NDArray) -> Recordings:
        """The recordings of the row numbers or boolean mask `rows`."""
        rows = np.flatnonzero(rows) if np.asarray(rows).dtype == bool else np.asarray(rows)
        columns = {
            name: getattr(self, name)[rows] for name in ("names", "seconds", "label", "speaker", "split", "digest")
        }
        return replace(self, signals=[self.signals[i] for i in rows], **columns)

    def summary(self) -> str:
        """One line of counts; no name of a file or speaker in it."""
        labels, speakers = set(self.label) - {""}, set(self.speaker) - {""}
        return (
            f"{len(self)} recordings, {self.seconds.sum() / 60:.1f} min, {len(labels)} labels, "
            f"{len(speakers)} speakers; {self.quarantine.summary()}"
        )


def wave_only(wave: Wave) -> NDArray:
    """Keep the samples (N,) as they are."""
    return wave.samples


def read(data: str | Path, config: ReadConfig | None = None, *, keep: Keep = wave_only) -> Recordings:
    """Read every usable recording of `data`.

    Args:
        data: a folder, a `.tar`, a `metadata.csv`, one recording, or a known name (`fsdd`, whose files are checked).
        config: what a usable recording is.
        keep: called once with each wave; its result is kept in memory, the wave is not.

    Raises:
        UserError: nothing there, unreadable metadata, or no usable recording left.
    """
    found = scan(data, config, keep=keep)
    if len(found) == 0:
        reason = found.quarantine.summary() if len(found.quarantine) else "no wav, flac or ogg file found"
        raise UserError(f"no usable recording: {reason}", where=data, mend="run `check` for the reason of each file")
    return found


def scan(data: str | Path, config: ReadConfig | None = None, *, keep: Keep = wave_only) -> Recordings:
    """As `read`, but an empty result is returned rather than raised: what `check` shows."""
    config, quarantine = config or ReadConfig(), Quarantine()
    root = locate(data, KNOWN)
    if str(data) in KNOWN and root.is_dir():
        verify(root, KNOWN[str(data)])
    metadata, tar, files = _layout(root)
    table = _table(metadata, quarantine) if metadata is not None else None
    members = _from_tar(tar, config, quarantine) if tar else _from_files(files, root, config, quarantine)
    rows: list[tuple[str, Wave, dict[str, str]]] = []
    signals: dict[str, NDArray] = {}
    seen: dict[str, str] = {}
    listed: set[str] = set()
    for name, content in members:
        facts = _facts(name, table)
        listed.add(name)
        if facts is None:
            quarantine.add(name, "not listed in metadata.csv")
            continue
        if "conflict" in facts:  # set aside when the table was read
            continue
        try:
            wave = decode(content, config)
            _check_facts(wave, facts)
            if wave.digest in seen:
                raise Rejected("same audio as another recording", seen[wave.digest])
        except Rejected as rejected:
            quarantine.add(name, rejected.reason, rejected.detail)
            continue
        seen[wave.digest] = name
        signals[name] = keep(wave)
        rows.append((name, replace(wave, samples=np.empty(0, np.float32)), facts | {"seconds": str(wave.seconds)}))
    aside = {where for where, _, _ in quarantine.records}
    for name in table if table is not None else ():
        if name not in listed and name not in aside:
            outside = name.startswith("/") or ".." in PurePosixPath(name).parts
            quarantine.add(name, "path leaves the folder" if outside else "missing file")
    rows.sort(key=lambda row: row[0])
    return Recordings(
        names=np.array([name for name, _, _ in rows], dtype=object),
        signals=[signals[name] for name, _, _ in rows],
        seconds=np.array([float(facts["seconds"]) for _, _, facts in rows]),
        label=np.array([facts.get("label", "") for _, _, facts in rows], dtype=object),
        speaker=np.array([facts.get("speaker", "") for _, _, facts in rows], dtype=object),
        split=np.array([facts.get("split", "") for _, _, facts in rows], dtype=object),
        digest=np.array([wave.digest for _, wave, _ in rows], dtype=object),
        quarantine=quarantine,
        source={path.name: sha256(path) for path in (tar, metadata) if isinstance(path, Path)},
    )


def _layout(root: Path) -> tuple[Path | bytes | None, Path | None, list[Path]]:
    """(metadata, tar, files) of a path."""
    if root.is_file() and root.name == _METADATA:
        root = root.parent
    if root.is_dir():
        metadata = root / _METADATA if (root / _METADATA).is_file() else None
        tars = sorted(root.glob("*.tar"))
        files = sorted(path for path in root.rglob("*") if path.suffix.lower() in SUFFIXES and not path.is_dir())
        if len(tars) == 1 and not files:
            return metadata, tars[0], []
        if tars and not files:
            raise UserError("several tar files", where=root, mend="name the one to read")
        return metadata, None, files
    if root.suffix.lower() == ".tar":
        beside = root.with_name(_METADATA)
        return (beside if beside.is_file() else _metadata_within(root)), root, []
    if root.suffix.lower() in SUFFIXES:
        return None, None, [root]
    raise UserError("not a kind of file that is read here", where=root, mend="give a folder, .tar, .wav, .flac or .ogg")


def _metadata_within(tar: Path) -> bytes | None:
    with _open_tar(tar) as archive:
        try:
            for member in archive:
                if member.isreg() and member.name.removeprefix("./") == _METADATA and member.size <= _MAX_METADATA:
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


def _table(metadata: Path | bytes, quarantine: Quarantine) -> dict[str, dict[str, str]]:
    """Facts by file name; a name listed twice is set aside once where the rows agree, wholly where they do not."""
    where = metadata.name if isinstance(metadata, Path) else _METADATA
    content = metadata.read_bytes() if isinstance(metadata, Path) else metadata
    try:
        frame = pd.read_csv(io.BytesIO(content), dtype=str, keep_default_na=False, skipinitialspace=True)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError, csv.Error) as error:
        raise UserError("the table cannot be read", where=where, mend="give a UTF-8 CSV with a header line") from error
    chosen = {key: next((a for a in aliases if a in frame.columns), None) for key, aliases in _COLUMNS.items()}
    if chosen["file"] is None:
        there = ", ".join(map(str, frame.columns[:12]))
        raise UserError(f"no column `file` among: {there}", where=where, mend="name the column of recordings `file`")
    if len(frame) == 0:
        raise UserError("the table has no rows", where=where, mend="list the recordings, one a row")
    columns = {key: frame[name].str.strip() for key, name in chosen.items() if name is not None}
    if "n_samples" in frame:
        columns["n_samples"] = frame["n_samples"].str.strip()
    tidy = pd.DataFrame(columns)
    tidy["file"] = tidy["file"].map(_plain)
    repeated = tidy["file"].duplicated(keep=False)
    conflicting = tidy[repeated].drop_duplicates()["file"].duplicated(keep=False)
    conflicts = set(tidy[repeated].drop_duplicates()["file"][conflicting])
    for name in tidy["file"][tidy["file"].duplicated()]:
        if name not in conflicts:
            quarantine.add(name, "listed twice", "the first row is kept")
    for name in sorted(conflicts):
        quarantine.add(name, "listed twice with different facts")
    kept = tidy[~tidy["file"].isin(conflicts)].drop_duplicates("file")
    for position in kept.index[kept["file"] == ""]:
        quarantine.add(f"row {position + 1}", "no file named")
    kept = kept[kept["file"] != ""]
    table = {str(row["file"]): {str(k): str(v) for k, v in row.items()} for row in kept.to_dict("records")}
    for name in conflicts:
        table[name] = {"conflict": "yes"}
    return table


def _facts(name: str, table: dict[str, dict[str, str]] | None) -> dict[str, str] | None:
    if table is None:
        parts = PurePosixPath(name).parts
        return {"label": parts[0]} if len(parts) > 1 else {}
    return table.get(name)


def _check_facts(wave: Wave, facts: dict[str, str]) -> None:
    promised = facts.get("n_samples", "")
    if promised.isdigit() and int(promised) != len(wave.samples):
        raise Rejected("length differs from metadata.csv", f"{promised} samples listed, {len(wave.samples)} read")


def _plain(name: str) -> str:
    return str(PurePosixPath(name.replace("\\", "/"))) if name else ""


def _from_files(
    files: list[Path], root: Path, config: ReadConfig, quarantine: Quarantine
) -> Iterator[tuple[str, bytes]]:
    folder = (root if root.is_dir() else root.parent).resolve()
    for path in files:
        name = path.relative_to(root if root.is_dir() else root.parent).as_posix()
        if not path.resolve().is_relative_to(folder):
            quarantine.add(name, "points outside the folder")
            continue
        try:
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
            name = _plain(member.name)
            if member.isdir() or name == _METADATA or PurePosixPath(name).suffix.lower() not in SUFFIXES:
                continue
            if name.startswith("/") or ".." in PurePosixPath(name).parts:
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
