"""From which score on to alert: by how many alerts can be looked at a day, or by what alerts and frauds cost."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from core.errors import UserError
from core.files import whole
from core.statistics import Estimate, mean_interval

By = Literal["surprise", "labels"]


@dataclass(frozen=True)
class Threshold:
    """Scores of at least `score` are alerts.

    Attributes:
        how: what it was chosen by, in words.
        by: the score it belongs to: `surprise`, or the probability from `labels`.
        alerts_a_day: cards with an alert on a day, on average over the days that it was chosen on.
        days: how many those were.
        saved_a_day: amount of the frauds stopped less the cost of alerts, a day, with its interval over days; None where it was chosen
            by a budget.
    """

    score: float
    how: str
    alerts_a_day: float
    days: int
    saved_a_day: tuple[float, float, float] | None = None
    by: By = "surprise"

    def write(self, path: Path) -> Path:
        with whole(path, "the threshold") as temporary:
            temporary.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")
        return path

    def of(self, by: By) -> float:
        """The score; `UserError` where it belongs to the other one."""
        if by != self.by:
            raise UserError(
                f"that threshold belongs to scores by {self.by}",
                where="--threshold",
                mend=f"score --by {self.by}, or choose it --by {by}",
            )
        return self.score

    @classmethod
    def read(cls, path: Path) -> Threshold:
        """A threshold that `write` wrote.

        Raises:
            UserError: not there, or something else.
        """
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            saved = found["saved_a_day"]
            return cls(
                float(found["score"]), str(found["how"]), float(found["alerts_a_day"]), int(found["days"]),
                None if saved is None else (float(saved[0]), float(saved[1]), float(saved[2])),
                "labels" if found.get("by") == "labels" else "surprise",
            )  # fmt: skip
        except FileNotFoundError:
            raise UserError("no such file", where=path, mend="write it with the verb threshold") from None
        except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
            raise UserError(
                "this is no threshold", where=path, mend=f"write it with the verb threshold: {error}"
            ) from None


def by_budget(score: NDArray, day: NDArray, card: NDArray, a_day: float) -> Threshold:
    """The lowest score from which on at most `a_day` cards a day have an alert, on average over the days.

    Args:
        score, day, card: (N,), without NaN.

    Raises:
        UserError: no payment, or a budget of nothing.
    """
    days = _days(day)
    if not a_day > 0:
        raise UserError(f"{a_day} alerts a day", where="--per-day", mend="give a number above 0")
    highest = np.sort(_highest(score, day, card))[::-1]
    allowed = int(np.floor(a_day * days))
    if allowed >= len(highest):
        chosen = float(highest[-1])
    else:  # what lies above the first that is too much: ties with it are too much as well
        above = highest[:allowed][highest[:allowed] > highest[allowed]]
        chosen = float(above[-1]) if len(above) else float(np.nextafter(highest[allowed], np.inf))
    return Threshold(chosen, f"at most {a_day:g} cards a day", float((highest >= chosen).sum() / days), days)


def by_cost(score: NDArray, day: NDArray, card: NDArray, label: NDArray, amount: NDArray, alert: float) -> Threshold:
    """The score from which on alerts save most: the amount of each fraud that is stopped, less the cost of each alert.

    A payment whose score reaches the threshold is stopped; all alerts of a card on one day are one alert to look at.

    Args:
        score, day, card, amount: (N,), without NaN; label: (N,) 1 fraud, 0 genuine.
        alert: cost of looking at one alert, in the currency of the amounts.

    Raises:
        UserError: no payment, no fraud among them, or a cost that is not positive.
    """
    days = _days(day)
    if not alert > 0:
        raise UserError(f"an alert costs {alert}", where="--alert-cost", mend="give a cost above 0")
    if not (label == 1).any():
        raise UserError("no fraud whose label is known", where="label", mend="give labelled days, or use --per-day")
    order = np.argsort(-score, kind="stable")
    pair = _pairs(day, card)[order]
    first = np.zeros(
        len(pair), bool
    )  # of the payments of a card and day, the one with the highest score opens the alert
    first[np.unique(pair, return_index=True)[1]] = True
    gain = np.where(label[order] == 1, amount[order], 0.0) - alert * first
    last_of_tie = np.r_[np.diff(score[order]) < 0, True]
    total = np.where(last_of_tie, np.cumsum(gain), -np.inf)
    best = int(total.argmax())
    how = f"an alert costs {alert:g}, a fraud its amount"
    if total[best] <= 0:  # no alert is worth its cost
        return Threshold(float(np.nextafter(score.max(), np.inf)), how, 0.0, days, (0.0, 0.0, 0.0))
    per_day = np.bincount(np.unique(day[order], return_inverse=True)[1][: best + 1], gain[: best + 1], minlength=days)
    saved: Estimate = mean_interval(per_day)
    return Threshold(
        float(score[order][best]),
        how,
        float(first[: best + 1].sum() / days),
        days,
        (saved.value, saved.low, saved.high),
    )


def _days(day: NDArray) -> int:
    if not len(day):
        raise UserError("no payment to choose on", where="threshold", mend="give other days")
    return len(np.unique(day))


def _pairs(day: NDArray, card: NDArray) -> NDArray[np.int64]:
    """Number (N,) of each payment's card and day."""
    return np.unique(np.stack([day, card]), axis=1, return_inverse=True)[1].ravel()


def _highest(score: NDArray, day: NDArray, card: NDArray) -> NDArray[np.float64]:
    """The highest score of each card on each day."""
    pair = _pairs(day, card)
    found = np.full(int(pair.max()) + 1, -np.inf)
    np.maximum.at(found, pair, score)
    return found
