"""How good masks are: dice, distance of outlines, objects found, and how pixels rank inside the field of view."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from core.statistics import Estimate, resamples
from healthcare.instances import Matches, Parting, flooded, match, measured, overlap_of, overlaps
from healthcare.masks import MaskedImages

LEVELS = 4096  # probabilities are counted at so many levels: an auroc over all pixels is then a sum over images
GRID = np.arange(0.2, 0.81, 0.02)  # thresholds that are compared for a region
INSIDE, RISES, LEAST = (0.4, 0.5, 0.6), (0.03, 0.06, 0.1, 0.15), (8, 14, 20, 30)  # of partings, as those of `Parting`
SURE = (0.0, *np.arange(0.6, 0.925, 0.05).round(2).tolist())
RESAMPLES = 1000
Masks = Sequence[NDArray]


def dice_of(hits: NDArray, called: NDArray, true: NDArray) -> NDArray[np.float64]:
    """2 · hits ÷ (called + true); 1 where there was nothing to find and nothing was called."""
    total = np.asarray(called, float) + true
    return np.where(total > 0, 2 * np.asarray(hits, float) / np.maximum(total, 1), 1.0)


@dataclass(frozen=True)
class PixelCounts:
    """Pixels inside the field of view of each of N images.

    Attributes:
        hits, called, true: (N,) pixels marked rightly, marked at all, and to be marked.
    """

    hits: NDArray[np.int64]
    called: NDArray[np.int64]
    true: NDArray[np.int64]

    @classmethod
    def of(cls, data: MaskedImages, guess: Masks) -> PixelCounts:
        """Of masks (H, W) of the images, 0 outside."""
        rows = []
        for truth, values in inside(data, guess):
            called = values > 0
            rows.append(((truth & called).sum(), called.sum(), truth.sum()))
        return cls(*np.array(rows, np.int64).reshape(-1, 3).T)

    @property
    def dice(self) -> NDArray[np.float64]:
        """(N,) of each image."""
        return dice_of(self.hits, self.called, self.true)

    def pooled(self, rows: NDArray) -> float:
        """Dice of the pixels of these images together, as papers on vessels give it."""
        return float(dice_of(self.hits[rows].sum(), self.called[rows].sum(), self.true[rows].sum()))


@dataclass(frozen=True)
class Ranking:
    """How probabilities rank the pixels of each image: (N, levels) counts of pixels to be marked, and of the others."""

    true: NDArray[np.int64]
    false: NDArray[np.int64]

    @classmethod
    def of(cls, data: MaskedImages, probability: Masks) -> Ranking:
        """Of probabilities (H, W) of the images, inside their fields of view."""
        pairs = []
        for truth, p in inside(data, probability):
            level = np.clip((p * LEVELS).astype(np.int64), 0, LEVELS - 1)
            pairs.append([np.bincount(level[kind], minlength=LEVELS) for kind in (truth, ~truth)])
        both = np.array(pairs, np.int64).reshape(-1, 2, LEVELS)
        return cls(both[:, 0], both[:, 1])

    def auroc(self, rows: NDArray) -> float:
        """Area under the ROC curve of all pixels of these images together; pixels of one level count one half."""
        true, false = self.true[rows].sum(0), self.false[rows].sum(0)
        if not true.sum() or not false.sum():
            return float("nan")
        below = np.cumsum(false) - false
        return float((true * (below + 0.5 * false)).sum() / (true.sum() * false.sum()))

    def dice(self) -> NDArray[np.float64]:
        """(levels,) dice of all pixels together, were everything from that level on marked."""
        true, false = self.true.sum(0), self.false.sum(0)
        hits, called = np.cumsum(true[::-1])[::-1], np.cumsum((true + false)[::-1])[::-1]
        return dice_of(hits, called, true.sum())


def truth_of(data: MaskedImages, row: int) -> NDArray[np.int32]:
    """The mask of an image.

    Raises:
        ValueError: an image without one.
    """
    mask = data.masks[row]
    if mask is None:
        raise ValueError("an image without a mask cannot be judged")
    return mask


def inside(data: MaskedImages, guess: Masks) -> Iterator[tuple[NDArray[np.bool_], NDArray]]:
    """Of each image, what its mask marks and what was guessed (H, W), at the pixels (P,) of its field of view."""
    for row, values in enumerate(guess):
        seen = data.inside(row)
        yield truth_of(data, row)[seen] > 0, np.asarray(values)[seen]


def hd95(truth: NDArray, guess: NDArray) -> float:
    """95th percentile of the distances between two outlines, in pixels (MONAI); not a number where one of them is empty."""
    import torch
    from monai.metrics import compute_hausdorff_distance

    if not (truth > 0).any() or not (guess > 0).any():
        return float("nan")
    ours, theirs = (torch.from_numpy((mask > 0)[None, None].astype(np.float32)) for mask in (guess, truth))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # MONAI 1.6 calls itself with an argument that it has given up
        return float(compute_hausdorff_distance(ours, theirs, include_background=True, percentile=95))


def by_image(
    figure: Callable[[NDArray], float], images: int, groups: NDArray | None = None, draws: int = RESAMPLES, seed: int = 0
) -> Estimate:  # fmt: skip
    """`figure(rows)` of all images, with an interval over images drawn again (whole patients, where groups are given)."""
    values = [figure(rows) for rows in resamples(images, groups, draws, seed)]
    finite = [v for v in values if np.isfinite(v)]
    low, high = np.percentile(finite, [2.5, 97.5]) if finite else (np.nan, np.nan)
    return Estimate(figure(np.arange(images)), float(low), float(high))


def matched(matches: Sequence[Matches]) -> Callable[[NDArray], float]:
    """The figure AP of rows of images: hits ÷ (hits + extra + missed) of their objects together, as StarDist's default."""
    counts = np.array([(m.hits, m.hits + m.extra + m.missed) for m in matches]).reshape(-1, 2)

    def precision(rows: NDArray) -> float:
        hits, total = counts[rows].sum(0)
        return float(hits / total) if total else float("nan")

    return precision


