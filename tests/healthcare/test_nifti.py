"""NIfTI: one orientation whatever the file's, spacing, time points, slices."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
from nibabel import orientations

from healthcare.data import Reading, scan
from healthcare.readers import Unreadable, read_file


def body(shape: tuple[int, ...] = (6, 8, 10)) -> np.ndarray:
    """Right-anterior-superior values that rise with each axis at its own pace."""
    x, y, z = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    return (x + 10 * y + 100 * z).astype(np.float32)


def turned(codes: str, zooms: tuple[float, float, float] = (1.0, 2.0, 3.0)) -> nibabel.Nifti1Image:
    image = nibabel.Nifti1Image(body(), np.diag([*zooms, 1.0]))
    return image.as_reoriented(
        orientations.ornt_transform(orientations.axcodes2ornt("RAS"), orientations.axcodes2ornt(codes))
    )


@pytest.mark.parametrize("codes", ["RAS", "LPS", "LAS", "SAR", "PIR"])
def test_every_orientation_is_read_alike(tmp_path: Path, codes: str) -> None:
    nibabel.save(turned(codes), tmp_path / "a.nii.gz")
    loaded = read_file(tmp_path / "a.nii.gz")
    volume = loaded.images[0][0]
    assert volume.shape == (10, 8, 6) and loaded.spacing == pytest.approx((3, 2, 1))
    inner = volume[1:-1, 1:-1, 1:-1]  # percentiles cut the ends
    # slices rise to the head; rows fall from front to back; columns fall from the patient's right to the left
    assert (
        (np.diff(inner, axis=0) > 0).all() and (np.diff(inner, axis=1) < 0).all() and (np.diff(inner, axis=2) < 0).all()
    )


def test_a_time_point_is_chosen_or_the_file_is_refused(tmp_path: Path) -> None:
    four = np.stack([body(), body()[::-1]], axis=-1)
    nibabel.save(nibabel.Nifti1Image(four, np.eye(4)), tmp_path / "a.nii")
    nibabel.save(nibabel.Nifti1Image(four[..., 1], np.eye(4)), tmp_path / "b.nii")
    with pytest.raises(Unreadable, match="several time points"):
        read_file(tmp_path / "a.nii")
    chosen, alone = read_file(tmp_path / "a.nii", Reading(frame=1)), read_file(tmp_path / "b.nii")
    np.testing.assert_array_equal(chosen.images[0], alone.images[0])
    with pytest.raises(Unreadable, match="no such time point"):
        read_file(tmp_path / "a.nii", Reading(frame=2))


def test_in_two_dimensions_the_middle_slice_or_all_of_them_are_images(tmp_path: Path) -> None:
    nibabel.save(turned("LPS"), tmp_path / "a.nii.gz")
    nibabel.save(nibabel.Nifti1Image(body()[::-1] ** 2, np.diag([1.0, 1.0, 9.0, 1.0])), tmp_path / "b.nii.gz")
    middle = scan(tmp_path, Reading(size=8, dims=2))
    assert middle.pixels.shape == (2, 1, 8, 8) and middle.audit.other_spacings > 0
    every = scan(tmp_path, Reading(size=8, dims=2, slices="all"))
    assert len(every) == 20 and all(len(set(every.split[every.patient == p])) == 1 for p in np.unique(every.patient))
    whole = scan(tmp_path, Reading(size=8, dims=3))
    assert whole.pixels.shape == (2, 1, 8, 8, 8) and scan(tmp_path, Reading(size=8)).sha256() == whole.sha256()


def test_pictures_are_no_volumes_and_windows_need_hounsfield_units(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.random.default_rng(0).random((9, 9)))
    assert scan(tmp_path, Reading(size=8, dims=3)).quarantine.counts() == {"not a volume": 1}
    assert scan(tmp_path, Reading(size=8, window="lung")).quarantine.counts() == {"no Hounsfield units": 1}
    nibabel.save(nibabel.Nifti1Image(body() - 1024, np.eye(4)), tmp_path / "ct.nii")
    ct = read_file(tmp_path / "ct.nii", Reading(window="lung")).images[0]
    assert ct.min() > 0.2 and ct.max() < 0.9
