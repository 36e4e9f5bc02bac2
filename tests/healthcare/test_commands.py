"""The commands, as a user types them: a round trip, and mistakes that end in one line and exit code 2."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from healthcare.cli import main


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    return int(end.value.code or 0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data, run and classifier, made by commands."""
    place = tmp_path_factory.mktemp("commands")
    tiny = ("--set", "batch=32", "encoder.width=8")
    assert run("synth", "--out", place / "data", "--size", 120, "--seed", 1) == 0
    assert run("pretrain", "--data", place / "data", "--out", place / "run", "--steps", 5, *tiny) == 0
    assert run("finetune", "--run", place / "run", "--data", place / "data", "--out", place / "model") == 0
    return place


def test_evaluate_writes_a_report_with_floors(folder: Path) -> None:
    assert (
        run("evaluate", "--run", folder / "run", "--data", folder / "data", "--out", folder / "report", "--draws", 1)
        == 0
    )
    evaluation = json.loads((folder / "report" / "evaluation.json").read_text())
    assert set(evaluation["floors"]) == {"raw_pixels", "random_init", "scratch"}
    assert (folder / "report" / "report.html").stat().st_size > 10_000


def test_embed_and_predict_write_a_row_for_every_image_and_list_the_others(folder: Path, tmp_path: Path) -> None:
    assert run("embed", "--run", folder / "run", "--data", folder / "data", "--out", tmp_path / "e.parquet") == 0
    table = pd.read_parquet(tmp_path / "e.parquet")
    assert len(table) == 120 and table.columns[0] == "where" and table["where"].is_unique
    assert np.isfinite(table.drop(columns="where").to_numpy()).all()
    new = tmp_path / "new"
    assert run("synth", "--out", new, "--size", 30, "--seed", 5, "--format", "manifest") == 0
    listed = (new / "manifest.csv").read_text().splitlines()
    listed = [line.replace(",lesion,", ",something never seen,") for line in listed]
    (new / "manifest.csv").write_text("\n".join([*listed, "images/gone.png,P9,clear,test"]) + "\n")
    assert run("predict", "--run", folder / "model", "--data", new, "--out", tmp_path / "p.csv") == 0
    predictions = pd.read_csv(tmp_path / "p.csv")
    assert len(predictions) == 30 and predictions["p(0)"].add(predictions["p(1)"]).round(4).eq(1).all()
    assert set(predictions.columns) == {"where", "predicted", "p(0)", "p(1)", "positive"}
    assert len(pd.read_csv(tmp_path / "quarantine.csv")) == 1


def test_check_finds_leaks_and_exits_1(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert run("check", "--data", folder / "data", "--out", tmp_path) == 0
    with np.load(folder / "data" / "synthetic.npz") as arrays:
        made = dict(arrays)
    made["test_patients"][0] = made["train_patients"][0]
    np.savez(tmp_path / "leak.npz", **made)
    assert run("check", "--data", tmp_path / "leak.npz", "--out", tmp_path) == 1
    assert "patients in two splits: 1" in capsys.readouterr().out
    np.savez(tmp_path / "flat.npz", train_images=np.zeros((3, 28, 28), np.uint8), train_labels=np.zeros(3))
    assert run("check", "--data", tmp_path / "flat.npz", "--out", tmp_path) == 1
    assert (tmp_path / "quarantine.csv").read_text().count("constant") == 3


def test_mistakes_end_in_one_line_and_exit_code_2(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    data, good = folder / "data", folder / "run"
    (tmp_path / "empty").mkdir()
    np.savez(
        tmp_path / "one.npz",
        train_images=np.random.default_rng(0).integers(0, 255, (9, 28, 28)),
        train_labels=np.ones(9),
    )
    mistakes = [
        ("pretrain", "--data", tmp_path / "gone.npz", "--out", tmp_path / "r", "--steps", 2),
        ("pretrain", "--data", tmp_path / "empty", "--out", tmp_path / "r", "--steps", 2),
        ("pretrain", "--data", data, "--out", tmp_path / "r", "--steps", 2, "--minutes", 1),
        ("pretrain", "--data", data, "--out", tmp_path / "r", "--steps", -2),
        ("pretrain", "--data", data, "--out", tmp_path / "r", "--steps", 2, "--set", "nonsense=3"),
        ("pretrain", "--data", data, "--out", tmp_path / "r", "--steps", 2, "--set", "batch=1"),
        ("pretrain", "--data", data, "--out", tmp_path / "r", "--steps", 2, "--device", "abacus"),
        ("evaluate", "--run", tmp_path / "gone", "--data", data, "--out", tmp_path / "r"),
        ("evaluate", "--run", good, "--data", tmp_path / "one.npz", "--out", tmp_path / "r"),
        ("predict", "--run", good, "--data", data, "--out", tmp_path / "p.csv"),
        ("predict", "--run", folder / "model", "--data", data, "--out", tmp_path / "p.docx"),
        ("bench", "--minutes", 0),
    ]  # fmt: skip
    for arguments in mistakes:
        capsys.readouterr()
        assert run(*arguments) == 2, arguments
        lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("tacit-healthcare")]
        assert len(lines) == 1, arguments


def test_an_interrupted_bench_goes_on_with_the_parts_it_has(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    options = ("bench", "--only", "published", "--out", tmp_path / "bench")
    assert run(*options) == 0
    results = json.loads((tmp_path / "bench" / "results.json").read_text())
    assert {r["role"] for r in results} == {"published"} and all(0.9 < r["value"] < 1 for r in results)
    capsys.readouterr()
    assert run(*options) == 0 and "from before" in capsys.readouterr().out
