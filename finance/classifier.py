"""With labels, which arrive late: boosted trees on hand-made features and on what the pretrained encoder finds odd.

What the encoder adds is its surprise at the amount (finance.scoring), not its state of 64 numbers: trees that see some hundreds of
frauds do not profit from the latter (fdh_simulated, three weeks to 14 August: average precision .743 with the surprise, .743 with its first
eight principal components beside it; with more days of labels .744, and .741 with all of it). The trees start from that surprise, which
has found much without any label: few labels then correct it.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin

from core.calibration import Platt, calibration_error
from core.errors import UserError
from core.estimator import NotFitted
from core.files import whole
from finance.data import DAY, Transactions
from finance.estimators import Data, Encoded, FraudScorer, TransactionEncoder, as_transactions, given_rows, in_order
from finance.handmade import handmade_features
from finance.metrics import average_precision
from finance.split import require_both_classes
from finance.thresholds import By
from finance.trees import Grown, Trees

Array = NDArray[np.float64]
FILE = "classifier.json"  # in the encoder's run folder
SURPRISE = ("surprise", "surprise at the amount", "surprise of the card's past")
START = -len(SURPRISE)  # the column of the inputs that the trees go on from
FOLDS = 3  # of cards, for what calibration learns from


class FraudClassifier(ClassifierMixin, BaseEstimator):
    """Probability of fraud of each payment, calibrated, from labels that were known before a day.

    Args:
        encoder: fitted, with method `masked`.
        label_days: of the newest known labels, how many days of payments are learned from.
        trees: settings of the boosted trees; None: their own.
        seed: equal seeds give equal trees.
    """

    def __init__(
        self,
        encoder: TransactionEncoder | None = None,
        label_days: int = 14,
        trees: Trees | None = None,
        seed: int = 0,
    ) -> None:
        self.encoder = encoder
        self.label_days = label_days
        self.trees = trees
        self.seed = seed

    def fit(self, data: Data, y: object = None, *, until: int | None = None) -> Self:
        """Learn from the newest `label_days` days whose labels were known before the day `until`.

        Args:
            data: a labelled log; labels that were not known by then are not looked at.
            until: day since 1970; None: the encoder's own, on which its knowledge ends.

        Raises:
            UserError: no labels by then, or of one class alone.
        """
        encoder, _ = FraudScorer(self.encoder).fitted()
        table = encoder.table(data)
        self.until_ = encoder.until_ if until is None else until
        use = learned_from(table, self.until_, self.label_days)
        past = table.time < self.until_ * DAY
        x, self.names_ = self.inputs(table.where(past), use[past])
        label, card = table.label[use], table.card[use]
        self.grown_ = self._trees.fit(x, label, self.seed, START)
        self.classes_ = np.array([0, 1])
        self.trained_on_: dict[str, Any] = {"rows": len(label), "frauds": int(label.sum()), "days": self.label_days}
        self.calibration_ = self._calibrate(x, label, card)
        return self

    def predict_proba(self, data: Data, rows: NDArray[np.bool_] | None = None) -> Array:
        """Probability of genuine and of fraud (N, 2), in the data's order; nan where `rows` is False."""
        if not hasattr(self, "grown_"):
            raise NotFitted(self, mend="call fit first, or the verb learn")
        encoded = FraudScorer(self.encoder).fitted()[0].encode(data)
        table = encoded.table
        wanted = given_rows(data, table, rows)
        x, names = self.inputs(encoded, wanted)
        if names != self.names_:
            missing = sorted(set(self.names_) - set(names)) or sorted(set(names) - set(self.names_))
            raise UserError(
                f"no feature '{missing[0]}'", where="data", mend="give data with the columns of the training log"
            )
        out = np.full((len(table), 2), np.nan)
        fraud = self.calibration_(self.grown_.odds(x))
        out[wanted] = np.column_stack([1 - fraud, fraud])
        return in_order(data, table, out)

    def inputs(self, data: Transactions | Encoded, rows: NDArray[np.bool_]) -> tuple[Array, tuple[str, ...]]:
        """What the trees read of the rows asked for (M, F), and the columns' names."""
        made = handmade_features(as_transactions(data))
        parts = FraudScorer(self.encoder).parts(data, rows)[rows]
        return np.column_stack([made.values[rows], parts]), (*made.names, *SURPRISE)

    @property
    def _trees(self) -> Trees:
        return self.trees or Trees()

    def _calibrate(self, x: Array, label: NDArray[np.int64], card: NDArray[np.int64]) -> Platt:
        """From trees that have not seen the card; how good those are goes to `trained_on_`.

        No calibration where frauds are of too few cards to hold some out.
        """
        odds = held_out_odds(self._trees, x, label, card, self.seed, START)
        if odds is None:
            return Platt()
        line = Platt.fit(odds, label)
        self.trained_on_ |= {
            "held_out_average_precision": float(average_precision(label, odds)[0]),
            "held_out_calibration_error": calibration_error(label, line(odds)),
            "uncalibrated_error": calibration_error(label, Platt()(odds)),
        }
        return line

    def save(self, run: Path) -> Path:
        """Write `classifier.json` into the encoder's run folder; trees as LightGBM's own text."""
        content = {
            "trees": asdict(self._trees), "label_days": self.label_days, "seed": self.seed, "until": self.until_,
            "names": list(self.names_), "calibration": list(self.calibration_), "trained_on": self.trained_on_,
            "line": list(self.grown_.line), "booster": self.grown_.booster.model_to_string(),
        }  # fmt: skip
        with whole(run / FILE, "the classifier") as temporary:
            temporary.write_text(json.dumps(content), encoding="utf-8")
        return run / FILE

    @classmethod
    def load(cls, run: Path) -> Self:
        """The classifier of a run folder, with its encoder.

        Raises:
            UserError: no run, none that has learned from labels, or a file that is no classifier.
        """
        from lightgbm import Booster
        from lightgbm.basic import LightGBMError

        encoder = TransactionEncoder.load(run)
        if not (run / FILE).exists():
            raise UserError("this run has not learned from labels", where=run, mend="use the verb learn first")
        try:
            content: dict[str, Any] = json.loads((run / FILE).read_text(encoding="utf-8"))
            new = cls(encoder, content["label_days"], Trees(**content["trees"]), content["seed"])
            new.until_, new.names_ = int(content["until"]), tuple(content["names"])
            slope, shift = content["calibration"]
            new.calibration_, new.trained_on_ = Platt(float(slope), float(shift)), dict(content["trained_on"])
            slope, shift = content["line"]
            new.grown_ = Grown(Booster(model_str=content["booster"]), START, Platt(float(slope), float(shift)))
        except (ValueError, KeyError, TypeError, LightGBMError) as error:
            raise UserError(
                f"that is no classifier: {error}", where=run / FILE, mend="use the verb learn again"
            ) from None
        if new.grown_.booster.num_feature() != len(new.names_):
            raise UserError("trees and names do not fit", where=run / FILE, mend="use the verb learn again")
        new.classes_ = np.array([0, 1])
        return new


