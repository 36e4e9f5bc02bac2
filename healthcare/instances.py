"""Objects, such as nuclei: what a network learns of them, how they are told apart again, and how they are matched with the truth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.optimize import linear_sum_assignment

RIPPLE = 0.7  # pixels over which depth is smoothed: a network's maps ripple from pixel to pixel
REACH = 2  # pixels from two objects within which a pixel lies at a seam


@dataclass(frozen=True)
class Parting:
    """How two maps, of objects and of depth inside them, become objects; chosen on annotated images.

    Attributes:
        object: probability above which a pixel belongs to an object.
        rise: how far depth falls between two middles: touching objects have a middle each, ripples inside one are none.
        least: pixels below which an object is left out.
        sure: mean probability of an object's pixels below which it is left out: of specks the network doubts more than of nuclei as small.
    """

    object: float = 0.5
    rise: float = 0.06
    least: int = 8
    sure: float = 0.0


def depth(mask: NDArray[np.int32]) -> NDArray[np.float32]:
    """(H, W): how far a pixel lies inside its object, 1 at the object's deepest place, 0 outside all; the image's border is no edge."""
    deep = np.zeros(mask.shape, np.float32)
    for number, place in enumerate(ndimage.find_objects(mask), start=1):
        if place is None:
            continue
        wide = tuple(slice(max(0, s.start - 1), s.stop + 1) for s in place)
        own = mask[wide] == number
        distance = ndimage.distance_transform_edt(own) if not own.all() else np.ones(own.shape)
        deep[wide] = np.where(own, distance / distance.max(), deep[wide])
    return deep


def seams(mask: NDArray[np.int32], reach: int = REACH) -> NDArray[np.float32]:
    """(H, W): 1 where two objects or more are no further than `reach` pixels, 0 elsewhere."""
    near = np.zeros(mask.shape, np.int32)
    for number, place in enumerate(ndimage.find_objects(mask), start=1):
        if place is not None:
            wide = tuple(slice(max(0, s.start - reach), s.stop + reach) for s in place)
            near[wide] += ndimage.distance_transform_edt(mask[wide] != number) <= reach
    return (near > 1).astype(np.float32)


def ways(mask: NDArray[np.int32]) -> NDArray[np.float32]:
    """(3, H, W): rows and columns from each pixel to its object's centre of mass, and 1 ÷ the radius of a disc of the object's area; 0 outside.

    Two objects that touch point to two places, also where no seam is to be seen. Networks learn it as offsets (Neven et al., CVPR 2019;
    of nuclei Lalit et al., MIDL 2021) or as flows (Stringer et al., Nature Methods 2021).
    """
    found = np.zeros((3, *mask.shape), np.float32)
    for number, place in enumerate(ndimage.find_objects(mask), start=1):
        if place is None:
            continue
        own = np.nonzero(mask[place] == number)
        radius = np.sqrt(len(own[0]) / np.pi)
        for values, to in zip(found, (*(axis.mean() - axis for axis in own), 1 / radius), strict=True):
            values[place][own] = to
    return found


def middles(mask: NDArray[np.int32]) -> NDArray[np.int64]:
    """(objects, 2): row and column of the pixel of each object that lies deepest in it."""
    numbers = np.unique(mask[mask > 0])
    return np.array(ndimage.maximum_position(depth(mask), mask, numbers), np.int64).reshape(-1, 2)


def targets(mask: NDArray[np.int32], objects: bool) -> NDArray[np.float32]:
    """(K, H, W): the region; and, of objects, the depth inside each, and last the seams between them, where depth weighs more."""
    region = (mask > 0).astype(np.float32)
    return np.stack([region, depth(mask), seams(mask)]) if objects else region[None]


def part(probability: NDArray, parting: Parting) -> NDArray[np.int32]:
    """Numbered objects (H, W) from maps (2, H, W)."""
    objects = flooded(probability, parting)
    size, sure = measured(objects, probability[0])
    return renumbered(objects, (size >= parting.least) & (sure >= parting.sure))


def flooded(probability: NDArray, parting: Parting) -> NDArray[np.int32]:
    """Objects (H, W) of any size from maps (2, H, W): middles are flooded until they meet (watershed, Beucher & Lantuéjoul 1979).

    A middle is a maximum of smoothed depth that stands `rise` above the pass to the next one (h-maxima, Soille 2003), however deep it is
    itself: one depth for all would pass over the shallow ones and join the deep ones.
    """
    from skimage.morphology import h_maxima
    from skimage.segmentation import watershed

    inside = probability[0] > parting.object
    deep = ndimage.gaussian_filter(probability[1], RIPPLE)
    middles, _ = ndimage.label((h_maxima(deep, parting.rise) > 0) & inside)
    found = watershed(-deep, middles, mask=inside).astype(np.int32)
    # what has no middle of its own is an object too, such as a very small one
    rest, count = ndimage.label(inside & (found == 0))
    return np.where(rest > 0, rest + found.max(), found) if count else found


def measured(objects: NDArray[np.int32], probability: NDArray) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Of each object, numbered from 1 without gaps: how many pixels it has, and their mean probability."""
    size = np.bincount(objects.ravel())[1:]
    return size, np.bincount(objects.ravel(), probability.ravel())[1:] / np.maximum(size, 1)


