"""Names, ids and paths of patients stay out of everything but the lists made for the data's owner."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from healthcare.cli import main
from healthcare.reading_speed import ct_slice

PLANTED = ("Doe^Jane", "MRN-4711", "DoeJaneFolder", "ScanOfJaneDoe")


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    return int(end.value.code or 0)


def test_a_planted_name_id_and_path_appear_in_no_report_log_or_output(
    tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    random = np.random.default_rng(0)
    for number in range(100):
        data = ct_slice(random, number, 0, 16)
        data.PatientName, data.PatientID = "Doe^Jane", f"MRN-4711-{number}"
        place = tmp_path / "DoeJaneFolder" / ("ill" if number % 2 else "well")
        place.mkdir(parents=True, exist_ok=True)
        values = random.integers(900, 1300, (16, 16)) + (number % 2) * np.arange(16) * 20
        data.PixelData = values.astype(np.uint16).tobytes()
        data.save_as(place / f"ScanOfJaneDoe{number}.dcm", enforce_file_format=True)
    (place / "ScanOfJaneDoe.dcm").write_bytes(b"DoeJane")
    raw, reading = tmp_path / "DoeJaneFolder", ("reading.size=16", "batch=16", "encoder.width=8")
    assert run("check", "--data", raw, "--out", tmp_path / "lists", "--size", 16) == 0
    assert run("prepare", "--data", raw, "--out", tmp_path / "set", "--size", 16) == 0
    assert run("pretrain", "--data", tmp_path / "set", "--out", tmp_path / "run", "--steps", 3, "--set", *reading) == 0
    assert run("evaluate", "--run", tmp_path / "run", "--data", raw, "--out", tmp_path / "report", "--draws", 1) == 0
    said = "".join(capfd.readouterr())
    written = [file for place in ("run", "report") for file in (tmp_path / place).rglob("*") if file.is_file()]
    assert {"report.html", "evaluation.json", "card.md", "metrics.jsonl"} <= {file.name for file in written}
    for word in PLANTED:
        assert word.encode() not in said.replace(str(tmp_path / "DoeJaneFolder"), "").encode()
        assert not [file.name for file in written if word.encode() in file.read_bytes()], word
    assert "ScanOfJaneDoe.dcm" in (tmp_path / "lists" / "quarantine.csv").read_text()
    assert not [
        f.name for f in (tmp_path / "set").iterdir() if any(w in f.read_bytes() for w in (b"MRN-4711", b"Doe^Jane"))
    ]
