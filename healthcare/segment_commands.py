"""The commands that deal with masks; those that serve other tasks too call the functions here."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from core.cli import say

if TYPE_CHECKING:
    from healthcare.masks import MaskedImages
    from healthcare.segmenter import Segmenter


@dataclass(frozen=True)
class Segment:
    """Masks of new images: a PNG each, and a csv of areas and counts for the data's owner; unusable images are listed beside it.

    Attributes:
        run_: folder of a segmenter, from finetune --task segment.
        data: a folder of images, one image, a manifest csv, or a known name (drive, dsb2018_nuclei_256); masks are not used.
        out: folder; what another segment wrote there is replaced.
        device: cpu, cuda, cuda:1, …
    """

    run_: Annotated[Path, tyro.conf.arg(name="run")]
    data: str
    out: Path
    device: str = "cpu"

    def run(self) -> None:
        from healthcare.masks import read_plain
        from healthcare.segmenter import Segmenter

        segmenter = Segmenter.load(self.run_).on(self.device)
        images = read_plain(self.data, segmenter.recipe_.reading)
        write_masks(segmenter, images, self.out)
        print(f"{len(images)} masks, and masks.csv: {self.out}")
        if len(images.quarantine):
            print(f"{images.quarantine.summary()}; each with its reason: {self.out / 'quarantine.csv'}")


def write_masks(segmenter: Segmenter, images: MaskedImages, out: Path) -> None:
    """`masks/NAME.png` of every image, `masks.csv` and `quarantine.csv`, as one folder, whole or not at all.

    A region is 255; objects carry their numbers, in 16 bits.

    Raises:
        UserError: a folder that holds something else, or a place that cannot be written.
    """
    import numpy as np
    import pandas as pd
    from PIL import Image

    from core.errors import UserError
    from core.files import whole_folder
    from core.quarantine import csv_safe

    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / "masks.csv").is_file())):
        raise UserError("that place holds something else", where=out, mend="give another --out")
    rows = []
    with whole_folder(out, "the masks") as folder:
        (folder / "masks").mkdir()
        for row in range(len(images)):  # one at a time: maps of all images would fill the memory
            some = images.select(np.array([row]))
            mask = segmenter.predict(some)[0]
            name = f"{row + 1:05d}-{re.sub(r'[^A-Za-z0-9]+', '-', str(images.where[row]))[-60:].strip('-')}.png"
            values = mask.astype(np.uint16) if segmenter.objects_ else (mask * 255).astype(np.uint8)
            Image.fromarray(values).save(folder / "masks" / name)
            inside, marked = int(some.inside(0).sum()), int((mask > 0).sum())
            line = {
                "where": images.where[row],
                "mask": f"masks/{name}",
                "pixels": marked,
                "share": round(marked / inside, 6),
            }
            if segmenter.objects_:
                count = int(mask.max())
                line |= {"objects": count, "mean_pixels": round(marked / count, 1) if count else 0.0}
            rows.append(line)
        pd.DataFrame(rows).map(csv_safe).to_csv(folder / "masks.csv", index=False)
        if len(images.quarantine):
            images.quarantine.write(folder / "quarantine.csv")


def check_masks(data: str, out: Path) -> int:
    """Read every image and mask, say what is wrong and where; 1 where nothing usable is left, or a patient is in two splits."""
    from healthcare.masks import scan_masks
    from healthcare.segment_recipes import segment_recipe

    images = scan_masks(data, segment_recipe(data).reading)
    if not len(images) and len(other := scan_masks(data, segment_recipe(data, "objects").reading)):
        print("masks number objects: segment them with --recipe objects")
        images = other
    for split in ("train", "val", "test"):
        print(f"{split}: {len(images.rows(split))} images, {len(images.rows(split, annotated=True))} with masks")
    for line in images.notes:
        print(line)
    print(images.quarantine.summary())
    images.quarantine.tell(out)
    torn = images.torn()
    print(f"patients in two splits: {torn}")
    return 1 if not len(images) or torn else 0


def finetune_segmenter(
    run: Path | None, data: str, out: Path, recipe_name: str | None, steps: int | None, seed: int, device: str,
    changes: Sequence[str],
) -> None:  # fmt: skip
    """Train a segmenter on a run's encoder, or from scratch where there is none, and save it."""
    from core.config import settings
    from healthcare.estimators import ImageEncoder
    from healthcare.masks import read_masks
    from healthcare.segment_recipes import segment_recipe
    from healthcare.segmenter import Segmenter

    recipe = settings(segment_recipe(data, recipe_name, steps, seed, device), changes)
    images = read_masks(data, recipe.reading)
    say(f"{len(images.rows('train', annotated=True))} annotated training images; {images.quarantine.summary()}")
    segmenter = Segmenter(recipe) if run is None else Segmenter.on_top_of(ImageEncoder.load(run), recipe)
    segmenter.fit(images, out=out, note=say).save(out)
    print(f"segmenter of {recipe.name}: {out}")


def evaluate_segmenter(
    run: Path, data: str, out: Path, recipe_name: str | None, steps: int | None, draws: int, device: str
) -> None:
    """What a run's encoder is worth with few annotated images; writes evaluation.json and report.html."""
    from healthcare.estimators import ImageEncoder
    from healthcare.masks import read_masks
    from healthcare.segment_recipes import segment_recipe
    from healthcare.segmentation_report import Few, evaluate_masks

    recipe = segment_recipe(data, recipe_name, steps, device=device)
    encoder = ImageEncoder.load(run)
    evaluation = evaluate_masks(encoder, read_masks(data, recipe.reading), recipe, Few(draws=draws), say)
    evaluation.tell(out)
