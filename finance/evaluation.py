"""Did pretraining help to find fraud, and how many labels did it save? Two families of results, kept apart.

Label-free: the score of finance.scoring beside detectors that see no label. With labels: classifiers on hand-made features, with
and without what the pretrained encoder adds. Test cards already known as defrauded are left out, as published (`cards="unknown"`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.calibration import Platt
from core.errors import UserError
from core.evaluation import Answer, Evaluation, answer, labels_saved
from core.probes import label_subset, linear
from core.statistics import Estimate
from finance import sections as parts
from finance.baselines import CLASSIFIERS, DETECTORS
from finance.classifier import START, held_out_odds
from finance.data import Transactions
from finance.estimators import FraudScorer, TransactionEncoder
from finance.features import Features, amount_over_median
from finance.inputs import Encoded
from finance.metrics import Panel
from finance.scratch import scratch_scores
from finance.split import Rows, Split
from finance.study import Cards, Study
from finance.trees import Trees

MAIN = "average_precision"
COSTS = (0.01, 0.1, 1.0)
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Settings:
    """How to evaluate.

    Attributes:
        fractions: of the training labels, each drawn `draws` times (all of them: once).
        scratch_share: steps of each network trained from labels alone, as a share of the pretraining's.
        resamples: of the cards, for intervals.
        cards: `unknown` leaves out test cards already known as defrauded; `all` keeps them.
    """

    fractions: tuple[float, ...] = (0.1, 1.0)
    draws: int = 3
    scratch_share: float = 0.1
    resamples: int = 200
    cards: Cards = "unknown"

    def __post_init__(self) -> None:
        if self.draws < 1 or not self.fractions:
            raise UserError(
                f"{self.draws} draws of {len(self.fractions)} shares of the labels", where="--draws, --fractions",
                mend="give 1 or more of both",
            )  # fmt: skip
        if not self.scratch_share > 0:
            raise UserError(
                f"networks from scratch with a share of {self.scratch_share:g} of the steps", where="--scratch-share",
                mend="give a number above 0",
            )  # fmt: skip


def check_unseen(encoder: TransactionEncoder, split: Split) -> None:
    """Raise UserError where the encoder was trained on test days."""
    if encoder.until_ > split.test:
        late = np.datetime64(encoder.until_ - 1, "D")
        raise UserError(
            f"the run was pretrained on days up to {late}, which reach into the test period",
            where="run",
            mend=f"pretrain with --until {np.datetime64(split.test, 'D')}",
        )


def label_free_floors(rows: Rows, features: Features, over_median: Array, seed: int = 0) -> dict[str, Array]:
    """Scores of the test rows by detectors that are fitted without labels on the training days.

    Those marked `with fraud rates` read columns made from delayed labels, as published "unsupervised" figures do.

    Args:
        over_median: (N,) what finance.features.amount_over_median gives.
    """
    found = {"amount_over_median": over_median[rows.test]}
    for name, detect in DETECTORS.items():
        found[name] = detect(features.label_free()[rows.train], features.label_free()[rows.test], seed)
        if features.from_labels.any():
            found[f"{name} with fraud rates"] = detect(features.values[rows.train], features.values[rows.test], seed)
    return found


def supervised_floors(study: Study, seed: int = 0) -> dict[str, Array]:
    """Scores of the test rows by classifiers with all training labels, on the Handbook's features; boosted trees on more."""
    train, test, x, label = study.rows.train, study.rows.test, study.features.values, study.data.label
    found = {name: fit(x[train], label[train], x[test], seed) for name, fit in CLASSIFIERS.items()}
    return found | {"boosted_trees": classified(study, study.handmade.values, seed)}


@dataclass(frozen=True)
class Representation:
    """What an encoder adds to hand-made features, for all rows of a study (N, …), nan where not asked for."""

    state: NDArray[np.float32]
    surprise: Array

    @classmethod
    def of(cls, encoder: TransactionEncoder, encoded: Encoded, study: Study) -> Representation:
        """States of training and test rows, and the label-free score with its two parts where the method gives one."""
        use = study.rows.train | study.rows.test
        state = encoder.transform(encoded, use)
        return cls(state, FraudScorer(encoder).parts(encoded, use) if encoder.scores else np.zeros((len(state), 0)))

    def beside(self, features: Array) -> Array:
        """(N, F + D + 3)."""
        return np.column_stack([features, self.state, self.surprise])

    def for_trees(self, features: Array) -> Array:
        """(N, F + 3), or (N, F + D) of a method that gives no surprise; see finance.classifier for why not both."""
        return np.column_stack([features, self.surprise if self.surprise.shape[1] else self.state])

    @property
    def start(self) -> int | None:
        """The column of `for_trees` that trees go on from, see finance.trees."""
        return START if self.surprise.shape[1] else None


