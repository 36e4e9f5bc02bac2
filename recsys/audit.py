"""The leak audit: reads a prepared folder again, whoever wrote it, and fails where training could know something of what it is tested on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from core.errors import UserError
from core.files import unreadable
from recsys.prepared import PARTS, SCHEMA, read_record

_BATCH = 50_000  # sequences at a time
_SHOWN = 3  # leaks that are named


@dataclass
class Survey:
    """What one pass over a part tells: counts, the times of its first and last event, and what is wrong inside it."""

    sequences: int = 0
    events: int = 0
    shortest: int = 0
    first: int = 0
    last: int = 0
    items: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


def audit(folder: str | Path) -> dict[str, Any]:
    """Read every part of a prepared folder and look for leaks.

    It fails where an event of an earlier part (training, validation, test) is not before all of a later one; where a sequence, or the same
    user, item and time, stands in two parts; where an item has fewer events in training, or a sequence there is shorter, than the settings'
    k-core says, so that the k-core must have counted held-out events; where a held-out part has an item that training never saw; and where a
    part is not in itself what it says: times in order, first and last as `start` and `end`, counts as recorded.

    Returns:
        What was looked at, for the record.

    Raises:
        UserError: a leak, the first of them named; or no prepared folder.
    """
    folder = Path(folder)
    record = read_record(folder)
    settings = record["settings"]
    names = PARTS[settings["split"]]
    paths = {name: folder / f"{name}.parquet" for name in names}
    try:
        found = {name: survey(paths[name]) for name in names}
        leaks = [f"{name}: {wrong}" for name in names for wrong in found[name].wrong]
        leaks += [leak for a, b in combinations(names, 2) for leak in between(a, b, paths, found)]
    except (OSError, ValueError, pa.ArrowException) as error:
        raise unreadable(folder, error) from None
    train = found[names[0]]
    rare = sum(count < settings["min_item"] for count in train.items.values())
    if rare:
        leaks.append(
            f"the k-core does not hold on training alone: {rare} items have fewer than {settings['min_item']} events there"
        )
    if train.shortest < settings["min_length"]:
        leaks.append(
            f"the k-core does not hold on training alone: a sequence has {train.shortest} events, not {settings['min_length']}"
        )
    for name in names[1:]:
        strange = len(found[name].items.keys() - train.items.keys())
        if strange:
            leaks.append(f"{name} has {strange} items that training never saw")
        bound = record["split"][name]
        if any(found[earlier].last >= bound for earlier in names[: names.index(name)]) or found[name].first < bound:
            leaks.append(f"an event lies on the wrong side of the split time of {name}")
    for name in names:
        said, is_so = record["parts"].get(name, {}), found[name]
        counted = {"sequences": is_so.sequences, "events": is_so.events, "items": len(is_so.items)}
        if said != counted:
            leaks.append(f"{name} holds {counted}, where the record says {said}")
    if leaks:
        more = f", and {len(leaks) - _SHOWN} more" if len(leaks) > _SHOWN else ""
        raise UserError(
            f"{len(leaks)} leak{'s' if len(leaks) > 1 else ''}: {'; '.join(leaks[:_SHOWN])}{more}", where=folder,
            mend="prepare the log again, and leave the parts as they are",
        )  # fmt: skip
    checked = ["times in order", "k-core holds on training alone", "counts as recorded"]
    if len(names) > 1:
        checked += [
            "parts apart in time",
            "no sequence in two parts",
            "no user, item and time in two parts",
            "held-out items known",
        ]
    return {"leaks": 0, "checked": checked, "events": {name: found[name].events for name in names}}


def survey(path: Path) -> Survey:
    """One pass over a part."""
    found, keys = Survey(), []
    faults: Counter[str] = Counter()
    for batch in _batches(path):
        lengths = batch["items"].value_lengths().to_numpy(zero_copy_only=False)
        if (
            not np.array_equal(lengths, batch["times"].value_lengths().to_numpy(zero_copy_only=False))
            or not lengths.min()
        ):
            faults["items and times do not fit together"] += 1
            continue
        times = batch["times"].flatten().to_numpy()
        ends = np.cumsum(lengths)
        firsts = ends - lengths
        inside = np.ones(len(times), dtype=bool)
        inside[firsts] = False
        faults["times are not in order"] += int((np.diff(times) < 0)[inside[1:]].sum())
        faults["start or end is not that of the events"] += int(
            ((batch["start"].to_numpy() != times[firsts]) | (batch["end"].to_numpy() != times[ends - 1])).sum()
        )
        counted = pc.value_counts(batch["items"].flatten())
        found.items.update(dict(zip(counted.field(0).to_pylist(), counted.field(1).to_pylist(), strict=True)))
        found.first = min(found.first, int(times.min())) if found.events else int(times.min())
        found.last = max(found.last, int(times.max())) if found.events else int(times.max())
        found.shortest = min(found.shortest, int(lengths.min())) if found.events else int(lengths.min())
        found.sequences, found.events = found.sequences + len(lengths), found.events + len(times)
        keys.append(batch["user_id"])
    twice = found.sequences - (pc.count_distinct(pa.chunked_array(keys)).as_py() if keys else 0)
    faults["sequences of a name that came before"] += twice
    found.wrong = [f"{reason} ({count})" for reason, count in faults.items() if count]
    return found


def between(a: str, b: str, paths: dict[str, Path], found: dict[str, Survey]) -> list[str]:
    """Leaks between an earlier part and a later one."""
    leaks = []
    if found[a].events and found[b].events and found[a].last >= found[b].first:
        leaks.append(f"{a} has events at or after the first of {b}")
    small, large = sorted((a, b), key=lambda name: found[name].sequences)
    few = pa.chunked_array(list(_keys(paths[small])), pa.string())
    both = sum(pc.sum(pc.is_in(keys, value_set=few)).as_py() or 0 for keys in _keys(paths[large]))
    if both:
        leaks.append(f"{both} sequences stand in {a} and in {b}")
    window = max(found[a].first, found[b].first), min(found[a].last, found[b].last)
    if window[0] <= window[1]:  # equal rows have equal times, so only those of a time that both have can be equal
        same = len(_rows(paths[small], window) & _rows(paths[large], window))
        if same:
            leaks.append(f"{same} rows of the same user, item and time stand in {a} and in {b}")
    return leaks


def _rows(path: Path, window: tuple[int, int]) -> set[tuple[str, str, int]]:
    """User, item and time of the events of a part that lie in a window."""
    rows: set[tuple[str, str, int]] = set()
    for batch in _batches(path):
        times = batch["times"].flatten().to_numpy()
        inside: NDArray[np.int64] = np.flatnonzero((times >= window[0]) & (times <= window[1]))
        lengths = batch["items"].value_lengths().to_numpy(zero_copy_only=False)
        owner = np.repeat(np.arange(len(lengths)), lengths)[inside]
        users = batch["group"].take(pa.array(owner)).to_pylist()
        rows |= set(
            zip(users, batch["items"].flatten().take(pa.array(inside)).to_pylist(), times[inside].tolist(), strict=True)
        )
    return rows


def _keys(path: Path) -> Iterator[pa.Array]:
    """Names of the sequences, a million at a time."""
    yield from (batch["user_id"] for batch in pq.ParquetFile(path).iter_batches(1_000_000, columns=["user_id"]))


def _batches(path: Path) -> Iterator[pa.RecordBatch]:
    file = pq.ParquetFile(path)
    if not file.schema_arrow.remove_metadata().equals(SCHEMA):
        raise UserError("the columns are not those of a prepared folder", where=path, mend="prepare the log again")
    yield from (batch for batch in file.iter_batches(_BATCH) if len(batch))
