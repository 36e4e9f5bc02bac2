"""The commands of healthcare. Each is a frozen dataclass; heavy libraries are imported when a command runs, not before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from core.cli import main as run_commands
from core.cli import say
from core.verbs import export_of
from healthcare.segment_commands import Segment
from healthcare.verbs import Embed, Evaluate, Explain, Finetune, Predict, Similar


@dataclass(frozen=True)
class Synth:
    """Generate X-ray-like images or CT-like volumes with planted lesions, of patients with one to four images each.

    Attributes:
        out: folder.
        size: images.
        seed: equal seeds give equal files.
        format: one npz with MedMNIST's keys, or PNG files (NIfTI of volumes) with a manifest.csv; or, for segmentation, images with
            masks of numbered objects or of vessels.
        pixels: side of an image.
        dims: 2 for images, 3 for volumes.
    """

    out: Path
    size: int = 2400
    seed: int = 0
    format: Literal["npz", "manifest", "objects", "vessels"] = "npz"
    pixels: int = 28
    dims: int = 2

    def run(self) -> None:
        if self.format in ("objects", "vessels"):
            from healthcare.synthetic_masks import SceneConfig, write_scenes

            scenes = SceneConfig(self.format, self.size, self.pixels, self.pixels)
            print(f"{self.size} images with masks: {write_scenes(self.out, scenes, self.seed)}")
            return
        from healthcare.synthetic import CohortConfig, write

        form: Literal["npz", "manifest"] = "manifest" if self.format == "manifest" else "npz"
        path = write(self.out, CohortConfig(images=self.size, size=self.pixels, dims=self.dims), self.seed, form)
        print(f"{self.size} images: {path}")


@dataclass(frozen=True)
class Check:
    """Read every image, say what is wrong and where, look for leaks; exit 1 where nothing usable is left, or on a leak.

    Attributes:
        data: npz, manifest csv, folder of images or DICOM files, folder that prepare wrote, or a known name (pneumoniamnist,
            dsb2018_nuclei_256, brain_tumor_mri_64, drive); of images with masks, the masks are checked too.
        out: folder for quarantine.csv, and for copies.csv where images repeat others.
        size: side to which images are resized, in pixels; 28 where none is given, or what data was prepared with.
        set: other settings of reading, as key=value, such as dims=3, window=lung, frame=0 or colour=true.
    """

    data: str
    out: Path = Path(".")
    size: int | None = None
    set: tuple[str, ...] = ()

    def run(self) -> int:
        from healthcare.checking import check
        from healthcare.masks import has_masks

        if has_masks(self.data):
            from healthcare.segment_commands import check_masks

            return check_masks(self.data, self.out)
        return check(self.data, self.size, self.set, self.out)


@dataclass(frozen=True)
class Prepare:
    """Read, check and split data once; writes a folder that every other command takes as --data, with its split and quarantine.csv.

    Attributes:
        data: npz, manifest csv, folder of images or DICOM files, or a known name.
        out: folder to write; what an earlier prepare left there is replaced.
        size: side to which images are resized, in pixels.
        seed: of the division of patients into train, val and test, where the data names no split.
        set: other settings of reading, as key=value, such as dims=3, window=lung, frame=0 or colour=true.
    """

    data: str
    out: Path
    size: int = 28
    seed: int = 0
    set: tuple[str, ...] = ()

    def run(self) -> None:
        from core.config import settings
        from healthcare.data import read
        from healthcare.prepared import prepare
        from healthcare.readers import Reading

        reading = settings(Reading(size=self.size, split_seed=self.seed), self.set)
        images = read(self.data, reading)
        print(f"{len(images)} images: {prepare(images, reading, self.out)}")
        images.quarantine.tell(self.out)
        for line in images.notes:
            print(line)


@dataclass(frozen=True)
class Pretrain:
    """Learn from the training images without labels and write a run folder.

    Attributes:
        data: npz, manifest csv, folder of images, or a known name (pneumoniamnist, dsb2018_nuclei_256).
        out: the run folder; an interrupted run of the same settings goes on where it stopped.
        method: views agree: simclr moco byol simsiam barlow vicreg swav dino deepcluster; images of one patient: micle; hidden
            patches: mae data2vec; damage is repaired: restore denoise vae, colours too: colour; puzzles: rotation jigsaw position.
        minutes: wall time; or
        steps: optimizer steps. The recipe's own minutes where neither is given.
        seed: of initial weights, order and views.
        device: cpu, cuda, cuda:1, …
        set: other settings of the recipe, as key=value, such as reading.size=64 or train.lr=1e-3. With patches=64, `data` are large
            volumes (.npy, .nii, .nii.gz), each epoch 64 random cubes of reading.size voxels a side of each.
    """

    data: str
    out: Path
    method: str = "simclr"
    minutes: float | None = None
    steps: int | None = None
    seed: int = 0
    device: str = "cpu"
    set: tuple[str, ...] = ()

    def run(self) -> None:
        from core.config import settings
        from healthcare.estimators import ImageEncoder
        from healthcare.patches import training_images
        from healthcare.presets import preset

        recipe = settings(preset(self.method, self.minutes, self.steps, self.seed, self.device), self.set)
        encoder = ImageEncoder(recipe)
        if recipe.patches:
            from healthcare.volumes import open_volumes

            volumes = open_volumes(self.data, recipe.reading.size, recipe.reading.limits)
            say(f"{recipe.patches} cubes an epoch of {len(volumes)} volumes; {volumes.quarantine.summary()}")
            encoder.fit(volumes, out=self.out, note=say)
        else:
            images = training_images(self.data, recipe)
            say(f"{len(images.rows('train'))} training images; {images.quarantine.summary()}")
            encoder.fit(images, out=self.out, note=say)
        encoder.save(self.out)
        print(f"run: {self.out}")


@dataclass(frozen=True)
class BenchCommand:
    """The benchmark: ours, floors and published figures; with --only methods, whether every method learns.

    Resumable by (test, seed): what was measured before is not measured again.

    Attributes:
        only: one test: pneumonia-1, -10, -100 (labels in %), -tuned, -gain, calibration, similar, published; methods and smoke, a
            short end-to-end check, run only when named.
        minutes: of pretraining, each seed, in the place of a number of steps; of methods, in the place of 64,000 images.
        steps: of pretraining, each seed.
        out: folder for parts and results.json.
        seeds: pretraining seeds.
        data: another data set of two classes; pneumoniamnist, and for methods dsb2018_nuclei_256 too, where none is given.
        methods: which, for --only methods; all where none is given.
    """

    only: str | None = None
    minutes: float | None = None
    steps: int | None = None
    out: Path = Path("bench/healthcare")
    seeds: int = 3
    data: str | None = None
    methods: tuple[str, ...] = ()

    def run(self) -> int:
        from healthcare.benchmark import bench

        return bench(self.only, self.minutes, self.out, self.seeds, self.data, self.methods, self.steps)


def main(argv: Sequence[str] | None = None) -> None:
    """The command line `tacit-healthcare`."""
    commands = {
        "synth": Synth, "check": Check, "prepare": Prepare, "pretrain": Pretrain, "evaluate": Evaluate, "finetune": Finetune,
        "predict": Predict, "segment": Segment, "embed": Embed, "similar": Similar, "explain": Explain,
        "export": export_of("healthcare.estimators:ImageEncoder"), "bench": BenchCommand,
    }  # fmt: skip
    run_commands("healthcare", commands, "Self-supervised learning on medical images.", argv)
