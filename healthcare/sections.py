"""The parts of the report that are special to diagnosis: what was read, where the threshold lies, and the ROC curve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from core.evaluation import Section
from core.report import COLOURS, figure, svg
from healthcare.data import Images
from healthcare.metrics import SPECIFICITY, OperatingPoint

if TYPE_CHECKING:
    from healthcare.evaluation import Guesses


def sections(
    images: Images, guesses: Guesses, draws: Mapping[str, Sequence[NDArray]],
    points: Mapping[str, Sequence[OperatingPoint]], headline: float,
) -> list[Section]:  # fmt: skip
    """Data, and for two classes the ROC curves and the operating point."""
    found = [data_section(images)]
    if len(images.classes) == 2:
        found.append(roc_section(guesses, draws, headline))
        if points["pretrained"]:
            found.append(point_section(images, guesses, draws, points, headline))
    return found


def data_section(images: Images) -> Section:
    """Images per split and class, and every reason for which some were set aside."""
    rows = tuple((split, name, number) for split, table in images.counts().items() for name, number in table.items())
    reasons = tuple(("set aside", reason, number) for reason, number in images.quarantine.counts().items())
    audit = images.audit
    text = (
        f"{audit.surplus_copies} images repeat another one exactly; {audit.copies_across_splits} of them stood in a later "
        f"split as well and were taken out of the earlier one. {audit.conflicting_labels} images have a copy with another label. "
        + " ".join(f"{line[0].upper()}{line[1:]}." for line in images.notes)
    )
    return Section("What was read", text, ("split", "class", "images"), rows + reasons)


def roc_section(guesses: Guesses, draws: Mapping[str, Sequence[NDArray]], headline: float) -> Section:
    """ROC curve of every arm, of its first label draw."""
    drawing, axes = figure(4.2, 3.6)
    for (arm, scores), colour in zip(draws.items(), COLOURS, strict=False):
        false, true = roc(guesses.label == 1, scores[0][:, 1])
        axes.plot(false, true, color=colour, label=arm.replace("_", " "), linewidth=1.4)
    axes.axvline(1 - SPECIFICITY, color="#999999", linewidth=0.8, linestyle=":")
    axes.set_xlabel("1 − specificity")
    axes.set_ylabel("sensitivity")
    axes.legend(frameon=False)
    text = f"First label draw of {headline:.0%}; the dotted line is specificity {SPECIFICITY:.2f}."
    return Section("Sensitivity against specificity", text, svg=svg(drawing))


def point_section(
    images: Images, guesses: Guesses, draws: Mapping[str, Sequence[NDArray]],
    points: Mapping[str, Sequence[OperatingPoint]], headline: float,
) -> Section:  # fmt: skip
    """Sensitivity and specificity on the test images at the threshold that validation images gave."""
    rows = []
    for arm, chosen in points.items():
        pairs = list(zip(chosen, draws[arm], strict=False))
        sensitivity = [point.sensitivity(guesses.label, score) for point, score in pairs]
        specificity = [point.specificity(guesses.label, score) for point, score in pairs]
        rows.append((arm.replace("_", " "), f"{np.mean(sensitivity):.3f}", f"{np.mean(specificity):.3f}"))
    text = (
        f"The threshold gives specificity {SPECIFICITY:.2f} on validation images, of which never more are used than training "
        f"labels; means over label draws of {headline:.0%}. Where the test images come from elsewhere, their specificity "
        f"is another: see the last column before trusting the threshold. Positive means '{images.classes[1]}'."
    )
    return Section("Operating point", text, ("arm", "sensitivity", "specificity on test images"), tuple(rows))


def roc(target: NDArray[np.bool_], score: NDArray[np.float64]) -> tuple[NDArray, NDArray]:
    """Share of false and of true positives at every threshold, from (0, 0) to (1, 1)."""
    order = np.argsort(-score, kind="stable")
    last = np.append(np.flatnonzero(np.diff(score[order])), len(order) - 1)
    hits = np.append(0, np.cumsum(target[order])[last])
    misses = np.append(0, np.cumsum(~target[order])[last])
    return misses / max(1, misses[-1]), hits / max(1, hits[-1])
