"""DICOM: windows, inversion, frames, colours, and series that become volumes."""

from __future__ import annotations

import multiprocessing
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom import Dataset
from pydicom.data import get_testdata_file
from pydicom.sequence import Sequence
from pydicom.uid import JPEG2000Lossless, RLELossless

from core.errors import UserError
from healthcare.data import Images, Reading, read, read_new, scan
from healthcare.estimators import ImageEncoder
from healthcare.loading import each
from healthcare.prepared import prepare
from healthcare.presets import simclr
from healthcare.readers import Unreadable, read_file
from healthcare.reading_speed import ct_slice, dicom_files


def ramp(side: int = 16) -> Dataset:
    """A slice whose Hounsfield units rise from −1024 along the columns, by 100 each."""
    data = ct_slice(np.random.default_rng(0), side=side)
    data.PixelData = np.tile(np.arange(side, dtype=np.uint16) * 100, (side, 1)).tobytes()
    return data


def shown(data: Dataset, folder: Path, reading: Reading | None = None) -> np.ndarray:
    data.save_as(folder / "a.dcm", enforce_file_format=True)
    return read_file(folder / "a.dcm", reading).images[0][0]


def test_the_window_of_the_file_is_applied_after_the_rescale(tmp_path: Path) -> None:
    data = ramp()
    data.WindowCenter, data.WindowWidth = 0, 1000
    units = np.arange(16) * 100 - 1024
    expected = np.clip((units + 0.5) / 999 + 0.5, 0, 1)  # PS3.3 C.11.2.1.2.1
    np.testing.assert_allclose(shown(data, tmp_path)[3], expected, atol=1e-3)


def test_named_windows_are_in_hounsfield_units_and_for_ct_alone(tmp_path: Path) -> None:
    units = np.arange(16) * 100 - 1024
    lung = shown(ramp(), tmp_path, Reading(window="lung"))
    np.testing.assert_allclose(lung[0], np.clip((units + 1350) / 1500, 0, 1), atol=1e-5)
    assert shown(ramp(), tmp_path, Reading(window="bone"))[0, 4] == pytest.approx(0)
    data = ramp()
    data.Modality = "MR"
    with pytest.raises(Unreadable, match="no Hounsfield units"):
        shown(data, tmp_path, Reading(window="lung"))


def test_without_a_window_values_lie_between_percentiles(tmp_path: Path) -> None:
    image = shown(ramp(), tmp_path, Reading(window="none"))
    np.testing.assert_allclose(image[0], np.arange(16) / 15, atol=1e-3)


def test_monochrome1_is_inverted_after_the_window(tmp_path: Path) -> None:
    data = ramp()
    data.WindowCenter, data.WindowWidth = 0, 1000
    straight = shown(data, tmp_path)
    data.PhotometricInterpretation = "MONOCHROME1"
    np.testing.assert_allclose(shown(data, tmp_path), 1 - straight, atol=1e-6)


def test_a_table_instead_of_a_window(tmp_path: Path) -> None:
    data = ramp()
    data.RescaleIntercept = 0
    del data.WindowCenter, data.WindowWidth
    table = Dataset()
    table.LUTDescriptor, table.LUTData = [1600, 0, 8], (255 * (np.arange(1600) >= 800)).astype(np.uint16).tobytes()
    data.VOILUTSequence = Sequence([table])
    np.testing.assert_array_equal(shown(data, tmp_path)[0], (np.arange(16) >= 8).astype(np.float32))


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless])
def test_compressed_files_hold_the_same_pixels(tmp_path: Path, syntax: str) -> None:
    plain, packed = ramp(64), ramp(64)
    packed.compress(syntax)
    np.testing.assert_array_equal(shown(plain, tmp_path), shown(packed, tmp_path))


def test_each_frame_is_an_image_and_none_lies_among_the_rows(tmp_path: Path) -> None:
    path = Path(str(get_testdata_file("SC_rgb_rle_2frame.dcm")))
    loaded = read_file(path, Reading(colour=True))
    truth = pydicom.dcmread(path).pixel_array
    assert len(loaded.images) == 2
    for image, frame in zip(loaded.images, truth, strict=True):
        np.testing.assert_allclose(image, frame.transpose(2, 0, 1) / 255, atol=1e-6)
    (tmp_path / "ill").mkdir()
    shutil.copy(path, tmp_path / "ill")
    images = scan(tmp_path, Reading(size=50))
    assert len(images) == 2 and len(set(images.split)) == 1 and len(set(images.where)) == 2


