"""What `prepare` does, once more, in plain Python over lists: what the engines are held against."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from random import Random

import pandas as pd

from recsys.prepare import Recipe

Event = tuple[int, int, str]  # microseconds, row, item


@dataclass
class Expected:
    """Parts as `key: (items, times)`; reasons by row; rounds of the k-core."""

    parts: dict[str, dict[str, tuple[list[str], list[int]]]] = field(default_factory=dict)
    bad: dict[int, str] = field(default_factory=dict)
    rounds: int = 0
    across: int = 0


def random_log(random: Random, rows: int = 300, users: int = 12, items: int = 14) -> pd.DataFrame:
    """Few users, items and seconds, so that ties, repeats and exact duplicates abound; some ids are missing, some times negative."""
    pool = [f"i{n}" for n in range(items)]
    weight = [1 / (n + 1) for n in range(items)]
    table = pd.DataFrame(
        {
            "user_id": random.choices([f"u{n}" for n in range(users)] + [None], k=rows),
            "item_id": random.choices([*pool, None], [*weight, 0.05], k=rows),
            "timestamp": [1_700_000_000 + random.randrange(rows // 4) * 200 for _ in range(rows)],
        }
    )
    table.loc[[random.randrange(rows) for _ in range(3)], "timestamp"] = -7
    return table


def expected(table: pd.DataFrame, recipe: Recipe) -> Expected:
    found = Expected()
    users: dict[str, list[Event]] = defaultdict(list)
    seen = set()
    for row, (user, item, time) in enumerate(table.itertuples(index=False, name=None), 1):
        if pd.isna(user):
            found.bad[row] = "missing user"
        elif pd.isna(item):
            found.bad[row] = "missing item"
        elif time < 0:
            found.bad[row] = "negative time"
        elif (user, item, time) in seen:
            found.bad[row] = "duplicate row"
        else:
            seen.add((user, item, time))
            users[user].append((time * 1_000_000, row, item))
    sessions: dict[str, list[Event]] = {}
    for user, events in users.items():
        number = 0
        last: Event | None = None
        for event in sorted(events):
            new = last is None or (recipe.gap is not None and event[0] - last[0] > recipe.gap * 60e6)
            number += new and recipe.gap is not None
            key = f"{user}/{number}" if recipe.gap is not None else user
            if new or recipe.repeats == "keep" or last is None or last[2] != event[2]:
                sessions.setdefault(key, []).append(event)
            last = event
    for key, events in sessions.items():
        for _, row, _ in events[: -recipe.limits.longest]:
            found.bad[row] = "over-long session"
        sessions[key] = events[-recipe.limits.longest :]
    if recipe.split == "time":
        ends = sorted(events[-1][0] for events in sessions.values())
        held = max(1, round(len(ends) * recipe.test_share))
        validation, test = ends[-2 * held - 1] + 1, ends[-held - 1] + 1
    parts: dict[str, dict[str, list[Event]]] = defaultdict(dict)
    for key, events in sessions.items():
        if len(events) < recipe.min_length:
            continue
        start, end = events[0][0], events[-1][0]
        if recipe.split != "time":
            parts["sequences"][key] = events
        elif end < validation:
            parts["train"][key] = events
        elif end < test and start >= validation:
            parts["validation"][key] = events
        elif end >= test and start >= test:
            parts["test"][key] = events
        else:
            found.across += 1
    first = "train" if recipe.split == "time" else "sequences"
    parts[first], found.rounds = core_of(parts[first], recipe.min_item, recipe.min_length)
    known = {item for events in parts[first].values() for _, _, item in events}
    for name in parts:
        if name != first:
            left = {key: [e for e in events if e[2] in known] for key, events in parts[name].items()}
            parts[name] = {key: events for key, events in left.items() if len(events) >= max(2, recipe.min_length)}
        found.parts[name] = {
            key: ([item for _, _, item in events], [time for time, _, _ in events])
            for key, events in parts[name].items()
        }
    return found


def core_of(sessions: dict[str, list[Event]], min_item: int, min_length: int) -> tuple[dict[str, list[Event]], int]:
    rounds = 0
    while True:
        counts = Counter(item for events in sessions.values() for _, _, item in events)
        left = {key: [e for e in events if counts[e[2]] >= min_item] for key, events in sessions.items()}
        left = {key: events for key, events in left.items() if len(events) >= max(1, min_length)}
        if left == sessions:
            return sessions, rounds
        sessions, rounds = left, rounds + 1
