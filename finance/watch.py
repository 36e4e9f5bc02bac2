"""The commands for whoever watches payments: from which score on to alert, why, and whether the world has moved."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import tyro

from finance.arguments import day_of, load


@dataclass(frozen=True)
class Learn:
    """Learn from the labels that are known: boosted trees on hand-made features and on the run's surprise; kept in the run folder.

    Attributes:
        run_folder: what pretrain wrote, with method masked.
        data: the labelled log.
        until: day before which a label must have been known, as 2024-12-31; by default the first day that the run has not seen.
        label_days: of the newest known labels, how many days of payments are learned from.
        seed: equal seeds give equal trees.
        schema: TOML file that says which column is what.
    """

    run_folder: Annotated[Path, tyro.conf.arg(name="run")]
    data: str
    until: str | None = None
    label_days: int = 14
    seed: int = 0
    schema: Path | None = None

    def run(self) -> None:
        from core.cli import say
        from core.errors import UserError
        from finance.classifier import FraudClassifier
        from finance.estimators import TransactionEncoder

        if self.label_days < 1:
            raise UserError("no day to learn from", where="--label-days", mend="give 1 or more")
        encoder = TransactionEncoder.load(self.run_folder)
        classifier = FraudClassifier(encoder, self.label_days, seed=self.seed)
        table = load(self.data, self.schema, labels=True, view=encoder.recipe_.view)
        say("features and surprise, then trees that go on from the surprise, grown once more on each part of the cards")
        classifier.fit(table, until=None if self.until is None else day_of(self.until, "--until"))
        found = classifier.trained_on_
        print(f"{found['rows']} payments, {found['frauds']} of them frauds")
        if "held_out_average_precision" in found:
            print(
                f"on cards held out: average precision {found['held_out_average_precision']:.3f}, calibration error "
                f"{found['held_out_calibration_error']:.4f} (uncalibrated {found['uncalibrated_error']:.4f})"
            )
        print(f"classifier: {classifier.save(self.run_folder)}")


@dataclass(frozen=True)
class ChooseThreshold:
    """Choose from which score on to alert, on days before the ones to watch: a budget of alerts, or what alerts and frauds cost.

    Attributes:
        run_folder: what pretrain wrote, with method masked.
        data: the log; with --alert-cost, labelled.
        since: first day to choose on, as 2024-12-01; earlier ones serve as history.
        until: first day that is not looked at any more; by default all days count whose labels are known, or all.
        per_day: at most so many cards a day shall have an alert; or
        alert_cost: what looking at one alert costs, in the currency of the amounts; a fraud that is stopped saves its amount.
        by: the surprise, or the probability by labels (verb learn); choose it on days after those that were learned from.
        out: json file, which score takes as --threshold.
        schema: TOML file that says which column is what.
    """

    run_folder: Annotated[Path, tyro.conf.arg(name="run")]
    data: str
    since: str
    until: str | None = None
    per_day: float | None = None
    alert_cost: float | None = None
    by: Literal["surprise", "labels"] = "surprise"
    out: Path = Path("threshold.json")
    schema: Path | None = None

    def run(self) -> None:
        from core.errors import UserError
        from finance.classifier import judges
        from finance.thresholds import by_budget, by_cost

        if (self.per_day is None) == (self.alert_cost is None):
            raise UserError("by what shall it be chosen?", where="threshold", mend="give --per-day or --alert-cost")
        scorer, classifier = judges(self.run_folder, self.by)
        view = scorer.fitted()[0].recipe_.view
        table = load(self.data, self.schema, labels=self.alert_cost is not None or classifier is not None, view=view)
        wanted = table.day >= day_of(self.since, "--since")
        if self.until is not None:
            wanted &= table.day < day_of(self.until, "--until")
        if self.alert_cost is not None:
            wanted &= (table.label >= 0) & (table.day <= table.day.max() - table.schema.label_delay_days)
        if not wanted.any():
            raise UserError("no payment on those days", where="--since", mend="choose days inside the log")
        if classifier is not None:
            score = classifier.predict_proba(table, wanted)[wanted, 1]
        else:
            score = scorer.score_samples(table, wanted)[wanted]
        day, card = table.day[wanted], table.card[wanted]
        if self.alert_cost is not None:
            found = by_cost(score, day, card, table.label[wanted], table.amount[wanted], self.alert_cost)
        else:
            assert self.per_day is not None
            found = by_budget(score, day, card, self.per_day)
        found = replace(found, by=self.by)
        print(
            f"alert from {found.score:.4g} on ({found.how}): {found.alerts_a_day:.3g} cards a day over {found.days} days"
        )
        if found.saved_a_day is not None:
            print("saved a day, on the days that it was chosen on: {:.4g} [{:.4g}, {:.4g}]".format(*found.saved_a_day))
        print(f"threshold: {found.write(self.out)}")


@dataclass(frozen=True)
class Explain:
    """Reason codes of the payments with the highest scores: which field is odd, what was seen, what was expected.

    Attributes:
        run_folder: what pretrain wrote, with method masked.
        data: payments with their cards' earlier ones.
        since: first day of the payments to explain, as 2024-12-31; by default the first day that the run has not seen.
        top: how many payments, those with the highest scores.
        reasons: fields printed for each; the file has all of them.
        out: csv or parquet file to write; nothing is written where it is not given.
        schema: TOML file that says which column is what.
    """

    run_folder: Annotated[Path, tyro.conf.arg(name="run")]
    data: str
    since: str | None = None
    top: int = 10
    reasons: int = 3
    out: Path | None = None
    schema: Path | None = None

    def run(self) -> None:
        import numpy as np

        from core.errors import UserError
        from core.tables import check_table, write_table
        from finance.estimators import FraudScorer
        from finance.explain import explain
        from finance.split import on_or_after

        if self.out is not None:
            check_table(self.out)
        if self.top < 1 or self.reasons < 1:
            raise UserError("nothing to explain", where="--top, --reasons", mend="give numbers of 1 or more")
        scorer = FraudScorer.load(self.run_folder)
        encoder, _ = scorer.fitted()
        table = load(self.data, self.schema, labels=False, view=encoder.recipe_.view)
        wanted = on_or_after(table, encoder.until_ if self.since is None else day_of(self.since, "--since"))
        encoded = encoder.encode(table)
        score = np.where(wanted, scorer.score_samples(encoded, wanted), -np.inf)
        highest = np.argsort(-score, kind="stable")[: min(self.top, int(wanted.sum()))]
        chosen = np.zeros(len(table), bool)
        chosen[highest] = True
        found = explain(scorer, encoded, chosen)
        for at in highest:
            row = int(table.frame["row"].iloc[at])
            print(f"row {row}, score {score[at]:.2f}")
            for reason in found[found["row"] == row].head(self.reasons).itertuples():
                print(f"  {reason.field}: {reason.seen}, expected {reason.expected}; {reason.surprise:.1f} nats")
        if self.out is not None:
            print(f"reasons: {write_table(found, self.out)}")


@dataclass(frozen=True)
class Drift:
    """How far the payments from a day on lie from those before it: population stability of every field, and of the score.

    Attributes:
        run_folder: what pretrain wrote; of a run of method masked the score is compared too.
        data: the log.
        since: first day of the present, as 2024-12-31; by default the first day that the run has not seen.
        days: of the past, just before it, with which it is compared.
        out: csv or parquet file to write; nothing is written where it is not given.
        schema: TOML file that says which column is what.
    """

    run_folder: Annotated[Path, tyro.conf.arg(name="run")]
    data: str
    since: str | None = None
    days: int = 28
    out: Path | None = None
    schema: Path | None = None

    def run(self) -> None:
        from core.tables import check_table, write_table
        from finance.drift import drift
        from finance.estimators import FraudScorer, TransactionEncoder

        if self.out is not None:
            check_table(self.out)
        encoder = TransactionEncoder.load(self.run_folder)
        scorer = FraudScorer(encoder) if encoder.scores else None
        since = encoder.until_ if self.since is None else day_of(self.since, "--since")
        table = load(self.data, self.schema, labels=False, view=encoder.recipe_.view)
        found = drift(encoder, table, since, self.days, scorer)
        for row in found.itertuples():
            print(f"{row.column}: {row.psi:.3f} {row.verdict} (up to {row.chance:.3f} is chance)")
        if self.out is not None:
            print(f"drift: {write_table(found, self.out)}")
