"""Sessions with planted structure: latent intents, and an order inside each intent that only a sequence model can use.

The catalogue falls into intents (a camera to buy, a baby to come). An intent has stages, which a session passes in order
(body, lens, bag, filter, …, and again), and each stage a few items; every item has favourite successors in the next stage.
Who counts which items occur together finds the intents and the favourites. Who reads the order also knows the stage.
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
        intents, stages, items: intents, stages of each, items of each stage.
        follow: chance that a favourite successor comes next; otherwise it is any item of the next stage, or
        stray: chance of an item of any stage instead.
        favourites: successors of each item in the next stage.
        switch: chance that the intent changes at a step.
        shortest, longest: events of a session, drawn evenly.
    """

    users: int = 3000
    intents: int = 8
    stages: int = 8
    items: int = 4
    favourites: int = 1
    follow: float = 0.4
    stray: float = 0.1
    switch: float = 0.03
    shortest: int = 4
    longest: int = 12

    def __post_init__(self) -> None:
        if self.users < 2:
            raise UserError(f"{self.users} users", where="--size", mend="make at least 2")
        if self.intents < 1:
            raise UserError(f"{self.intents} intents", where="--intents", mend="plant at least 1")

    @property
    def catalogue(self) -> int:
        """Items in all."""
        return self.intents * self.stages * self.items


def place(world: World, intent: NDArray, stage: NDArray, item: NDArray) -> NDArray[np.int64]:
    """Number of an item in the catalogue; stages go round."""
    return (intent * world.stages + stage % world.stages) * world.items + item


def favourites(world: World, seed: int) -> NDArray[np.int64]:
    """(catalogue, favourites): the items of the next stage that tend to follow each item."""
    generator = np.random.default_rng([seed, 1])
    picked = generator.random((world.catalogue, world.items)).argsort(1)[:, : world.favourites]
    number = np.arange(world.catalogue)
    stage, intent = number // world.items % world.stages, number // (world.items * world.stages)
    return place(world, intent[:, None], stage[:, None] + 1, picked)


def generate(world: World, seed: int = 0) -> pd.DataFrame:
    """Interactions `user_id, item_id, timestamp` (seconds since 1970), in time order.

    An item comes once a session: a step that would repeat one is left out.
    """
    follows = favourites(world, seed)
    generator = np.random.default_rng([seed, 2])
    users, steps = world.users, world.longest
    share = 1 / np.arange(1.0, world.items + 1)  # inside a stage some items are more popular (Zipf)
    length = generator.integers(world.shortest, steps + 1, users)
    intent = generator.integers(0, world.intents, users)
    stage = generator.integers(0, world.stages, users)
    path = np.zeros((users, steps), dtype=np.int64)
    fresh = np.ones((users, steps), dtype=bool)
    for step in range(steps):
        change = generator.random(users) < world.switch
        stray = generator.random(users) < world.stray
        intent = np.where(change, generator.integers(0, world.intents, users), intent)
        stage = np.where(change | stray, generator.integers(0, world.stages, users), stage + 1)
        item = np.searchsorted(np.cumsum(share / share.sum())[:-1], generator.random(users), side="right")
        chosen = place(world, intent, stage, item)
        if step:
            follow = ~change & ~stray & (generator.random(users) < world.follow)
            favourite = follows[path[:, step - 1], generator.integers(0, world.favourites, users)]
            chosen = np.where(follow, favourite, chosen)
            fresh[:, step] = ~((path[:, :step] == chosen[:, None]) & fresh[:, :step]).any(1)
        path[:, step] = chosen
    start = 1_700_000_000 + generator.integers(0, 30 * 86_400, users)
    gap = generator.exponential(45.0, (users, steps)).astype(np.int64) + 1
    time = start[:, None] + gap.cumsum(1)
    keep = fresh & (np.arange(steps) < length[:, None])
    names = np.array([f"i{number:06d}" for number in generator.permutation(world.catalogue)], dtype=object)
    table = pd.DataFrame({"user_id": np.nonzero(keep)[0] + 1, "item_id": names[path[keep]], "timestamp": time[keep]})
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
