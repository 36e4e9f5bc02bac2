"""The parts of the report that are special to diagnosis: who was read, what leaked, and every drawing of healthcare.curves and
healthcare.gallery."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from core.evaluation import Section
from core.statistics import Estimate
from healthcare import curves, gallery
from healthcare.audit import MEANING
from healthcare.clinical_card import WARNING
from healthcare.data import Images
from healthcare.findings import Answers, target_of
from healthcare.guesses import EvaluationConfig, Guesses

if TYPE_CHECKING:
    from healthcare.estimators import ImageEncoder


def sections(
    encoder: ImageEncoder, images: Images, guesses: Guesses, config: EvaluationConfig, metrics: Mapping[str, Mapping[str, Estimate]]
) -> list[Section]:  # fmt: skip
    """All of them, in the report's order."""
    drawn = curves.Drawn.of(images.classes, guesses, config)
    found = [Section("Intended use", WARNING), cohort_section(images), leak_section(images)]
    if len(drawn.questions) > 1:
        found.append(curves.questions_section(drawn))
    found += [curves.roc_section(drawn), curves.precision_section(drawn)]
    if not drawn.several:
        found.append(curves.confusion_section(drawn))
    found += [curves.calibration_section(drawn), curves.abstention_section(drawn)]
    if any(points and points[0].points for points in drawn.points.values()):
        found.append(curves.point_section(drawn, metrics))
    test = images.select(images.rows("test", labelled=True))
    found.append(gallery.map_section(encoder, test))
    found.append(gallery.saliency_section(encoder, images, config))
    found.append(gallery.errors_section(test, drawn.draws["pretrained"][0], config.gallery))
    return found


def cohort_section(images: Images) -> Section:
    """Images and patients per split and class, and every reason for which some were set aside."""
    rows: list[tuple[object, ...]] = []
    for split in ("train", "val", "test"):
        part = images.select(images.rows(split))
        if not len(part):
            continue
        people = len(np.unique(part.patient)) if images.named_patients else "not named"
        rows.append((split, "all", len(part), people))
        target = target_of(part)
        if target.ndim == 2:
            for answers in Answers.of(target, images.classes):
                unknown = f", unknown in {answers.unknown}" if answers.unknown else ""
                rows.append((split, answers.name, f"there in {answers.there}, absent in {answers.absent}{unknown}", ""))
            continue
        for code in np.unique(target):
            own = part.patient[target == code]
            name = images.classes[code] if code >= 0 else "unlabelled"
            rows.append((split, name, len(own), len(np.unique(own)) if images.named_patients else "not named"))
    rows += [("set aside", reason, number, "") for reason, number in images.quarantine.counts().items()]
    text = " ".join(f"{line[0].upper()}{line[1:]}." for line in images.notes)
    return Section("Cohort", text, ("split", "class", "images", "patients"), tuple(rows))


def leak_section(images: Images) -> Section:
    """What the audit counted."""
    rows = tuple(
        (name.replace("_", " "), number, MEANING[name] if number else "")
        for name, number in images.audit.json().items()
    )
    text = (
        "Exact copies of an image of a later split were taken out of the earlier one before anything was learned; near copies were "
        "counted and stayed."
    )
    return Section("Leaks", text, ("what was looked for", "found", "what it means"), rows)
