"""What is read, what is set aside and counted, and what stops with one clear line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from core.errors import UserError
from healthcare.audit import audit
from healthcare.data import Images, Reading, read, read_new, scan


def arrays(random: np.random.Generator, per_split: int = 12) -> dict[str, np.ndarray]:
    made: dict[str, np.ndarray] = {}
    for split in ("train", "val", "test"):
        made[f"{split}_images"] = random.integers(0, 256, (per_split, 28, 28), dtype=np.uint8)
        made[f"{split}_labels"] = (np.arange(per_split) % 2)[:, None].astype(np.uint8)
    return made


def save(folder: Path, made: dict[str, np.ndarray]) -> Path:
    np.savez(folder / "data.npz", **made)
    return folder / "data.npz"


def picture(path: Path, random: np.random.Generator) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(random.integers(0, 256, (20, 20), dtype=np.uint8)).save(path)


def manifest(folder: Path, lines: list[str], header: str = "path,patient_id,label,split") -> Path:
    (folder / "manifest.csv").write_text("\n".join([header, *lines]) + "\n")
    return folder


def counted(images: Images) -> int:
    return len(images) + len(images.quarantine)


def test_medmnist_arrays_are_read_as_they_are(tmp_path: Path, random: np.random.Generator) -> None:
    made = arrays(random)
    images = read(save(tmp_path, made))
    assert images.pixels.shape == (36, 1, 28, 28) and images.classes == ("0", "1") and not len(images.quarantine)
    np.testing.assert_allclose(images.pixels[images.rows("test"), 0], made["test_images"] / 255, atol=1e-6)
    assert images.label[images.rows("val")].tolist() == made["val_labels"][:, 0].tolist()


def test_colour_arrays_keep_three_channels_and_are_resized(tmp_path: Path, random: np.random.Generator) -> None:
    made = {"train_images": random.integers(0, 256, (6, 40, 40, 3), dtype=np.uint8), "train_labels": np.arange(6) % 2}
    assert read(save(tmp_path, made), Reading(size=16)).pixels.shape[1:] == (3, 16, 16)


def test_volumes_of_medmnist_become_cubes(tmp_path: Path, random: np.random.Generator) -> None:
    volumes = random.integers(0, 256, (6, 12, 20, 16), dtype=np.uint8)
    made = {"train_images": volumes, "train_labels": np.arange(6)[:, None] % 2}
    images = read(save(tmp_path, made), Reading(size=16))
    assert images.pixels.shape == (6, 1, 16, 16, 16) and images.pixels.dtype == np.float32
    flat = read(tmp_path / "data.npz", Reading(size=16, dims=2))
    assert flat.pixels.shape == (6, 1, 16, 16)
    every = read(tmp_path / "data.npz", Reading(size=16, dims=2, slices="all"))
    assert len(every) == 6 * 12 and len(set(every.where)) == 72 and (every.label == np.repeat(images.label, 12)).all()
    assert len(np.unique(every.patient)) == 6  # slices of one volume stay together


def test_a_volume_keeps_its_axes_when_resized(tmp_path: Path) -> None:
    z, y, x = np.meshgrid(np.linspace(0, 1, 10), np.linspace(0, 1, 24), np.linspace(0, 1, 40), indexing="ij")
    made = {"train_images": np.stack([z, y, x]).astype(np.float32), "train_labels": np.arange(3)}
    cubes = read(save(tmp_path, made), Reading(size=8)).pixels[:, 0]
    for axis in range(3):
        steps = np.diff(cubes[axis], axis=axis)
        assert (steps > 0).all() and abs(np.diff(cubes[axis], axis=(axis + 1) % 3)).max() < 1e-5


def test_several_findings_an_image_in_an_npz(tmp_path: Path, random: np.random.Generator) -> None:
    made = arrays(random, 5)
    table = np.array([[1, 0, 1], [0, 0, 0], [np.nan, 1, 0], [0, -1, 1], [np.nan, np.nan, np.nan]])
    for split in ("train", "val", "test"):
        made[f"{split}_labels"] = table
    made["class_names"] = np.array(["mass", "effusion", "nodule"])
    images = read(save(tmp_path, made))
    assert images.classes == ("mass", "effusion", "nodule") and (images.label == -1).all()
    assert images.findings is not None and images.findings.dtype == np.int8
    expected = np.where(np.isnan(table), -1, table)
    np.testing.assert_array_equal(images.findings[images.rows("train")], expected)
    assert len(images.rows("train", labelled=True)) == 4
    assert images.counts()["val"] == {"mass": 1, "effusion": 1, "nodule": 2, "no finding": 2}
    for bad, words in (
        (np.full((5, 3), 2), "other values"),
        (np.zeros((4, 3)), "one row"),
        (np.zeros((5, 2)), "columns"),
    ):
        with pytest.raises(UserError, match=words):
            read(save(tmp_path, {**made, "val_labels": bad}))


def test_several_findings_an_image_in_a_manifest(tmp_path: Path, random: np.random.Generator) -> None:
    for i in range(5):
        picture(tmp_path / f"{i}.png", random)
    lines = ["0.png,P0,s1,mass|nodule,train,", "1.png,P1,s2,,train,m.png", "2.png,P2,,No Finding,train,", "3.png,P3,s2,mass,val,", "4.png,P4,s3,nodule |edema,test,"]  # fmt: skip
    images = read(manifest(tmp_path, lines, "path,patient_id,study_id,label,split,mask"))
    assert images.classes == ("edema", "mass", "nodule") and images.findings is not None
    assert images.findings.tolist() == [[0, 1, 1], [0, 0, 0], [0, 0, 0], [0, 1, 0], [1, 0, 1]]
    assert images.study is not None and images.study.tolist() == [0, 1, -1, 1, 2]
    assert images.select(np.array([0, 4])).findings.tolist() == [[0, 1, 1], [1, 0, 1]]  # type: ignore[union-attr]


def test_bad_arrays_stop_with_one_line(tmp_path: Path, random: np.random.Generator) -> None:
    good = arrays(random)
    bad = {
        "no array": {"pictures": good["train_images"]}, "5-D": {**good, "train_images": np.zeros((4, 8, 8, 8, 2), np.uint8)},
        "12 images but 3": {**good, "train_labels": np.zeros(3)}, "columns": {**good, "val_labels": np.zeros((12, 14))},
    }  # fmt: skip
    for words, made in bad.items():
        with pytest.raises(UserError, match=words if words != "5-D" else "volumes"):
            read(save(tmp_path, made))
    np.savez(tmp_path / "data.npz", train_images=np.array([object()], dtype=object))
    with pytest.raises(UserError, match="not a readable npz"):
        read(tmp_path / "data.npz")
    whole = save(tmp_path, good).read_bytes()
    (tmp_path / "data.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="not a readable npz"):
        read(tmp_path / "data.npz")


@pytest.mark.parametrize("name", ["gone.npz", "empty.npz", "folder", "notes.txt"])
def test_missing_empty_and_foreign_files_stop_with_one_line(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty.npz").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(UserError) as caught:
        read(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_constant_and_infinite_images_are_set_aside_and_counted(tmp_path: Path, random: np.random.Generator) -> None:
    made = {key: value.astype(np.float32) for key, value in arrays(random).items()}
    made["train_images"][0], made["val_images"][1, 3, 3], made["test_images"][2, 0, 0] = 5, np.nan, np.inf
    made["train_labels"][5] = np.nan
    made["train_labels"][7] = np.inf
    images = read(save(tmp_path, made))
    assert images.quarantine.counts() == {"not finite": 2, "label is not finite": 1, "constant": 1}
    assert counted(images) == 36 and (images.label[images.rows("train")] == -1).sum() == 1


def test_copies_leave_the_earlier_split_and_are_counted(tmp_path: Path, random: np.random.Generator) -> None:
    made = arrays(random)
    made["train_images"][0] = made["test_images"][0]
    made["train_images"][1] = made["val_images"][0]
    made["val_images"][1] = made["test_images"][1]
    made["train_images"][3] = made["train_images"][2]
    images = read(save(tmp_path, made))
    assert (
        images.audit.surplus_copies == 4
        and images.audit.copies_across_splits == 3
        and images.audit.conflicting_labels == 4
    )
    assert len(images.rows("train")) == 10 and len(images.rows("val")) == 11 and len(images.rows("test")) == 12
    prints = {split: {p.tobytes() for p in images.pixels[images.rows(split)]} for split in ("train", "val", "test")}
    assert (
        not prints["train"] & prints["test"]
        and not prints["train"] & prints["val"]
        and not prints["val"] & prints["test"]
    )
    assert len(read_new(tmp_path / "data.npz")) == 36


def test_a_patient_in_two_splits_is_refused_without_naming_anyone(tmp_path: Path, random: np.random.Generator) -> None:
    for i in range(4):
        picture(tmp_path / f"{i}.png", random)
    manifest(tmp_path, ["0.png,JohnDoe,a,train", "1.png,P2,b,train", "2.png,JohnDoe,a,test", "3.png,P3,b,test"])
    with pytest.raises(UserError, match="1 patients occur in more than one split") as caught:
        read(tmp_path)
    assert "JohnDoe" not in str(caught.value)


def test_a_manifest_sets_aside_each_kind_of_bad_row(tmp_path: Path, random: np.random.Generator) -> None:
    data = tmp_path / "data"
    for i in range(4):
        picture(data / f"{i}.png", random)
    picture(tmp_path / "secret.png", random)
    (data / "link.png").symlink_to(tmp_path / "secret.png")
    (data / "loop.png").symlink_to(data / "loop.png")
    lines = [
        "0.png,P0,a,train", "1.png,P1,b,train", "2.png,P2,a,test", "3.png,P3,b,sometimes", "../secret.png,P4,a,train",
        "link.png,P5,a,train", f"{tmp_path}/secret.png,P6,a,train", "gone.png,P7,a,train", "0.png,P0,a,train", ",P8,a,train",
        "1.png,P1,a,train", "3.png,,a,train", "loop.png,P9,a,train", "=cmd.png,P9,a,train",
    ]  # fmt: skip
    images = scan(manifest(data, lines))
    assert counted(images) == len(lines)
    assert images.quarantine.counts() == {
        "path listed with two labels": 4, "outside the data folder": 3, "missing file": 2, "path listed twice": 1,
        "no path": 1, "unreadable": 1,
    }  # fmt: skip
    assert [str(where) for where in images.where] == ["row 2", "row 4"]


def test_unknown_splits_and_missing_patients_are_set_aside(tmp_path: Path, random: np.random.Generator) -> None:
    for i in range(5):
        picture(tmp_path / f"{i}.png", random)
    lines = ["0.png,P0,a,train", "1.png,P1,a,validation", "2.png,,a,test", "3.png,P3,b,sometimes", "4.png,P4,inf,test"]
    images = scan(manifest(tmp_path, lines))
    assert images.quarantine.counts() == {"no patient id": 1, "unknown split": 1, "label is not finite": 1}


@pytest.mark.parametrize("header", ["file,patient_id,label", "path,path,label", "0.png,P0,a"])
def test_wrong_columns_stop_and_name_the_right_ones(tmp_path: Path, random: np.random.Generator, header: str) -> None:
    picture(tmp_path / "0.png", random)
    with pytest.raises(UserError, match="path, patient_id, study_id, label, split, mask"):
        read(manifest(tmp_path, ["0.png,P0,a"], header))


@pytest.mark.parametrize("content", [b"", b"path,label\n", b"\xff\xfe\x00bad", b'path,label\n"0.png,a\n', b"\n\n"])
def test_damaged_manifests_stop_with_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "manifest.csv").write_bytes(content)
    with pytest.raises(UserError) as caught:
        read(tmp_path / "manifest.csv")
    assert "\n" not in str(caught.value)


def test_a_folder_by_class_with_and_without_splits(tmp_path: Path, random: np.random.Generator) -> None:
    for split in ("train", "test"):
        for name in ("ill", "well"):
            for i in range(40):
                picture(tmp_path / "given" / split / name / f"{i}.png", random)
    images = read(tmp_path / "given")
    assert (
        images.classes == ("ill", "well")
        and set(images.split) == {"train", "val", "test"}
        and "no validation" in images.notes[0]
    )
    for i in range(60):
        picture(tmp_path / "free" / ("ill" if i % 2 else "well") / f"{i}.png", random)
    (tmp_path / "free" / "ill" / "notes.txt").write_text("x")
    free = read(tmp_path / "free")
    assert set(free.split) == {"train", "val", "test"} and free.quarantine.counts() == {"unknown format": 1}
    again = read(tmp_path / "free")
    assert again.split.tolist() == free.split.tolist() and again.sha256() == free.sha256() != images.sha256()


def test_images_of_one_patient_share_their_split(tmp_path: Path, random: np.random.Generator) -> None:
    for i in range(60):
        picture(tmp_path / f"{i}.png", random)
    images = read(manifest(tmp_path, [f"{i}.png,P{i // 3},{i % 2}" for i in range(60)], "path,patient_id,label"))
    assert images.audit.patients_in_two_splits == 0 and len(set(images.split)) == 3
    assert len(np.unique(images.patient)) == 20


def test_a_class_that_training_never_saw_is_set_aside(tmp_path: Path, random: np.random.Generator) -> None:
    made = arrays(random)
    made["test_labels"][0] = 7
    images = read(save(tmp_path, made))
    assert images.quarantine.counts() == {"class that training never saw": 1} and images.classes == ("0", "1")


def test_one_and_one_point_zero_are_the_same_class(tmp_path: Path, random: np.random.Generator) -> None:
    for i in range(3):
        picture(tmp_path / f"{i}.png", random)
    images = read(manifest(tmp_path, ["0.png,P0,1,train", "1.png,P1,1.0,train", "2.png,P2,0,train"]))
    assert images.classes == ("0", "1")


def test_nothing_usable_stops_and_says_why(tmp_path: Path) -> None:
    made = {"train_images": np.zeros((5, 28, 28), np.uint8), "train_labels": np.zeros(5)}
    with pytest.raises(UserError, match="5 records set aside: constant 5"):
        read(save(tmp_path, made))
    assert len(scan(tmp_path / "data.npz")) == 0


def test_the_audit_counts_on_a_case_small_enough_to_see() -> None:
    prints, split = np.array([0, 0, 1, 1, 2]), np.array(["train", "test", "train", "train", "val"])
    found, copies = audit(prints, split, np.array([0, 1, 1, 1, 0]), np.array([5, 5, 6, 6, 7]))
    assert {name: count for name, count in found.json().items() if count} == {
        "surplus_copies": 2, "copies_across_splits": 1, "held_out_copies": 1, "conflicting_labels": 2, "patients_in_two_splits": 1,
    }  # fmt: skip
    assert [(copy.row, copy.of) for copy in copies] == [(1, 0), (3, 2)]
