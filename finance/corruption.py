"""The benchmark of reason codes: one field of a genuine payment is corrupted, and who explains the payment must name it.

Beside `finance.explain` stands what an analyst would do with an isolation forest: which field's return to what is usual for the card
lowers the anomaly score most.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from core.bench import Row, row
from core.statistics import mean_interval
from finance.data import DAY, Transactions
from finance.estimators import FraudScorer
from finance.explain import explain

EACH = 300  # payments of each kind of corruption
EARLIER = 50  # payments that a card has made before
FACTOR = (5.0, 10.0)  # times the amount
FIELDS = ("amount", "place")


def corrupted(data: Transactions, since: int, seed: int) -> tuple[Transactions, NDArray[np.int64], NDArray[np.int64]]:
    """The log with some genuine payments changed in one field each, at most one a card; their rows, and which of FIELDS it was.

    The amount is 5 to 10 times as high; the place (the schema's first categorical column) is one that the card has never been to. Hours
    and weekdays are left alone: in `fdh_simulated` no card has habits there that a payment could break.

    Args:
        since: first day of those payments.
    """
    draw = np.random.default_rng(seed)
    frame, place = data.frame.copy(), data.schema.categorical[0]
    number = pd.Series(np.arange(len(data))).groupby(data.card).cumcount().to_numpy()
    fraudulent = np.unique(data.card[data.label == 1])
    fit = (data.day >= since) & (number >= EARLIER) & ~np.isin(data.card, fraudulent)
    rows, kinds, used = [], [], np.zeros(int(data.card.max()) + 1, bool)
    for kind, name in enumerate(FIELDS):
        taken = 0
        for at in draw.permutation(np.flatnonzero(fit)):
            if taken == EACH:
                break
            card = data.card[at]
            if used[card]:
                continue
            used[card] = True
            taken += 1
            rows.append(at)
            kinds.append(kind)
            if name == "amount":
                frame.loc[at, "amount"] *= draw.uniform(*FACTOR)
            else:
                known = set(frame[place][data.card == card])
                frame.loc[at, place] = next(
                    p for p in frame[place].sample(1000, random_state=int(at)) if p not in known
                )
    return replace(data, frame=frame), np.array(rows), np.array(kinds)


def reason_codes(data: Transactions, scorer: FraudScorer, since: int, seed: int) -> list[Row]:
    """How often the corrupted field is the first reason, and among the first three, by kind and in all."""
    changed, rows, kinds = corrupted(data, since, seed)
    wanted = np.zeros(len(changed), bool)
    wanted[rows] = True
    names = {"amount": data.schema.amount, "place": data.schema.categorical[0]}
    truth = np.array([names[FIELDS[k]] for k in kinds])
    made = []
    for method, role, ranked in (
        ("masked fields", "ours", _ours(scorer, changed, wanted, rows)),
        ("isolation forest", "floor", _forest(changed, rows, since, seed)),
    ):
        for top, goal in ((1, 0.85), (3, 0.97)):
            right = np.array([t in list(found)[:top] for t, found in zip(truth, ranked, strict=True)], dtype=float)
            for kind in (None, *range(len(FIELDS))):
                at = np.ones(len(kinds), bool) if kind is None else kinds == kind
                metric = f"top{top}_accuracy" + ("" if kind is None else f", {FIELDS[kind]}")
                found = mean_interval(right[at], seed=seed)
                note = f"{int(at.sum())} genuine payments, one field of each corrupted, of 5 fields"
                made.append(
                    row(
                        data.name,
                        method,
                        role,
                        metric,
                        found,
                        goal=goal if role == "ours" and kind is None else None,
                        note=note,
                    )
                )
    return made


def _ours(
    scorer: FraudScorer, data: Transactions, wanted: NDArray[np.bool_], rows: NDArray[np.int64]
) -> list[list[str]]:
    found = explain(scorer, data, wanted).groupby("row")["field"].agg(list)
    return [found[n] for n in data.frame["row"].to_numpy()[rows]]


def _forest(data: Transactions, rows: NDArray[np.int64], since: int, seed: int) -> list[list[str]]:
    """Fields by how much the score falls when a field's columns are set to the card's own median."""
    from sklearn.ensemble import IsolationForest

    place = data.schema.categorical[0]
    frame = data.frame
    by_card = frame.groupby(data.card)
    columns = {
        data.schema.amount: np.log1p(data.amount),
        "hour": data.time % DAY / 3600.0,
        "weekday": ((data.day + 3) % 7).astype(float),
        "gap": np.log1p(by_card["time"].diff().fillna(0).to_numpy(dtype=float)),
        place: np.log1p(frame.groupby([data.card, place]).cumcount().to_numpy(dtype=float)),  # visits before this one
    }
    x = np.column_stack(list(columns.values()))
    past = data.day < since
    forest = IsolationForest(random_state=seed).fit(x[past])
    usual = pd.DataFrame(x[past]).groupby(data.card[past]).median()
    own, score = x[rows], -forest.score_samples(x[rows])
    fall = np.zeros(own.shape)
    for i in range(own.shape[1]):
        mended = own.copy()
        mended[:, i] = usual.reindex(data.card[rows])[i].fillna(usual[i].median())
        fall[:, i] = score + forest.score_samples(mended)
    names = list(columns)
    return [[names[i] for i in np.argsort(-f, kind="stable")] for f in fall]