def judges(run: Path, by: By) -> tuple[FraudScorer, FraudClassifier | None]:
    """The scorer of a run folder and, `by` labels, its classifier; errors as both `load`."""
    if by == "surprise":
        return FraudScorer.load(run), None
    classifier = FraudClassifier.load(run)
    return FraudScorer(classifier.encoder), classifier


def held_out_odds(
    trees: Trees, x: Array, label: NDArray[np.int64], card: NDArray[np.int64], seed: int, start: int | None = None
) -> Array | None:
    """Log-odds (N,) by trees that have not seen the row's card; None where frauds, or genuine payments, are of too few cards."""
    from sklearn.model_selection import StratifiedGroupKFold

    if min(len(np.unique(card[label == c])) for c in (0, 1)) < FOLDS:
        return None
    odds = np.zeros(len(label))
    for fit, held in StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed).split(x, label, card):
        odds[held] = trees.odds(x[fit], label[fit], x[held], seed, start)
    return odds


def learned_from(table: Transactions, until: int, days: int) -> NDArray[np.bool_]:
    """Payments (N,) of the newest `days` days among those whose labels are known before the day `until`.

    Raises:
        UserError: no such payment, or labels of one class.
    """
    if not table.labelled:
        raise UserError("the data has no labels", where="schema", mend="name the label column")
    known = (table.label >= 0) & (table.label_time < until * DAY)
    where = f"labels known before {np.datetime64(until, 'D')}"
    newest = table.day[known].max() if known.any() else 0
    use = known & (table.day > newest - days)
    require_both_classes(table.label[use], where)
    return use