def renumbered(objects: NDArray[np.int32], kept: NDArray[np.bool_]) -> NDArray[np.int32]:
    """The objects (H, W) that are kept (objects,), numbered without gaps."""
    numbers = np.append(0, np.where(kept, np.cumsum(kept), 0))
    return numbers[objects].astype(np.int32)


@dataclass(frozen=True)
class Matches:
    """Objects of one image found, missed and made up.

    Attributes:
        hits: pairs of an object and a guess of at least the asked overlap.
        extra: guesses without an object; missed: objects without a guess.
    """

    hits: int
    extra: int
    missed: int

    @property
    def precision(self) -> float:
        """hits ÷ (hits + extra + missed), which StarDist and the Data Science Bowl call average precision; 1 where nothing was to be found."""
        total = self.hits + self.extra + self.missed
        return self.hits / total if total else 1.0


def match(truth: NDArray[np.int32], guess: NDArray[np.int32], overlap: float = 0.5) -> Matches:
    """Pairs of objects (H, W) and guesses whose intersection is at least `overlap` of their union, one to one, as many as there can be.

    As `stardist.matching` (Schmidt et al., MICCAI 2018): the pairing that has most hits, then most overlap.
    """
    shared = overlaps(truth, guess)
    objects, guesses = len(shared) - 1, shared.shape[1] - 1
    if not objects or not guesses:
        return Matches(0, guesses, objects)
    iou = overlap_of(shared)
    cost = -(iou >= overlap).astype(float) - iou / (2 * min(objects, guesses))
    rows, columns = linear_sum_assignment(cost)
    hits = int((iou[rows, columns] >= overlap).sum())
    return Matches(hits, guesses - hits, objects - hits)


def overlap_of(shared: NDArray[np.int64]) -> NDArray[np.float64]:
    """(objects, guesses) intersection ÷ union of every pair, from the pixels that `overlaps` counts."""
    both = shared[1:, 1:]
    union = shared[1:].sum(1)[:, None] + shared[:, 1:].sum(0)[None] - both
    return both / np.maximum(union, 1)


def overlaps(truth: NDArray[np.int32], guess: NDArray[np.int32]) -> NDArray[np.int64]:
    """(objects + 1, guesses + 1) shared pixels; row and column 0 are the background. Numbers need not be without gaps."""
    _, rows = np.unique(np.append(0, truth.ravel()), return_inverse=True)
    _, columns = np.unique(np.append(0, guess.ravel()), return_inverse=True)
    width = int(columns.max()) + 1
    counts = np.bincount(rows[1:] * width + columns[1:], minlength=(int(rows.max()) + 1) * width)
    return counts.reshape(-1, width)
