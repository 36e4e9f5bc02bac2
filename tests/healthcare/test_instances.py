"""Objects: parted as they were, and matched as others match them."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from scipy import ndimage

from healthcare.baselines import otsu_objects
from healthcare.instances import Parting, depth, match, middles, part, seams, targets, ways
from healthcare.synthetic_masks import SceneConfig, scenes


def labels(seed: int, objects: int, side: int = 24) -> np.ndarray:
    """Random boxes, numbered with gaps; later ones hide earlier ones."""
    random = np.random.default_rng(seed)
    mask = np.zeros((side, side), np.int32)
    for number in range(objects):
        top, left = random.integers(0, side - 6, 2)
        height, width = random.integers(3, 9, 2)
        mask[top : top + height, left : left + width] = 2 * number + 1
    return mask


def by_trying_everything(truth: np.ndarray, guess: np.ndarray, overlap: float) -> int:
    """The most pairs of at least that overlap over every one-to-one pairing, with sets of pixels."""
    sets = [[set(np.flatnonzero(m == n)) for n in np.unique(m) if n] for m in (truth, guess)]
    small, large = sorted(sets, key=len)
    return max(
        sum(len(a & b) / len(a | b) >= overlap for a, b in zip(small, order, strict=True))
        for order in permutations(large, len(small))
    )


@pytest.mark.parametrize("overlap", [0.2, 0.5, 0.7])
def test_matching_equals_that_of_every_possible_pairing(overlap: float) -> None:
    some = 0
    for seed in range(25):
        truth, guess = labels(seed, 4), labels(seed, 4)
        guess = np.roll(guess, seed % 3, axis=seed % 2)
        guess[guess == 3] = 0
        found = match(truth, guess, overlap)
        assert found.hits == by_trying_everything(truth, guess, overlap)
        assert found.hits + found.missed == len(np.unique(truth[truth > 0]))
        assert found.hits + found.extra == len(np.unique(guess[guess > 0]))
        some += found.hits
    assert some > 20


def test_matching_at_its_ends() -> None:
    mask, nothing = labels(0, 4), np.zeros((24, 24), np.int32)
    assert match(mask, mask).precision == 1 and match(nothing, nothing).precision == 1
    assert match(mask, nothing).precision == 0 and match(nothing, mask).precision == 0
    half = np.zeros((4, 4), np.int32)
    half[:2] = 1
    assert match(np.ones((4, 4), np.int32), half).hits == 1, "an overlap of exactly one half counts, as in StarDist's"


def test_depth_is_one_in_the_middle_of_every_object_however_small() -> None:
    for _, mask in scenes(SceneConfig(images=4), 1):
        deep = depth(mask)
        assert ((deep > 0) == (mask > 0)).all() and deep.max() == 1
        assert np.allclose(ndimage.maximum(deep, mask, np.unique(mask[mask > 0])), 1)
    one = np.zeros((5, 5), np.int32)
    one[2, 2] = 1
    assert depth(one)[2, 2] == 1 and (depth(np.ones((5, 5), np.int32)) == 1).all()


def test_seams_lie_where_two_objects_are_near_and_nowhere_else() -> None:
    mask = np.zeros((12, 30), np.int32)
    mask[3:9, 2:8], mask[3:9, 9:15], mask[3:9, 22:28] = 1, 2, 3  # a pixel between the first two, the third far away
    seam = seams(mask)
    assert seam[6, 7:10].all() and not seam[6, :7].any() and not seam[6, 10:].any()
    assert not seams(np.where(mask == 3, 1, 0).astype(np.int32)).any(), "one object has no seam"


def test_the_middle_of_an_object_lies_in_it() -> None:
    _, mask = scenes(SceneConfig(), 4)[0]
    places = middles(mask)
    assert sorted(mask[tuple(places.T)]) == sorted(np.unique(mask[mask > 0]))
    assert (depth(mask)[tuple(places.T)] == 1).all() and not len(middles(np.zeros_like(mask)))


def test_ways_lead_from_every_pixel_to_the_centre_of_its_own_object() -> None:
    mask = np.zeros((20, 30), np.int32)
    mask[4:9, 3:10], mask[4:9, 10:13] = 1, 3  # they touch; no object bears the number 2
    row, column, nearness = ways(mask)
    places = np.indices(mask.shape) + np.stack([row, column])
    for number, centre in ((1, (6, 6)), (3, (6, 11))):
        np.testing.assert_allclose(
            places[:, mask == number], np.array(centre)[:, None] * np.ones((1, (mask == number).sum()))
        )
        np.testing.assert_allclose(nearness[mask == number], np.sqrt(np.pi / (mask == number).sum()), rtol=1e-6)
    assert not ways(mask)[:, mask == 0].any()


def test_what_the_network_doubts_is_no_object() -> None:
    mask = np.zeros((20, 20), np.int32)
    mask[2:6, 2:6], mask[8:16, 8:16] = 1, 2
    maps = targets(mask, True)[:2] * np.where(mask == 1, 0.7, 0.9)
    assert part(maps, Parting(least=1, sure=0.6)).max() == 2
    found = part(maps, Parting(least=1, sure=0.8))
    assert found.max() == 1 and (found == 1)[10, 10] and not found[3, 3]
    assert not part(maps, Parting(least=1, sure=0.95)).any()


def test_true_maps_are_parted_into_the_true_objects() -> None:
    hits = total = 0
    for _, mask in scenes(SceneConfig(images=6, height=96, width=80), 2):
        found = match(mask, part(targets(mask, True), Parting(least=1)), 0.8)
        hits, total = hits + found.hits, total + found.hits + found.extra + found.missed
    assert total > 30 and hits / total > 0.9, "touching objects were told apart"


def test_a_middle_is_what_stands_above_its_surroundings_however_deep_it_is() -> None:
    deep = np.zeros((12, 40), np.float32)
    # side by side: between the first two depth stays above one half, the third is nowhere as deep
    for centre, height in ((6, 0.95), (14, 0.9), (26, 0.45)):
        row, column = np.ogrid[:12, :40]
        hill = height - 0.09 * np.hypot(row - 6, column - centre)
        deep = np.maximum(deep, hill.astype(np.float32))
    deep[6, 7] += 0.05  # a ripple
    maps = np.stack([(deep > 0.05).astype(np.float32), deep])
    found = part(maps, Parting(rise=0.1, least=1))
    assert found.max() == 3 and len({found[6, 6], found[6, 14], found[6, 26]} - {0}) == 3
    assert part(maps, Parting(rise=0.5, least=1)).max() < 3


def test_small_objects_are_left_out_and_numbers_have_no_gaps() -> None:
    mask = np.zeros((20, 20), np.int32)
    mask[2:4, 2:4], mask[8:16, 8:16] = 1, 2
    found = part(targets(mask, True), Parting(least=8))
    assert np.unique(found).tolist() == [0, 1] and found[10, 10] == 1 and found[2, 2] == 0
    assert np.unique(part(targets(mask, True), Parting(least=1))).tolist() == [0, 1, 2]
    assert not part(np.zeros((2, 9, 9)), Parting()).any()


def test_bright_discs_are_found_and_parted_without_learning(random: np.random.Generator) -> None:
    row, column = np.ogrid[:48, :64]
    mask = np.zeros((48, 64), np.int32)
    for number, (y, x) in enumerate(((12, 12), (12, 23), (34, 40), (30, 8)), start=1):  # the first two touch
        mask[np.hypot(row - y, column - x) < 6] = number
    image = (0.2 + 0.5 * (mask > 0) + 0.05 * random.normal(size=mask.shape)).astype(np.float32)[None]
    assert match(mask, otsu_objects(image), 0.7).precision == 1
    assert not otsu_objects(np.full((1, 9, 9), 0.3, np.float32)).any(), "one single grey value holds no object"
