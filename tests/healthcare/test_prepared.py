"""What prepare wrote opens at once, keeps its split, and is refused where it is damaged or was read in another way."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from core.errors import UserError
from healthcare.cli import main
from healthcare.data import Reading, read, read_new
from healthcare.prepared import open_prepared, prepare


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    return int(end.value.code or 0)


@pytest.fixture
def raw(tmp_path: Path, random: np.random.Generator) -> Path:
    """A manifest of 60 patients without splits, several findings an image, and two bad rows."""
    folder = tmp_path / "raw"
    folder.mkdir()
    lines = ["path,patient_id,study_id,label"]
    for i in range(60):
        Image.fromarray(random.integers(0, 256, (20, 20), dtype=np.uint8)).save(folder / f"{i}.png")
        lines.append(f"{i}.png,SECRET{i // 2},S{i},{('mass', 'mass|nodule', '')[i % 3]}")
    (folder / "manifest.csv").write_text("\n".join([*lines, "gone.png,SECRET99,S,mass", "0.png,SECRET0,S,mass"]) + "\n")
    return folder


def test_it_opens_as_it_was_read_and_a_rerun_gives_the_same_split(raw: Path, tmp_path: Path) -> None:
    whole = read(raw)
    assert run("prepare", "--data", raw, "--out", tmp_path / "set") == 0
    again = read(tmp_path / "set")
    assert isinstance(again.pixels, np.memmap) and again.sha256() == whole.sha256()
    assert again.findings is not None and whole.findings is not None and again.study is not None
    np.testing.assert_array_equal(again.findings, whole.findings)
    np.testing.assert_array_equal(again.patient, whole.patient)
    assert again.quarantine.records == whole.quarantine.records and again.audit == whole.audit
    assert again.classes == ("mass", "nodule") and again.where.tolist() == whole.where.tolist()
    first = (tmp_path / "set" / "table.parquet").read_bytes()
    assert run("prepare", "--data", raw, "--out", tmp_path / "set") == 0
    assert (tmp_path / "set" / "table.parquet").read_bytes() == first
    assert run("prepare", "--data", raw, "--out", tmp_path / "other", "--seed", 1) == 0
    assert read(tmp_path / "other", Reading(split_seed=1)).split.tolist() != whole.split.tolist()
    assert len(read_new(tmp_path / "set")) == len(whole) and (tmp_path / "set" / "quarantine.csv").exists()


def test_no_id_of_a_patient_is_in_it(raw: Path, tmp_path: Path) -> None:
    prepare(read(raw), Reading(), tmp_path / "set")
    assert not [file.name for file in (tmp_path / "set").iterdir() if b"SECRET" in file.read_bytes()]


def test_other_settings_and_damage_stop_with_one_line(raw: Path, tmp_path: Path) -> None:
    place = prepare(read(raw), Reading(), tmp_path / "set")
    with pytest.raises(UserError, match="prepared with other settings: size"):
        read(place, Reading(size=64))
    with (place / "pixels.npy").open("r+b") as file:
        file.seek(-8, 2)
        file.write(b"\0\0\0\0\0\0\x80?")
    assert run("check", "--data", place, "--out", tmp_path) == 2
    (place / "pixels.npy").write_bytes((place / "pixels.npy").read_bytes()[:5000])
    with pytest.raises(UserError, match="damaged"):
        read(place)
    (place / "prepared.json").write_text("{")
    with pytest.raises(UserError, match="damaged"):
        open_prepared(place, Reading())


def test_a_folder_that_holds_something_else_is_not_replaced(raw: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="something else stands there"):
        prepare(read(raw), Reading(), raw)
    assert (raw / "manifest.csv").exists()
    place = prepare(read(raw), Reading(), tmp_path / "new" / "set")
    assert json.loads((place / "prepared.json").read_text())["images"] == 60


def test_check_of_a_prepared_folder_takes_its_own_settings(
    raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert run("prepare", "--data", raw, "--out", tmp_path / "set", "--size", 16, "--set", "split_seed=3") == 0
    assert run("check", "--data", tmp_path / "set", "--out", tmp_path) == 0
    said = capsys.readouterr().out
    assert "60 images of 1 × 16 × 16" in said and "SECRET" not in said
