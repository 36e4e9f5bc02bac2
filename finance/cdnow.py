"""The benchmark on `cdnow_purchases`: who comes back, and what they spend, told from purchase histories.

Protocol: purchases up to 30 September 1997 (39 weeks) are the history, the 39 weeks after them the target: the published holdout of Fader,
Hardie and Lee (2005), here of all 23,570 customers. Half of the customers, drawn once for all seeds, are for testing. Encoders, models and
trees learn from the other half alone, and all choices were made on it, by cross-validation. Two targets:

- `churn`: no purchase in the holdout; auroc.
- `spend`: all that a customer spends in it. Seven in ten spend nothing and a few a lot, so that an error in dollars is about those few:
  Spearman's correlation, which asks for the order of customers, says the same of models of dollars and of their logarithm. R² of
  log(1 + spend) stands beside it, for which BG/NBD's dollars are first brought to that scale by an isotonic fit on training customers.

Floors: boosted trees on recency, frequency and money; BG/NBD with Gamma-Gamma, which sees no target. Ours: an encoder that learned the
next purchase's fields without labels. What the trees get beside the same features is either its state after the last purchase, in its
first principal components, or what that state says of what comes, `outlook`: how unlikely the silence since then is, and that it goes on to
the end of the holdout, and the amount, number and gap to be expected of the next purchase.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from core.bench import Row, row
from core.codec import Scale
from core.device import one_thread
from core.heads import MixtureHead
from core.statistics import auroc, bootstrap, paired
from finance import trees
from finance.bgnbd import BGNBD, Counts, GammaGamma
from finance.data import DAY, Transactions, read
from finance.encoders import Shape
from finance.estimators import TransactionEncoder
from finance.presets import Recipe, next_event
from finance.split import epoch_day

DATA = "cdnow_purchases"
CUT = epoch_day("1997-10-01")  # first day of the holdout
WEEKS = 39  # of the holdout: the log ends with it
TEST = 0.5  # share of the customers
COMPONENTS = 8  # of a state
STEPS = 2000
DRAWS = 200  # of the bootstrap
OURS = ("trees + outlook", "trees + states")
TREES: dict[str, Any] = {
    "learning_rate": 0.02, "num_leaves": 6, "min_data_in_leaf": 50, "feature_fraction": 0.5, "bagging_fraction": 0.8, "bagging_freq": 1,
    "lambda_l2": 5.0, "num_threads": 1,
}  # fmt: skip
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Customers:
    """Histories before a day, and what came after it; one row a customer with a history, in the order of their names.

    Attributes:
        data: all purchases.
        cut: first day that is not history.
        weeks: of the holdout.
    """

    data: Transactions
    cut: int = CUT
    weeks: int = WEEKS

    @cached_property
    def history(self) -> Transactions:
        return self.data.where(self.data.day < self.cut)

    @cached_property
    def after(self) -> pd.DataFrame:
        """Purchases in the holdout."""
        day = self.data.day
        return self.data.frame[(day >= self.cut) & (day < self.cut + 7 * self.weeks)]

    @cached_property
    def spend(self) -> Array:
        """Dollars in the holdout (N,)."""
        total = self.after.groupby("entity")["amount"].sum()
        return total.reindex(self.names, fill_value=0.0).to_numpy()

    @cached_property
    def churn(self) -> NDArray[np.int64]:
        """1 for customers who do not come back in the holdout (N,)."""
        return (~np.isin(self.names, self.after["entity"].unique())).astype(np.int64)

    @cached_property
    def names(self) -> NDArray:
        """(N,) sorted."""
        return np.unique(self.history.frame["entity"].to_numpy())

    @cached_property
    def train(self) -> NDArray[np.bool_]:
        """(N,) the half to learn from."""
        return np.random.default_rng(0).permutation(len(self.names)) >= TEST * len(self.names)

    @cached_property
    def days(self) -> pd.DataFrame:
        """Days with purchases, in order: customer (number), day, amount, cds."""
        h = self.history
        frame = pd.DataFrame({"customer": h.card, "day": h.day, "amount": h.amount, "cds": h.frame["cds"]})
        return frame.groupby(["customer", "day"], as_index=False).sum()

    @cached_property
    def counts(self) -> Counts:
        """In weeks."""
        day = self.days.groupby("customer")["day"].agg(["min", "max", "size"]).to_numpy(dtype=float)
        first, last, number = day.T
        return Counts(number - 1, (last - first) / 7, (self.cut - 1 - first) / 7)


def features(customers: Customers) -> pd.DataFrame:
    """Recency, frequency and money of every customer (N, F), from the history alone."""
    days, counts = customers.days, customers.counts
    by = days.groupby("customer")
    gap = by["day"].diff()
    made = {
        "repeats": counts.repeats,
        "recency": counts.recency,
        "age": counts.age,
        "silence": counts.age - counts.recency,
        "silence / mean gap": (counts.age - counts.recency) * counts.repeats / np.maximum(counts.recency, 1 / 7),
    }
    for name in ("amount", "cds"):
        for what in ("sum", "mean", "max", "first", "last"):
            made[f"{what} {name}"] = getattr(by[name], what)().to_numpy()
    by_gap = gap.groupby(days["customer"])
    for what in ("mean", "std", "max", "last"):
        made[f"{what} gap"] = getattr(by_gap, what)().to_numpy()
    for back in (30, 60, 90, 180):
        late = days[days["day"] >= customers.cut - back].groupby("customer")["amount"]
        every = np.arange(len(customers.names))
        made[f"days with purchases, {back} d"] = late.size().reindex(every, fill_value=0).to_numpy()
        made[f"amount, {back} d"] = late.sum().reindex(every, fill_value=0.0).to_numpy()
    made["weekday of the last"] = (by["day"].max() % 7).to_numpy()
    return pd.DataFrame(made).astype(float)


def recipe(seed: int = 0, minutes: float | None = None, device: str = "cpu", steps: int = STEPS) -> Recipe:
    """Histories are short (3 purchases on average, most often one), and so is the encoder's training.

    Args:
        minutes: of training, in the place of steps.
    """
    base = next_event()
    train = replace(base.train, minutes=minutes, steps=None if minutes else steps, seed=seed, device=device)
    return replace(base, shape=Shape(dim=32, context=64), batch_size=128, shortest=2, other_weight=1.0, train=train)


def pretrained(customers: Customers, learning: Recipe) -> TransactionEncoder:
    """An encoder of the histories of the training customers."""
    history = customers.history
    learned = history.where(customers.train[history.card])
    return TransactionEncoder(learning).fit(learned, until=customers.cut, note=lambda line: None)


def states(encoder: TransactionEncoder, customers: Customers) -> NDArray[np.float32]:
    """The encoder's state after each customer's last purchase before the day (N, D)."""
    names, made = encoder.transform_cards(customers.history)
    return made[np.argsort(names)]


def components(state: NDArray[np.float32], learn: NDArray[np.bool_]) -> Array:
    """The first principal components (N, COMPONENTS) of standardised states, as those of `learn` (N,) give them."""
    from sklearn.decomposition import PCA

    scaled = (state - state[learn].mean(0)) / (state[learn].std(0) + 1e-6)
    return PCA(COMPONENTS, random_state=0).fit(scaled[learn]).transform(scaled).astype(np.float64)


def outlook(encoder: TransactionEncoder, state: NDArray[np.float32], customers: Customers) -> Array:
    """What the encoder of `next` expects of each customer after the last purchase (N, 6): log probability of a gap that reaches to the
    day; that reaches to the end of the holdout, given that; and that reaches there; mean gap, amount and other numbers of the next purchase,
    in the encoder's units."""
    import torch

    made = cast(torch.nn.ModuleDict, encoder.heads_)
    heads = {n: cast(MixtureHead, made[n]) for n, c in encoder.codec_.columns.items() if isinstance(c, Scale)}
    hidden, scale = torch.from_numpy(state), encoder.codec_.columns["gap"]
    since = 7 * (customers.counts.age - customers.counts.recency) * DAY
    with torch.no_grad():
        so_far, to_end = (
            heads["gap"].log_survival(hidden, torch.from_numpy(scale.encode(seconds))).double().numpy()
            for seconds in (since, since + 7 * customers.weeks * DAY)
        )
        expected = [head.mean(hidden).double().numpy() for head in heads.values()]
    return np.column_stack([so_far, to_end - so_far, to_end, *expected])


