"""Splits by patient: whole, alike in every class, the same again."""

from __future__ import annotations

import numpy as np

from healthcare.splits import divided


def shares(split: np.ndarray) -> list[float]:
    return [float((split == name).mean()) for name in ("train", "val", "test")]


def test_every_class_is_spread_alike_and_patients_stay_whole() -> None:
    groups = [f"P{i // 3}" for i in range(900)]
    said = [["rare"] if i // 3 % 10 == 0 else ["usual"] for i in range(900)]
    split, notes = divided([None] * 900, groups, said)
    assert len({(g, s) for g, s in zip(groups, split.tolist(), strict=True)}) == 300
    for name in ("rare", "usual"):
        rows = np.array([name in one for one in said])
        np.testing.assert_allclose(shares(split[rows]), (0.7, 0.1, 0.2), atol=0.04)
    assert "900 images name no split" in notes[0]


def test_equal_data_in_any_order_gives_equal_splits_and_another_seed_another_one() -> None:
    groups, said = [f"P{i}" for i in range(80)], [[str(i % 2)] for i in range(80)]
    split, _ = divided([None] * 80, groups, said)
    back, _ = divided([None] * 80, groups[::-1], said[::-1])
    assert split.tolist() == back.tolist()[::-1]
    other, _ = divided([None] * 80, groups, said, seed=1)
    assert 5 < (other != split).sum() < 60 and sorted(other) == sorted(split)


def test_small_classes_reach_training_and_from_five_patients_the_test() -> None:
    for size in range(1, 12):
        groups = [f"P{i}" for i in range(size + 23)]
        said = [["few"] if i < size else ["many"] for i in range(size + 23)]
        few = divided([None] * len(groups), groups, said)[0][:size]
        assert "train" in few and (size < 5 or "test" in few) and (size < 10 or "val" in few)


def test_a_named_split_holds_for_all_images_of_its_patient() -> None:
    groups = ["A", "A", "B", "C", "C"]
    split, _ = divided(["test", None, None, None, "train"], groups, [[]] * 5)
    assert split[:2].tolist() == ["test", "test"] and split[3:].tolist() == ["train", "train"]


def test_a_missing_validation_split_is_taken_from_training_in_every_class() -> None:
    given = ["train"] * 200 + ["test"] * 50
    groups = [f"P{i}" for i in range(250)]
    split, notes = divided(given, groups, [[str(i % 4)] for i in range(250)])
    held = np.flatnonzero(split == "val")
    assert len(held) == 20 and (held < 200).all() and "no validation split: 20 images" in notes[0]
    assert set(np.bincount(held % 4).tolist()) <= {4, 5, 6}
    assert not (divided(["train"] * 29, groups[:29], [[]] * 29)[0] == "val").any()


def test_the_rarest_of_several_findings_places_a_patient() -> None:
    said = [["common", "rare"] if i % 12 == 0 else ["common"] for i in range(240)]
    split, _ = divided([None] * 240, [f"P{i}" for i in range(240)], said)
    np.testing.assert_allclose(shares(split[::12]), (0.7, 0.1, 0.2), atol=0.06)
