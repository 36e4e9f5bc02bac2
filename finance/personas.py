"""Generated customers of hidden personas, to see whether an encoder finds in a history what no single column shows.

Every customer has an income, favourite categories, a pace and a season of their own; none of them depends on the persona. A persona is one
answer to each of three questions, 8 in all:

1. which of two halves of the categories is bought in the morning, and which in the evening;
2. whether purchases of the weekend are the larger or the smaller ones, while the mean of the logarithm is the same;
3. whether the next purchase tends to stay in the same half of the categories, or to change it.

So amounts, hours, weekdays and categories, each by itself, are distributed alike in all personas: it is their joint pattern that tells.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from core.errors import UserError
from finance.data import DAY, Schema, Transactions, validate

START = int(pd.Timestamp("2024-01-01").timestamp())  # a Monday
SCHEMA = Schema(entity="customer", time="time", amount="amount", categorical=("category",))
PERSONAS = 8
WEEKEND = 2 / 7  # of the days, and of the purchases


@dataclass(frozen=True)
class Crowd:
    """How many customers, and how clearly their personas show.

    Attributes:
        customers: of all personas.
        events: purchases of a customer, between half and one and a half times as many, spread over `days`.
        categories: half of them of each kind.
        timed: share of purchases at the persona's time of day for their category; 0.5 shows nothing.
        weekend: how much larger the weekend's purchases are, or smaller, as a logarithm; 0 shows nothing.
        sticky: chance that the next purchase is of the same half, or of the other one; 0.5 shows nothing.
        seed: equal seeds give equal crowds.
    """

    customers: int = 2000
    events: int = 80
    days: int = 180
    categories: int = 20
    timed: float = 0.85
    weekend: float = 1.0
    sticky: float = 0.85
    seed: int = 0


def generate(crowd: Crowd = Crowd()) -> tuple[Transactions, NDArray[np.int64]]:
    """The log, and each customer's persona (C,), 0 … 7, in the order of the customers' names."""
    if crowd.customers < 1 or crowd.events < 2 or crowd.days < 1 or crowd.categories < 2:
        raise UserError("a crowd needs a customer, 2 events, a day and 2 categories at least", where="crowd")
    rng = np.random.default_rng(crowd.seed)
    n, half = crowd.customers, crowd.categories // 2
    persona = rng.permutation(np.arange(n) % PERSONAS)
    count = rng.integers(crowd.events // 2, crowd.events + crowd.events // 2 + 1, n)
    who = np.repeat(np.arange(n), count)
    answers = 2 * ((persona[:, None] >> np.arange(3)) & 1) - 1  # (C, 3) of -1 and 1
    timed, weekly, _ = answers[who].T
    kind = _halves(rng, count, np.where(answers[:, 2] > 0, crowd.sticky, 1 - crowd.sticky))
    favourites = rng.dirichlet(np.full(half, 2.0), (n, 2)).cumsum(-1)  # (C, 2, half)
    pick = (rng.random(len(who))[:, None] > favourites[who, kind]).sum(1).clip(max=half - 1)
    day, weekend = _days(rng, who, crowd)
    expected = (2 * kind - 1) * timed > 0  # in the evening
    evening = np.where(rng.random(len(who)) < crowd.timed, expected, ~expected)
    own_hour = rng.normal(0, 1, n)[who]
    hour = np.clip(np.where(evening, 18.0, 10.0) + own_hour + rng.normal(0, 2, len(who)), 0, 23.9)
    shift = weekly * crowd.weekend * np.where(weekend, 1 - WEEKEND, -WEEKEND)
    price = rng.normal(0, 0.5, crowd.categories)
    amount = np.exp(rng.normal(3, 0.5, n)[who] + price[kind * half + pick] + shift + rng.normal(0, 0.4, len(who)))
    # purchases of a customer come in the order in which their halves were drawn: the days are sorted, hours within a day are not
    stamp = START + day * DAY + (hour * 3600).astype(np.int64)
    frame = pd.DataFrame(
        {
            "customer": [f"c{c:06d}" for c in who],
            "time": stamp,
            "category": [f"k{c:02d}" for c in kind * half + pick],
            "amount": amount.round(2),
        }
    )
    return validate(frame, SCHEMA), persona.astype(np.int64)


def _halves(rng: np.random.Generator, count: NDArray[np.int64], stay: NDArray[np.float64]) -> NDArray[np.int64]:
    """Which half of the categories each purchase is of (N,): a chain for each customer that stays with a chance `stay` (C,)."""
    who = np.repeat(np.arange(len(count)), count)
    change = (rng.random(len(who)) >= stay[who]).astype(np.int64)
    total = np.cumsum(change)
    first = np.cumsum(count) - count
    return (total - total[first][who] + rng.integers(0, 2, len(count))[who]) % 2


def _days(
    rng: np.random.Generator, who: NDArray[np.int64], crowd: Crowd
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Day of each purchase (N,), rising for each customer, and whether it is a weekend's; more come in a season of the customer's own."""
    n = int(who[-1]) + 1
    place, phase = np.arange(crowd.days), rng.uniform(0, 2 * np.pi, n)
    season = 1 + 0.6 * np.sin(2 * np.pi * place / 365 + phase[:, None])  # (C, days)
    share = season.cumsum(1) / season.sum(1, keepdims=True)
    day = np.empty(len(who), np.int64)
    draw = rng.random(len(who))
    edges = np.searchsorted(who, np.arange(n + 1))
    for c in range(n):
        part = slice(edges[c], edges[c + 1])
        day[part] = np.sort(np.searchsorted(share[c], draw[part])).clip(max=crowd.days - 1)
    return day, day % 7 >= 5
