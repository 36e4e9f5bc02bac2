"""How often a customer comes back, from three numbers: BG/NBD (Fader, Hardie and Lee 2005), and how much is spent, by Gamma-Gamma.

While a customer is active, purchases come at random at a rate of their own (a Gamma over customers); after each repeat purchase the
customer leaves for good with a probability of their own (a Beta over customers). Nobody sees the leaving: it is inferred from silence.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import betaln, gammaln, hyp2f1

from core.errors import UserError

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Counts:
    """What the model knows of customers, (N,) each.

    Attributes:
        repeats: days with a purchase, the first one aside.
        recency: time from the first purchase to the last; 0 where there is one.
        age: time from the first purchase to now, in the same unit.
    """

    repeats: Array
    recency: Array
    age: Array

    def __post_init__(self) -> None:
        wrong = (self.repeats < 0) | (self.recency < 0) | (self.recency > self.age)
        if wrong.any():
            raise UserError(
                "a last purchase before the first or after now", where=f"customer {int(np.argmax(wrong))}",
                mend="count both in the same unit of time",
            )  # fmt: skip


@dataclass(frozen=True)
class BGNBD:
    """r, alpha: of the Gamma of purchase rates; a, b: of the Beta of leaving after a purchase."""

    r: float
    alpha: float
    a: float
    b: float

    @classmethod
    def fit(cls, known: Counts) -> Self:
        """The parameters of the highest likelihood."""
        distinct, times = np.unique(
            np.column_stack([known.repeats, known.recency, known.age]), axis=0, return_counts=True
        )
        few = Counts(*distinct.T)
        return cls(*_highest(lambda p: float(times @ cls(*p).log_likelihood(few)), (1.0, 1.0, 1.0, 1.0), "BG/NBD"))

    def log_likelihood(self, known: Counts) -> Array:
        """Of each customer (N,): equation 6 of the paper."""
        x = known.repeats
        stayed, left = self._fates(known)
        rate = gammaln(self.r + x) - gammaln(self.r) + self.r * np.log(self.alpha)
        return rate + betaln(self.a, self.b + x) - betaln(self.a, self.b) + np.logaddexp(stayed, left)

    def active(self, known: Counts) -> Array:
        """Probability that a customer has not left (N,); 1 where there was no repeat purchase, after which one could leave."""
        stayed, left = self._fates(known)
        return 1 / (1 + np.exp(left - stayed))

    def silent(self, known: Counts, span: float) -> Array:
        """Probability that no purchase comes in the next `span` of time (N,)."""
        quiet = ((self.alpha + known.age) / (self.alpha + known.age + span)) ** (self.r + known.repeats)
        return 1 - self.active(known) * (1 - quiet)

    def expected(self, known: Counts, span: float) -> Array:
        """Purchases to be expected in the next `span` of time (N,): equation 10 of the paper."""
        x, at = known.repeats, self.alpha + known.age
        fading = hyp2f1(self.r + x, self.b + x, self.a + self.b + x - 1, span / (at + span))
        ever = (self.a + self.b + x - 1) / (self.a - 1) * (1 - (at / (at + span)) ** (self.r + x) * fading)
        return ever * self.active(known)

    def _fates(self, known: Counts) -> tuple[Array, Array]:
        """Log weights (N,) of a customer who is still there, and of one who left after the last purchase, but for what both share."""
        x = known.repeats
        stayed = -(self.r + x) * np.log(self.alpha + known.age)
        left = (
            np.log(self.a) - np.log(self.b + np.maximum(x, 1) - 1) - (self.r + x) * np.log(self.alpha + known.recency)
        )
        return stayed, np.where(x > 0, left, -np.inf)


@dataclass(frozen=True)
class GammaGamma:
    """Mean spend of a purchase (Fader and Hardie 2013): p, the regularity of one customer's; q, gamma: how customers differ."""

    p: float
    q: float
    gamma: float

    @classmethod
    def fit(cls, purchases: Array, mean: Array) -> Self:
        """The parameters of the highest likelihood.

        Args:
            purchases: how many a customer made (N,), 1 or more.
            mean: their mean amount (N,), above 0.
        """

        def likelihood(at: Array) -> float:
            p, q, gamma = at
            px = p * purchases
            return float(
                (
                    -betaln(px, q) + q * np.log(gamma) + (px - 1) * np.log(mean) + px * np.log(purchases)
                    - (px + q) * np.log(gamma + mean * purchases)
                ).sum()
            )  # fmt: skip

        return cls(*_highest(likelihood, (1.0, 2.0, 10.0), "Gamma-Gamma"))

    def expected(self, purchases: Array, mean: Array) -> Array:
        """Mean amount of a customer's purchases to come (N,)."""
        return self.p * (self.gamma + purchases * mean) / (self.p * purchases + self.q - 1)


def _highest(likelihood: Callable[[Array], float], start: tuple[float, ...], what: str) -> Array:
    """Positive parameters at which a log likelihood is highest."""
    found = minimize(lambda log: -likelihood(np.exp(log)), np.log(start), method="Nelder-Mead",
                     options={"maxiter": 5000, "xatol": 1e-6, "fatol": 1e-6})  # fmt: skip
    if not found.success or not np.isfinite(found.fun):
        raise UserError(
            f"{what} finds no parameters", where="data", mend="give more customers, some with repeat purchases"
        )
    return np.exp(found.x)
