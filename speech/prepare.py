"""Raw recordings to a prepared folder: read and checked once, quiet cut off, resampled, split by speaker, packed (speech.shards)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from core.config import to_dict, within
from core.errors import UserError
from core.files import whole_folder
from core.quarantine import Quarantine
from speech.activity import ActivityConfig, segments, trimmed
from speech.audio import ReadConfig, Wave
from speech.data import LONGEST, nothing_usable, waves
from speech.shards import INDEX, SHARD_SAMPLES, Kind, ShardWriter


@dataclass(frozen=True)
class PrepareConfig:
    """How recordings are prepared.

    Attributes:
        read: what a usable recording is.
        activity: `none`; `trim` cuts quiet off both ends; `segment` makes a recording of each stretch of sound, none longer than
            `read.max_seconds`, out of recordings up to four hours long.
        voice: when a frame counts as sound.
        rate: Hz that all are resampled to; None leaves each its own.
        samples: how a shard holds them; int16 rounds to 16 bits.
        split: `own` keeps the data's; `speaker` puts a share `test` and `val` of the speakers aside, chosen by a hash of their name
            and `seed` (of the file, where no speaker is named); `auto` the first where the data has one; `none`.
        shard_samples: of a shard at most.
    """

    read: ReadConfig = field(default_factory=ReadConfig)
    activity: Literal["none", "trim", "segment"] = "none"
    voice: ActivityConfig = field(default_factory=ActivityConfig)
    rate: int | None = None
    samples: Kind = "int16"
    split: Literal["auto", "own", "speaker", "none"] = "auto"
    test: float = 0.2
    val: float = 0.0
    seed: int = 0
    shard_samples: int = SHARD_SAMPLES

    def __post_init__(self) -> None:
        within(self, test=(0, 0.9), val=(0, 0.9), rate=(1000, 192_000), shard_samples=(1, 1 << 31))
        if self.test + self.val >= 1:
            raise UserError(
                "test and validation leave nothing to learn from", where="split", mend="give smaller shares"
            )


@dataclass(frozen=True)
class Summary:
    """What `prepare` wrote: counts, seconds in and out, and what was set aside."""

    recordings: int
    seconds: float
    seconds_read: float
    shards: int
    split: dict[str, int]
    quarantine: Quarantine

    def summary(self) -> str:
        """One line of counts."""
        parts = ", ".join(f"{name or 'no split'} {count}" for name, count in self.split.items())
        return (
            f"{self.recordings} recordings, {self.seconds / 60:.1f} min of {self.seconds_read / 60:.1f}, in {self.shards} "
            f"shard{'s' * (self.shards != 1)} ({parts}); {self.quarantine.summary()}"
        )


def prepare(data: str | Path, out: str | Path, config: PrepareConfig | None = None) -> Summary:
    """Write a prepared folder, whole or not at all; the same data and settings give the same files.

    Raises:
        UserError: nothing usable, `out` holds something else, `split` is `own` and the data names none, or no space.
    """
    config, out = config or PrepareConfig(), Path(out)
    if out.exists() and not (out / INDEX).is_file() and (not out.is_dir() or any(out.iterdir())):
        raise UserError("that place holds something that is no prepared set", where=out, mend="give another --out")
    quarantine = Quarantine()
    source: dict[str, str] = {}
    reading = config.read
    if config.activity == "segment":
        reading = replace(reading, max_seconds=max(LONGEST, reading.max_seconds))
    seconds_read = 0.0
    with whole_folder(out, "the prepared set") as folder:
        writer = ShardWriter(folder, config.samples, config.shard_samples)
        for name, wave, facts in waves(data, reading, quarantine, source, apart=True):
            seconds_read += wave.seconds
            kept = 0
            for start, piece in _pieces(wave, config):
                kept += 1
                called = name if config.activity != "segment" else f"{name}#{start:.2f}"
                about = {c: facts.get(c, "") for c in ("label", "speaker", "split", "fold", "text")}
                samples = _resampled(piece, wave.rate, config.rate)
                rate = config.rate or wave.rate
                writer.add(called, samples, rate, {**about, "source": facts.get("file", name), "start": start})
            if not kept:
                quarantine.add(name, "no sound long enough")
        if not writer.rows:
            raise nothing_usable(quarantine, data)
        if config.activity == "segment":
            _without_parts_text(writer.rows)
        _split(writer.rows, config, data)
        index = writer.finish(settings=to_dict(config), source=source, quarantine=quarantine.counts())
        quarantine.write(folder / "quarantine.csv")
    counts = {str(name): int(count) for name, count in index["split"].value_counts().sort_index().items()}
    return Summary(len(index), float(index["seconds"].sum()), seconds_read, writer.number, counts, quarantine)


def _pieces(wave: Wave, config: PrepareConfig) -> Iterator[tuple[float, np.ndarray]]:
    """(start in seconds, samples) of what is kept of a recording."""
    least = max(config.read.min_seconds * wave.rate, 1)
    if config.activity == "none":
        spans = [(0, len(wave.samples))]
    elif config.activity == "trim":
        span = trimmed(wave.samples, wave.rate, config.voice)
        spans = [] if span is None else [span]
    else:
        spans = segments(wave.samples, wave.rate, config.read.max_seconds, config.voice)
    for start, end in spans:
        if end - start >= least:
            yield round(start / wave.rate, 4), wave.samples[start:end]


def _resampled(samples: np.ndarray, rate: int, wanted: int | None) -> np.ndarray:
    if wanted is None or wanted == rate:
        return samples
    import torch
    from torchaudio.functional import resample

    return resample(torch.from_numpy(np.ascontiguousarray(samples)), rate, wanted).numpy()


def _without_parts_text(rows: list[dict[str, Any]]) -> None:
    """A recording of which several stretches were made has no text: nobody knows which words are in which."""
    count: dict[str, int] = {}
    for row in rows:
        base = row["name"].rsplit("#", 1)[0]
        count[base] = count.get(base, 0) + 1
    for row in rows:
        if count[row["name"].rsplit("#", 1)[0]] > 1:
            row["text"] = ""


def _split(rows: list[dict[str, Any]], config: PrepareConfig, data: str | Path) -> None:
    """Fill `split` of each row."""
    own = any(row["split"] for row in rows)
    if config.split == "own" and not own:
        raise UserError("the data names no split", where=data, mend="use --split speaker")
    if config.split == "own" or (config.split == "auto" and own):
        return
    named = all(row["speaker"] for row in rows)
    if config.split != "none" and not named and any(row["speaker"] for row in rows):
        raise UserError(
            "some recordings have no speaker", where="speaker", mend="name every speaker, or use --split none"
        )
    group = "speaker" if named else "source"  # stretches of one file stay on one side
    parts = {} if config.split == "none" else parted({row[group] for row in rows}, config.test, config.val, config.seed)
    for row in rows:
        row["split"] = parts.get(row[group], "")


def parted(groups: set[str], test: float, val: float, seed: int = 0) -> dict[str, str]:
    """The part (`train`, `val`, `test`) of each group, by a hash of its name: one that comes or goes moves no other.

    Where the hash leaves a part with a share above 0 empty, or nothing to learn from, groups are dealt in the order of their hash.
    """
    place = {name: _unit(name, seed) for name in groups}
    found = {name: "test" if at < test else "val" if at < test + val else "train" for name, at in sorted(place.items())}
    wanted = {"train"} | ({"test"} if test > 0 else set()) | ({"val"} if val > 0 else set())
    if wanted <= set(found.values()) or len(groups) < len(wanted):
        return found
    ordered = sorted(groups, key=lambda name: (place[name], name))
    tests = max(1, round(test * len(ordered))) if test > 0 else 0
    vals = max(1, round(val * len(ordered))) if val > 0 else 0
    tests = min(tests, len(ordered) - 1 - vals)
    return {n: "test" if i < tests else "val" if i < tests + vals else "train" for i, n in enumerate(ordered)}


def _unit(name: str, seed: int) -> float:
    """A number in [0, 1) that a name and a seed always give."""
    return int.from_bytes(hashlib.sha256(f"{seed}\0{name}".encode()).digest()[:8], "big") / 2**64