def evaluate(
    encoder: TransactionEncoder,
    data: Transactions,
    split: Split,
    settings: Settings = Settings(),
    say: Callable[[str], None] = lambda line: None,
) -> Evaluation:
    """The whole evaluation of a run on labelled data.

    Raises:
        UserError: labels of one class, or a run that has seen the test days.
    """
    check_unseen(encoder, split)
    study = Study.checked(data, split, settings.cards)
    panel = study.panel(settings.cards, settings.resamples)
    say("embedding with the pretrained and with a fresh encoder")
    encoded, untrained = encoder.encode(study.data), encoder.untrained()
    ours = Representation.of(encoder, encoded, study)
    fresh = Representation.of(untrained, untrained.encode(study.data), study)
    say("classifiers with all labels")
    all_labels = supervised_floors(study)
    all_labels["random_init"] = classified(study, fresh.for_trees(study.handmade.values), start=fresh.start)
    x = ours.for_trees(study.handmade.values)
    tested = {"ours": study.on(settings.cards, classified(study, x, start=ours.start))}
    tested |= {name: study.on(settings.cards, s) for name, s in all_labels.items()}
    measured = {name: panel.measure(s) for name, s in tested.items()}
    metrics, floors = dict(measured["ours"]), {name: m for name, m in measured.items() if name != "ours"}
    say("few labels")
    curve, scores = label_curve(encoder, study, ours, fresh, settings)
    answers = {
        "pretraining": pretraining_answer(panel, scores, min(settings.fractions)),
        "best_tool": best_tool_answer(panel, tested["ours"], {n: s for n, s in tested.items() if n not in ("ours", "random_init")}),
        "labels_saved": labels_saved_answer(curve),
    }  # fmt: skip
    sections = [parts.curve_section(curve), parts.scenario_section(measured)]
    sections.append(parts.alerts_section(study, settings.cards, {n: tested[n] for n in ("ours", "boosted_trees")}))
    line = calibration(study, x, start=ours.start)
    if line is not None:
        sections.append(parts.calibration_section(panel.label, line(tested["ours"])))
    scorer = None
    if ours.surprise.shape[1]:
        say("detectors without labels")
        scorer = FraudScorer(encoder)
        sections.append(parts.reasons_section(scorer, encoded, study, settings.cards, tested["ours"]))
        free = label_free_floors(study.rows, study.features, amount_over_median(study.data))
        free = {"ours": ours.surprise[study.rows.test, 0], **free}
        for cards, prefix in (("unknown", "label_free."), ("all", "label_free.all_cards.")):
            without = label_free_metrics(study, free, cards, settings.resamples)  # type: ignore[arg-type]
            if not without:
                continue
            metrics |= {prefix + m: e for m, e in without["ours"].items()}
            for name in without.keys() - {"ours"}:
                floors.setdefault(name, {}).update({prefix + m: e for m, e in without[name].items()})
            sections.append(parts.label_free_section(without, cards, study))  # type: ignore[arg-type]
    sections.append(parts.drift_section(encoder, encoded, study, scorer))
    return Evaluation(
        task="find fraudulent payments: boosted trees on hand-made features and what the encoder adds, all labels",
        protocol=protocol(encoder, study, settings, panel),
        main=MAIN,
        metrics=metrics,
        floors=floors,
        answers=answers,
        label_curve=curve,
        sections=[s for s in sections if s is not None],
    )


def classified(study: Study, x: Array, seed: int = 0, start: int | None = None) -> Array:
    """Log-odds of the test rows by boosted trees on all rows' inputs (N, F), with all training labels; `start` as finance.trees."""
    train = study.rows.train
    return Trees().odds(x[train], study.data.label[train], x[study.rows.test], seed, start)


def calibration(study: Study, x: Array, seed: int = 0, start: int | None = None) -> Platt | None:
    """What makes probabilities of those log-odds, from training cards held out; None where frauds are of too few cards."""
    train = study.rows.train
    label, card = study.data.label[train], study.data.card[train]
    odds = held_out_odds(Trees(), x[train], label, card, seed, start)
    return None if odds is None else Platt.fit(odds, label)


def label_free_metrics(
    study: Study, scores: dict[str, Array], cards: Cards, resamples: int
) -> dict[str, dict[str, Estimate]]:
    """Metrics of each score on test rows; empty where no fraud is among these cards."""
    panel = study.panel(cards, resamples)
    if len(np.unique(panel.label)) < 2:
        return {}
    return {name: panel.measure(study.on(cards, s)) for name, s in scores.items()}


