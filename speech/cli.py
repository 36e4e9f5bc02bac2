"""The commands of speech. Each is a frozen dataclass; heavy libraries are imported when a command runs, not before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from core.cli import main as run_commands
from core.cli import say
from core.verbs import export_of
from speech.jobs import Similar, Tag, Verify
from speech.tables import aside, names


@dataclass(frozen=True)
class Synth:
    """Generate spoken words by several voices: a folder of wav files with metadata.csv.

    Attributes:
        out: new folder.
        kind: words; or sounds: mixtures labelled by what is loudest in them, speech, music or noise.
        size: recordings.
        speakers: voices (of sounds: scenes); the last third makes the test split.
        seed: equal seeds give equal files.
    """

    out: Path
    kind: Literal["words", "sounds"] = "words"
    size: int = 600
    speakers: int = 9
    seed: int = 0

    def run(self) -> None:
        if self.kind == "sounds":
            from speech.mixtures import MixConfig, generate_mixtures

            generate_mixtures(self.out, MixConfig(size=self.size, scenes=self.speakers, seed=self.seed))
            print(f"{self.size} generated mixtures of speech, music and noise: {self.out}")
            return
        from speech.synthetic import SynthConfig, generate

        generate(self.out, SynthConfig(size=self.size, speakers=self.speakers, seed=self.seed))
        print(f"{self.size} recordings of {self.speakers} voices: {self.out}")


@dataclass(frozen=True)
class Check:
    """Read every recording, say what is wrong and where; exit 1 where nothing usable is left.

    Attributes:
        data: folder, tar, csv or parquet table, recording, what prepare wrote, or a known name (fsdd, arabic-digits, esc10).
        out: folder for quarantine.csv.
    """

    data: str
    out: Path = Path(".")

    def run(self) -> int:
        from speech.data import scan

        found = scan(self.data, apart=True)
        print(found.summary())
        found.quarantine.tell(self.out)
        return 0 if len(found) else 1


@dataclass(frozen=True)
class Prepare:
    """Check recordings once and pack them, split by speaker: a folder that every verb reads as --data. Each file is decoded in a
    process of its own, so that a bad one costs itself alone.

    Attributes:
        data: folder, tar, csv or parquet table, recording, or a known name.
        out: the prepared folder.
        activity: trim (cut quiet off both ends), segment (stretches of sound out of recordings up to four hours long) or none.
        rate: Hz that all are resampled to; by default each keeps its own.
        min_seconds: shorter recordings are set aside.
        max_seconds: longer ones are set aside, or cut with --activity segment.
        channel: take this one, counted from 0; by default the mean of all.
        samples: int16, or float32 where recordings have more than 16 bits that matter.
        split: auto (the data's own where it names one, else by speaker), own, speaker (by a hash of the speaker) or none.
        test: share of speakers in the test split.
        val: share of speakers in the validation split.
        seed: of the split by speaker.
    """

    data: str
    out: Path
    activity: Literal["none", "trim", "segment"] = "none"
    rate: int | None = None
    min_seconds: float = 0.05
    max_seconds: float = 60.0
    channel: int | None = None
    samples: Literal["int16", "float32"] = "int16"
    split: Literal["auto", "own", "speaker", "none"] = "auto"
    test: float = 0.2
    val: float = 0.0
    seed: int = 0

    def run(self) -> None:
        from speech.audio import ReadConfig
        from speech.prepare import PrepareConfig, prepare

        read = ReadConfig(min_seconds=self.min_seconds, max_seconds=self.max_seconds, channel=self.channel)
        config = PrepareConfig(
            read, self.activity, rate=self.rate, samples=self.samples, split=self.split, test=self.test, val=self.val,
            seed=self.seed,
        )  # fmt: skip
        found = prepare(self.data, self.out, config)
        print(found.summary())
        for reason, count in found.quarantine.counts().items():
            print(f"  {count} × {reason}")
        print(f"prepared: {self.out}")


@dataclass(frozen=True)
class Pretrain:
    """Learn from recordings without labels and write a run folder. Test speakers are never seen.

    Attributes:
        data: folder, tar, metadata.csv, or a known name (fsdd).
        out: the run folder; an interrupted run of the same settings goes on where it stopped.
        method: simclr (two views of a recording agree), simclr-strong (views further apart, for more time), bestrq (hidden frames
            are predicted), moco, byol, simsiam, barlow, vicreg, swav, dino, deepcluster, mae, data2vec, denoise, vae, cpc or order.
        minutes: wall time; or
        steps: optimizer steps. The recipe's own number where neither is given.
        fold: which speaker is held out, counted from 0; by default the data's split column, else fold 0.
        everything: hold nothing out (such a run cannot be evaluated on this data).
        seed: of initial weights, order and views.
        device: cpu, cuda, cuda:1, …
        set: other settings of the recipe, as key=value, such as views.tract=0.3 or train.lr=1e-3; max_seconds=60 bounds a batch by its
            sound, padding included, where recordings are of many lengths (with max_frames=6000 for those of a minute).
    """

    data: str
    out: Path
    method: str = "simclr"
    minutes: float | None = None
    steps: int | None = None
    fold: int | None = None
    everything: bool = False
    seed: int = 0
    device: str = "cpu"
    set: tuple[str, ...] = ()

    def run(self) -> None:
        from core.config import settings
        from core.errors import UserError
        from speech.estimators import AudioEncoder
        from speech.presets import recipe
        from speech.protocol import split

        if self.everything and self.fold is not None:
            raise UserError(
                "--everything holds nothing out, --fold holds one out", where="pretrain", mend="give one of them"
            )
        chosen = settings(recipe(self.method), self.set)
        encoder = AudioEncoder(chosen, steps=self.steps, minutes=self.minutes, seed=self.seed, device=self.device)
        recordings = encoder.read(self.data)
        say(recordings.summary())
        fold = None
        if not self.everything:
            held = split(recordings, self.fold)
            fold = held.fold
            say(
                f"{held.words}: {int(held.train.sum())} recordings to learn from, {int(held.test.sum())} kept for the test"
            )
            recordings = recordings.select(held.train)
        encoder.fit(recordings, out=self.out, fold=fold, note=say)
        encoder.save(self.out)
        print(f"run: {self.out}")


@dataclass(frozen=True)
class Evaluate:
    """Measure a run with few and all labels on held-out speakers, beside its floors; write evaluation.json and report.html.

    Attributes:
        run: what pretrain wrote.
        data: the same data.
        out: folder of the report.
        draws: of few labels, random encoders and trainings from scratch.
        scratch_steps: of each training from scratch with all labels; by default all of them together read half as many
            spectrograms as the pretraining.
        fine_tune: also train the pretrained encoder on the labels.
        probe: of the frozen nets: their last layer, or a weighted sum of all layers (Transformers alone).
        fractions: of the labels, rising to 1; the first makes the main figure.
        sounds: recordings of the worst errors that the report plays, at most 20, and with them three of the training; 0 for none,
            where the report goes to people who may not hear them.
        device: cpu, cuda, …
    """

    run_: Annotated[Path, tyro.conf.arg(name="run")]
    data: str
    out: Path
    draws: int = 3
    scratch_steps: int | None = None
    fine_tune: bool = False
    probe: Literal["last", "layers"] = "last"
    fractions: tuple[float, ...] = (0.1, 1.0)
    sounds: int = 6
    seed: int = 0
    device: str = "cpu"

    def run(self) -> None:
        from speech.estimators import AudioEncoder
        from speech.evaluation import EvalConfig, evaluate

        config = EvalConfig(
            fractions=self.fractions, draws=self.draws, scratch_steps=self.scratch_steps, fine_tune=self.fine_tune, seed=self.seed,
            probe=self.probe, sounds=self.sounds,
        )  # fmt: skip
        encoder = AudioEncoder.load(self.run_)
        encoder.device = self.device
        recordings = encoder.read(self.data)
        say(recordings.summary())
        evaluation = evaluate(encoder, recordings, config, say, self.data)
        page = evaluation.write(self.out)
        name, floor = evaluation.best_floor()
        print(f"{evaluation.main} {evaluation.metrics[evaluation.main]}, best floor {floor} ({name})")
        for question, found in evaluation.answers.items():
            print(f"{question}: {found.verdict} ({found.detail})")
        print(f"report: {page}")


@dataclass(frozen=True)
class Finetune:
    """Labels on top of a run: write a classifier for `predict`.

    Attributes:
        run: what pretrain wrote.
        data: recordings with labels; those without one are left out, but `few` scales its features by all.
        out: the classifier's folder.
        tune: probe (a linear layer on frozen features), layers (on a weighted sum of all layers, weights learned too; Transformers
            alone), all (the whole net is trained on) or few (for few labels: the one or the other, as labels held back say).
        minutes: wall time of the training of `all` and `few`; what `few` tries before takes up to an eighth of it each.
        split: use the recordings of this split alone (train, for one that can be tested).
        device: cpu, cuda, …
    """

    run_: Annotated[Path, tyro.conf.arg(name="run")]
    data: str
    out: Path
    tune: Literal["probe", "layers", "all", "few"] = "probe"
    minutes: float = 1.0
    split: str | None = None
    device: str = "cpu"

    def run(self) -> None:
        from dataclasses import replace

        from core.errors import UserError
        from speech.classifier import AudioClassifier
        from speech.estimators import AudioEncoder

        encoder = AudioEncoder.load(self.run_)
        encoder.device = self.device
        recordings = encoder.read(self.data)
        say(recordings.summary())
        if self.split is not None:
            if not (recordings.split == self.split).any():
                raise UserError(
                    f"no recording is in split '{self.split}'", where="split", mend="use one that the data names"
                )
            recordings = recordings.select(recordings.split == self.split)
        train = replace(encoder.recipe_.train, steps=None, minutes=self.minutes, device=self.device)
        classifier = AudioClassifier(encoder, tune=self.tune, train=train).fit(recordings, note=say)
        classifier.save(self.out)
        print(f"classifier of {len(classifier.classes_)} labels: {self.out}")


@dataclass(frozen=True)
class Predict:
    """A label for each recording: a table of file, label and probability. Bad recordings are listed beside it.

    Attributes:
        run: what finetune wrote.
        data: folder, tar or recording.
        out: .csv or .parquet.
        pseudonymise: replace file names by keyed hashes; the key is read from the environment variable TACIT_KEY.
        device: cpu, cuda, …
    """

    run_: Annotated[Path, tyro.conf.arg(name="run")]
    data: str
    out: Path = Path("predictions.csv")
    pseudonymise: bool = False
    device: str = "cpu"

    def run(self) -> None:
        import pandas as pd

        from core.tables import check_table, write_table
        from speech.classifier import AudioClassifier

        check_table(self.out, self.pseudonymise)
        classifier = AudioClassifier.load(self.run_)
        classifier.device = self.device
        recordings = classifier.read(self.data)
        share = classifier.predict_proba(recordings)
        table = pd.DataFrame(
            {
                "file": names(recordings, self.pseudonymise),
                "label": classifier.classes_[share.argmax(1)].astype(object),
                "probability": share.max(1).round(4),
            }
        )
        write_table(table, self.out)
        aside(recordings, self.out)
        print(f"{len(table)} labels: {self.out}")


@dataclass(frozen=True)
class Embed:
    """Features of each recording: a table of file and D columns. Bad recordings are listed beside it.

    Attributes:
        run: what pretrain wrote.
        data: folder, tar or recording.
        out: .parquet or .csv; frames are written as .parquet alone.
        frames: a row for each token (frame) of each recording, with its start and end in seconds.
        pseudonymise: replace file names by keyed hashes; the key is read from the environment variable TACIT_KEY.
        device: cpu, cuda, …
    """

    run_: Annotated[Path, tyro.conf.arg(name="run")]
    data: str
    out: Path = Path("embeddings.parquet")
    frames: bool = False
    pseudonymise: bool = False
    device: str = "cpu"

    def run(self) -> None:
        import pandas as pd

        from core.tables import check_table, write_table
        from speech.estimators import AudioEncoder

        check_table(self.out, self.pseudonymise)
        encoder = AudioEncoder.load(self.run_)
        encoder.device = self.device
        recordings = encoder.read(self.data)
        if self.frames:
            from speech.framewise import write_frames

            rows, width = write_frames(encoder, recordings, names(recordings, self.pseudonymise), self.out)
            aside(recordings, self.out)
            print(f"{rows} frames × {width} features: {self.out}")
            return
        features = encoder.transform(recordings)
        table = pd.DataFrame(features, columns=[f"f{i}" for i in range(features.shape[1])])
        table.insert(0, "file", names(recordings, self.pseudonymise))
        write_table(table, self.out)
        aside(recordings, self.out)
        print(f"{features.shape[0]} × {features.shape[1]} features: {self.out}")


@dataclass(frozen=True)
class Bench:
    """The benchmark of speech: resumable by (test, seed); writes results.json.

    Attributes:
        only: one test (smoke, speed, fsdd-loso, arabic-digits, esc10, each of these three with -tuned, gain, ten-percent, speakers, methods, or
            one method as methods-NAME); all but smoke and speed by default.
        minutes: each training of `methods`, 400 steps where it is not given; the other tests count steps.
        seeds: how many.
        out: folder of parts and results.
    """

    only: str | None = None
    minutes: float | None = None
    seeds: int = 3
    out: Path = Path("bench/speech")

    def run(self) -> int:
        from speech.benchmark import BenchConfig, bench

        return bench(self.only, self.minutes, BenchConfig(seeds=self.seeds), self.out, say)


COMMANDS = {
    "synth": Synth, "check": Check, "prepare": Prepare, "pretrain": Pretrain, "evaluate": Evaluate, "finetune": Finetune,
    "predict": Predict, "embed": Embed, "tag": Tag, "similar": Similar, "verify": Verify,
    "export": export_of("speech.estimators:AudioEncoder"), "bench": Bench,
}  # fmt: skip


def main(argv: Sequence[str] | None = None) -> None:
    """`tacit-speech`."""
    run_commands("speech", COMMANDS, "Self-supervised learning from recordings.", argv)