def boosted(customers: Customers, x: Array, target: str, seed: int) -> Array:
    """Scores (N,) by trees of the training customers: log odds of `churn`, or log(1 + spend)."""
    learn = customers.train
    y, objective = (customers.churn, "binary") if target == "churn" else (np.log1p(customers.spend), "regression")
    model = trees.boosted(x[learn], y[learn], 250, **TREES, objective=objective, seed=seed)
    return np.asarray(model.predict(x, raw_score=True))


def counted(customers: Customers) -> tuple[Array, Array]:
    """BG/NBD's probability of churn and, with Gamma-Gamma, expected spend (N,), fitted on the histories of training customers."""
    counts, learn = customers.counts, customers.train
    by = customers.days.groupby("customer")["amount"]
    number, mean = by.size().to_numpy(dtype=float), by.mean().to_numpy()
    model = BGNBD.fit(Counts(counts.repeats[learn], counts.recency[learn], counts.age[learn]))
    paid = learn & (mean > 0)
    money = GammaGamma.fit(number[paid], mean[paid])
    return model.silent(counts, customers.weeks), model.expected(counts, customers.weeks) * money.expected(number, mean)


def spearman(target: Array, score: Array) -> float:
    from scipy.stats import spearmanr

    return float(spearmanr(target, score).statistic)