def label_curve(
    encoder: TransactionEncoder, study: Study, ours: Representation, fresh: Representation, settings: Settings
) -> tuple[list[dict[str, Any]], dict[float, dict[str, list[Array]]]]:
    """Average precision by share of labels, draw and arm; and the scores behind it, by fraction and arm.

    One linear probe serves the arms `pretrained`, `random_init` and `raw`; `scratch` is the same architecture trained from the
    labels. No arm gets the fraud-rate columns here: they are made from all labels of the past, not from the few.
    """
    label, free = study.data.label, study.features.label_free()
    train, test = np.flatnonzero(study.rows.train), study.rows.test
    inputs = {"pretrained": ours.beside(free), "random_init": fresh.beside(free), "raw": free}
    panel, steps = study.panel(settings.cards, 0), scratch_steps(encoder, settings)
    curve: list[dict[str, Any]] = []
    scores: dict[float, dict[str, list[Array]]] = {}
    for fraction in sorted(settings.fractions):
        scores[fraction] = {}
        for draw in range(settings.draws if fraction < 1 else 1):
            some = train[label_subset(label[train], fraction, draw)]
            made = {
                a: linear(x[some], label[some], x[test], study.data.card[some], COSTS)[:, 1] for a, x in inputs.items()
            }
            made["scratch"] = scratch_scores(encoder, study.data, some, test, steps=steps, seed=draw)
            for arm, score in made.items():
                score = study.on(settings.cards, score)
                scores[fraction].setdefault(arm, []).append(score)
                value = float(panel.values(MAIN, score)[0])
                known = {"fraction": fraction, "labels": int(label[some].sum()), "rows": len(some)}
                # all labels are the same in every draw: measured once, it stands for each of them
                for seed in range(settings.draws) if fraction == 1 else (draw,):
                    curve.append({**known, "arm": arm, "seed": seed, "metric": MAIN, "value": value})
    return curve, scores


def scratch_steps(encoder: TransactionEncoder, settings: Settings) -> int:
    """Optimizer steps of each network from scratch, 12 at least."""
    return max(12, round(settings.scratch_share * int(encoder.trained_on_["steps"])))


def pretraining_answer(panel: Panel, scores: dict[float, dict[str, list[Array]]], fraction: float) -> Answer:
    """Pretrained against the better of random weights and training from scratch, with the fewest labels."""
    at = scores[fraction]
    other = max(("random_init", "scratch"), key=lambda a: np.mean([panel.values(MAIN, s)[0] for s in at[a]]))
    difference = panel.compare(MAIN, at["pretrained"], at[other])
    return answer(
        difference, f"{MAIN}, pretrained − {other}, {fraction:.0%} of the labels, {len(at['pretrained'])} draw(s)"
    )


def labels_saved_answer(curve: Sequence[dict[str, Any]]) -> Answer:
    """Against the method without pretraining that needs the fewest labels: from scratch, random weights or features alone."""
    found = [labels_saved(curve, MAIN, other=arm, what="fraud labels") for arm in ("scratch", "random_init", "raw")]
    return min(found, key=lambda a: a.estimate.value)


def best_tool_answer(panel: Panel, ours: Array, floors: dict[str, Array]) -> Answer:
    """Ours against the floor that is best on these very rows, all labels."""
    best = max(floors, key=lambda name: panel.values(MAIN, floors[name])[0])
    return answer(panel.compare(MAIN, ours, floors[best]), f"{MAIN}, all labels, ours − {best} on hand-made features")


def protocol(encoder: TransactionEncoder, study: Study, settings: Settings, panel: Panel) -> dict[str, Any]:
    train = study.rows.train
    return {
        "split": study.split.json(),
        "pretrained on": f"days before {np.datetime64(encoder.until_, 'D')}, no labels",
        "pretraining data": encoder.trained_on_,
        "training": {"rows": int(train.sum()), "frauds": int(study.data.label[train].sum())},
        "test": panel.counts(),
        "cards": "cards already known as defrauded are left out" if settings.cards == "unknown" else "all cards",
        "intervals": f"95 %, {settings.resamples} resamples of whole cards",
        "label fractions": list(settings.fractions),
        "draws of few labels": settings.draws,
        "all labels": "one draw, one training",
        "scratch, steps each": scratch_steps(encoder, settings),
        "data sha256": study.data.sha256,
        "set aside": study.data.quarantine.summary(),
    }
