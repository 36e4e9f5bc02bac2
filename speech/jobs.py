"""The verbs of a run at work: label long files, find what sounds alike, tell speakers apart. Heavy libraries wait for `run`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import tyro

from core.cli import say
from core.tables import check_table, pseudonyms, write_table
from speech.tables import list_aside, names


@dataclass(frozen=True)
class Tag:
    """Label long files window by window: a table of file, start, end (seconds), label and probability. Files are read in blocks, so an
    hour takes no more memory than a minute.

    Attributes:
        run: what finetune wrote.
        data: a file or a folder of files.
        out: .csv or .parquet.
        window: seconds that the classifier hears at once: about as long as the recordings that it learned from.
        hop: seconds from one window to the next.
        least: windows below this probability get no label.
        apart: leave neighbours of the same label as rows of their own.
        pseudonymise: replace file names by keyed hashes; the key is read from the environment variable TACIT_KEY.
        device: cpu, cuda, …
    """

    run_: Annotated[Path, tyro.conf.arg(name="run")]
    data: Path
    out: Path = Path("tags.csv")
    window: float = 1.0
    hop: float = 0.5
    least: float = 0.0
    apart: bool = False
    pseudonymise: bool = False
    device: str = "cpu"

    def run(self) -> None:
        from core.quarantine import Quarantine
        from speech.classifier import AudioClassifier
        from speech.tagging import TagConfig, tag

        check_table(self.out, self.pseudonymise)
        config = TagConfig(self.window, self.hop, self.least, not self.apart)
        classifier = AudioClassifier.load(self.run_)
        classifier.device = self.device
        quarantine = Quarantine()
        table = tag(classifier, self.data, config, quarantine)
        table["file"] = pseudonyms(table["file"]) if self.pseudonymise else table["file"]
        write_table(table, self.out)
        list_aside(quarantine, self.out)
        print(f"{len(table)} stretches of {table['file'].nunique()} files: {self.out}")


@dataclass(frozen=True)
class Similar:
    """The recordings that sound most like each one, by cosine of their features: a table of file, rank, similar and cosine.

    Attributes:
        run: what pretrain wrote.
        data: where to look: folder, tar, table, prepared folder or known name.
        queries: what to look for; by default every recording of `data`, itself left out.
        out: .csv or .parquet.
        k: how many for each.
        pseudonymise: replace file names by keyed hashes; the key is read from the environment variable TACIT_KEY.
        device: cpu, cuda, …
    """

    run_: Annotated[Path, tyro.conf.arg(name="run")]
    data: str
    queries: str | None = None
    out: Path = Path("similar.csv")
    k: int = 10
    pseudonymise: bool = False
    device: str = "cpu"

    def run(self) -> None:
        from speech.alike import similar
        from speech.estimators import AudioEncoder
        from speech.tables import aside

        check_table(self.out, self.pseudonymise)
        encoder = AudioEncoder.load(self.run_)
        encoder.device = self.device
        recordings = encoder.read(self.data)
        queries = None if self.queries is None else encoder.read(self.queries)
        table = similar(encoder, recordings, queries, self.k)
        if self.pseudonymise:
            table["file"], table["similar"] = pseudonyms(table["file"]), pseudonyms(table["similar"])
        write_table(table, self.out)
        aside(recordings, self.out)
        print(f"{len(table)} rows for {table['file'].nunique()} recordings: {self.out}")


@dataclass(frozen=True)
class Verify:
    """Same speaker or not: the equal error rate of a run on pairs of held-out recordings, beside log-mel statistics.

    Attributes:
        run: what pretrain wrote.
        data: recordings with speakers; held-out ones are taken where two or more speakers are held out.
        out: folder for verification.json, trials.csv and report.html.
        trials: pairs of each kind at most.
        sounds: worst pairs of each kind that the report plays, at most 5; 0 where it goes to people who may not hear them.
        pseudonymise: replace file names in trials.csv by keyed hashes; the key is read from the environment variable TACIT_KEY.
        device: cpu, cuda, …
    """

    run_: Annotated[Path, tyro.conf.arg(name="run")]
    data: str
    out: Path
    trials: int = 5000
    sounds: int = 2
    pseudonymise: bool = False
    seed: int = 0
    device: str = "cpu"

    writes_folder: ClassVar[bool] = True

    def run(self) -> None:
        import json

        from core.errors import UserError
        from core.files import whole
        from speech.estimators import AudioEncoder
        from speech.verification import verify
        from speech.verification_report import verification_page

        if not 0 <= self.sounds <= 5:
            raise UserError(f"{self.sounds} pairs", where="--sounds", mend="play 0 to 5 of each kind")
        check_table(self.out / "trials.csv", self.pseudonymise)

        encoder = AudioEncoder.load(self.run_)
        encoder.device = self.device
        recordings = encoder.read(self.data)
        say(recordings.summary())
        found = verify(encoder, recordings, self.trials, self.seed)
        with whole(self.out / "verification.json", "the result") as temporary:
            temporary.write_text(json.dumps(found.json(), indent=1) + "\n", encoding="utf-8")
        write_table(found.table(names(recordings, self.pseudonymise)), self.out / "trials.csv")
        text = verification_page(encoder, recordings, found, self.data, self.sounds)
        with whole(self.out / "report.html", "the report") as temporary:
            temporary.write_text(text, encoding="utf-8")
        print(found.words)
        for name, value in found.eer.items():
            print(f"eer of {name}: {value}")
        print(f"report: {self.out / 'report.html'}")
