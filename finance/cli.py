"""The commands of finance. Each is a frozen dataclass; heavy libraries are imported when a command runs, not before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from core.cli import main as run_commands
from core.cli import say
from core.verbs import export_of
from finance.arguments import day_of, load
from finance.intake import Check, DraftSchema, Prepare
from finance.watch import ChooseThreshold, Drift, Explain, Learn

Set = Annotated[tuple[str, ...], tyro.conf.arg(name="set", metavar="KEY=VALUE …")]


@dataclass(frozen=True)
class Synth:
    """Generate card payments with habits and three kinds of fraud: a table and its schema.toml.

    Attributes:
        out: new folder.
        size: cards; each pays about twice a day.
        days: length of the log.
        seed: equal seeds give equal files.
        csv: write csv instead of parquet.
        descriptions: say of each payment what the merchant is called.
    """

    out: Path
    size: int = 300
    days: int = 70
    seed: int = 0
    csv: bool = False
    descriptions: bool = False

    def run(self) -> None:
        from finance.synthetic import World, write

        write(
            self.out,
            World(self.size, self.days, descriptions=self.descriptions, seed=self.seed),
            "transactions.csv" if self.csv else "transactions.parquet",
        )
        print(f"{self.size} cards over {self.days} days: {self.out}")


@dataclass(frozen=True)
class Pretrain:
    """Learn from payments without labels and write a run folder. The test period is never seen.

    Attributes:
        data: csv or parquet file, folder with schema.toml, or a known name (fdh_simulated).
        out: the run folder; an interrupted run of the same settings goes on where it stopped.
        method: masked or masked_events (hidden fields are predicted; these can score), next (the next payment), simclr, coles, moco,
            byol, barlow or vicreg (slices of a card's history agree), swav (they choose one of some groups), data2vec, denoise,
            replaced, order or cpc.
        minutes: wall time; or
        steps: optimizer steps. The recipe's own number where neither is given.
        view: whose histories: the cards', or the counterparties' (terminals, merchants), of whom the card is then a field. The run
            remembers it, and reads the same files.
        until: first day that is not seen, as 2024-12-31; by default the first test day.
        schema: TOML file that says which column is what.
        seed: equal seeds give equal weights.
        device: cpu, cuda, …
        set: settings of the recipe, as train.lr=0.001 shape.dim=128.
    """

    data: str
    out: Path
    method: str = "masked"
    view: Literal["card", "counterparty"] = "card"
    minutes: float | None = None
    steps: int | None = None
    until: str | None = None
    schema: Path | None = None
    seed: int = 0
    device: str = "cpu"
    set: Set = ()

    def run(self) -> None:
        from dataclasses import replace

        from core.config import settings
        from finance.estimators import TransactionEncoder
        from finance.presets import recipe_for

        recipe = recipe_for(self.method)
        train = replace(recipe.train, seed=self.seed, device=self.device)
        if self.minutes is not None or self.steps is not None:
            train = replace(train, minutes=self.minutes, steps=self.steps)
        recipe = settings(replace(recipe, train=train, view=self.view), self.set)
        table = load(self.data, self.schema, labels=False, view=recipe.view)
        until = None if self.until is None else day_of(self.until, "--until")
        encoder = TransactionEncoder(recipe).fit(table, until=until, out=self.out, note=say)
        print(f"run: {encoder.save(self.out)}")


@dataclass(frozen=True)
class Evaluate:
    """Compare a run with floors on labelled days: evaluation.json and report.html.

    Attributes:
        run_folder: what pretrain wrote.
        data: the labelled log.
        out: folder for the report.
        cards: unknown leaves out test cards already known as defrauded, as published; all keeps them.
        fractions: shares of the training labels to learn from.
        draws: how often each share below 1 is drawn.
        scratch_share: steps of each network trained from labels alone, as a share of the pretraining's.
        schema: TOML file that says which column is what.
    """

    run_folder: Annotated[Path, tyro.conf.arg(name="run")]
    data: str
    out: Path
    cards: Literal["unknown", "all"] = "unknown"
    fractions: tuple[float, ...] = (0.1, 1.0)
    draws: int = 3
    scratch_share: float = 0.1
    schema: Path | None = None

    def run(self) -> None:
        from finance.estimators import TransactionEncoder
        from finance.evaluation import Settings, evaluate
        from finance.split import default_split

        encoder = TransactionEncoder.load(self.run_folder)
        table = load(self.data, self.schema, labels=True, view=encoder.recipe_.view)
        settings = Settings(self.fractions, self.draws, self.scratch_share, cards=self.cards)
        evaluation = evaluate(encoder, table, default_split(table), settings, say)
        for name, found in evaluation.answers.items():
            print(f"{name}: {found.verdict}  ({found.detail}: {found.estimate})")
        print(f"report: {evaluation.write(self.out)}")


@dataclass(frozen=True)
class Score:
    """Score every payment: a table with row number, id, score and the surprise of each field, and, by labels, the probability of fraud.

    Attributes:
        run_folder: what pretrain wrote, with method masked.
        data: payments with their cards' earlier ones: a score comes from a card's own history.
        out: parquet or csv file to write.
        since: first day to score, as 2024-12-31; earlier ones serve as history. By default every day.
        by: surprise, which needs no labels; or labels, by what the verb learn has learned: the data then brings those that are known.
        threshold: what the verb threshold wrote; adds a column `alert`.
        pseudonymise: replace ids by keyed hashes; the key is read from the environment variable TACIT_KEY.
        schema: TOML file that says which column is what.
    """

    run_folder: Annotated[Path, tyro.conf.arg(name="run")]
    data: str
    out: Path
    since: str | None = None
    by: Literal["surprise", "labels"] = "surprise"
    threshold: Path | None = None
    pseudonymise: bool = False
    schema: Path | None = None

    def run(self) -> None:
        from core.tables import check_table, write_table
        from finance.classifier import judges
        from finance.tables import score_table
        from finance.thresholds import Threshold

        check_table(self.out, self.pseudonymise)
        alert = None if self.threshold is None else Threshold.read(self.threshold).of(self.by)
        scorer, classifier = judges(self.run_folder, self.by)
        table = load(self.data, self.schema, labels=classifier is not None, view=scorer.fitted()[0].recipe_.view)
        since = None if self.since is None else day_of(self.since, "--since")
        made = score_table(scorer, table, since, self.pseudonymise, alert, classifier)
        alerts = "" if alert is None else f", {int(made['alert'].sum())} alerts"
        print(f"{len(made)} payments scored{alerts}: {write_table(made, self.out)}")


@dataclass(frozen=True)
class Embed:
    """Write the encoder's state after each payment, or after each card's last one.

    Attributes:
        run_folder: what pretrain wrote.
        data: the log to embed.
        out: parquet file to write.
        per: a row for each payment, or for each card (each counterparty, of a run that sees those); a run of method swav says also
            in which peer group it is.
        pseudonymise: replace ids by keyed hashes; the key is read from the environment variable TACIT_KEY.
        schema: TOML file that says which column is what.
    """

    run_folder: Annotated[Path, tyro.conf.arg(name="run")]
    data: str
    out: Path
    per: Literal["payment", "card"] = "payment"
    pseudonymise: bool = False
    schema: Path | None = None

    def run(self) -> None:
        from core.tables import check_table, write_table
        from finance.estimators import TransactionEncoder
        from finance.tables import embedding_table

        check_table(self.out, self.pseudonymise)
        encoder = TransactionEncoder.load(self.run_folder)
        table = load(self.data, self.schema, labels=False, view=encoder.recipe_.view)
        made = embedding_table(encoder, table, self.per, self.pseudonymise)
        print(f"{len(made)} rows: {write_table(made, self.out)}")


@dataclass(frozen=True)
class Bench:
    """The benchmark on fdh_simulated, resumable by (test, seed); writes results.json.

    Attributes:
        only: one test of finance.benchmark.TESTS; methods (does each method learn?), or one of them as methods-NAME; all tests but
            smoke where it is not given.
        minutes: pretraining time of each seed; where it is not given 2000 steps, of each method 500.
        out: folder for parts and results.json.
        seeds: how many, from 0.
        device: cpu, cuda, …
    """

    only: str | None = None
    minutes: float | None = None
    out: Path = Path("bench/finance")
    seeds: int = 3
    device: str = "cpu"

    def run(self) -> int:
        from finance.benchmark import bench

        return bench(self.only, self.minutes, self.out, self.seeds, self.device, print)


COMMANDS: dict[str, type] = {
    "synth": Synth,
    "schema": DraftSchema,
    "check": Check,
    "prepare": Prepare,
    "pretrain": Pretrain,
    "evaluate": Evaluate,
    "learn": Learn,
    "score": Score,
    "threshold": ChooseThreshold,
    "explain": Explain,
    "drift": Drift,
    "embed": Embed,
    "export": export_of("finance.estimators:TransactionEncoder"),
    "bench": Bench,
}


def main(argv: Sequence[str] | None = None) -> None:
    """`tacit-finance`."""
    run_commands("finance", COMMANDS, "Learn from unlabelled card payments, and find the odd ones.", argv)
