"""Sessions with planted structure: latent intents, and an order inside each intent that only a sequence model can use.

The catalogue falls into intents (clusters). Inside an intent every item has a few likely successors, drawn at random, so that
who follows whom is no symmetric likeness: items bought together point to the cluster, the order points to the next item.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from core.errors import UserError


@dataclass(frozen=True)
class World:
    """What is planted.

    Attributes:
        users: sessions to make, one a user.
        intents: clusters of items; items: items in each.
        successors: likely next items of each item; follow: chance that one of them comes next.
        switch: chance that the intent changes at a step.
        shortest, longest: events of a session, drawn evenly.
    """

    users: int = 2000
    intents: int = 20
    items: int = 25
    successors: int = 2
    follow: float = 0.8
    switch: float = 0.05
    shortest: int = 4
    longest: int = 12

    def __post_init__(self) -> None:
        if self.users < 2:
            raise UserError(f"{self.users} users", where="--size", mend="make at least 2")


def successor_table(world: World, seed: int) -> NDArray[np.int64]:
    """(intents · items, successors): the items that tend to follow each item, all of its own intent."""
    generator = np.random.default_rng([seed, 1])
    noise = generator.random((world.intents, world.items, world.items))
    noise[:, np.arange(world.items), np.arange(world.items)] = 2.0  # no item follows itself
    picked = noise.argsort(-1)[..., : world.successors]
    return (picked + np.arange(world.intents)[:, None, None] * world.items).reshape(-1, world.successors)


def generate(world: World, seed: int = 0) -> pd.DataFrame:
    """Interactions `user_id, item_id, timestamp` (seconds since 1970), in time order.

    An item comes once a session: a step that would repeat one is drawn again, and left out where that fails too.
    """
    follows = successor_table(world, seed)
    generator = np.random.default_rng([seed, 2])
    users = world.users
    popular = generator.permutation(world.items).argsort() + 1.0
    weight = np.cumsum(1 / popular) / (1 / popular).sum()  # inside an intent some items are more popular (Zipf)
    length = generator.integers(world.shortest, world.longest + 1, users)
    intent = generator.integers(0, world.intents, users)
    place = np.zeros((users, world.longest), dtype=np.int64)
    fresh = np.zeros((users, world.longest), dtype=bool)

    def any_item() -> NDArray[np.int64]:
        return intent * world.items + np.searchsorted(weight, generator.random(users)).clip(max=world.items - 1)

    place[:, 0], fresh[:, 0] = any_item(), True
    for step in range(1, world.longest):
        before = place[:, step - 1]
        change = generator.random(users) < world.switch
        intent = np.where(change, generator.integers(0, world.intents, users), intent)
        follow = ~change & (generator.random(users) < world.follow)
        chosen = np.where(follow, follows[before, generator.integers(0, world.successors, users)], any_item())
        for _ in range(4):  # the other successor, or another item of the intent
            repeat = (place[:, :step] == chosen[:, None]).any(1)
            other = np.where(follow, follows[before, generator.integers(0, world.successors, users)], any_item())
            chosen = np.where(repeat, other, chosen)
        repeat = (place[:, :step] == chosen[:, None]).any(1)
        fresh[:, step] = ~repeat
        place[:, step] = np.where(repeat, before, chosen)
    start = 1_700_000_000 + generator.integers(0, 30 * 86_400, users)
    gap = generator.exponential(45.0, (users, world.longest)).astype(np.int64) + 1
    time = start[:, None] + gap.cumsum(1)
    keep = fresh & (np.arange(world.longest) < length[:, None])
    names = np.array([f"i{number:06d}" for number in generator.permutation(world.intents * world.items)], dtype=object)
    rows = np.nonzero(keep)[0]
    table = pd.DataFrame({"user_id": rows + 1, "item_id": names[place[keep]], "timestamp": time[keep]})
    return table.sort_values("timestamp", kind="stable").reset_index(drop=True)


def write(out: Path, world: World, seed: int = 0, form: Literal["csv", "parquet"] = "csv") -> Path:
    """Write `out/interactions.<form>`, which `recsys.data.load` reads; returns its path."""
    table = generate(world, seed)
    path = Path(out) / f"interactions.{form}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if form == "csv":
            table.to_csv(path, index=False)
        else:
            table.to_parquet(path, index=False)
    except OSError as error:
        raise UserError(
            f"the data could not be written: {error.strerror}", where=out, mend="give another --out"
        ) from error
    return path
