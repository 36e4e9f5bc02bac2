"""Generated card payments with planted structure, so that everything runs with no download.

Written from the description published in Le Borgne, Siblini, Lebichot and Bontempi, "Reproducible Machine Learning for
Credit Card Fraud Detection" (ULB 2022): cards have a place, a mean amount and a daily rate, and pay at terminals near
them. Added here: each card prefers an hour of the day and one of two channels; terminals may be described, by a trade, a name, a
number and the town that they stand in, so that a card's payments say where it lives. Three kinds of fraud:

1. an amount above 220, whoever pays;
2. every payment at a compromised terminal, for 28 days;
3. a third of the payments of a leaked card, for 14 days, with the amount multiplied by 5.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.random import Generator
from numpy.typing import NDArray

from core.errors import UserError
from finance.data import DAY

TRADES = ("BAKERY", "PHARMACY", "HARDWARE", "CINEMA", "FUEL", "BOOKS", "GROCERY", "FLOWERS")
OWNERS = ("MILLER", "ROSSI", "DUBOIS", "NOVAK", "JANSEN", "KOWALSKI", "SILVA", "LINDQVIST")
TOWNS = (
    "ASHFORD", "BRUGES", "CHUR", "DELFT", "EVORA", "FULDA", "GHENT", "HALLE", "IVREA", "JENA", "KIRUNA", "LUCCA", "MONS", "NAMUR",
    "OVIEDO", "PADUA",
)  # fmt: skip
START = int(pd.Timestamp("2024-01-01").timestamp())


@dataclass(frozen=True)
class World:
    """How much to generate, and how much fraud.

    Attributes:
        cards: payers; about 1.9 payments each a day.
        days: length of the log.
        compromised, leaked: multiply the published rates of compromised terminals and leaked cards (2 and 3 a day for 5,000
            cards), so that a small log holds enough of them to measure.
        large: an amount above this is fraud of kind 1.
        descriptions: add a column `description`, missing in one of twenty payments.
        seed: equal seeds give equal files.
    """

    cards: int = 300
    days: int = 70
    compromised: float = 1.0
    leaked: float = 4.0
    large: float = 220.0
    descriptions: bool = False
    seed: int = 0


def generate(world: World = World()) -> pd.DataFrame:
    """The log, in time order: transaction, time, card, terminal, channel, amount, fraud, scenario; description where it is asked for."""
    if world.cards < 1 or world.days < 1:
        raise UserError(f"{world.cards} cards over {world.days} days", where="--size", mend="give one or more of both")
    rng = np.random.default_rng(world.seed)
    frame = _payments(world, rng)
    frame["scenario"] = np.int64(0)
    frame.loc[frame["amount"] > world.large, "scenario"] = 1
    _compromise_terminals(frame, world, rng)
    _leak_cards(frame, world, rng)
    frame["fraud"] = (frame["scenario"] > 0).astype(np.int64)
    frame["amount"] = frame["amount"].round(2)
    stamps = pd.to_datetime(START + frame["second"], unit="s")
    made = pd.DataFrame(
        {
            "transaction": np.arange(len(frame)),
            "time": stamps.dt.strftime("%Y-%m-%dT%H:%M:%S"),
            "card": [f"c{c:05d}" for c in frame["card"]],
            "terminal": [f"t{t:05d}" for t in frame["terminal"]],
            "channel": np.where(frame["online"], "online", "shop"),
            "amount": frame["amount"],
            "fraud": frame["fraud"],
            "scenario": frame["scenario"],
        }
    )
    return made.assign(description=_descriptions(frame, world)) if world.descriptions else made


def write(out: Path, world: World = World(), file: str = "transactions.parquet") -> Path:
    """Writes the log (`.parquet` or `.csv`) and its `schema.toml` into a folder; returns the folder."""
    out.mkdir(parents=True, exist_ok=True)
    frame = generate(world)
    if file.endswith(".csv"):
        frame.to_csv(out / file, index=False)
    else:
        frame.to_parquet(out / file, index=False)
    text = 'text = "description"\n' if world.descriptions else ""
    (out / "schema.toml").write_text(
        f'file = "{file}"\nentity = "card"\ntime = "time"\namount = "amount"\n'
        'counterparty = "terminal"\ncategorical = ["terminal", "channel"]\nnumeric = []\nlabel = "fraud"\nscenario = "scenario"\nid = "transaction"\n'
        f"label_delay_days = 7\n{text}",
        encoding="utf-8",
    )
    return out


def _near(cards: NDArray, terminals: NDArray, radius: float) -> list[NDArray]:
    """Terminals within reach of each card; the nearest one where there is none."""
    near = []
    for place in cards:
        distance = np.hypot(*(terminals - place).T)
        inside = np.flatnonzero(distance < radius)
        near.append(inside if len(inside) else np.array([int(distance.argmin())]))
    return near


def _payments(world: World, rng: Generator) -> pd.DataFrame:
    n = world.cards
    terminals = max(2 * n, 20)
    radius = 5.0 * np.sqrt(10_000 / terminals)  # keeps the published number of terminals within reach
    homes, places = rng.uniform(0, 100, (n, 2)), rng.uniform(0, 100, (terminals, 2))
    near = _near(homes, places, radius)
    mean = rng.uniform(5, 100, n)
    rate = rng.uniform(0, 4, n)
    hour = rng.normal(12, 3, n)
    online = rng.beta(0.5, 0.5, n)
    count = rng.poisson(rate[:, None], (n, world.days))
    card = np.repeat(np.repeat(np.arange(n), world.days), count.ravel())
    day = np.repeat(np.tile(np.arange(world.days), n), count.ravel())
    second = (rng.normal(hour[card], 4.0) * 3600).astype(np.int64)
    inside = (second > 0) & (second < DAY)  # as published: a payment drawn outside the day does not happen
    card, day, second = card[inside], day[inside], second[inside]
    amount = rng.normal(mean[card], mean[card] / 2)
    amount = np.where(amount < 0, rng.uniform(0, 2 * mean[card]), amount)
    size = np.array([len(places) for places in near])
    start = np.concatenate([[0], np.cumsum(size)[:-1]])
    pick = start[card] + (rng.random(len(card)) * size[card]).astype(np.int64)
    terminal = np.concatenate(near)[pick]
    frame = pd.DataFrame(
        {
            "second": day * DAY + second,
            "day": day,
            "card": card,
            "terminal": terminal,
            "town": (places // 25).astype(np.int64)[terminal] @ [4, 1],
            "online": rng.random(len(card)) < online[card],
            "amount": amount,
        }
    )
    return frame.sort_values(["second", "card"], kind="stable").reset_index(drop=True)


def _descriptions(frame: pd.DataFrame, world: World) -> list[str | None]:
    """What the terminals are called; drawn apart from all else, which is the same without it."""
    rng = np.random.default_rng([world.seed, 1])
    shops = max(2 * world.cards, 20)
    trade, owner = rng.integers(len(TRADES), size=shops), rng.integers(len(OWNERS), size=shops)
    missing = rng.random(len(frame)) < 0.05
    return [
        None if gone else f"{TRADES[trade[t]]} {OWNERS[owner[t]]} {t:05d} {TOWNS[town]}"
        for t, town, gone in zip(frame["terminal"], frame["town"], missing, strict=True)
    ]


def _draws(expected: float, days: int, size: int, rng: Generator) -> list[tuple[int, int]]:
    """(day, member) pairs: Poisson many a day."""
    count = rng.poisson(expected, days)
    return [(day, int(rng.integers(size))) for day in range(days) for _ in range(count[day])]


def _compromise_terminals(frame: pd.DataFrame, world: World, rng: Generator) -> None:
    terminal, day = frame["terminal"].to_numpy(), frame["day"].to_numpy()
    expected = 2 / 5000 * world.cards * world.compromised
    for first, member in _draws(expected, world.days, max(2 * world.cards, 20), rng):
        frame.loc[(terminal == member) & (day >= first) & (day < first + 28), "scenario"] = 2


def _leak_cards(frame: pd.DataFrame, world: World, rng: Generator) -> None:
    card, day = frame["card"].to_numpy(), frame["day"].to_numpy()
    for first, member in _draws(3 / 5000 * world.cards * world.leaked, world.days, world.cards, rng):
        rows = np.flatnonzero((card == member) & (day >= first) & (day < first + 14))
        taken = rng.permutation(rows)[: len(rows) // 3]
        frame.loc[taken, "amount"] *= 5
        frame.loc[taken, "scenario"] = 3
