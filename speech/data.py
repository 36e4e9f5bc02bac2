"""Reads recordings: a folder by class, a folder or tar with a table, a prepared folder, or one file. Bad ones go to quarantine.

The table is speech.manifest's. Members of a tar are read in memory; nothing is extracted. Without a table the first folder of a
path is its label; files beside it have none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from core.datasets import Known, locate, sha256, verify
from core.errors import UserError
from core.quarantine import Quarantine
from speech.activity import ActivityConfig, sounding
from speech.audio import ReadConfig, Rejected, Wave, check_samples, decode, digest_of
from speech.decoding import Decoder
from speech.manifest import Facts, called, outside, stretch, table_of
from speech.shards import INDEX, Prepared
from speech.sources import layout, members

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
    "arabic-digits": Known(
        folder="speech/arabic_speech_commands_digits",
        sha256={
            "arabic_speech_commands_digits.tar": "012bfe72da243a5bb702530347ae91008a8571bf90d82e913b79c6cb444fcdaf",
            "metadata.csv": "720999f2b44e8119b8c428003e1a9abafc4937dfb22aa0ce893497fca52f06de",
        },
        source="github.com/abdulkaderghandoura/arabic-speech-commands-dataset, commit 72f34382",
        licence="CC BY 4.0",
    ),
    "esc10": Known(
        folder="speech/esc10",
        sha256={
            "esc10.tar": "b5594509bdcb36a3b60db606599fb9c1ef215ea79ac7a2a07704b417dcfeb843",
            "metadata.csv": "178df22a6ae7a4223af04c1e8a70c0ba5beef0615cabd929d827bcd23f2c21c2",
        },
        source="github.com/karolpiczak/ESC-10, commit 553c8f17, at 16 kHz",
        licence="CC BY 3.0 as a set; clips CC0, CC BY, CC Sampling+",
    ),
}
LONGEST = 4 * 3600.0  # seconds of a file of which stretches are taken
COLUMNS = ("label", "speaker", "split", "fold", "text")
Keep = Callable[[Wave], NDArray]


@dataclass(frozen=True)
class Recordings:
    """Usable recordings in order of their names, with what was set aside.

    `signals` holds what `keep` made of each wave (the wave itself, or its log-mel). `label`, `speaker`, `split`, `fold` (the set's
    own) and `text` are (N,) arrays of text with "" where unknown; `digest` (N,) is a hash of the samples; `source` the hashes of
    the input. `seconds` are those of the signal, which starts `start` seconds into the recording: both (N,).
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
    fold: NDArray = field(default_factory=lambda: np.array([], dtype=object))
    text: NDArray = field(default_factory=lambda: np.array([], dtype=object))
    start: NDArray[np.float64] = field(default_factory=lambda: np.array([]))

    def __post_init__(self) -> None:
        if len(self.start) != len(self.names):
            object.__setattr__(self, "start", np.zeros(len(self.names)))
        for name in ("fold", "text"):
            if len(getattr(self, name)) != len(self.names):
                object.__setattr__(self, name, np.full(len(self.names), "", dtype=object))

    def __len__(self) -> int:
        return len(self.names)

    def select(self, rows: NDArray) -> Recordings:
        """The recordings of the row numbers or boolean mask `rows`."""
        rows = np.flatnonzero(rows) if np.asarray(rows).dtype == bool else np.asarray(rows)
        columns = {name: getattr(self, name)[rows] for name in ("names", "seconds", "start", "digest", *COLUMNS)}
        return replace(self, signals=[self.signals[i] for i in rows], **columns)

    def summary(self) -> str:
        """One line of counts; no name of a file or speaker in it."""
        labels, speakers = set(self.label) - {""}, set(self.speaker) - {""}
        return (
            f"{len(self)} recordings, {self.seconds.sum() / 60:.1f} min, {len(labels)} labels, "
            f"{len(speakers)} speakers; {self.quarantine.summary()}"
        )


def together(parts: Sequence[Recordings]) -> Recordings:
    """Several sets as one, in their order; what was set aside of each stays with it."""
    columns = {
        n: np.concatenate([getattr(part, n) for part in parts])
        for n in ("names", "seconds", "start", "digest", *COLUMNS)
    }
    signals = [signal for part in parts for signal in part.signals]
    return replace(parts[0], signals=signals, quarantine=Quarantine(), source={}, **columns)


def wave_only(wave: Wave) -> NDArray:
    """Keep the samples (N,) as they are."""
    return wave.samples


def read(
    data: str | Path, config: ReadConfig | None = None, *, keep: Keep = wave_only, trim: ActivityConfig | None = None
) -> Recordings:
    """Read every usable recording of `data`.

    Args:
        data: a folder, a `.tar`, a table, one recording, what `prepare` wrote, or a known name (`fsdd`, whose files are checked).
        config: what a usable recording is.
        keep: called once with each wave; its result is kept in memory, the wave is not.
        trim: when a frame counts as sound: quiet ends are cut off first; None leaves them.

    Raises:
        UserError: nothing there, an unreadable table, or no usable recording left.
    """
    found = scan(data, config, keep=keep, trim=trim)
    if len(found) == 0:
        raise nothing_usable(found.quarantine, data)
    return found


def nothing_usable(quarantine: Quarantine, data: str | Path) -> UserError:
    """The line for data of which nothing is left."""
    reason = quarantine.summary() if len(quarantine) else "no wav, flac, ogg or mp3 file found"
    return UserError(f"no usable recording: {reason}", where=data, mend="run `check` for the reason of each file")