@dataclass(frozen=True)
class Judged:
    """What one segmenter, or a second observer, reached on N images.

    Attributes:
        pixels: counts of pixels; ranking: of probabilities, None where there are none.
        outlines: (N,) hd95 in pixels.
        matches: of objects at an overlap of one half; None for a region.
        masks: (H, W) each.
    """

    pixels: PixelCounts
    ranking: Ranking | None
    outlines: NDArray[np.float64]
    matches: list[Matches] | None
    masks: list[NDArray[np.int32]]

    @property
    def main(self) -> str:
        return "dice" if self.matches is None else "ap@0.5"

    def figures(self) -> dict[str, Callable[[NDArray], float]]:
        """Each figure as a function of the rows of images."""
        found: dict[str, Callable[[NDArray], float]] = {}
        if self.matches is not None:
            precisions = np.array([m.precision for m in self.matches])
            found["ap@0.5"] = matched(self.matches)
            found["ap@0.5, mean of images"] = lambda rows: float(precisions[rows].mean())
        found["dice"] = self.pixels.pooled
        found["dice, mean of images"] = lambda rows: float(self.pixels.dice[rows].mean())
        found["hd95"] = lambda rows: float(np.nanmean(self.outlines[rows])) if np.isfinite(self.outlines[rows]).any() else float("nan")  # fmt: skip
        if self.ranking is not None:
            found["auroc"] = self.ranking.auroc
        return found

    def estimates(self, groups: NDArray | None = None) -> dict[str, Estimate]:
        """Every figure with its interval over images."""
        return {name: by_image(figure, len(self.masks), groups) for name, figure in self.figures().items()}


def judge(
    data: MaskedImages, masks: Sequence[NDArray[np.int32]], maps: Masks | None = None, outlines: bool = True
) -> Judged:
    """Judge masks (H, W), and where given their maps (K, H, W), of annotated images; outside the field of view nothing counts."""
    cut = [np.where(data.inside(i), mask, 0) for i, mask in enumerate(masks)]
    truth = [np.where(data.inside(i), truth_of(data, i), 0) for i in range(len(data))]
    distances = [hd95(t, g) if outlines else np.nan for t, g in zip(truth, cut, strict=True)]
    return Judged(
        PixelCounts.of(data, cut), None if maps is None else Ranking.of(data, [m[0] for m in maps]), np.array(distances),
        [match(t, g) for t, g in zip(truth, cut, strict=True)] if data.objects else None, cut,
    )  # fmt: skip


def paired_gain(
    ours: Sequence[Judged], theirs: Sequence[Judged], name: str, groups: NDArray | None = None, seed: int = 0
) -> Estimate:
    """Mean over runs of ours, minus that of theirs, on the same images drawn again; run i of both had the same draw of labels.

    Where both have several runs these are drawn again as well. Whole patients are drawn, where groups (N,) are given.
    """
    images = len(ours[0].masks)
    random = np.random.default_rng(seed)
    mine, others = ([judged.figures()[name] for judged in runs] for runs in (ours, theirs))

    def difference(rows: NDArray, picked: NDArray) -> float:
        return float(np.mean([mine[i % len(mine)](rows) for i in picked]) - np.mean([others[i % len(others)](rows) for i in picked]))  # fmt: skip

    runs = max(len(mine), len(others))
    values = [difference(rows, random.integers(0, runs, runs)) for rows in resamples(images, groups, RESAMPLES, seed)]
    low, high = np.nanpercentile(values, [2.5, 97.5])
    return Estimate(difference(np.arange(images), np.arange(runs)), float(low), float(high))


def second_observer(data: MaskedImages) -> Judged | None:
    """What a second person's masks reach against the first's; None where there are none of some image."""
    if not len(data) or any(second is None for second in data.seconds):
        return None
    return judge(data, [second for second in data.seconds if second is not None])


def best_parting(data: MaskedImages, maps: Masks) -> Parting:
    """Thresholds of the best dice of a region, or of the most objects found, on annotated images."""
    if not data.objects:
        dice = Ranking.of(data, [m[0] for m in maps]).dice()
        return Parting(object=float(max(GRID, key=lambda t: dice[min(LEVELS - 1, int(t * LEVELS))])))

    truth, best = [truth_of(data, i) for i in range(len(maps))], (-1.0, Parting())
    total = sum(int(np.count_nonzero(np.unique(t))) for t in truth)
    for o, r in product(INSIDE, RISES):
        judged = [_called(t, flooded(m, Parting(o, r)), m[0]) for t, m in zip(truth, maps, strict=True)]
        size, sure, hit = (np.concatenate(values) for values in zip(*judged, strict=True))
        for least, doubt in product(LEAST, SURE):
            kept = (size >= least) & (sure >= doubt)
            hits = (kept & hit).sum()
            ap = float(hits / max(1, total + kept.sum() - hits))
            best = max(best, (ap, Parting(o, r, least, doubt)), key=lambda pair: pair[0])
    return best[1]


def _called(truth: NDArray, objects: NDArray[np.int32], probability: NDArray) -> tuple[NDArray, NDArray, NDArray]:
    """Of each object that is called: its pixels, how sure it is, and whether it is one of the truth's, of which half overlaps."""
    overlap = overlap_of(overlaps(truth, objects))
    size, sure = measured(objects, probability)
    return size, sure, np.asarray((overlap >= 0.5).any(axis=0))
