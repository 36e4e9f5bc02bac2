"""The floors: strong simple methods that a pretrained encoder must beat before anyone should care for it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from healthcare.data import Images
from healthcare.linear import Linear, fit_linear


def raw_pixels(images: Images) -> NDArray[np.float32]:
    """Pixels as features (N, C·H·W). With a linear model they match published probes on PneumoniaMNIST (.913 at 10 %)."""
    return images.pixels.reshape(len(images), -1)


def otsu_objects(image: NDArray[np.float32], apart: int = 4) -> NDArray[np.int32]:
    """Bright objects (H, W), numbered, of an image (C, H, W), without anything learned: what is brighter than Otsu's threshold (1979),
    parted by a watershed from its deepest places.

    Args:
        apart: pixels between the deepest places of two objects.
    """
    from scipy import ndimage
    from skimage.feature import peak_local_max
    from skimage.filters import gaussian, threshold_otsu
    from skimage.segmentation import watershed

    smooth = gaussian(image.mean(0), 1)
    if np.ptp(smooth) == 0:
        return np.zeros(smooth.shape, np.int32)
    inside = smooth > threshold_otsu(smooth)
    deep = ndimage.distance_transform_edt(inside)
    regions, _ = ndimage.label(inside)
    middles = np.zeros(smooth.shape, np.int32)
    places = peak_local_max(gaussian(deep, 1), min_distance=apart, labels=regions)
    middles[tuple(places.T)] = np.arange(1, len(places) + 1)
    return watershed(-deep, middles, mask=inside).astype(np.int32)


def self_trained(
    x: NDArray, target: NDArray, others: NDArray, linear: Linear, classes: int, sure: float = 0.9, rounds: int = 3
) -> Linear:
    """Self-training (Yarowsky 1995; Lee 2013): a regression that also learns from what it is sure of among unlabelled images.

    Args:
        x, target: labelled features (N, D), with class codes (N,) or findings (N, L).
        others: unlabelled features (M, D).
        linear: fitted on the labels; its C stays.
        sure: probability of an answer above which it is learned from; the others wait for the next round.
    """
    for _ in range(rounds if len(others) else 0):
        said = linear.predict_proba(others)
        if target.ndim == 1:
            chosen = said.max(1) >= sure
            made = said.argmax(1)
        else:
            made = np.where(said >= sure, 1, np.where(said <= 1 - sure, 0, -1)).astype(target.dtype)
            chosen = (made >= 0).any(1)
        if not chosen.any():
            break
        both = np.concatenate([x, others[chosen]]), np.concatenate([target, made[chosen]])
        linear = fit_linear(*both, classes, costs=linear.costs)
    return linear
