"""The commands, as a user types them: a round trip, and one clear line with exit code 2 for what cannot work."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from recsys.cli import main

ROOT = Path(__file__).parents[2]


def call(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(a) for a in arguments])
    return int(ended.value.code or 0)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recsys")
    assert call("synth", "--out", folder / "data", "--size", 120) == 0
    settings = ("--set", "train.lr=0.01", "batch_size=32")
    assert call("pretrain", "--data", folder / "data", "--out", folder / "run", "--steps", 30, *settings) == 0
    return folder


def test_evaluate_writes_json_and_a_report(made, tmp_path, capsys):
    assert call("evaluate", "--run", made / "run", "--data", made / "data", "--out", tmp_path, "--draws", 1) == 0
    found = json.loads((tmp_path / "evaluation.json").read_text())
    assert set(found["answers"]) == {"pretraining", "best_tool", "labels_saved"}
    assert found["protocol"]["training saw"].startswith("the same data without")
    assert (tmp_path / "report.html").exists()
    assert "session_knn" in capsys.readouterr().out


def test_recommend_and_embed_write_tables_that_join_to_the_data(made, tmp_path, monkeypatch):
    sessions = pd.DataFrame(
        {"user_id": ["=1+1", "b", "b"], "item_id": ["never", None, "i000001"], "timestamp": [1, 2, 3]}
    )
    sessions.to_csv(tmp_path / "new.csv", index=False)
    assert (
        call("recommend", "--run", made / "run", "--data", tmp_path / "new.csv", "--out", tmp_path / "r.csv", "--k", 3)
        == 0
    )
    found = pd.read_csv(tmp_path / "r.csv")
    assert found["user"].tolist() == ["'=1+1"] * 3 + ["b"] * 3  # safe to open in a spreadsheet
    assert found["note"].iloc[0] == "no known item: popularity"
    assert call("embed", "--run", made / "run", "--data", tmp_path / "new.csv", "--out", tmp_path / "e.parquet") == 0
    vectors = pd.read_parquet(tmp_path / "e.parquet").set_index("user")
    assert list(vectors.index) == ["=1+1", "b"]
    assert vectors.loc["b"].notna().all()
    of = ("--of", "whole", "--out", tmp_path / "w.parquet")
    assert call("embed", "--run", made / "run", "--data", tmp_path / "new.csv", *of) == 0
    assert (
        pd.read_parquet(tmp_path / "w.parquet").shape[1] == 3 * (vectors.shape[1]) + 2
    )  # and the length, and the user
    monkeypatch.setenv("TACIT_KEY", "secret")
    given = ("--run", made / "run", "--data", tmp_path / "new.csv", "--pseudonymise")
    for verb, rows in (("recommend", 20), ("embed", 2)):
        assert call(verb, *given, "--out", tmp_path / "h.parquet") == 0
        users = pd.read_parquet(tmp_path / "h.parquet")["user"]
        assert len(users) == rows and users.nunique() == 2 and users.str.fullmatch("[0-9a-f]{32}").all()


def test_similar_and_filters_read_lists_of_items(made, tmp_path, capsys):
    one, other = sorted(pd.read_csv(made / "data" / "interactions.csv")["item_id"].unique())[:2]
    (tmp_path / "stock.txt").write_text(f"{one}\n\n {other} \n", encoding="utf-8")
    given = ("--run", made / "run", "--out", tmp_path / "s.csv")
    assert call("similar", *given, "--file", tmp_path / "stock.txt", "--k", 3) == 0
    assert pd.read_csv(tmp_path / "s.csv")["item"].tolist() == [one] * 3 + [other] * 3
    assert call("recommend", *given, "--data", made / "data", "--only", tmp_path / "stock.txt", "--repeat") == 0
    assert set(pd.read_csv(tmp_path / "s.csv")["item"]) == {one, other}
    assert call("similar", *given) == 2
    assert "no item is given" in capsys.readouterr().err
    (tmp_path / "stock.txt").write_text("\n")
    assert call("recommend", *given, "--data", made / "data", "--without", tmp_path / "stock.txt") == 2
    assert "names no item" in capsys.readouterr().err


def test_check_counts_and_writes_quarantine(tmp_path, capsys):
    table = pd.DataFrame({"user": [1, 1, None], "item": ["a", "b", "c"], "time": [1, -5, 3]})
    table.to_csv(tmp_path / "log.csv", index=False)
    assert call("check", "--data", tmp_path / "log.csv", "--out", tmp_path) == 0
    rows = pd.read_csv(tmp_path / "quarantine.csv")
    assert set(rows["reason"]) == {"negative time", "missing user"}
    assert "3 events read" in capsys.readouterr().out
    table.assign(time=-1).to_csv(tmp_path / "log.csv", index=False)
    assert call("check", "--data", tmp_path / "log.csv", "--out", tmp_path) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("pretrain", "--data", "absent.csv", "--out", "run"), "no such file or folder"),
        (
            ("pretrain", "--data", "{data}", "--out", "run", "--steps", "3", "--minutes", "1"),
            "both --steps and --minutes",
        ),
        (("pretrain", "--data", "{data}", "--out", "run", "--set", "model.width=3"), "unknown setting"),
        (("pretrain", "--data", "{data}", "--out", "run", "--steps", "3", "--device", "abacus"), "cannot be used here"),
        (("pretrain", "--data", "{data}", "--out", "run", "--steps", "3", "--item", "thing"), "no item column"),
        (("evaluate", "--run", "nowhere", "--data", "{data}", "--out", "report"), "no run there"),
        (("evaluate", "--run", "{run}", "--data", "{data}", "--out", "r", "--sampled", "-1"), "-1 sampled items"),
        (("recommend", "--run", "{run}", "--data", "{data}", "--k", "0"), "k is 0"),
        (("recommend", "--run", "{run}", "--data", "{data}", "--out", "r.xlsx"), "no table format"),
        (("synth", "--out", "new", "--size", "1"), "at least 2"),
        (("bench", "--only", "toys", "--seeds", "0"), "0 seeds"),
    ],
)
def test_mistakes_end_in_one_line_and_exit_code_2(made, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    given = [a.format(data=made / "data", run=made / "run") for a in arguments]
    assert call(*given) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert message in said[-1]
    assert not any("Traceback" in line for line in said)


def test_one_item_only_is_refused(tmp_path, capsys):
    pd.DataFrame({"user_id": list("aabb"), "item_id": ["x"] * 4, "timestamp": range(4)}).to_csv(
        tmp_path / "a.csv", index=False
    )
    assert call("pretrain", "--data", tmp_path / "a.csv", "--out", tmp_path / "run", "--steps", 2) == 2
    assert "one item only" in capsys.readouterr().err


def test_a_foreign_core_is_named_in_one_line(tmp_path):
    (tmp_path / "core").mkdir()
    (tmp_path / "core" / "__init__.py").write_text("")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "recsys", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, env=environment)
    assert done.returncode == 2
    assert done.stderr.strip().count("\n") == 0
    assert "another package named 'core'" in done.stderr


def test_help_and_the_package_load_nothing_heavy():
    code = (
        "import sys, recsys, recsys.cli\n"
        "try: recsys.cli.main(['pretrain', '--help'])\n"
        "except SystemExit: pass\n"
        "print([m for m in ('torch', 'pandas', 'numpy', 'sklearn') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip().endswith("[]")


def test_a_prepared_log_is_trained_on_and_its_later_sessions_are_asked(made, tmp_path, capsys):
    items = sorted(pd.read_csv(made / "data" / "interactions.csv")["item_id"].unique())
    pd.DataFrame({"item_id": items, "category": [f"c{i % 5}" for i in range(len(items))]}).to_csv(
        tmp_path / "items.csv", index=False
    )
    log, folder = made / "data" / "interactions.csv", tmp_path / "prepared"
    given = ("--out", folder, "--min-item", 2, "--test-share", 0.2, "--attributes", tmp_path / "items.csv")
    assert call("prepare", "--data", log, *given) == 0
    assert (
        call("pretrain", "--data", folder, "--out", tmp_path / "run", "--steps", 10, "--method", "next+attributes") == 0
    )
    assert (
        call("evaluate", "--run", tmp_path / "run", "--data", folder, "--out", tmp_path / "report", "--draws", 1) == 0
    )
    found = json.loads((tmp_path / "report" / "evaluation.json").read_text())["protocol"]
    assert found["training saw"] == "the sessions before those that are asked"
    assert found["split"].startswith("later sessions")
    assert found["questions"] > found["sessions"] > 10
    capsys.readouterr()
    # a training session that is later than the test's first is a leak, whoever wrote it
    (folder / "train.parquet").write_bytes((folder / "test.parquet").read_bytes())
    assert call("evaluate", "--run", tmp_path / "run", "--data", folder, "--out", tmp_path / "report") == 2
    assert "train" in capsys.readouterr().err