def r2(target: Array, score: Array) -> float:
    return float(1 - ((target - score) ** 2).mean() / target.var())


def cdnow(customers: Customers, encoder: TransactionEncoder, seed: int) -> list[Row]:
    """Floors and ours on the test customers, and the paired differences, whose intervals are of resampled customers."""
    from sklearn.isotonic import IsotonicRegression

    x, state = features(customers).to_numpy(), states(encoder, customers)
    fresh = states(encoder.untrained(seed), customers)
    learn, test = customers.train, ~customers.train
    inputs = {
        "trees": x,
        "trees + outlook": np.column_stack([x, outlook(encoder, state, customers)]),
        "trees + states": np.column_stack([x, components(state, learn)]),
        "trees + untrained states": np.column_stack([x, components(fresh, learn)]),
    }
    with one_thread():
        churn = {name: boosted(customers, values, "churn", seed) for name, values in inputs.items()}
        spend = {name: boosted(customers, values, "spend", seed) for name, values in inputs.items()}
    churn["BG/NBD"], dollars = counted(customers)
    logs = np.log1p(customers.spend)
    on_scale = {
        **spend,
        "BG/NBD": IsotonicRegression(out_of_bounds="clip").fit(dollars[learn], logs[learn]).predict(dollars),
    }
    spend["BG/NBD"] = dollars
    note = f"{int(test.sum())} test customers, {customers.churn[test].mean():.1%} of them do not come back"
    made = []
    for what, metric, target, scores in (
        ("churn, auroc", auroc, customers.churn, churn),
        ("spend, spearman", spearman, customers.spend, spend),
        ("spend, r2 of log1p", r2, logs, on_scale),
    ):
        for name, score in scores.items():
            role = "ours" if name in OURS else "floor"
            made.append(
                row(DATA, name, role, what, bootstrap(metric, target[test], score[test], draws=DRAWS), note=note)
            )
        for name in OURS:
            for floor in ("trees", "BG/NBD"):
                gain = paired(metric, target[test], scores[name][test], scores[floor][test], draws=DRAWS)
                said = f"with − without, {note}" if floor == "trees" else note
                made.append(row(DATA, name, "ours", f"gain {what}, over {floor}", gain, goal=0.0, note=said))
    return made


def bench(out: Path, minutes: float | None, seed: int, device: str) -> list[Row]:
    """The rows of a seed, which moves the encoder, the trees and the resamples; the test customers stay."""
    customers = Customers(read(DATA))
    return cdnow(customers, pretrained(customers, recipe(seed, minutes, device)), seed)
