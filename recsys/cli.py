"""The commands of the recommender. Each is a frozen dataclass; heavy libraries are imported when a command runs, not before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from core.cli import main as run_commands
from core.cli import say
from core.verbs import export_of
from recsys.arguments import Table
from recsys.intake import Prepare

if TYPE_CHECKING:
    from recsys.data import Loaded
    from recsys.estimators import SessionRecommender


def _load(data: str, table: Table, model: SessionRecommender | None = None, keep_empty: bool = False) -> Loaded:
    """The data, with a line about what was set aside."""
    from recsys.data import load

    catalogue = None if model is None else model.catalogue_
    loaded = load(data, table.columns(), table.limits(), catalogue, keep_empty)
    if len(loaded.quarantine):
        say(f"{loaded.quarantine.summary()}; `check` lists them")
    return loaded


def _run(run: Path, device: str) -> SessionRecommender:
    from recsys.estimators import SessionRecommender

    model = SessionRecommender.load(run)
    model.device = device
    return model


@dataclass(frozen=True)
class Synth:
    """Generate sessions with planted intents and stages: interactions.csv or .parquet.

    Attributes:
        out: folder.
        size: sessions, one a user.
        intents: of 32 items each: the catalogue's size.
        seed: equal seeds give equal files.
        format: of the file.
    """

    out: Path
    size: int = 3000
    intents: int = 8
    seed: int = 0
    format: Literal["csv", "parquet"] = "csv"

    def run(self) -> None:
        from recsys.synthetic import World, write

        path = write(self.out, World(users=self.size, intents=self.intents), self.seed, self.format)
        print(f"{self.size} sessions: {path}")


@dataclass(frozen=True)
class Check:
    """Read the data, say what is wrong and where, write quarantine.csv; exit 1 where nothing usable is left.

    Attributes:
        data: csv, parquet, folder, or a known name (beauty, sports, toys).
        out: folder for quarantine.csv.
        table: columns and limits.
    """

    data: str
    out: Path = Path(".")
    table: Annotated[Table, tyro.conf.arg(name="")] = field(default_factory=Table)

    def run(self) -> int:
        from recsys.data import Limits, load

        loaded = load(self.data, self.table.columns(), Limits(self.table.longest, 1.0), keep_empty=True)
        sequences, quarantine = loaded.sequences, loaded.quarantine
        lengths = sequences.lengths
        print(
            f"{loaded.rows} events read: {(lengths > 0).sum()} users or sessions, {sequences.n_items} items, "
            f"{len(sequences.items)} events usable, {(lengths >= 3).sum()} users with the 3 that evaluation needs"
        )
        quarantine.tell(self.out)
        return 0 if len(sequences.items) else 1


@dataclass(frozen=True)
class Pretrain:
    """Learn from sequences without labels and write a run folder.

    Attributes:
        data: csv, parquet, folder, or a known name (beauty, sports, toys).
        out: the run folder; an interrupted run of the same settings goes on where it stopped.
        method: next (guess the next item, SASRec), gsasrec, gru4rec, bert4rec (guess masked items), duorec, next+cl4srec, next+replaced,
            next+order or next+attributes (next item beside another task), which recommend; cl4srec, moco, byol, vicreg,
            data2vec, denoise, replaced, order or cpc, which give embeddings.
        minutes: wall time; or
        steps: optimizer steps. The preset's own budget where neither is given.
        seed: of weights and batches.
        device: cpu, cuda, ….
        hold_out: last events of each user that training never sees: 2 for `evaluate`, 0 for production; by itself 2, and 0 where the
            data bring later sessions to be asked.
        attributes: table of items and their attributes (csv or parquet: item_id and a list, or one attribute a row), for
            next+attributes and for cold items; by itself that of a prepared folder.
        set: key=value settings of the preset, such as model.dim=128 or train.lr=0.002.
        table: columns and limits.
    """

    data: str
    out: Path
    method: str = "next"
    minutes: float | None = None
    steps: int | None = None
    seed: int = 0
    device: str = "cpu"
    hold_out: int | None = None
    attributes: Path | None = None
    set: tuple[str, ...] = ()
    table: Annotated[Table, tyro.conf.arg(name="")] = field(default_factory=Table)

    def run(self) -> None:
        from core.datasets import sha256
        from recsys.data import find, read_table
        from recsys.estimators import SessionRecommender
        from recsys.protocol import attributes_of, has_test

        loaded = _load(self.data, self.table)
        hold_out = (0 if has_test(self.data) else 2) if self.hold_out is None else self.hold_out
        described = self.attributes or (attributes_of(self.data) if "attributes" in self.method else None)
        attributes = None if described is None else read_table(find(described))
        model = SessionRecommender(
            self.method, self.minutes, self.steps, self.seed, self.device, hold_out, self.set, self.table.columns(),
            attributes,
        )  # fmt: skip
        model.fit_sequences(loaded.sequences, self.out, say, sha256(loaded.file))
        model.save(self.out)
        print(f"{model.steps_spent()} steps in {model.minutes_spent():.1f} minutes: {self.out}")


@dataclass(frozen=True)
class Evaluate:
    """Rank the items that came next among all items, beside the floors; write evaluation.json and report.html.

    Asked are the later sessions of a prepared folder (`prepare`), the published test of a session set, or else each user's last item.

    Attributes:
        run: run folder.
        data: the data of the run (trained as --hold-out says by itself), or other data over the same catalogue.
        out: folder.
        fractions: shares of the users on which the model is trained from scratch, for the curve.
        draws: draws of users at each fraction.
        sampled: also rank among so many sampled items, as older papers did; the report says that this misleads. 0 does not.
        seed: of draws and intervals.
        device: cpu, cuda, ….
        table: columns and limits.
    """

    run_folder: Annotated[Path, tyro.conf.arg(name="run")]
    data: str
    out: Path
    fractions: tuple[float, ...] = (0.1,)
    draws: int = 3
    sampled: int = 0
    seed: int = 0
    device: str = "cpu"
    table: Annotated[Table, tyro.conf.arg(name="")] = field(default_factory=Table)

    def run(self) -> None:
        from recsys.evaluation import evaluate
        from recsys.protocol import protocol_of
        from recsys.ranking import MAIN

        model = _run(self.run_folder, self.device)
        asked = protocol_of(self.data, self.table.columns(), self.table.limits(), model.catalogue_)
        result = evaluate(
            model, asked.split, data=asked.digest, fractions=self.fractions, draws=self.draws, sampled=self.sampled,
            seed=self.seed, note=say,
        )  # fmt: skip
        result.protocol["set aside"] = asked.aside
        path = result.write(self.out)
        print(f"{MAIN} {result.metrics[MAIN]}")
        for name, metrics in result.floors.items():
            print(f"  {name} {metrics[MAIN]}")
        for name, answer in result.answers.items():
            print(f"{name}: {answer.verdict}, {answer.estimate} ({answer.detail})")
        print(f"report: {path}")


@dataclass(frozen=True)
class Recommend:
    """The likeliest next items of every user or session in new data: csv or parquet.

    Items that the run never saw are dropped from a history, an empty history gets the most popular items, and both are
    said in the column `note`.

    Attributes:
        run: run folder.
        data: csv, parquet or folder.
        out: file to write, .csv or .parquet.
        k: items a user.
        repeat: items of the history may come again.
        only: text file of items that may be recommended, one a line, such as what is in stock.
        without: text file of items that may not.
        pseudonymise: replace users by keyed hashes; the key is read from the environment variable TACIT_KEY.
        device: cpu, cuda, ….
        table: columns and limits.
    """

    run_folder: Annotated[Path, tyro.conf.arg(name="run")]
    data: str
    out: Path = Path("recommendations.csv")
    k: int = 10
    repeat: bool = False
    only: Path | None = None
    without: Path | None = None
    pseudonymise: bool = False
    device: str = "cpu"
    table: Annotated[Table, tyro.conf.arg(name="")] = field(default_factory=Table)

    def run(self) -> None:
        from core.tables import check_table, pseudonyms, write_table
        from recsys.tables import read_items

        check_table(self.out, self.pseudonymise)
        model = _run(self.run_folder, self.device)
        loaded = _load(self.data, self.table, model, keep_empty=True)
        only = None if self.only is None else read_items(self.only)
        without = [] if self.without is None else read_items(self.without)
        found = model.recommend_sequences(loaded.sequences, self.k, repeat=self.repeat, only=only, without=without)
        if self.pseudonymise:
            found["user"] = pseudonyms(found["user"])
        write_table(found, self.out)
        first = found[found["rank"] == 1]
        print(f"{len(found)} recommendations for {len(first)} users: {self.out}")
        for note, count in first["note"].value_counts().items():
            if note:
                print(f"  {count} × {note}")


@dataclass(frozen=True)
class Similar:
    """The items nearest to given ones, by cosine of their vectors: csv or parquet.

    Attributes:
        run: run folder.
        items: items to start from; or
        file: a text file of them, one a line.
        out: file to write, .csv or .parquet.
        k: items for each.
    """

    run_folder: Annotated[Path, tyro.conf.arg(name="run")]
    items: tuple[str, ...] = ()
    file: Path | None = None
    out: Path = Path("similar.csv")
    k: int = 10

    def run(self) -> None:
        from core.errors import UserError
        from core.tables import check_table, write_table
        from recsys.tables import read_items

        check_table(self.out)
        items = [*self.items, *([] if self.file is None else read_items(self.file))]
        if not items:
            raise UserError("no item is given", where="--items", mend="name items, or give a --file of them")
        found = _run(self.run_folder, "cpu").similar(items, self.k)
        write_table(found, self.out)
        print(f"{len(found)} similar items for {len(items)}: {self.out}")


@dataclass(frozen=True)
class Embed:
    """A vector for every user or session: parquet or csv, one row each; empty where no item is known.

    Attributes:
        run: run folder.
        data: csv, parquet or folder.
        out: file to write, .parquet or .csv.
        of: next, the state from which the next item is guessed; or whole, of all that a history holds, for questions about its user.
        pseudonymise: replace users by keyed hashes; the key is read from the environment variable TACIT_KEY.
        device: cpu, cuda, ….
        table: columns and limits.
    """

    run_folder: Annotated[Path, tyro.conf.arg(name="run")]
    data: str
    out: Path = Path("embeddings.parquet")
    of: Literal["next", "whole"] = "next"
    pseudonymise: bool = False
    device: str = "cpu"
    table: Annotated[Table, tyro.conf.arg(name="")] = field(default_factory=Table)

    def run(self) -> None:
        from core.tables import check_table, pseudonyms, write_table
        from recsys.estimators import vector_table
        from recsys.histories import whole

        check_table(self.out, self.pseudonymise)
        model = _run(self.run_folder, self.device)
        loaded = _load(self.data, self.table, model, keep_empty=True)
        vectors = whole(model, loaded.sequences) if self.of == "whole" else model.hidden(loaded.sequences)
        found = vector_table(loaded.sequences, vectors)
        made = found.reset_index()
        if self.pseudonymise:
            made["user"] = pseudonyms(made["user"])
        write_table(made, self.out)
        lost = int(found["e0"].isna().sum())
        print(
            f"{len(found)} vectors of {found.shape[1]} numbers: {self.out}"
            + (f" ({lost} without a known item)" if lost else "")
        )


@dataclass(frozen=True)
class Bench:
    """The benchmark on public data; resumable, writes results.json. `--only smoke` is a short check with exit code 1 on failure.

    Attributes:
        only: one test: beauty, sports, toys (each also with -attributes, -hybrid), movielens_1m_sasrec (and -hybrid), diginetica, tmall, retailrocket, nowplaying, bert4rec, users,
            ssl-gain-beauty (-sports, -toys), few-sessions, few-sessions-generated, attributes, injected, prepare, latency,
            catalogue, training and pace (how fast), methods (does each method learn? one of them: methods-NAME) or smoke; empty runs all but
            the smoke.
        minutes: of pretraining, each; where it is not given, so many steps as each test states.
        out: folder.
        seeds: runs of each test.
        device: cpu, cuda, ….
    """

    only: str = ""
    minutes: float | None = None
    out: Path = Path("bench/recsys")
    seeds: int = 3
    device: str = "cpu"

    def run(self) -> int:
        from core.errors import UserError
        from recsys.benchmark import bench, smoke

        if self.seeds < 1:
            raise UserError(f"{self.seeds} seeds", where="--seeds", mend="give 1 or more")
        if self.only == "smoke":
            return smoke(self.device)
        if self.minutes is not None and not self.minutes > 0:
            raise UserError(f"minutes is {self.minutes}", where="--minutes", mend="give a number above 0")
        print(f"results: {bench(self.out, self.only, self.minutes, self.seeds, self.device)}")
        return 0


COMMANDS: dict[str, type] = {
    "synth": Synth,
    "check": Check,
    "prepare": Prepare,
    "pretrain": Pretrain,
    "evaluate": Evaluate,
    "recommend": Recommend,
    "similar": Similar,
    "embed": Embed,
    "export": export_of("recsys.estimators:SessionRecommender"),
    "bench": Bench,
}


def main(argv: Sequence[str] | None = None) -> None:
    """`tacit-recsys`."""
    run_commands("recsys", COMMANDS, "Recommenders from click logs: pretrain, evaluate honestly, recommend.", argv)
