"""Do probabilities mean what they say? Calibration: its error, its curve, and how to mend it."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from core.errors import UserError


class Bin(NamedTuple):
    """What was said and what was found, on average, of the rows of one bin."""

    said: float
    found: float
    rows: int


def reliability(label: ArrayLike, probability: ArrayLike, bins: int = 15) -> list[Bin]:
    """Bins of about equally many rows, by rising probability; rows of equal probability stay together.

    Args:
        label: (N,) 1 or 0.
        probability: (N,) that it is 1.

    Raises:
        UserError: shapes that do not fit, or probabilities outside [0, 1].
    """
    y, p = np.asarray(label, dtype=float), np.asarray(probability, dtype=float)
    if y.shape != p.shape or y.ndim != 1 or not len(y):
        raise UserError(
            f"{y.shape} labels for {p.shape} probabilities", where="calibration", mend="give two vectors (N,)"
        )
    if not ((p >= 0) & (p <= 1)).all():
        raise UserError("a probability lies outside [0, 1]", where="calibration", mend="give probabilities, not scores")
    order = np.argsort(p, kind="stable")
    y, p = y[order], p[order]
    edges = np.unique(np.searchsorted(p, p[np.linspace(0, len(p) - 1, bins + 1).astype(int)[1:-1]], side="right"))
    edges = np.unique(np.concatenate([[0], edges, [len(p)]]))
    return [Bin(float(p[a:b].mean()), float(y[a:b].mean()), int(b - a)) for a, b in pairwise(edges)]


def calibration_error(label: ArrayLike, probability: ArrayLike, bins: int = 15) -> float:
    """Expected calibration error (Naeini et al. 2015) over bins of equally many rows (Nixon et al. 2019)."""
    found = reliability(label, probability, bins)
    return sum(b.rows * abs(b.said - b.found) for b in found) / sum(b.rows for b in found)


class Platt(NamedTuple):
    """Log-odds s become slope · s + shift (Platt 1999): ranks stay as they are."""

    slope: float = 1.0
    shift: float = 0.0

    def __call__(self, odds: ArrayLike) -> NDArray[np.float64]:
        """Probabilities (N,) of log-odds (N,)."""
        from scipy.special import expit

        return expit(self.odds(odds))

    def odds(self, odds: ArrayLike) -> NDArray[np.float64]:
        """Log-odds (N,) of log-odds (N,)."""
        return self.slope * np.asarray(odds, dtype=float) + self.shift

    @classmethod
    def fit(cls, odds: ArrayLike, label: ArrayLike) -> Platt:
        """By maximum likelihood, on rows that whatever gave the log-odds (N,) has not learned from.

        Targets are Platt's smoothed ones, so that rows that are told apart perfectly do not give a slope without bound.

        Raises:
            UserError: labels of one class, or log-odds that fall where labels rise: then there is nothing to calibrate.
        """
        from scipy.optimize import minimize

        s, y = np.asarray(odds, dtype=float), np.asarray(label) == 1
        ones = int(y.sum())
        if ones in (0, len(y)):
            raise UserError("labels of one class cannot calibrate", where="calibration", mend="give both classes")
        target = np.where(y, (ones + 1) / (ones + 2), 1 / (len(y) - ones + 2))

        def loss(at: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
            z = at[0] * s + at[1]
            gap = np.exp(-np.logaddexp(0, -z)) - target
            return float((np.logaddexp(0, z) - target * z).mean()), np.array([(gap * s).mean(), gap.mean()])

        slope, shift = minimize(loss, np.array([1.0, 0.0]), jac=True, method="BFGS").x
        if slope <= 0:
            raise UserError(
                "the scores do not rise with the labels", where="calibration", mend="there is nothing to learn here"
            )
        return cls(float(slope), float(shift))


class Temperature(NamedTuple):
    """Logits are divided by one number, and each class has a bias: bias-corrected temperature scaling (Alexandari et al. 2020).

    Without the bias (Guo et al. 2017) a regression that is shrunk strongly leans to the frequent classes once it is made surer: its
    intercept fits its shrunken slopes. Of two classes ranks stay as they are, and it is Platt's line (1999).

    Attributes:
        bias: (K,), of mean 0; none where it is empty.
    """

    value: float = 1.0
    bias: tuple[float, ...] = ()

    def __call__(self, logits: ArrayLike) -> NDArray[np.float64]:
        """Probabilities (N, K) of logits (N, K)."""
        from scipy.special import softmax

        return softmax(np.asarray(logits, dtype=float) / self.value + np.asarray(self.bias or 0.0), axis=1)

    @classmethod
    def fit(cls, logits: ArrayLike, label: ArrayLike) -> Temperature:
        """By maximum likelihood, on rows that whatever gave the logits (N, K) has not learned from; label (N,) is 0 to K − 1.

        The targets are smoothed as Platt's are, each class by its own number of rows, so that rows that are told apart
        perfectly do not give a temperature of nothing. It stays within 1/20 and 20.

        Raises:
            UserError: labels of one class: they cannot calibrate.
        """
        from scipy.optimize import minimize
        from scipy.special import log_softmax

        z, y = np.asarray(logits, dtype=float), np.asarray(label, dtype=int)
        rows = np.bincount(y, minlength=z.shape[1])
        if (rows > 0).sum() < 2:
            raise UserError("labels of one class cannot calibrate", where="calibration", mend="give two classes")
        sure = (rows[y] + 1) / (rows[y] + 2)
        target = np.repeat(((1 - sure) / (z.shape[1] - 1))[:, None], z.shape[1], 1)
        target[np.arange(len(y)), y] = sure

        def loss(at: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
            cool = z * np.exp(-at[0])
            said = log_softmax(cool + at[1:], axis=1)
            gap = np.exp(said) - target
            return float(-(target * said).sum(1).mean()), np.append(-(gap * cool).sum(1).mean(), gap.mean(0))

        edge = float(np.log(20))
        bounds = [(-edge, edge), *[(-edge, edge)] * z.shape[1]]
        found = minimize(loss, np.zeros(1 + z.shape[1]), jac=True, method="L-BFGS-B", bounds=bounds, tol=1e-12).x
        return cls(float(np.exp(found[0])), tuple((found[1:] - found[1:].mean()).tolist()))


def brier(label: ArrayLike, probability: ArrayLike) -> float:
    """Mean squared distance of probabilities (N, K) from the classes (N,) that came; of two classes, of the second alone (Brier 1950)."""
    p, y = np.asarray(probability, dtype=float), np.asarray(label, dtype=int)
    if p.shape[1] == 2:
        return float(((p[:, 1] - (y == 1)) ** 2).mean())
    return float(((p - np.eye(p.shape[1])[y]) ** 2).sum(1).mean())


def calibration_slope(label: ArrayLike, probability: ArrayLike) -> tuple[float, float]:
    """Slope and intercept of label ~ log-odds (Cox 1958): 1 and 0 where probabilities mean what they say.

    Args:
        label: (N,) 1 or 0.
        probability: (N,) that it is 1.

    A slope below 1 says that probabilities are too extreme; the intercept, taken at slope 1 (calibration in the large), above 0 that
    they are too low. Not a number where a class is absent.
    """
    y, p = np.asarray(label, dtype=float), np.clip(np.asarray(probability, dtype=float), 1e-7, 1 - 1e-7)
    if len(np.unique(y)) < 2:
        return float("nan"), float("nan")
    z = np.log(p / (1 - p))
    slope = _newton(np.stack([z, np.ones_like(z)], 1), y, np.zeros_like(z))[0]
    return float(slope), float(_newton(np.ones((len(z), 1)), y, z)[0])


def _newton(x: NDArray[np.float64], y: NDArray[np.float64], offset: NDArray[np.float64]) -> NDArray[np.float64]:
    """Coefficients of a logistic regression without penalty but for a trace that keeps separated rows finite."""
    from scipy.special import expit

    beta = np.zeros(x.shape[1])
    for _ in range(50):
        p = expit(x @ beta + offset)
        gradient = x.T @ (y - p) - 1e-6 * beta
        step = np.linalg.solve((x * (p * (1 - p))[:, None]).T @ x + 1e-6 * np.eye(x.shape[1]), gradient)
        beta = beta + np.clip(step, -2, 2)
        if np.abs(step).max() < 1e-8:
            break
    return beta


def at_prior(probability: ArrayLike, old: ArrayLike, new: ArrayLike) -> NDArray[np.float64]:
    """Probabilities (N, K) where classes are as frequent as `new` (K,) says, from those learned where they were as `old` (K,).

    Right where only the frequencies differ and each class looks as it did (label shift; Saerens et al. 2002, formula 4).
    """
    p = np.asarray(probability, dtype=float) * (np.asarray(new, dtype=float) / np.asarray(old, dtype=float))
    return p / p.sum(1, keepdims=True)


def estimated_prior(probability: ArrayLike, old: ArrayLike, rounds: int = 1000) -> NDArray[np.float64]:
    """How frequent the classes (K,) are among unlabelled rows, by expectation maximisation (Saerens et al. 2002).

    Args:
        probability: (N, K), calibrated where classes were as frequent as `old` (K,).
    """
    old = np.asarray(old, dtype=float)
    new = old.copy()
    for _ in range(rounds):
        before, new = new, at_prior(probability, old, new).mean(0)
        if np.abs(new - before).max() < 1e-7:
            break
    return new
