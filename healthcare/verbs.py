"""The verbs of the classifier's job: what it is worth, to make one, to use it, to look into it. See healthcare.cli."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import tyro

from core.cli import say


@dataclass(frozen=True)
class Evaluate:
    """What a run is worth with 1, 10 and 100 % of the labels, beside the floors; writes evaluation.json and report.html.

    Attributes:
        run_: the run folder.
        data: npz, manifest csv, folder of images, or a known name (pneumoniamnist, dsb2018_nuclei_256).
        out: folder for the report.
        draws: label draws a fraction.
        prevalence: of the finding where the model would be used: predictive values are given for it.
        device: cpu, cuda, cuda:1, …
        task: classify images, or segment them: with few and with all masks, beside the same network from scratch.
        recipe: of a segmenter: region, vessels, objects.
        steps: of each training of a segmenter.
    """

    run_: Annotated[Path, tyro.conf.arg(name="run")]
    data: str
    out: Path
    draws: int = 3
    prevalence: float | None = None
    device: str = "cpu"
    task: Literal["classify", "segment"] = "classify"
    recipe: str | None = None
    steps: int | None = None

    def run(self) -> None:
        if self.task == "segment":
            from healthcare.segment_commands import evaluate_segmenter

            evaluate_segmenter(self.run_, self.data, self.out, self.recipe, self.steps, self.draws, self.device)
            return
        from dataclasses import replace

        from healthcare.data import read
        from healthcare.estimators import ImageEncoder
        from healthcare.evaluation import EvaluationConfig, evaluate

        encoder = ImageEncoder.load(self.run_).on(self.device)
        images = read(self.data, encoder.reading)
        config = EvaluationConfig(draws=self.draws, prevalence=self.prevalence)
        config = replace(config, supervised=replace(config.supervised, device=self.device))
        evaluation = evaluate(encoder, images, config, say)
        evaluation.tell(self.out)


@dataclass(frozen=True)
class Finetune:
    """Make a classifier from a run and the labels of the training images; writes another run folder.

    Attributes:
        run_: the run folder.
        data: labelled images; calibration and thresholds are chosen on their validation split and inside the training labels.
        out: folder of the classifier, or of the segmenter.
        tune: train the whole network further, not only a linear classifier on its features.
        views: drawn views of each image that are averaged in.
        facts: toml file with what the card should state: data_source, deidentification, reference_standard, intended_use, …
        seed: of folds, bootstrap samples and the order of fine-tuning; of a segmenter's initial weights and patches.
        device: cpu, cuda, cuda:1, …
        task: classify images, or segment them: the data then have masks, and without a run the network starts from scratch.
        recipe: of a segmenter: region, vessels, objects; that of a known set, or region, where none is given.
        steps: of training a segmenter.
        set: other settings of a segmenter's recipe, as key=value, such as reading.channel=green or train.lr=1e-3.
    """

    data: str
    out: Path
    run_: Annotated[Path | None, tyro.conf.arg(name="run")] = None
    tune: bool = False
    views: int = 0
    facts: Path | None = None
    seed: int = 0
    device: str = "cpu"
    task: Literal["classify", "segment"] = "classify"
    recipe: str | None = None
    steps: int | None = None
    set: tuple[str, ...] = ()

    def run(self) -> None:
        if self.task == "segment":
            from healthcare.segment_commands import finetune_segmenter

            finetune_segmenter(
                self.run_, self.data, self.out, self.recipe, self.steps, self.seed, self.device, self.set
            )  # fmt: skip
            return
        if self.run_ is None:
            from core.errors import UserError

            raise UserError("a classifier stands on a run", where="--run", mend="give the folder of pretrain")
        from healthcare.classifier import ImageClassifier
        from healthcare.clinical_card import Facts
        from healthcare.data import read
        from healthcare.estimators import ImageEncoder

        encoder = ImageEncoder.load(self.run_).on(self.device)
        if self.facts is not None:
            encoder.facts_ = Facts.read(self.facts)
        images = read(self.data, encoder.reading)
        classifier = ImageClassifier.on_top_of(encoder, self.tune, self.views, self.seed).fit(images)
        classifier.save(self.out)
        print(f"classifier of {', '.join(map(str, classifier.classes_))}: {self.out}")
        print(f"calibrated on {classifier.decision_.rows} held-out images; card: {self.out / 'card.md'}")


@dataclass(frozen=True)
class Predict:
    """Class probabilities of new images, as a csv for the data's owner; unusable images are listed beside it.

    Attributes:
        run_: folder of a classifier, from finetune.
        data: images; labels and splits, where given, are not used.
        out: csv file.
        coverage: say nothing on the least confident images, so that this share of held-out ones would be answered; 1: always answer.
        prevalence: of the second of two classes among these images, from 0 to 1, or `estimate`, from the images themselves.
        views: drawn views of each image that are averaged in; as the classifier was fitted where none is given.
        pseudonymise: replace the names of files by keyed hashes; the key is read from the environment variable TACIT_KEY.
        device: cpu, cuda, cuda:1, …
    """

    run_: Annotated[Path, tyro.conf.arg(name="run")]
    data: str
    out: Path = Path("predictions.csv")
    coverage: float | None = 0.9
    prevalence: str | None = None
    views: int | None = None
    pseudonymise: bool = False
    device: str = "cpu"

    def run(self) -> None:
        from core.tables import check_table, pseudonyms, write_table
        from healthcare.classifier import ImageClassifier
        from healthcare.data import read_new
        from healthcare.tables import predictions

        check_table(self.out, self.pseudonymise)
        prevalence = None if self.prevalence is None else _prevalence(self.prevalence)
        classifier = ImageClassifier.load(self.run_).on(self.device)
        classifier.views = classifier.views if self.views is None else self.views
        images = read_new(self.data, classifier.reading)
        table = predictions(classifier, images, prevalence, self.coverage)
        if self.pseudonymise:
            table["where"] = pseudonyms(table["where"])
        print(f"{len(images)} images: {write_table(table, self.out)}")
        print(f"low, high: {classifier.interval_means()}")
        if prevalence == "estimate":
            print(
                "probabilities: at the prevalence estimated from these images; right only if each class looks as in training"
            )
        if any(name.startswith("abstain") for name in table):
            silent = table.filter(like="abstain").to_numpy()
            print(f"abstains: {silent.mean():.1%} of the answers, {1 - (self.coverage or 1):.0%} of held-out ones")
        images.quarantine.tell(self.out.parent)


@dataclass(frozen=True)
class Embed:
    """Features of every image as parquet: `where`, then one column a feature.

    Attributes:
        run_: the run folder.
        data: images; labels and splits, where given, are not used.
        out: parquet file.
        pseudonymise: replace the names of files by keyed hashes; the key is read from the environment variable TACIT_KEY.
        device: cpu, cuda, cuda:1, …
    """

    run_: Annotated[Path, tyro.conf.arg(name="run")]
    data: str
    out: Path = Path("embeddings.parquet")
    pseudonymise: bool = False
    device: str = "cpu"

    def run(self) -> None:
        from core.tables import check_table, pseudonyms, write_table
        from healthcare.data import Images, read_new
        from healthcare.estimators import ImageEncoder
        from healthcare.tables import embeddings
        from healthcare.volumes import Volumes, open_volumes

        check_table(self.out, self.pseudonymise)
        encoder = ImageEncoder.load(self.run_).on(self.device)
        reading = encoder.reading
        if encoder.recipe_.patches:  # as it was trained: cube by cube
            images: Images | Volumes = open_volumes(self.data, reading.size, reading.limits)
        else:
            images = read_new(self.data, reading)
        table = embeddings(encoder, images)
        if self.pseudonymise:
            table["where"] = pseudonyms(table["where"])
        print(f"{len(images)} images: {write_table(table, self.out)}")
        images.quarantine.tell(self.out.parent)


@dataclass(frozen=True)
class Similar:
    """The most alike images of an archive for every new image, as a csv for the data's owner.

    Attributes:
        run_: a run folder, of an encoder or a classifier.
        data: new images.
        among: the archive: every usable image of it, its labels shown where it has any.
        out: csv or parquet file.
        k: similar cases an image.
        pseudonymise: replace the names of files by keyed hashes; the key is read from the environment variable TACIT_KEY.
        device: cpu, cuda, cuda:1, …
    """

    run_: Annotated[Path, tyro.conf.arg(name="run")]
    data: str
    among: str
    out: Path = Path("similar.csv")
    k: int = 5
    pseudonymise: bool = False
    device: str = "cpu"

    def run(self) -> None:
        from core.tables import check_table, pseudonyms, write_table
        from healthcare.data import read, read_new
        from healthcare.estimators import ImageEncoder
        from healthcare.tables import similar_cases

        check_table(self.out, self.pseudonymise)
        encoder = ImageEncoder.load(self.run_).on(self.device)
        images = read_new(self.data, encoder.reading)
        archive = read(self.among, encoder.reading)
        table = similar_cases(encoder, images, archive, self.k)
        if self.pseudonymise:
            table["where"], table["similar"] = pseudonyms(table["where"]), pseudonyms(table["similar"])
        print(
            f"{self.k} similar cases of each of {len(images)} images among {len(archive)}: {write_table(table, self.out)}"
        )
        images.quarantine.tell(self.out.parent, "quarantine-new.csv")
        archive.quarantine.tell(self.out.parent, "quarantine-archive.csv")


@dataclass(frozen=True)
class Explain:
    """Where a classifier looks: one overlay an image, a page, and whether the maps hang on what was learned.

    Grad-CAM for convolutional networks, relevance through attention for transformers. Maps are compared with those of networks whose
    weights were drawn anew (Adebayo et al. 2018), and what they mark is deleted, beside as much deleted at random.

    Attributes:
        run_: folder of a classifier, from finetune.
        data: images; labels and splits, where given, are not used.
        out: folder for explain.html, explain.json, maps.csv and a PNG an image.
        most: images that are shown, drawn with the seed.
        question: class or finding that is explained; the most probable one of each image where none is given.
        pseudonymise: replace the names of files in maps.csv by keyed hashes; the key is read from the environment variable TACIT_KEY.
        seed: of the images drawn and of the weights drawn anew.
        device: cpu, cuda, cuda:1, …
    """

    run_: Annotated[Path, tyro.conf.arg(name="run")]
    data: str
    out: Path
    most: int = 24
    question: str | None = None
    pseudonymise: bool = False
    seed: int = 0
    device: str = "cpu"

    writes_folder: ClassVar[bool] = True

    def run(self) -> None:
        from core.tables import check_table
        from healthcare.classifier import ImageClassifier
        from healthcare.data import read_new
        from healthcare.explain import explain

        check_table(self.out / "maps.csv", self.pseudonymise)
        classifier = ImageClassifier.load(self.run_).on(self.device)
        images = read_new(self.data, classifier.reading)
        found = explain(classifier, images, self.most, self.question, self.seed)
        print(f"{len(found.rows)} images: {found.write(self.out, self.pseudonymise)}")
        for line in found.lines():
            print(line)


def _prevalence(text: str) -> Literal["estimate"] | float:
    from core.errors import UserError

    if text == "estimate":
        return "estimate"
    try:
        return float(text)
    except ValueError:
        raise UserError(
            f"prevalence '{text}'", where="prevalence", mend="give a number from 0 to 1, or estimate"
        ) from None
