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
    assert set(evaluation["floors"]) == {"raw_pixels", "self_training", "random_init", "scratch"}
    assert (folder / "report" / "report.html").stat().st_size > 10_000


def test_embed_and_predict_write_a_row_for_every_image_and_list_the_others(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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
    names = {"where", "predicted", "p(0)", "p(1)", "low(1)", "high(1)", "positive", "screened", "abstain"}
    assert set(predictions.columns) == names
    assert (predictions["low(1)"] <= predictions["high(1)"]).all()
    assert len(pd.read_csv(tmp_path / "quarantine.csv")) == 1
    monkeypatch.setenv("TACIT_KEY", "secret")
    for verb, model in (("embed", "run"), ("predict", "model")):
        out = ("--out", tmp_path / "h.parquet", "--pseudonymise")
        assert run(verb, "--run", folder / model, "--data", new, *out) == 0
        assert pd.read_parquet(tmp_path / "h.parquet")["where"].str.fullmatch("[0-9a-f]{32}").all()


def test_similar_cases_and_explanations_are_written(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = tmp_path / "new"
    assert run("synth", "--out", new, "--size", 20, "--seed", 5) == 0
    among = ("--among", folder / "data", "--out", tmp_path / "s.csv", "--k", 3)
    assert run("similar", "--run", folder / "run", "--data", new, *among) == 0
    table = pd.read_csv(tmp_path / "s.csv")
    assert len(table) == 60 and set(table["rank"]) == {1, 2, 3} and set(table["label"].astype(str)) <= {"0", "1"}
    monkeypatch.setenv("TACIT_KEY", "secret")
    assert run("similar", "--run", folder / "run", "--data", new, *among, "--pseudonymise") == 0
    hashed = pd.read_csv(tmp_path / "s.csv")
    assert hashed["where"].nunique() == 20 and not set(hashed["where"]) & set(table["where"])
    assert not set(hashed["similar"]) & set(table["similar"]) and (hashed["cosine"] == table["cosine"]).all()
    out = ("--out", tmp_path / "why", "--most", 4)
    assert run("explain", "--run", folder / "model", "--data", new, *out) == 0
    again = ("--question", "1", "--pseudonymise")  # in its place
    assert run("explain", "--run", folder / "model", "--data", new, *out, *again) == 0
    assert len(list((tmp_path / "why" / "overlays").glob("*.png"))) == 4
    maps = pd.read_csv(tmp_path / "why" / "maps.csv")
    assert len(maps) == 4 and set(maps["where"]) <= set(hashed["where"])
    page = (tmp_path / "why" / "explain.html").read_text()
    assert "NOT for clinical use" in page and "data:image/png;base64" in page and "test row" not in page
    assert "weights drawn anew" in capsys.readouterr().out


def test_a_declared_prevalence_facts_and_a_tuned_network(folder: Path, tmp_path: Path) -> None:
    data, model = folder / "data", folder / "model"
    for number, wish in enumerate(("0.05", "estimate")):
        out = tmp_path / f"{number}.csv"
        assert run("predict", "--run", model, "--data", data, "--out", out, "--prevalence", wish, "--coverage", 1) == 0
        assert not pd.read_csv(out)["abstain"].any()
    assert run("predict", "--run", model, "--data", data, "--out", tmp_path / "p.csv") == 0
    assert (pd.read_csv(tmp_path / "0.csv")["p(1)"] < pd.read_csv(tmp_path / "p.csv")["p(1)"]).all()
    (tmp_path / "facts.toml").write_text('reference_standard = "two readers <b>"\n')
    facts = ("--facts", tmp_path / "facts.toml", "--out", tmp_path / "model")
    assert run("finetune", "--run", folder / "run", "--data", data, *facts) == 0
    card = (tmp_path / "model" / "card.md").read_text()
    assert "reference standard: two readers" in card and "deidentification: not stated" in card
    assert "NOT for clinical use" in card


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
        ("predict", "--run", folder / "model", "--data", data, "--out", tmp_path / "p.csv", "--prevalence", "often"),
        ("predict", "--run", folder / "model", "--data", data, "--out", tmp_path / "p.csv", "--prevalence", "1.5"),
        ("predict", "--run", folder / "model", "--data", data, "--out", tmp_path / "p.csv", "--coverage", "0"),
        ("explain", "--run", folder / "model", "--data", data, "--out", tmp_path / "x", "--question", "lupus"),
        ("explain", "--run", good, "--data", data, "--out", tmp_path / "x"),
        ("explain", "--run", folder / "model", "--data", data, "--out", good),
        ("evaluate", "--run", good, "--data", data, "--out", tmp_path / "r", "--prevalence", 1),
        ("similar", "--run", good, "--data", data, "--among", data, "--out", tmp_path / "s.csv", "--k", 999),
        ("finetune", "--run", good, "--data", data, "--out", tmp_path / "r", "--facts", tmp_path / "gone.toml"),
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
    assert run(*options) == 0 and "from before" in capsys.readouterr().err