@pytest.mark.parametrize("name", ["examples_palette.dcm", "examples_ybr_color.dcm", "SC_rgb_jpeg.dcm"])
def test_colours_are_red_green_and_blue(name: str) -> None:
    path = Path(str(get_testdata_file(name)))
    image = read_file(path, Reading(colour=True)).images[0]
    grey = read_file(path).images[0]
    assert image.shape[0] == 3 and grey.shape[0] == 1
    np.testing.assert_allclose(np.tensordot([0.299, 0.587, 0.114], image, 1), grey[0], atol=1e-5)
    if name == "SC_rgb_jpeg.dcm":
        return
    data = pydicom.dcmread(path)
    truth = (
        pydicom.pixels.apply_color_lut(data.pixel_array, data) / 65535
        if "palette" in name
        else data.pixel_array[0] / 255
    )
    np.testing.assert_allclose(image, truth.transpose(2, 0, 1), atol=1e-6)


def series(folder: Path, people: int = 1, slices: int = 6, side: int = 16) -> list[Path]:
    """Series whose files are named in another order than the slices lie; values rise from slice to slice."""
    random = np.random.default_rng(3)
    made = []
    for person in range(people):
        place = folder / f"P{person}"
        place.mkdir(parents=True, exist_ok=True)
        for number, name in enumerate(random.permutation(slices)):
            data = ct_slice(random, person, number, side)
            data.PixelData = (random.integers(0, 50, (side, side)) + 900 + 60 * number).astype(np.uint16).tobytes()
            made.append(place / f"{name}.dcm")
            data.save_as(made[-1], enforce_file_format=True)
    return made


def test_a_series_becomes_a_volume_in_the_order_of_its_places(tmp_path: Path) -> None:
    series(tmp_path, people=3)
    images = scan(tmp_path, Reading(size=8, dims=3))
    assert images.pixels.shape == (3, 1, 8, 8, 8) and not len(images.quarantine)
    means = images.pixels[:, 0].mean(axis=(2, 3))
    assert (np.diff(means, axis=1) > 0).all()
    flat = scan(tmp_path, Reading(size=8))
    assert flat.pixels.shape == (18, 1, 8, 8) and flat.named_patients and len(np.unique(flat.patient)) == 3
    assert all(len(set(flat.split[flat.patient == person])) == 1 for person in range(3))


def test_a_manifest_may_name_the_folder_of_a_series(tmp_path: Path) -> None:
    series(tmp_path, people=2)
    (tmp_path / "manifest.csv").write_text("path,patient_id,label,split\nP0,A,ill,train\nP1,B,well,train\n")
    images = read(tmp_path, Reading(size=8, dims=3))
    assert images.pixels.shape == (2, 1, 8, 8, 8) and images.classes == ("ill", "well")


