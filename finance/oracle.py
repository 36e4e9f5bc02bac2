"""The ceiling on `fdh_simulated`: what someone would score who knows the rules of the simulator, and the labels known by then.

The rules are those of the Fraud Detection Handbook, chapter 3. Amounts above 220 are fraud. Each day two of 10,000 terminals are taken
over, and for 28 days every payment there is fraud. Each day the data of three of 5,000 cards leak, and for 14 days a third of the card's
payments is fraud, of five times its amount. A card's amounts are normal around its own mean, with half of it as deviation, and uniform
up to twice the mean where that would be negative.

The oracle knows more than anyone could: which of the known frauds were of a terminal, and each card's mean from its whole history, the
future included. It does not see labels before their delay either. So no method of this data passes it but by luck.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from core.errors import UserError
from finance.data import Transactions

Array = NDArray[np.float64]
LARGE = 220.0  # amounts above it are fraud
TAKEN, TAKEN_DAYS = 2 / 10_000, 28  # chance a day that a terminal is taken over, and for how long
LEAKED, LEAKED_DAYS = 3 / 5_000, 14  # that a card's data leak
SHARE, FACTOR = 1 / 3, 5.0  # of a leaked card's payments, and times the amount
NEGATIVE = 0.0228  # chance that a normal amount is below 0, and is drawn again
LONG_AGO = -10_000  # a day before all


def oracle(data: Transactions, rows: NDArray[np.bool_]) -> Array:
    """Probability of fraud (N,) of the payments asked for, by the simulator's rules and the labels known by then; 0 elsewhere.

    Raises:
        UserError: a log without scenarios or terminals.
    """
    if not data.schema.scenario or not data.schema.counterparty:
        raise UserError("this log names no scenario and terminal", where="oracle", mend="it is for fdh_simulated alone")
    odds = 1 - (1 - _terminal(data, rows)) * (1 - _card(data, rows))
    return np.where(rows, np.where(data.amount > LARGE, 1.0, odds), 0.0)


def _terminal(data: Transactions, rows: NDArray[np.bool_]) -> Array:
    """Probability (N,) that a payment's terminal is taken over on its day, from its payments whose labels are known."""
    made = np.zeros(len(data))
    day = data.day.astype(np.int64)
    taken = data.scenario == 2
    terminal = pd.factorize(data.frame["counterparty"])[0]
    for own in _groups(terminal, data.time):
        for at in own[rows[own]]:
            known = own[(data.label_time[own] < data.time[at]) & (day[own] >= day[at] - 70)]
            made[at] = _window(day[known[~taken[known]]], day[known[taken[known]]], int(day[at]))
    return made


def _window(genuine: NDArray[np.int64], taken: NDArray[np.int64], today: int) -> float:
    """Probability that some window of 28 days, of which no day was genuine, holds today.

    Args:
        genuine, taken: days of payments known to be outside and inside such a window, in order.
    """
    last_genuine = int(genuine[-1]) if len(genuine) else LONG_AGO
    last_taken = int(taken[-1]) if len(taken) else LONG_AGO
    fresh = TAKEN * max(
        0, min(TAKEN_DAYS, today - max(last_genuine, last_taken))
    )  # a window that no label tells of yet
    if not len(taken):
        return fresh
    before = genuine[genuine < last_taken]
    start = max(int(before[-1]) + 1 if len(before) else LONG_AGO, last_taken - TAKEN_DAYS + 1)
    after = genuine[genuine > last_taken]
    starts = np.arange(start, max(start, int(taken[taken >= start].min())) + 1)  # first days that the window may have
    if len(after):
        starts = starts[starts + TAKEN_DAYS <= after[0]]
    going = float((starts + TAKEN_DAYS > today).mean()) if len(starts) else 0.0
    return 1 - (1 - going) * (1 - fresh)


def _card(data: Transactions, rows: NDArray[np.bool_]) -> Array:
    """Probability (N,) that a payment is one of a leaked card's five-fold ones, from the card's amounts up to it."""
    made = np.zeros(len(data))
    day = data.day.astype(np.int64)
    for own in _groups(data.card, data.time):
        if not rows[own].any():
            continue
        honest = data.amount[own][data.scenario[own] == 0]
        mean = float(honest.mean()) if len(honest) else float(data.amount[own].mean())
        usual, fivefold = _density(data.amount[own], mean), _density(data.amount[own] / FACTOR, mean) / FACTOR
        told = np.log(SHARE * fivefold + (1 - SHARE) * usual) - np.log(usual)  # for a leak, by each payment
        sums = np.append(0.0, np.cumsum(told))
        for i in np.flatnonzero(rows[own]):
            days = np.arange(day[own[i]] - LEAKED_DAYS + 1, day[own[i]] + 1)  # on which the leak may have begun
            since = np.minimum(np.searchsorted(day[own], days), i)
            weight = float((LEAKED * np.exp(sums[i] - sums[since])).sum())
            leaked = weight / (weight + 1 - LEAKED_DAYS * LEAKED)
            fraud = leaked * SHARE * fivefold[i]
            made[own[i]] = fraud / (fraud + (1 - leaked * SHARE) * usual[i])
    return made


def _density(amount: Array, mean: float) -> Array:
    """Of a card's amounts (N,), by its mean."""
    deviation = mean / 2
    normal = np.exp(-0.5 * ((amount - mean) / deviation) ** 2) / (deviation * np.sqrt(2 * np.pi))
    return normal + NEGATIVE / (2 * mean) * (amount <= 2 * mean) + 1e-12


def _groups(group: NDArray[np.int64], time: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Rows of each group, in the order of time."""
    order = np.lexsort((time, group))
    return np.split(order, np.flatnonzero(np.diff(group[order])) + 1)
