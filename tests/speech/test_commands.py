"""The commands, as a user types them: the whole way on tiny data, and one clear line for what is wrong."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from speech.cli import main

ROOT = Path(__file__).parents[2]


def command(*arguments):
    """Exit code of a command."""
    with pytest.raises(SystemExit) as ended:
        main([str(a) for a in arguments])
    return ended.value.code


SMALL = ("encoder.width=4", "encoder.features=16", "encoder.segments=2", "views.frames=16", "batch_size=16")


@pytest.fixture(autouse=True)
def one_cost(monkeypatch):
    """The probe's own cross-validation is core's matter and slow."""
    from speech import classifier, probes, readout

    for module in (classifier, probes, readout):
        monkeypatch.setattr(module, "COSTS", (1e-2,))


@pytest.fixture(scope="module")
def run(spoken, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "run"
    assert command("pretrain", "--data", spoken, "--out", out, "--steps", 6, "--seed", 1, "--set", *SMALL) == 0
    return out


def test_pretrain_evaluate_and_the_report(spoken, run, tmp_path, capsys):
    assert (
        command(
            "evaluate",
            "--run",
            run,
            "--data",
            spoken,
            "--out",
            tmp_path / "r",
            "--draws",
            1,
            "--scratch-steps",
            5,
        )
        == 0
    )
    found = json.loads((tmp_path / "r" / "evaluation.json").read_text())
    assert set(found["answers"]) == {"pretraining", "best_tool", "labels_saved"}
    assert {
        "random init + logistic regression",
        "from scratch",
        "log-mel mean and deviation",
        "log-mel in 8 segments",
    } == set(found["floors"])
    assert {"accuracy", "accuracy@10%", "macro_f1"} == set(found["metrics"])
    for figures in [found["metrics"], *found["floors"].values()]:
        assert all(0 <= f["low"] <= f["value"] <= f["high"] <= 1 for f in figures.values())
    assert {row["arm"] for row in found["label_curve"]} >= {"pretrained", "scratch", "random init"}
    text = (tmp_path / "r" / "report.html").read_text() + json.dumps(found)
    assert "voice0" not in text and str(tmp_path) not in text
    assert "did" not in capsys.readouterr().err.split("\n")[-1]


def test_finetune_predict_and_embed(spoken, run, tmp_path, monkeypatch):
    monkeypatch.setenv("TACIT_KEY", "key")
    assert command("finetune", "--run", run, "--data", spoken, "--out", tmp_path / "c", "--split", "train") == 0
    assert command("predict", "--run", tmp_path / "c", "--data", spoken, "--out", tmp_path / "p.csv") == 0
    assert command("embed", "--run", run, "--data", spoken, "--out", tmp_path / "e.parquet", "--pseudonymise") == 0
    said, features = pd.read_csv(tmp_path / "p.csv"), pd.read_parquet(tmp_path / "e.parquet")
    assert len(said) == len(features) == 120 and said["file"].str.endswith(".wav").all()
    assert said["probability"].between(0, 1).all() and set(said["label"]) <= {f"word{i}" for i in range(10)}
    assert not features["file"].isin(said["file"]).any() and np.isfinite(features.drop(columns="file").to_numpy()).all()


def test_finetune_on_few_labels_says_what_it_chose_and_is_read_back(spoken, run, tmp_path, capsys):
    few = ("finetune", "--run", run, "--data", spoken, "--out", tmp_path / "c", "--split", "train", "--tune", "few")
    assert command(*few, "--minutes", 0.002) == 0
    assert re.search(r"the encoder stays as it is|fine-tuned at a rate of ", capsys.readouterr().err)
    assert command("predict", "--run", tmp_path / "c", "--data", spoken, "--out", tmp_path / "p.csv") == 0
    assert pd.read_csv(tmp_path / "p.csv")["probability"].between(0, 1).all()


def test_recordings_that_cannot_be_read_are_listed_beside_the_predictions(spoken, run, tmp_path):
    data = tmp_path / "new"
    data.mkdir()
    for path in sorted(spoken.glob("*.wav"))[:3]:
        (data / path.name).write_bytes(path.read_bytes())
    (data / "=cmd.wav").write_bytes(b"broken")
    assert command("embed", "--run", run, "--data", data, "--out", tmp_path / "e.parquet") == 0
    aside = pd.read_csv(tmp_path / "e.quarantine.csv")
    assert len(pd.read_parquet(tmp_path / "e.parquet")) == 3 and aside["where"].tolist() == ["'=cmd.wav"]


def test_check_says_what_is_wrong_and_where(spoken, tmp_path, capsys):
    assert command("check", "--data", spoken) == 0
    (tmp_path / "a.wav").write_bytes(b"")
    assert command("check", "--data", tmp_path, "--out", tmp_path / "o") == 1
    assert "1 × empty file" in capsys.readouterr().out
    assert (tmp_path / "o" / "quarantine.csv").read_text().splitlines()[1].startswith("a.wav,empty file")


def test_labels_of_test_speakers_that_training_never_saw_are_counted(spoken, run, tmp_path):
    import shutil

    data = tmp_path / "data"
    shutil.copytree(spoken, data)
    table = pd.read_csv(data / "metadata.csv")
    last = table.index[table["split"] == "test"][0]
    table.loc[last, "label"] = "unheard"
    table.to_csv(data / "metadata.csv", index=False)
    assert (
        command("evaluate", "--run", run, "--data", data, "--out", tmp_path / "r", "--draws", 1, "--scratch-steps", 5)
        == 0
    )
    protocol = json.loads((tmp_path / "r" / "evaluation.json").read_text())["protocol"]
    assert protocol["test recordings of classes never seen in training"] == 1


RUN = ("--run", "{run}", "--data", "{data}", "--out", "{tmp}/x")
TRAIN = ("pretrain", "--data", "{data}", "--out", "{tmp}/x", "--steps", 1)
WRONG = {
    "no weighted sum": ("finetune", *RUN, "--tune", "layers"),
    "layers differ in width": ("evaluate", *RUN, "--probe", "layers"),
    "sounds": ("evaluate", *RUN, "--sounds", 99),
    "rising fractions": ("evaluate", *RUN, "--fractions", 1, 0.1),
    "play 0 to 5": ("verify", *RUN, "--sounds", 9),
    "no such file": ("pretrain", "--data", "{tmp}/none", "--out", "{tmp}/x", "--steps", 1),
    "get it from|no such file": ("pretrain", "--data", "fsdd", "--out", "{tmp}/x", "--steps", 1),
    "no run there": ("evaluate", "--run", "{tmp}/none", "--data", "{data}", "--out", "{tmp}/x"),
    "no classifier": ("predict", "--run", "{run}", "--data", "{data}", "--out", "{tmp}/x.csv"),
    "unknown setting": (*TRAIN, "--set", "views.size=3"),
    "is not a value": (*TRAIN, "--set", "batch_size=many"),
    "both --steps and --minutes": (*TRAIN, "--minutes", 1),
    "cannot be used here": (*TRAIN, "--device", "cuda:99"),
    "0 steps from scratch": ("evaluate", *RUN, "--scratch-steps", 0),
    "there is no fold": (*TRAIN, "--fold", 99),
    "no recording is in split": ("finetune", *RUN, "--split", "dev"),
}


@pytest.mark.parametrize("words", WRONG)
def test_a_mistake_is_one_line_and_exit_code_2(words, spoken, run, tmp_path, capsys, monkeypatch):
    import re

    monkeypatch.delenv("TACIT_DATA", raising=False)
    places = {"tmp": str(tmp_path), "data": str(spoken), "run": str(run)}
    assert command(*[a.format(**places) if isinstance(a, str) else a for a in WRONG[words]]) == 2
    last = capsys.readouterr().err.strip().split("\n")[-1]
    assert last.startswith("tacit-speech ") and re.search(words, last)


def test_a_run_that_saw_the_test_speakers_cannot_be_evaluated_on_them(spoken, tmp_path, capsys):
    assert (
        command("pretrain", "--data", spoken, "--out", tmp_path / "r", "--steps", 1, "--everything", "--set", *SMALL)
        == 0
    )
    assert command("evaluate", "--run", tmp_path / "r", "--data", spoken, "--out", tmp_path / "x") == 2
    assert "pretraining saw 40 of 40 test recordings" in capsys.readouterr().err


def test_a_foreign_core_is_named_in_one_line(tmp_path):
    (tmp_path / "core").mkdir()
    (tmp_path / "core" / "__init__.py").write_text("")
    environment = dict(os.environ, PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}")
    done = subprocess.run(
        [sys.executable, "-P", "-m", "speech", "check", "--data", "x"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "another package named core" in done.stderr


def test_the_command_line_imports_nothing_heavy():
    code = "import sys, speech.cli; print([m for m in ('torch', 'sklearn', 'pandas', 'torchaudio', 'matplotlib', 'soundfile') if m in sys.modules])"
    environment = dict(os.environ, PYTHONPATH=str(ROOT))
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