@pytest.mark.parametrize("fault", ["gap", "twice", "shape", "turned", "nowhere", "single"])
def test_a_series_that_does_not_fit_together_is_set_aside_whole(tmp_path: Path, fault: str) -> None:
    files = series(tmp_path)
    middle = next(file for file in files if pydicom.dcmread(file).InstanceNumber == 3)
    data = pydicom.dcmread(middle)
    if fault == "gap":
        middle.unlink()
    elif fault == "single":
        for file in files[1:]:
            file.unlink()
    else:
        if fault == "twice":
            data.ImagePositionPatient = [0, 0, 0]
        elif fault == "shape":
            data.Rows, data.PixelData = 8, data.PixelData[: len(data.PixelData) // 2]
        elif fault == "turned":
            data.ImageOrientationPatient = [0, 1, 0, 0, 0, 1]
        else:
            del data.ImagePositionPatient
        data.save_as(middle, enforce_file_format=True)
    images = scan(tmp_path, Reading(size=8, dims=3))
    reasons = {
        "gap": "slices missing or unevenly spaced", "twice": "two slices at one place", "shape": "slices of mixed shapes",
        "turned": "slices of mixed orientations", "nowhere": "no slice positions", "single": "not a volume",
    }  # fmt: skip
    assert not len(images) and images.quarantine.counts() == {reasons[fault]: 1}


def test_folders_of_patients_are_no_classes_and_ids_come_from_the_header(tmp_path: Path) -> None:
    series(tmp_path / "people", people=4, slices=3)
    found = scan(tmp_path / "people", Reading(size=8))
    assert found.classes == () and (found.label == -1).all() and any("one patient of its own" in n for n in found.notes)
    classes = scan(dicom_files(tmp_path / "classes", 60), Reading(size=8))
    assert classes.classes == ("clear", "lesion") and len(np.unique(classes.patient)) == 6


def test_one_id_for_everybody_is_said(tmp_path: Path) -> None:
    for file in series(tmp_path, people=2, slices=2):
        data = pydicom.dcmread(file)
        data.PatientID = "ANON"
        data.save_as(file, enforce_file_format=True)
    assert any("same patient" in note for note in scan(tmp_path, Reading(size=8)).notes)


def test_text_burned_into_pixels_and_odd_spacing_are_counted(tmp_path: Path) -> None:
    files = series(tmp_path, slices=5)
    for file, change in zip(files[:2], ({"BurnedInAnnotation": "YES"}, {"PixelSpacing": [1.4, 1.4]}), strict=True):
        data = pydicom.dcmread(file)
        for name, value in change.items():
            setattr(data, name, value)
        data.save_as(file, enforce_file_format=True)
    audit = scan(tmp_path, Reading(size=8)).audit
    assert audit.burned_in == 1 and audit.other_spacings == 1


def test_many_files_on_several_processes_give_what_one_gives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = dicom_files(tmp_path, 120)
    one = scan(place, Reading(size=8))
    monkeypatch.setattr("healthcare.loading.MANY", 50)
    monkeypatch.setattr("healthcare.loading.cores", lambda: 2)
    several = scan(place, Reading(size=8))
    assert isinstance(one, Images) and one.sha256() == several.sha256()
    assert one.quarantine.records == several.quarantine.records and one.quarantine.counts() == {"unreadable": 1}


def ended(item: int) -> int:
    if item == 70:
        os._exit(1)
    return item


def test_a_process_that_ends_without_a_word_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("healthcare.loading.MANY", 50)
    monkeypatch.setattr("healthcare.loading.cores", lambda: 2)
    with pytest.raises(UserError, match="a process that read files was ended"):
        list(each(ended, range(100)))
    assert not multiprocessing.active_children()


def test_a_setting_that_cannot_be_is_refused() -> None:
    with pytest.raises(UserError, match="size 4"):
        Reading(size=4)


def test_an_encoder_of_volumes_reads_series_as_volumes_also_where_its_recipe_left_that_to_the_data(
    tmp_path: Path, random: np.random.Generator
) -> None:
    shapes = random.normal(size=(12, 16, 16, 16))
    np.savez(tmp_path / "volumes.npz", train_images=shapes, test_images=shapes[:2] + 1)
    recipe = simclr(steps=2)
    small = replace(recipe, batch=4, encoder=replace(recipe.encoder, width=4), reading=replace(recipe.reading, size=16))
    images = read(tmp_path / "volumes.npz", small.reading)
    ImageEncoder(small).fit(images, note=lambda line: None).save(tmp_path / "run")
    encoder = ImageEncoder.load(tmp_path / "run")
    assert encoder.recipe_.reading.dims is None and encoder.reading.dims == 3
    for person in (1, 2):
        for place in range(9):
            file = tmp_path / "scans" / str(person) / f"{place}.dcm"
            file.parent.mkdir(parents=True, exist_ok=True)
            ct_slice(random, person, place, side=20).save_as(file, enforce_file_format=True)
    assert encoder.transform(read_new(tmp_path / "scans", encoder.reading)).shape[0] == 2
    # what was prepared while that was left to the data still serves it
    prepare(images, small.reading, tmp_path / "set")
    assert len(read_new(tmp_path / "set", encoder.reading)) == len(images)
    with pytest.raises(UserError, match="prepared with other settings: dims"):
        read_new(tmp_path / "set", replace(small.reading, dims=2))
