from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from core.errors import UserError
from finance.cli import main

SMALL = [
    "--set",
    "shape.dim=32",
    "shape.depth=1",
    "shape.heads=2",
    "shape.context=64",
    "batch_size=16",
    "train.lr=0.005",
]
ROOT = Path(__file__).parents[2]


def tacit_finance(*arguments: object) -> int:
    with pytest.raises(SystemExit) as end:
        main([str(a) for a in arguments])
    return int(end.value.code or 0)


@pytest.fixture(scope="module")
def run(folder: Path, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    assert tacit_finance("pretrain", "--data", folder, "--out", out, "--steps", 100, *SMALL) == 0
    return out


def test_synth_check_and_files(tmp_path, capsys):
    assert tacit_finance("synth", "--out", tmp_path / "d", "--size", 20, "--days", 10, "--csv") == 0
    assert tacit_finance("check", "--data", tmp_path / "d", "--out", tmp_path) == 0
    assert "20 cards" in capsys.readouterr().out
    frame = pd.read_csv(tmp_path / "d" / "transactions.csv", dtype=str)
    frame.loc[0, "amount"] = "inf"
    frame.loc[1, "time"] = "soon"
    frame.to_csv(tmp_path / "d" / "transactions.csv", index=False)
    assert tacit_finance("check", "--data", tmp_path / "d", "--out", tmp_path) == 0
    assert len(pd.read_csv(tmp_path / "quarantine.csv")) == 2
    frame.assign(amount="none").to_csv(tmp_path / "d" / "transactions.csv", index=False)
    assert tacit_finance("check", "--data", tmp_path / "d", "--out", tmp_path) == 1


def test_evaluate_writes_an_honest_report(folder, run, tmp_path, capsys):
    assert tacit_finance("evaluate", "--run", run, "--data", folder, "--out", tmp_path / "r", "--draws", 2) == 0
    found = json.loads((tmp_path / "r" / "evaluation.json").read_text())
    assert {"pretraining", "best_tool", "labels_saved"} == set(found["answers"])
    assert {
        "logistic_regression",
        "random_forest",
        "gradient_boosting",
        "boosted_trees",
        "random_init",
        "isolation_forest",
        "knn",
    } <= set(found["floors"])
    assert {row["arm"] for row in found["label_curve"]} == {"pretrained", "random_init", "raw", "scratch"}
    assert all(0 <= row["value"] <= 1 for row in found["label_curve"])
    figure = found["metrics"]["average_precision"]
    assert figure["low"] <= figure["value"] <= figure["high"]
    assert "label_free.auroc@scenario=3" in found["metrics"]
    page = (tmp_path / "r" / "report.html").read_text()
    assert "c00001" not in page and str(tmp_path) not in page
    assert not re.search(r"[ct][0-9]{5}", page)  # no card, no terminal
    for title in ("Alerts a day", "Calibration", "Reasons of the top alerts", "Drift", "Kinds of fraud, with labels"):
        assert title in page


def test_score_keeps_rows_and_ids_and_names_reasons(folder, run, tmp_path):
    data = pd.read_parquet(folder / "transactions.parquet").drop(columns=["fraud", "scenario"])
    data.loc[5, "channel"] = "telephone"  # never seen
    place = tmp_path / "new"
    place.mkdir()
    data.to_parquet(place / "transactions.parquet")
    (place / "schema.toml").write_text((folder / "schema.toml").read_text())
    assert tacit_finance("score", "--run", run, "--data", place, "--out", tmp_path / "s.parquet") == 0
    scores = pd.read_parquet(tmp_path / "s.parquet")
    assert scores["row"].tolist() == list(range(len(data)))
    assert scores["transaction"].tolist() == data["transaction"].tolist()
    assert np.isfinite(scores[["score", "why: amount", "why: channel"]]).all().all()


def test_embed_pseudonymises_with_a_key_only(folder, run, tmp_path, monkeypatch):
    arguments = (
        "embed",
        "--run",
        run,
        "--data",
        folder,
        "--per",
        "card",
        "--pseudonymise",
        "--out",
        tmp_path / "e.parquet",
    )
    monkeypatch.delenv("TACIT_KEY", raising=False)
    assert tacit_finance(*arguments) == 2
    monkeypatch.setenv("TACIT_KEY", "secret")
    assert tacit_finance(*arguments) == 0
    table = pd.read_parquet(tmp_path / "e.parquet")
    assert table["card"].nunique() == len(table) and not table["card"].str.startswith("c0").any()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["pretrain", "--data", "nowhere", "--out", "o"], "no such file"),
        (["pretrain", "--data", "FOLDER", "--out", "o", "--method", "magic"], "unknown method 'magic'"),
        (
            ["pretrain", "--data", "FOLDER", "--out", "o", "--steps", "5", "--minutes", "1"],
            "both --steps and --minutes",
        ),
        (["pretrain", "--data", "FOLDER", "--out", "o", "--set", "shape.size=3"], "unknown setting"),
        (["pretrain", "--data", "FOLDER", "--out", "o", "--until", "soon"], "is no date (--until)"),
        (["pretrain", "--data", "FOLDER", "--out", "o", "--device", "abacus"], "cannot be used here"),
        (["score", "--run", "nowhere", "--data", "FOLDER", "--out", "s.csv"], "no run there"),
        (["bench", "--only", "everything"], "unknown test"),
    ],
)
def test_mistakes_end_in_one_line_and_code_2(arguments, says, folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert tacit_finance(*[str(folder) if a == "FOLDER" else a for a in arguments]) == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert says in error[-1] and "Traceback" not in "".join(error)


def test_one_class_and_a_run_that_saw_the_test_days_are_refused(folder, run, tmp_path, capsys):
    data = pd.read_parquet(folder / "transactions.parquet")
    place = tmp_path / "d"
    place.mkdir()
    (place / "schema.toml").write_text((folder / "schema.toml").read_text())
    data.assign(fraud=0).to_parquet(place / "transactions.parquet")
    assert tacit_finance("evaluate", "--run", run, "--data", place, "--out", tmp_path / "r") == 2
    assert "every label is genuine" in capsys.readouterr().err
    late = tmp_path / "late"
    assert (
        tacit_finance("pretrain", "--data", folder, "--out", late, "--steps", 2, "--until", "2030-01-01", *SMALL) == 0
    )
    assert tacit_finance("evaluate", "--run", late, "--data", folder, "--out", tmp_path / "r") == 2
    assert "reach into the test period" in capsys.readouterr().err


def test_fewer_cards_than_a_batch_are_enough_and_one_is_not(tmp_path, capsys):
    assert tacit_finance("synth", "--out", tmp_path / "d", "--size", 5, "--days", 30) == 0
    assert tacit_finance("pretrain", "--data", tmp_path / "d", "--out", tmp_path / "r", "--steps", 2, *SMALL) == 0
    frame = pd.read_parquet(tmp_path / "d" / "transactions.parquet").assign(card="one")
    frame.to_parquet(tmp_path / "d" / "transactions.parquet")
    assert tacit_finance("pretrain", "--data", tmp_path / "d", "--out", tmp_path / "q", "--steps", 2, *SMALL) == 2


def test_a_foreign_core_on_the_path_is_one_line(tmp_path):
    (tmp_path / "core").mkdir()
    (tmp_path / "core" / "__init__.py").write_text("")
    path = {"PYTHONPATH": f"{tmp_path}:{ROOT}", "PATH": ""}
    done = subprocess.run([sys.executable, "-P", "-m", "finance", "--help"], capture_output=True, text=True, env=path)
    assert done.returncode == 2
    assert "another package named core" in done.stderr and len(done.stderr.strip().splitlines()) == 1
    done = subprocess.run([sys.executable, "-P", "-c", "import finance"], capture_output=True, text=True, env=path)
    assert "ImportError: another package named core" in done.stderr


def test_help_and_import_load_nothing_heavy():
    code = (
        "import sys, finance, finance.cli\n"
        "try:\n    finance.cli.main(['pretrain', '--help'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'pandas', 'sklearn', 'numpy', 'lightly'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, env={"PYTHONPATH": str(ROOT), "PATH": ""}
    )
    assert done.returncode == 0, done.stderr


def test_a_threshold_keeps_its_budget_when_scores_are_read_again(folder, run, log, tmp_path, capsys):
    since = str(np.datetime64(int(log.day.max()) - 9, "D"))
    chosen, out = tmp_path / "threshold.json", tmp_path / "s.parquet"
    choose = ["threshold", "--run", run, "--data", folder, "--since", since, "--out", chosen]
    assert tacit_finance(*choose, "--per-day", 2) == 0
    assert "at most 2 cards a day" in capsys.readouterr().out
    score = ["score", "--run", run, "--data", folder, "--since", since, "--threshold", chosen]
    assert tacit_finance(*score, "--out", out) == 0
    scores = pd.read_parquet(out)
    raw = pd.read_parquet(folder / "transactions.parquet").iloc[scores["row"]].reset_index(drop=True)
    alerts = raw[scores["alert"].to_numpy()].groupby([pd.to_datetime(raw["time"]).dt.date, "card"]).ngroups
    assert 0 < alerts <= 20 and scores["alert"].eq(scores["score"] >= json.loads(chosen.read_text())["score"]).all()
    assert tacit_finance(*choose, "--alert-cost", 1) == 0
    assert "saved a day" in capsys.readouterr().out and json.loads(chosen.read_text())["saved_a_day"][0] >= 0
    assert tacit_finance(*choose) == 2 and tacit_finance(*choose, "--per-day", 1, "--alert-cost", 1) == 2


def test_drift_names_every_field_and_the_score(folder, run, tmp_path, capsys):
    assert tacit_finance("drift", "--run", run, "--data", folder, "--days", 14, "--out", tmp_path / "d.csv") == 0
    table = pd.read_csv(tmp_path / "d.csv")
    assert {"score", "amount", "gap", "hour", "weekday", "channel"} <= set(table["column"])
    assert table["psi"].ge(0).all() and set(table["verdict"]) <= {"stable", "moved", "far"}
    assert tacit_finance("drift", "--run", run, "--data", folder, "--since", "2050-01-01") == 2
    assert "choose a day inside the log" in capsys.readouterr().err


def test_explain_prints_the_highest_scores_with_their_reasons(folder, run, tmp_path, capsys):
    arguments = ["explain", "--run", run, "--data", folder, "--top", 3, "--reasons", 2, "--out", tmp_path / "why.csv"]
    assert tacit_finance(*arguments) == 0
    lines = capsys.readouterr().out.strip().splitlines()
    assert [line.startswith("  ") for line in lines[:-1]] == [False, True, True] * 3
    scores = [float(line.split("score ")[1]) for line in lines if line.startswith("row")]
    assert scores == sorted(scores, reverse=True)
    table = pd.read_csv(tmp_path / "why.csv")
    assert table["row"].nunique() == 3 and table.groupby("row")["field"].nunique().eq(table["field"].nunique()).all()
    assert tacit_finance("explain", "--run", run, "--data", folder, "--since", "2050-01-01") == 2
    assert "give an earlier day" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "says"),
    [({"draws": 0}, "0 draws"), ({"fractions": ()}, "of 0 shares"), ({"scratch_share": 0.0}, "a share of 0 of the steps")],
)  # fmt: skip
def test_what_cannot_be_evaluated_is_said_before_it_begins(given, says):
    from finance.evaluation import Settings

    with pytest.raises(UserError, match=says):
        Settings(**given)
