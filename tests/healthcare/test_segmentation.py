"""Figures on masks, each beside an independent implementation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from sklearn.metrics import f1_score, roc_auc_score

from core.errors import UserError
from healthcare.masks import MaskedImages, MaskReading, from_arrays
from healthcare.segmentation import (
    Judged,
    PixelCounts,
    Ranking,
    best_parting,
    hd95,
    judge,
    paired_gain,
    second_observer,
)
from healthcare.segmentation_report import Few, annotated_rows, mean_over

RANDOM = np.random.default_rng(5)
SIDE = 32


def data(images: int = 4, objects: bool = False) -> MaskedImages:
    pixels = [RANDOM.integers(0, 255, (SIDE, SIDE + i), dtype=np.uint8) for i in range(images)]
    masks = [(p > 180).astype(np.int32) for p in pixels]
    found = from_arrays(pixels, masks, MaskReading(objects=objects))
    view = [RANDOM.random(m.shape) > 0.3 for m in masks]
    found.fields[:] = view
    return found


def test_dice_and_auroc_are_scikit_learns_inside_the_field_of_view() -> None:
    found = data()
    maps = [np.clip(m * 0.3 + RANDOM.random(m.shape) * 0.7, 0, 1) for m in found.masks if m is not None]
    inside = [found.inside(i) for i in range(len(found))]
    truth = np.concatenate([m[i] for m, i in zip(found.masks, inside, strict=True) if m is not None])
    score = np.concatenate([m[i] for m, i in zip(maps, inside, strict=True)])
    everyone = np.arange(len(found))
    guess = [(m > 0.5).astype(np.int32) for m in maps]
    assert PixelCounts.of(found, guess).pooled(everyone) == pytest.approx(f1_score(truth, score > 0.5))
    assert Ranking.of(found, maps).auroc(everyone) == pytest.approx(roc_auc_score(truth, score), abs=2e-4)
    each = [f1_score(m[i], g[i]) for m, i, g in zip(found.masks, inside, guess, strict=True) if m is not None]
    assert PixelCounts.of(found, guess).dice == pytest.approx(each)


def test_dice_is_monais() -> None:
    import torch
    from monai.metrics import compute_dice

    found = data()
    found.fields[:] = [None] * len(found)
    guess = [np.roll(m, 1, 0) for m in found.masks if m is not None]
    pairs = [
        [torch.from_numpy((m > 0)[None, None].astype(np.float32)) for m in (g, t)]
        for g, t in zip(guess, found.masks, strict=True)
    ]  # type: ignore[operator]
    assert PixelCounts.of(found, guess).dice == pytest.approx([float(compute_dice(*pair)) for pair in pairs])


def test_nothing_found_where_nothing_is_counts_as_right() -> None:
    found = from_arrays([np.eye(SIDE, dtype=np.uint8) * 255], [np.zeros((SIDE, SIDE), np.int32)])
    assert PixelCounts.of(found, [np.zeros((SIDE, SIDE))]).dice.tolist() == [1.0]
    assert PixelCounts.of(found, [np.eye(SIDE)]).dice.tolist() == [0.0]


def test_hd95_is_that_of_all_pairs_of_outline_pixels() -> None:
    a, b = np.zeros((SIDE, SIDE), int), np.zeros((SIDE, SIDE), int)
    a[5:20, 5:20], b[8:25, 6:19] = 1, 1

    def outline(mask: np.ndarray) -> np.ndarray:
        inner = np.zeros_like(mask)
        inner[1:-1, 1:-1] = mask[1:-1, 1:-1] & mask[:-2, 1:-1] & mask[2:, 1:-1] & mask[1:-1, :-2] & mask[1:-1, 2:]
        return np.argwhere((mask > 0) & (inner == 0))

    distance = cdist(outline(a), outline(b))
    expected = max(np.percentile(distance.min(1), 95), np.percentile(distance.min(0), 95))
    assert hd95(a, b) == pytest.approx(expected, abs=1e-4)
    assert np.isnan(hd95(a, a * 0))


def test_the_threshold_is_the_best_of_the_grid() -> None:
    found = data()
    maps = [np.clip(0.35 * m + 0.05 * RANDOM.random(m.shape), 0, 1)[None] for m in found.masks if m is not None]
    chosen = best_parting(found, maps)
    assert PixelCounts.of(found, [(m[0] > chosen.object) for m in maps]).pooled(np.arange(4)) == pytest.approx(
        1, abs=0.01
    )


def shifted(found: MaskedImages, by: int) -> Judged:
    return judge(found, [np.roll(m, by, 0) for m in found.masks if m is not None], outlines=False)


def test_a_paired_gain_has_an_interval_and_its_sign() -> None:
    found = data(8)
    right, wrong = shifted(found, 0), shifted(found, 1)
    gain = paired_gain([right, right], [wrong, wrong], "dice")
    assert gain.low > 0 and gain.value == pytest.approx(1 - wrong.figures()["dice"](np.arange(8)))
    assert paired_gain([wrong], [wrong], "dice").value == 0
    assert mean_over([right, wrong], "dice").value == pytest.approx((1 + wrong.figures()["dice"](np.arange(8))) / 2)


def test_intervals_draw_whole_patients_where_some_patient_has_several_images() -> None:
    found = data(12)
    assert found.groups is None
    found = replace(found, patient=np.repeat(np.arange(3), 4))
    assert found.groups is not None
    # images of one patient are alike: each patient's masks are shifted by a distance of their own
    masks = [np.roll(m, 3 * p, 0) for m, p in zip(found.masks, found.patient, strict=True) if m is not None]
    mine, theirs = judge(found, masks, outlines=False), shifted(found, 7)
    for of in (
        lambda groups: mean_over([mine], "dice", groups),
        lambda groups: paired_gain([mine], [theirs], "dice", groups),
    ):
        alone, together = of(None), of(found.groups)
        assert together.value == pytest.approx(alone.value)
        assert together.high - together.low > 1.3 * (alone.high - alone.low)


def test_no_draws_cannot_be_measured() -> None:
    with pytest.raises(UserError, match="0 draws of annotated images"):
        Few(draws=0)


def test_outside_the_field_of_view_nothing_counts() -> None:
    found = data()
    outside = [
        np.where(found.inside(i), truth, 1 - truth) for i, truth in enumerate(m for m in found.masks if m is not None)
    ]
    assert (judge(found, outside).pixels.dice == 1).all()


def test_a_second_observer_is_judged_as_a_prediction_is() -> None:
    found = data()
    assert second_observer(found) is None
    found.seconds[:] = [np.roll(m, 1, 1) for m in found.masks if m is not None]
    observer = second_observer(found)
    assert observer is not None and 0 < observer.estimates()["dice"].value < 1


def test_larger_draws_of_annotated_images_hold_the_smaller() -> None:
    found = data(9)
    few, more = annotated_rows(found, 2, 4), annotated_rows(found, 5, 4)
    assert set(few) < set(more) and len(few) == 2
    assert set(annotated_rows(found, 5, 4)) == set(more) != set(annotated_rows(found, 5, 5))
