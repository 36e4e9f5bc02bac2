"""Parts of the report on masks: what was read, outlines over images, and how the test images differ. No names stand in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from core.evaluation import Section
from core.report import COLOURS, figure, svg
from healthcare.masks import MaskedImages
from healthcare.segmentation import Judged, truth_of

SHOWN = 4  # images of the gallery
SIDE = 192  # pixels of its pictures: a whole fundus image would make the page heavy

Curves = Mapping[str, Mapping[int, Sequence[Judged]]]


def sections(
    data: MaskedImages, test: MaskedImages, judged: Curves, headline: int, observer: Judged | None
) -> list[Section]:  # fmt: skip
    """What was read, the gallery, and the distribution over test images."""
    ours, scratch = judged["pretrained"][headline][0], judged["scratch"][headline][0]
    found = [read_section(data), gallery(test, ours), distribution(ours, scratch, observer)]
    if observer is not None:
        found.append(observer_section(ours, observer))
    return found


def read_section(data: MaskedImages) -> Section:
    """Images by split, how many are annotated, and every reason for which some were set aside."""
    rows: list[tuple[object, ...]] = [
        (split, len(data.rows(split)), len(data.rows(split, annotated=True))) for split in ("train", "val", "test")
    ]
    rows += [("set aside", number, reason) for reason, number in data.quarantine.counts().items()]
    sides = sorted({image.shape[1:] for image in data.images})
    sizes = " × ".join(map(str, sides[0][::-1])) if len(sides) == 1 else f"{len(sides)} sizes"
    text = f"Images of {sizes} pixels, {data.channels} channel{'s' * (data.channels > 1)}. " + " ".join(
        f"{n}." for n in data.notes
    )
    return Section("What was read", text.strip(), ("split", "images", "annotated, or the reason"), tuple(rows))


def gallery(test: MaskedImages, judged: Judged) -> Section:
    """The worst, the best and middling test images, with outlines of truth and prediction."""
    score = np.array([m.precision for m in judged.matches]) if judged.matches is not None else judged.pixels.dice
    order = np.argsort(score, kind="stable")
    picked = order[np.unique(np.linspace(0, len(order) - 1, SHOWN).round().astype(int))]
    from matplotlib.figure import Figure

    drawing = Figure(figsize=(1.9 * len(picked), 4.0), layout="constrained")
    axes = drawing.subplots(2, len(picked), squeeze=False)
    for column, row in enumerate(picked):
        place = middle(test, int(row))
        image = test.images[int(row)][:, *place]
        truth, guess = truth_of(test, int(row))[place], judged.masks[int(row)][place]
        for line in range(2):
            axes[line, column].imshow(image.mean(0), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            axes[line, column].set_axis_off()
        for mask, colour in ((truth, COLOURS[3]), (guess, COLOURS[0])):
            axes[1, column].contour(outlined(mask), levels=[0.5], colors=[colour], linewidths=0.6)
        axes[0, column].set_title(f"{score[row]:.2f}", fontsize=8)
    text = (
        "Test images from the worst to the best, their middle part; above each stands its score. Below, outlines: "
        "the truth in yellow, the prediction in green."
    )
    return Section("Predictions", text, svg=svg(drawing))


def middle(data: MaskedImages, row: int) -> tuple[slice, slice]:
    """A square in the middle of the field of view."""
    seen = data.inside(row)
    height, width = seen.shape
    rows, columns = np.nonzero(seen)
    places = []
    for length, centre in ((height, int(rows.mean())), (width, int(columns.mean()))):
        start = min(max(0, centre - SIDE // 2), max(0, length - SIDE))
        places.append(slice(start, min(length, start + SIDE)))
    return places[0], places[1]


def outlined(mask: NDArray) -> NDArray[np.float64]:
    """The mask as 0 and 1, with a seam of 0 between touching objects, so that each has an outline."""
    region = (mask > 0).astype(float)
    for axis in (0, 1):
        before, after = (
            np.take(mask, range(mask.shape[axis] - 1), axis),
            np.take(mask, range(1, mask.shape[axis]), axis),
        )
        seam = (before != after) & (before > 0) & (after > 0)
        region[(slice(None),) * axis + (slice(0, -1),)][seam] = 0
    return region


def distribution(ours: Judged, scratch: Judged, observer: Judged | None) -> Section:
    """Dice of every test image, each arm beside the other."""
    arms = [("pretrained", ours), ("scratch", scratch), *([("second observer", observer)] if observer else [])]
    drawing, axes = figure(height=0.8 + 0.5 * len(arms))
    for place, (_, judged) in enumerate(arms):
        dice = np.sort(judged.pixels.dice)
        offset = (np.arange(len(dice)) % 5 - 2) * 0.06
        axes.plot(dice, place + offset, "o", color=COLOURS[place], markersize=3, alpha=0.6)
        axes.plot([np.median(dice)] * 2, [place - 0.25, place + 0.25], color=COLOURS[place], linewidth=2)
    axes.set_yticks(range(len(arms)), [name for name, _ in arms])
    axes.set_xlabel("dice of each test image; the line is the median")
    return Section("Every test image", "First draw of annotated images.", svg=svg(drawing))


def observer_section(ours: Judged, observer: Judged) -> Section:
    """How often the segmenter agrees better with the first observer than the second one does."""
    better = int((ours.pixels.dice > observer.pixels.dice).sum())
    text = (
        f"On {better} of {len(ours.masks)} test images the prediction is nearer to the first observer's mask than the second "
        "observer's is. A person's agreement with another is the scale on which a dice should be read."
    )
    return Section("The second observer", text)
