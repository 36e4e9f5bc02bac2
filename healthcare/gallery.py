"""Pictures of the report: the map of the features, where the classifier looks, and the worst errors. No image is named."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from core.evaluation import Section
from core.report import COLOURS, figure, svg, worded
from core.statistics import mean_interval
from healthcare.data import Images
from healthcare.findings import subset, target_of

if TYPE_CHECKING:
    from healthcare.estimators import ImageEncoder
    from healthcare.guesses import EvaluationConfig
    from healthcare.saliency import Checked

MAPPED = 800  # images on the map
ACROSS = 6  # pictures in a row


def map_section(encoder: ImageEncoder, images: Images, seed: int = 0) -> Section:
    """The two first principal components of the features, coloured by class, or by the commonest finding."""
    from sklearn.decomposition import PCA

    title = "Map of the features"
    if len(images) < 10:
        return Section(title, f"{len(images)} test images are too few for a map.")
    chosen = np.sort(np.random.default_rng(seed).permutation(len(images))[:MAPPED])
    some = images.select(chosen)
    features = encoder.transform(some)
    scale = features.std(0)
    pca = PCA(2, random_state=seed).fit((features - features.mean(0)) / np.where(scale > 1e-9, scale, 1))
    place = pca.transform((features - features.mean(0)) / np.where(scale > 1e-9, scale, 1))
    kind, names = _kinds(some)
    drawing, axes = figure(5.0, 4.0)
    for code, name in enumerate(names):
        inside = kind == code
        marker = "o" if code < len(COLOURS) else "^"
        axes.scatter(
            *place[inside].T, s=8, color=COLOURS[code % len(COLOURS)], marker=marker, linewidths=0, label=worded(name)
        )
    axes.set_xticks([])
    axes.set_yticks([])
    axes.legend(frameon=False, fontsize=8)
    share = pca.explained_variance_ratio_.sum()
    text = (
        f"{len(some)} labelled test images by two principal components of their frozen features, which hold {share:.0%} of the "
        "variance. Labels are for the colours alone."
    )
    return Section(title, text, svg=svg(drawing))


def saliency_section(encoder: ImageEncoder, images: Images, config: EvaluationConfig) -> Section:
    """Test images with what spoke for the answer, of a regression on the labels of the first draw."""
    from healthcare.classifier import ImageClassifier
    from healthcare.linear import fit_linear
    from healthcare.saliency import check

    train, test = (images.rows(split, labelled=True) for split in ("train", "test"))
    target = target_of(images)
    rows = train[subset(target[train], config.headline, 0)]
    groups = images.patient[rows] if images.named_patients else None
    linear = fit_linear(encoder.labelled(images.select(rows)), target[rows], len(images.classes), groups)
    classifier = ImageClassifier.made(encoder, images.classes, linear)
    drawn = np.sort(np.random.default_rng(0).permutation(test)[: config.gallery])
    if not len(drawn):
        return Section("Where it looks", "No image was asked for.")
    some = images.select(drawn)
    found = check(classifier, some.pixels)
    titles = [f"{classifier.classes_[c]} {p:.2f}" for c, p in zip(found.column, found.probability, strict=True)]
    drawing = pictures(some.pixels, titles, found.maps)
    return Section("Where it looks", " ".join(lines(found)), svg=svg(drawing))


def lines(found: Checked) -> list[str]:
    """What the two checks say, in sentences."""
    said = []
    for name, values in (("a linear layer", found.heads), ("a whole network", found.whole)):
        flat = int((~np.isfinite(values)).sum())
        finite = values[np.isfinite(values)]
        if not len(finite):
            said.append(
                f"Every map, or every one for {name} of weights drawn anew, is flat: there is nothing to compare."
            )
            continue
        estimate = mean_interval(finite)
        verdict = ""
        if name == "a whole network":
            verdict = (
                ": the maps hang on what was learned" if estimate.high < 0.5 else ": too alike, do not trust these maps"
            )
        gone = f" ({flat} flat maps left out)" if flat else ""
        said.append(f"Rank correlation with the maps of {name} of weights drawn anew: {estimate}{gone}{verdict}.")
    more = mean_interval(found.drop - found.random)
    verdict = (
        "the marked places matter" if more.low > 0 else "not measurably more than chance: do not lean on these maps"
    )
    said.append(
        f"Deleting the most marked fifth of an image costs {found.drop.mean():.3f} of the probability, a fifth at random places "
        f"{found.random.mean():.3f}; difference {more}: {verdict}."
    )
    return said


def errors_section(images: Images, score: NDArray[np.float64], most: int) -> Section:
    """The test images whose wrong answer was surest."""
    target = target_of(images)
    if target.ndim == 1:
        said, every = score.argmax(1), np.arange(len(score))
        sure = np.where(said != target, score[every, said], -1.0)
        rows = np.argsort(-sure, kind="stable")[:most]
        rows = rows[sure[rows] >= 0]
        titles = [f"{images.classes[target[r]]}, said\n{images.classes[said[r]]} {sure[r]:.2f}" for r in rows]
        count = int((sure >= 0).sum())
    else:
        gap = np.where(target >= 0, np.abs(score - target), 0.0)
        wrong, column = gap.max(1), gap.argmax(1)
        rows = np.argsort(-wrong, kind="stable")[:most]
        rows = rows[wrong[rows] > 0.5]
        words = ("absent", "there")
        titles = [
            f"{images.classes[column[r]]} {words[target[r, column[r]]]},\nsaid {score[r, column[r]]:.2f}" for r in rows
        ]
        count = int((wrong > 0.5).sum())
    if not len(rows):
        return Section("Worst errors", "No test image was answered wrongly by the first label draw.")
    text = f"{len(rows)} of {count} test images answered wrongly, the surest first: the truth, what was said and its probability."
    return Section("Worst errors", text, svg=svg(pictures(images.pixels[rows], titles)))


def pictures(pixels: NDArray[np.float32], titles: Sequence[str], maps: NDArray[np.float32] | None = None) -> Any:
    """A matplotlib figure of images (N, C, …), middle slices of volumes, with maps (N, …) laid over them."""
    from matplotlib.figure import Figure

    down = math.ceil(len(pixels) / ACROSS)
    drawing = Figure(figsize=(1.5 * ACROSS, 1.85 * down), layout="constrained")
    cells = np.atleast_1d(drawing.subplots(down, ACROSS, squeeze=False)).ravel()
    for cell in cells:
        cell.set_axis_off()
    for cell, image, title in zip(cells, pixels, titles, strict=False):
        cell.imshow(plane(image), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        cell.set_title(worded(title), fontsize=7)
    for cell, over in zip(cells, maps if maps is not None else (), strict=False):
        cell.imshow(middle(over), cmap="inferno", alpha=0.45, vmin=0, vmax=1, interpolation="bilinear")
    return drawing


def plane(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """(C, H, W) or (C, D, H, W) as what is shown: (H, W), or (H, W, 3) of colour; of a volume the middle slice."""
    flat = image[:, image.shape[1] // 2] if image.ndim == 4 else image
    return flat.transpose(1, 2, 0) if len(flat) == 3 else flat.mean(0)


def middle(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """(H, W) of a map (H, W) or (D, H, W)."""
    return values[len(values) // 2] if values.ndim == 3 else values


def _kinds(images: Images) -> tuple[NDArray[np.int64], Sequence[str]]:
    target = target_of(images)
    if target.ndim == 1:
        return target, images.classes
    commonest = int((target == 1).sum(0).argmax())
    name = images.classes[commonest]
    return np.where(target[:, commonest] < 0, 2, 1 - target[:, commonest]), (name, f"no {name}", f"{name} unknown")
