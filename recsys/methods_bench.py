"""Does every method learn from item sequences? Each trained briefly on one core, and examined beside its untrained network.

The exam: from a user's history without the last two items, tell which kind of item comes next (the validation item). Kinds are the
commonest attributes of the items (categories), each item belonging to the rarest of those that it has. `next+attributes` has learned the
attributes of every item, and so has an advantage over the others here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from core.bench import Bench, Row, lengthless
from core.device import one_thread
from core.errors import UserError
from core.proof import Exam, examine
from recsys.data import Loaded, load
from recsys.estimators import SessionRecommender
from recsys.presets import PRESETS, recipe
from recsys.split import leave_one_out

STEPS = 600  # about a minute of one core, each method, data set and seed; steps, so that a busy machine changes nothing
LONGER = {"replaced": 6000, "denoise": 2400}  # whose steps are cheap, and say little of any one item
DATA = ("beauty",)
KINDS = 8  # of items
LEAST, MOST = 0.02, 0.25  # shares of the items that an attribute must have to be a kind
USERS = 12_000  # examined, at most


def run(
    out: Path, minutes: float | None, seeds: int, data: Sequence[str] = DATA, methods: Sequence[str] = (), say: Callable[[str], None] = print,
) -> Path:  # fmt: skip
    """Every method on every data set and seed, one part of the record each; returns the path of `results.json`.

    Args:
        minutes: of training, in the place of `STEPS` and `LONGER`.

    Raises:
        UserError: an unknown method, or data that are not there.
    """
    for name in methods:
        recipe(name)
    for place in data:
        loaded = load(place)
        for seed in range(seeds):
            for name in methods or PRESETS:
                steps = LONGER.get(name, STEPS)
                record = Bench(out, {"minutes": minutes, "steps": steps, "recipe": lengthless(recipe(name))}, say)
                work = partial(proof, name, place, loaded, minutes, None if minutes else steps, seed)
                record.run(f"methods-{name}-{place}", seed, work)
    return Bench(out, {}, say).write()


def attributes(loaded: Loaded) -> pd.DataFrame:
    """The table of item attributes beside the data; `UserError` where there is none."""
    path = loaded.file.with_name(f"{loaded.file.stem}_item_attributes.parquet")
    if not path.exists():
        raise UserError("no item attributes", where=path, mend="give one of the s3rec sets")
    return pd.read_parquet(path)


def kinds(loaded: Loaded) -> NDArray[np.int64]:
    """The kind of each item of the catalogue (items,), -1 where it has none.

    Raises:
        UserError: no attributes beside the data.
    """
    pairs = attributes(loaded).explode("attributes").dropna()
    share = pairs["attributes"].value_counts() / pairs["item_id"].nunique()
    chosen = share[(share >= LEAST) & (share <= MOST)].index[:KINDS]
    known = pairs[pairs["attributes"].isin(chosen)]
    number = known["attributes"].map({attribute: place for place, attribute in enumerate(chosen)})
    rarest = number.groupby(known["item_id"].astype(str)).max()  # `chosen` is ordered from common to rare
    return pd.Index(loaded.sequences.catalogue.values).map(rarest.to_dict()).fillna(-1).to_numpy(dtype=np.int64)


def proof(name: str, data: str, loaded: Loaded, minutes: float | None, steps: int | None, seed: int) -> list[Row]:
    """Train without the last two items of each user, then examine; half of the users teach the probes, the others are asked."""
    from core.codec import FIRST

    split = leave_one_out(loaded.sequences)
    label = kinds(loaded)[split.validation.target - FIRST]
    draw = np.random.default_rng(seed)
    rows = draw.permutation(np.flatnonzero(label >= 0))[:USERS]
    half = np.arange(len(rows)) < len(rows) // 2
    exam = Exam(label[rows], half, ~half, neighbours=50)
    with one_thread():
        told = attributes(loaded) if recipe(name).auxiliary.attributes.weight else None
        model = SessionRecommender(name, minutes, steps, seed, hold_out=2, attributes=told)
        model.fit_sequences(loaded.sequences, note=lambda line: None)
        history = split.validation.history.select(rows)
        trained, untrained = model.hidden(history), model.untrained(seed).hidden(history)
    return examine(data, name, trained, untrained, exam, seed=seed, note=f"{model.steps_spent()} steps")
