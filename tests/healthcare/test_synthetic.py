"""The generator: seeded, of any size, and its classes differ in texture and in nothing simpler."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from core.errors import UserError
from healthcare.data import read
from healthcare.metrics import auroc
from healthcare.synthetic import CohortConfig, generate, write


def test_equal_seeds_give_equal_images_and_others_differ() -> None:
    first, again, other = (generate(CohortConfig(images=40), seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.pixels, again.pixels)
    assert (first.pixels != other.pixels).mean() > 0.5


@pytest.mark.parametrize(("count", "size"), [(20, 16), (203, 28), (60, 64)])
def test_any_size_has_both_classes_in_every_split_and_patients_in_one(count: int, size: int) -> None:
    cohort = generate(CohortConfig(images=count, size=size), seed=0)
    assert cohort.pixels.shape == (count, size, size)
    for split in ("train", "val", "test"):
        assert set(cohort.label[cohort.split == split]) == {0, 1}
    for person in np.unique(cohort.patient):
        assert len(set(cohort.split[cohort.patient == person])) == 1
        assert len(set(cohort.label[cohort.patient == person])) == 1


def test_both_formats_hold_the_same_images(tmp_path: Path) -> None:
    config = CohortConfig(images=40)
    a, b = read(write(tmp_path / "a", config)), read(write(tmp_path / "b", config, form="manifest"))
    assert a.counts()["test"] == dict(zip(("0", "1"), b.counts()["test"].values(), strict=True))
    assert {p.tobytes() for p in a.pixels} == {p.tobytes() for p in b.pixels}
    assert a.named_patients and b.named_patients and len(set(a.patient)) == len(set(b.patient))


def streaks(pixels: np.ndarray) -> np.ndarray:
    """How much of the spectrum's band lies along one direction: the plan of the planted structure, not learned."""
    x = pixels / 255.0
    power = np.abs(np.fft.fft2(x - x.mean((1, 2), keepdims=True))) ** 2
    fy, fx = np.meshgrid(np.fft.fftfreq(x.shape[1]), np.fft.fftfreq(x.shape[2]), indexing="ij")
    band = (np.hypot(fy, fx) > 0.17) & (np.hypot(fy, fx) < 0.36)
    weight, angle = power[:, band], np.arctan2(fy, fx)[band]
    return np.abs((weight * np.exp(2j * angle)).sum(1)) / weight.sum(1)


def test_texture_tells_the_classes_apart_and_brightness_and_contrast_do_not() -> None:
    cohort = generate(CohortConfig(images=600), seed=3)

    def separation(value: np.ndarray) -> float:
        return auroc(cohort.label, np.stack([-value, value], 1))

    assert separation(streaks(cohort.pixels)) > 0.95
    assert abs(separation(cohort.pixels.mean((1, 2))) - 0.5) < 0.08
    assert abs(separation(cohort.pixels.std((1, 2))) - 0.5) < 0.08
    bare = generate(CohortConfig(images=600, contrast=0.0), seed=3)
    assert abs(auroc(bare.label, np.stack([-streaks(bare.pixels), streaks(bare.pixels)], 1)) - 0.5) < 0.08


def test_volumes_differ_in_texture_and_in_nothing_simpler() -> None:
    cohort = generate(CohortConfig(images=300, size=16, dims=3), seed=3)
    assert cohort.pixels.shape == (300, 16, 16, 16)
    few, again = (generate(CohortConfig(images=20, size=16, dims=3), seed=4).pixels for _ in range(2))
    np.testing.assert_array_equal(few, again)

    def separation(value: np.ndarray) -> float:
        return auroc(cohort.label, np.stack([-value, value], 1))

    x = cohort.pixels / 255.0
    assert abs(separation(x.mean((1, 2, 3))) - 0.5) < 0.12 and abs(separation(x.std((1, 2, 3))) - 0.5) < 0.12
    # along one axis or another, the sick change less: the ratio of the largest to the smallest mean step
    steps = np.stack([np.abs(np.diff(x, axis=axis)).mean((1, 2, 3)) for axis in (1, 2, 3)])
    assert separation(steps.max(0) / steps.min(0)) > 0.8


def test_volumes_are_written_for_those_who_read_them(tmp_path: Path) -> None:
    import nibabel

    config = CohortConfig(images=40, size=16, dims=3)
    cohort = generate(config)
    with np.load(write(tmp_path / "a", config)) as arrays:
        assert arrays["train_images"].shape[1:] == (16, 16, 16) and arrays["train_images"].dtype == np.uint8
    lines = write(tmp_path / "b", config, form="manifest").read_text().splitlines()
    assert lines[0] == "path,patient_id,label,split" and len(lines) == 41
    back = nibabel.load(tmp_path / "b" / lines[8].split(",")[0])
    np.testing.assert_array_equal(np.asarray(back.dataobj), cohort.pixels[7])  # type: ignore[attr-defined]


@pytest.mark.parametrize("config", [CohortConfig(images=5), CohortConfig(size=8), CohortConfig(dims=4)])
def test_impossible_sizes_stop_with_one_line(config: CohortConfig) -> None:
    with pytest.raises(UserError):
        generate(config)
