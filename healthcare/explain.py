"""The verb explain: overlays for the data's owner, one page, and the checks of whether to believe them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from core.errors import UserError
from core.evaluation import Section
from core.files import whole_folder
from core.report import page, svg
from core.statistics import mean_interval
from core.tables import pseudonyms, write_table
from healthcare.classifier import ImageClassifier
from healthcare.clinical_card import WARNING
from healthcare.data import Images
from healthcare.gallery import lines, middle, pictures, plane
from healthcare.saliency import Checked, check

ENLARGED = 224  # pixels a side of an overlay, at least
FILES = ("explain.html", "explain.json", "maps.csv", "overlays")


@dataclass(frozen=True)
class Explained:
    """Maps of some images, with their checks; `rows` are their numbers."""

    classes: tuple[str, ...]
    images: Images
    rows: NDArray[np.int64]
    checked: Checked

    def lines(self) -> list[str]:
        """What the checks say."""
        return lines(self.checked)

    def table(self) -> pd.DataFrame:
        """For the data's owner: the overlay's file, which image it is, what is explained, and its checks."""
        found = self.checked
        return pd.DataFrame(
            {
                "file": [f"overlays/{number:04d}.png" for number in range(len(self.rows))],
                "where": self.images.where,
                "explained": [self.classes[c] for c in found.column],
                "probability": found.probability.round(6),
                "like_other_heads": found.heads.round(4), "like_other_network": found.whole.round(4),
                "drop": found.drop.round(6), "drop_at_random": found.random.round(6),
            }
        )  # fmt: skip

    def write(self, out: Path, pseudonymise: bool = False) -> Path:
        """Write explain.html, explain.json, maps.csv and overlays/; returns the page's path.

        Args:
            pseudonymise: replace the images' names in maps.csv by keyed hashes.

        Raises:
            UserError: a place that cannot be written, one that holds something else, or no key to hash with.
        """
        others = {path.name for path in out.iterdir()} - set(FILES) if out.is_dir() else set()
        if out.is_file() or others:
            raise UserError("that place holds something else", where=out, mend="give another --out")
        found = self.checked
        titles = [f"{self.classes[c]} {p:.2f}" for c, p in zip(found.column, found.probability, strict=True)]
        text = " ".join(self.lines())
        shown = Section("Overlays", "", svg=svg(pictures(self.images.pixels, titles, found.maps)))
        plain = Section("The same images", "", svg=svg(pictures(self.images.pixels, titles)))
        sums = {
            "images": len(self.rows),
            "like_other_heads": _estimate(found.heads), "like_other_network": _estimate(found.whole),
            "drop": _estimate(found.drop), "drop_at_random": _estimate(found.random),
            "drop_beyond_chance": _estimate(found.drop - found.random),
        }  # fmt: skip
        with whole_folder(out, "the explanation") as folder:
            (folder / "overlays").mkdir()
            for number, (image, over) in enumerate(zip(self.images.pixels, found.maps, strict=True)):
                overlay(image, over).save(folder / "overlays" / f"{number:04d}.png")
            table = self.table()
            if pseudonymise:
                table["where"] = pseudonyms(table["where"])
            write_table(table, folder / "maps.csv")
            (folder / "explain.json").write_text(json.dumps(sums, indent=1) + "\n", encoding="utf-8")
            html = page("Where the classifier looks", WARNING, [Section("Can it be believed?", text), shown, plain])
            (folder / "explain.html").write_text(html, encoding="utf-8")
        return out / "explain.html"


def explain(
    classifier: ImageClassifier, images: Images, most: int = 24, question: str | None = None, seed: int = 0
) -> Explained:
    """Maps of up to `most` images, drawn at random, and the checks.

    Args:
        question: class or finding that is explained; None: the most probable of each image.

    Raises:
        UserError: fewer than one image asked for, or a class that is not known.
    """
    classes = tuple(map(str, classifier.classes_))
    if most < 1:
        raise UserError(f"{most} images", where="most", mend="ask for 1 or more")
    if question is not None and question not in classes:
        raise UserError(f"no class '{question}'", where="question", mend=f"choose from {', '.join(classes)}")
    rows = np.sort(np.random.default_rng(seed).permutation(len(images))[:most])
    some = images.select(rows)
    column = None if question is None else np.full(len(rows), classes.index(question))
    return Explained(classes, some, rows, check(classifier, some.pixels, column, seed))


def overlay(image: NDArray[np.float32], over: NDArray[np.float32]):
    """A PIL image: the picture, the middle slice of a volume, with the map in colours laid over it."""
    import matplotlib
    from PIL import Image

    flat = plane(image)
    grey = flat if flat.ndim == 3 else np.repeat(flat[..., None], 3, 2)
    colours = matplotlib.colormaps["inferno"](middle(over))[..., :3]
    mixed = Image.fromarray((np.clip(0.6 * grey + 0.4 * colours, 0, 1) * 255).astype(np.uint8))
    times = max(1, -(-ENLARGED // max(mixed.size)))
    return mixed.resize((mixed.width * times, mixed.height * times), Image.Resampling.NEAREST)


def _estimate(values: NDArray[np.float64]) -> dict[str, float] | None:
    finite = values[np.isfinite(values)]
    return mean_interval(finite).json() if len(finite) else None
