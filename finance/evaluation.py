"""Did pretraining help to find fraud, and how many labels did it save? Two families of results, kept apart.

Label-free: the score of finance.scoring beside detectors that see no label. With labels: classifiers on hand-made features, with
and without what the pretrained encoder adds. Test cards already known as defrauded are left out, as published (`cards="unknown"`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from core.errors import UserError
from core.evaluation import Answer, Evaluation, Section, answer, labels_saved
from core.probes import label_subset, linear
from core.statistics import Estimate
from finance.baselines import CLASSIFIERS, DETECTORS
from finance.data import Transactions
from finance.estimators import FraudScorer, TransactionEncoder
from finance.features import Features, amount_over_median, handbook_features
from finance.metrics import Panel, average_precision
from finance.scratch import scratch_scores
from finance.split import Rows, Split, require_both_classes, rows

MAIN = "average_precision"
COSTS = (0.01, 0.1, 1.0)
Array = NDArray[np.float64]
Cards = Literal["unknown", "all"]


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


@dataclass(frozen=True)
class Study:
    """A log up to the end of its test days, with what every method is given.

    Raises (on `checked`):
        UserError: one class only among training or test labels.
    """

    data: Transactions
    split: Split

    @classmethod
    def checked(cls, data: Transactions, split: Split, cards: Cards = "unknown") -> Study:
        if not data.labelled:
            raise UserError(
                "the data has no labels", where="schema", mend="name the label column: evaluate needs some labels"
            )
        study = cls(data.where(data.day < split.end), split)
        require_both_classes(study.data.label[study.rows.train], "training days")
        require_both_classes(
            study.data.label[study.tested(cards)], f"test days, {cards} cards; --cards all keeps known ones"
        )
        return study

    @cached_property
    def rows(self) -> Rows:
        return rows(self.data, self.split)

    @cached_property
    def features(self) -> Features:
        return handbook_features(self.data)

    def tested(self, cards: Cards) -> NDArray[np.bool_]:
        return self.rows.test if cards == "all" else self.rows.unknown

    def panel(self, cards: Cards, resamples: int) -> Panel:
        at, d = self.tested(cards), self.data
        return Panel(d.label[at], d.scenario[at], d.card[at], d.day[at], draws=resamples)

    def on(self, cards: Cards, scores: Array) -> Array:
        """Scores of all test rows -> those of the tested cards."""
        return scores[self.tested(cards)[self.rows.test]]


def check_unseen(encoder: TransactionEncoder, split: Split) -> None:
    """Raise UserError where the encoder was trained on test days."""
    if encoder.until_ > split.test:
        late = np.datetime64(encoder.until_ - 1, "D")
        raise UserError(
            f"the run was pretrained on days up to {late}, which reach into the test period",
            where="run",
            mend=f"pretrain with --until {np.datetime64(split.test, 'D')}",
        )


def label_free_floors(study: Study, seed: int = 0) -> dict[str, Array]:
    """Scores of the test rows by detectors that are fitted without labels on the training days.

    Those marked `with fraud rates` read columns made from delayed labels, as published "unsupervised" figures do.
    """
    train, test, features = study.rows.train, study.rows.test, study.features
    found = {"amount_over_median": amount_over_median(study.data)[test]}
    for name, detect in DETECTORS.items():
        found[name] = detect(features.label_free()[train], features.label_free()[test], seed)
        if features.from_labels.any():
            found[f"{name} with fraud rates"] = detect(features.values[train], features.values[test], seed)
    return found


def supervised_floors(study: Study, seed: int = 0) -> dict[str, Array]:
    """Scores of the test rows by classifiers on the hand-made features with all training labels."""
    train, test, x = study.rows.train, study.rows.test, study.features.values
    return {name: fit(x[train], study.data.label[train], x[test], seed) for name, fit in CLASSIFIERS.items()}


@dataclass(frozen=True)
class Representation:
    """What an encoder adds to hand-made features, for all rows of a study (N, …), nan where not asked for."""

    state: NDArray[np.float32]
    surprise: Array

    @classmethod
    def of(cls, encoder: TransactionEncoder, study: Study) -> Representation:
        """States of training and test rows, and the label-free score with its two parts where the method gives one."""
        use = study.rows.train | study.rows.test
        encoded = encoder.encode(study.data)
        state = encoder.transform(encoded, use)
        scored = encoder.recipe_.method == "masked"
        return cls(state, FraudScorer(encoder).parts(encoded, use) if scored else np.zeros((len(state), 0)))

    def beside(self, features: Array) -> Array:
        """(N, F + D + 3)."""
        return np.column_stack([features, self.state, self.surprise])


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
    ours, fresh = Representation.of(encoder, study), Representation.of(encoder.untrained(), study)
    say("classifiers with all labels")
    all_labels = supervised_floors(study)
    all_labels["random_init"] = classified(study, fresh)[0]
    best, head = classified(study, ours)
    metrics = panel.measure(study.on(settings.cards, best))
    floors = {name: panel.measure(study.on(settings.cards, s)) for name, s in all_labels.items()}
    say("few labels")
    curve, scores = label_curve(encoder, study, ours, fresh, settings)
    answers = {
        "pretraining": pretraining_answer(panel, scores, min(settings.fractions)),
        "best_tool": best_tool_answer(panel, study.on(settings.cards, best), {n: study.on(settings.cards, s) for n, s in all_labels.items() if n != "random_init"}),
        "labels_saved": labels_saved_answer(curve),
    }  # fmt: skip
    sections = [curve_section(curve)]
    if ours.surprise.shape[1]:
        say("detectors without labels")
        free = {"ours": ours.surprise[study.rows.test, 0], **label_free_floors(study)}
        for cards, prefix in (("unknown", "label_free."), ("all", "label_free.all_cards.")):
            measured = label_free_metrics(study, free, cards, settings.resamples)  # type: ignore[arg-type]
            if not measured:
                continue
            metrics |= {prefix + m: e for m, e in measured["ours"].items()}
            for name in measured.keys() - {"ours"}:
                floors.setdefault(name, {}).update({prefix + m: e for m, e in measured[name].items()})
            sections.append(label_free_section(measured, cards, study))  # type: ignore[arg-type]
    return Evaluation(
        task=f"find fraudulent payments: {head} on hand-made features and the encoder's representation, all labels",
        protocol=protocol(encoder, study, settings, panel),
        main=MAIN,
        metrics=metrics,
        floors=floors,
        answers=answers,
        label_curve=curve,
        sections=sections,
    )


HEADS = ("logistic_regression", "gradient_boosting")  # random forests drown in many columns of which few matter


def classified(study: Study, representation: Representation, seed: int = 0) -> tuple[Array, str]:
    """Scores of the test rows by a classifier on all features and a representation, with all training labels; and its name.

    Of `HEADS` the one with the higher average precision on held-out training cards is taken.
    """
    x, train, label = representation.beside(study.features.values), study.rows.train, study.data.label
    card = study.data.card[train]
    held = np.isin(card, np.random.default_rng(seed).permutation(np.unique(card))[: max(1, len(np.unique(card)) // 3)])
    inner, best = label[train], HEADS[0]
    if len(np.unique(inner[held])) == 2 and len(np.unique(inner[~held])) == 2:
        tried = {h: CLASSIFIERS[h](x[train][~held], inner[~held], x[train][held], seed) for h in HEADS}
        best = max(HEADS, key=lambda h: average_precision(inner[held], tried[h])[0])
    return CLASSIFIERS[best](x[train], inner, x[study.rows.test], seed), best


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


def curve_section(curve: Sequence[dict[str, Any]]) -> Section:
    arms = {
        "pretrained": "hand-made features + pretrained representation, linear probe",
        "random_init": "hand-made features + representation of random weights, linear probe",
        "raw": "hand-made features, linear probe",
        "scratch": "the same network trained from the labels alone",
    }
    made = []
    for labels in sorted({row["labels"] for row in curve}):
        for arm, what in arms.items():
            values = [row["value"] for row in curve if row["arm"] == arm and row["labels"] == labels]
            if values:
                spread = f"{min(values):.3f} – {max(values):.3f}" if len(set(values)) > 1 else "one draw"
                made.append((labels, what, f"{np.mean(values):.3f}", spread))
    text = "Average precision. No arm reads fraud rates of terminals and the like here: those are made from all past labels."
    return Section("Few labels", text, ("fraud labels", "method", "mean", "draws"), tuple(made))


def label_free_section(measured: dict[str, dict[str, Estimate]], cards: Cards, study: Study) -> Section:
    names = list(measured["ours"])
    made = [
        (method, *(str(m[name]) for name in names))
        for method, m in sorted(measured.items(), key=lambda i: i[0] != "ours")
    ]
    counts = ", ".join(f"{k} {v}" for k, v in study.panel(cards, 0).counts().items())
    title = "Without labels, " + ("cards not yet known as defrauded" if cards == "unknown" else "all cards")
    text = f"{counts}. Frauds that leave no mark in amount or habit cannot be found without labels; they pull the overall auroc down."
    return Section(title, text, ("method", *names), tuple(made))