def scan(
    data: str | Path, config: ReadConfig | None = None, *, keep: Keep = wave_only, apart: bool = False,
    trim: ActivityConfig | None = None,
) -> Recordings:  # fmt: skip
    """As `read`, but an empty result is returned rather than raised: what `check` shows.

    Args:
        apart: decode in a process of its own, for files of unknown origin: see speech.decoding.
    """
    quarantine = Quarantine()
    source: dict[str, str] = {}
    rows: list[tuple[str, Facts, float, float, str]] = []
    signals: dict[str, NDArray] = {}
    config = config or ReadConfig()
    for name, wave, facts in waves(data, config, quarantine, source, apart):
        start, wave = (0.0, wave) if trim is None else sounding(wave, trim, config.min_seconds)
        signals[name] = keep(wave)
        rows.append((name, facts, start, wave.seconds, wave.digest))
    rows.sort(key=lambda row: row[0])
    columns = {c: np.array([facts.get(c, "") for _, facts, *_ in rows], dtype=object) for c in COLUMNS}
    return Recordings(
        names=np.array([name for name, *_ in rows], dtype=object),
        signals=[signals[name] for name, *_ in rows],
        start=np.array([start for _, _, start, _, _ in rows], dtype=np.float64),
        seconds=np.array([seconds for _, _, _, seconds, _ in rows], dtype=np.float64),
        digest=np.array([digest for *_, digest in rows], dtype=object),
        quarantine=quarantine,
        source=source,
        **columns,
    )


def waves(
    data: str | Path, config: ReadConfig, quarantine: Quarantine, source: dict[str, str], apart: bool = False
) -> Iterator[tuple[str, Wave, Facts]]:
    """(name, wave, facts) of each usable recording, one after the other and none held; the rest is set aside.

    Args:
        source: takes the hashes of the input.

    Raises:
        UserError: nothing there, or an unreadable table.
    """
    root = locate(data, KNOWN)
    if str(data) in KNOWN and root.is_dir():
        verify(root, KNOWN[str(data)])
    if (root / INDEX).is_file():
        yield from Prepared(root, source).waves(config, quarantine)
        return
    found = layout(root)
    source |= {path.name: sha256(path) for path in (found.tar, found.manifest) if isinstance(path, Path)}
    table = table_of(found.manifest, quarantine) if found.manifest is not None else None
    whole = config
    if table is not None and any(facts.get("start") or facts.get("end") for rows in table.values() for facts in rows):
        whole = replace(config, max_seconds=max(LONGEST, config.max_seconds))
    seen: dict[str, str] = {}
    listed: set[str] = set()
    with Decoder(whole) if apart else nullcontext(lambda content: decode(content, whole)) as decoder:
        for file, content in members(found, config, quarantine):
            rows = _facts(file, table)
            listed.add(file)
            if rows is None:
                quarantine.add(file, "not listed in metadata.csv")
                continue
            if not rows:  # set aside when the table was read
                continue
            try:
                wave = decoder(content)
            except Rejected as rejected:
                quarantine.add(file, rejected.reason, rejected.detail)
                continue
            for facts in rows:
                name = called(facts)
                try:
                    part = _part(wave, facts, config)
                    if part.digest in seen:
                        raise Rejected("same audio as another recording", seen[part.digest])
                except Rejected as rejected:
                    quarantine.add(name, rejected.reason, rejected.detail)
                    continue
                seen[part.digest] = name
                yield name, part, facts
    aside = {where for where, _, _ in quarantine.records}
    for name, rows in table.items() if table is not None else ():
        if name not in listed and name not in aside and rows:
            quarantine.add(name, "path leaves the folder" if outside(name) else "missing file")


def _facts(name: str, table: dict[str, list[Facts]] | None) -> list[Facts] | None:
    if table is None:
        parts = PurePosixPath(name).parts
        return [{"file": name, "label": parts[0] if len(parts) > 1 else ""}]
    return table.get(name)


def _part(wave: Wave, facts: Facts, config: ReadConfig) -> Wave:
    """The stretch of a recording that a row lists, checked; the recording itself where it lists none."""
    promised = facts.get("n_samples", "")
    if promised.isdigit() and int(promised) != len(wave.samples):
        raise Rejected("length differs from metadata.csv", f"{promised} samples listed, {len(wave.samples)} read")
    try:
        bounds = stretch(facts)
    except ValueError:
        raise Rejected("start and end are no stretch", f"{facts.get('start')} to {facts.get('end')}") from None
    samples = wave.samples
    if bounds is not None:
        start, end = bounds
        if start >= wave.seconds or (np.isfinite(end) and end > wave.seconds + 0.05):
            raise Rejected("the stretch lies outside the recording", f"{wave.seconds:.2f} s long")
        samples = samples[round(start * wave.rate) : round(min(end, wave.seconds) * wave.rate)]
        if len(samples) < max(config.min_seconds * wave.rate, 1):
            raise Rejected("too short", f"{len(samples) / wave.rate:.3f} s")
        check_samples(samples, config)
        wave = Wave(samples, wave.rate, digest_of(samples, wave.rate))
    if wave.seconds > config.max_seconds:
        raise Rejected("too long", f"{wave.seconds:.1f} s")
    return wave
