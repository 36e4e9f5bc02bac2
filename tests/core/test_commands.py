"""Settings, command lines, the report and the benchmark record."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from core.bench import Bench, combine, row
from core.cli import main
from core.config import from_dict, settings, to_dict
from core.datasets import Known, locate, verify
from core.errors import UserError
from core.evaluation import Answer, Evaluation, Section
from core.statistics import Estimate


@dataclass(frozen=True)
class Inner:
    lr: float = 0.1
    betas: tuple[float, float] = (0.9, 0.98)


@dataclass(frozen=True)
class Recipe:
    inner: Inner = field(default_factory=Inner)
    pool: Literal["mean", "last"] = "mean"
    steps: int | None = None
    causal: bool = False
    names: tuple[str, ...] = ("a",)
    side: Literal[1, 2] | None = None


@dataclass(frozen=True)
class Either:
    steps: int | None = None
    minutes: float | None = 1.0

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.minutes is None):
            raise UserError("one of both")


def test_changes_that_only_fit_together_are_made_together() -> None:
    assert settings(Either(), ["steps=5", "minutes=none"]) == Either(5, None)
    with pytest.raises(UserError, match="one of both"):
        settings(Either(), ["steps=5"])


def test_settings_change_nested_values_and_go_through_json() -> None:
    recipe = settings(
        Recipe(), ["inner.lr=1e-3", "pool=last", "steps=5", "causal=true", 'names=["x","y"]', "inner.betas=[0.5,1]"]
    )
    assert recipe == Recipe(Inner(0.001, (0.5, 1.0)), "last", 5, True, ("x", "y"))
    assert from_dict(Recipe, json.loads(json.dumps(to_dict(recipe)))) == recipe


@pytest.mark.parametrize(
    ("change", "message"),
    [("inner.rate=1", "unknown setting"), ("lr", "no '='"), ("pool=max", "choose from mean, last"), ("steps=many", "is not a value"),
     ("causal=3", "is not a value"), ("side=7", "give 1 or 2 or none"), ("steps.x=3", "has no parts")],
)  # fmt: skip
def test_settings_that_cannot_be_are_refused(change: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        settings(Recipe(), [change])
    with pytest.raises(UserError, match="unknown setting 'colour'"):
        from_dict(Recipe, {"colour": 1})


@dataclass(frozen=True)
class Fail:
    """Fails as asked."""

    how: Literal["user", "interrupt", "query", "memory", "file", "bug", "none"] = "none"

    def run(self) -> None:
        if self.how == "user":
            raise UserError("no such column 'x'", where="a.csv", mend="name another")
        if self.how == "file":
            Path("/nowhere/at/all").read_text()
        if self.how == "query":
            raise RuntimeError("Query interrupted")
        errors = {"interrupt": KeyboardInterrupt, "memory": MemoryError, "bug": ZeroDivisionError}
        if self.how in errors:
            raise errors[self.how]()


@pytest.mark.parametrize(
    ("how", "code", "line"),
    [("user", 2, "tacit-test fail: no such column 'x' (a.csv); name another"), ("interrupt", 130, "interrupted"), ("query", 130, "interrupted"),
     ("memory", 2, "not enough memory"), ("file", 2, "No such file or directory (/nowhere/at/all)"), ("none", 0, "")],
)  # fmt: skip
def test_mistakes_end_in_one_line(how: str, code: int, line: str, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as end:
        main("test", {"fail": Fail, "other": Fail}, "A test.", ["fail", "--how", how])
    error = capsys.readouterr().err
    assert end.value.code == code and line in error and error.count("\n") <= 1


@dataclass(frozen=True)
class Train:
    """Trains nothing."""

    steps: int | None = None
    minutes: float | None = None
    device: str = "cpu"

    def run(self) -> None:
        raise AssertionError("it should not have come so far")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [(("--steps", "1", "--minutes", "1"), "both --steps and --minutes are given"),
     (("--device", "banana"), "device 'banana' cannot be used here"), (("--device", "cuda:99"), "device 'cuda:99' cannot be used here")],
)  # fmt: skip
def test_flags_that_cannot_be_are_told_before_any_work(
    arguments: tuple[str, ...], line: str, capsys: pytest.CaptureFixture
) -> None:
    with pytest.raises(SystemExit) as end:
        main("test", {"train": Train, "other": Fail}, "A test.", ["train", *arguments])
    error = capsys.readouterr().err
    assert end.value.code == 2 and line in error and error.count("\n") == 1


def test_an_unknown_verb_is_answered_with_those_there_are(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as end:
        main("test", {"train": Train, "other": Fail}, "A test.", ["trian", "--steps", "1"])
    assert end.value.code == 2
    assert capsys.readouterr().err == "tacit-test: no verb 'trian'; choose from train, other\n"


def test_bugs_keep_their_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        main("test", {"fail": Fail, "other": Fail}, "A test.", ["fail", "--how", "bug"])


def evaluation() -> Evaluation:
    estimate = Estimate(0.9, 0.85, 0.94)
    return Evaluation(
        task="Test <script>alert(1)</script>", protocol={"n": 12_000, "split": "by <time>", "missing": math.nan}, main="auroc",
        metrics={"auroc": estimate}, floors={"raw & linear": {"auroc": Estimate(0.8, 0.7, 0.85)}, "worse": {"auroc": Estimate(0.5, 0.4, 0.6)}},
        answers={"pretraining": Answer("helps", Estimate(0.1, 0.02, 0.2), "against <scratch>")},
        label_curve=[{"fraction": f, "labels": n, "arm": a, "seed": 0, "metric": "auroc", "value": 0.8} for f, n in ((0.1, 10), (1, 100)) for a in ("pretrained", "scratch")],
        sections=[Section("Reasons", "Text", ("field",), (("<b>bold</b>",),))],
    )  # fmt: skip


def test_the_report_is_one_escaped_page_without_network(tmp_path: Path) -> None:
    page = evaluation().write(tmp_path / "report").read_text()
    assert "<script" not in page and "<b>bold" not in page and page.count("<svg") == 2
    links = re.findall(r"""(?:src|href)=["']([^"'#]+)""", page)
    assert not [link for link in links if not link.startswith("data:")]
    assert page == evaluation().write(tmp_path / "again").read_text()
    saved = json.loads((tmp_path / "report" / "evaluation.json").read_text())
    assert saved["protocol"]["missing"] is None and saved["answers"]["pretraining"]["estimate"]["low"] == 0.02
    assert evaluation().best_floor()[0] == "raw & linear"


def test_what_was_found_is_told_and_an_interval_only_where_there_is_one(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    found = evaluation()
    found.metrics["aurc"] = Estimate(0.25, math.nan, math.nan)
    found.answers["labels_saved"] = Answer("not measured", Estimate(math.nan, math.nan, math.nan), "no curve")
    found.tell(tmp_path)
    assert capsys.readouterr().out.splitlines() == [
        "auroc: 0.900 [0.850, 0.940]", "aurc: 0.250", "pretraining: helps, 0.100 [0.020, 0.200]: against <scratch>",
        "labels_saved: not measured, not measured: no curve", f"report: {tmp_path / 'report.html'}",
    ]  # fmt: skip


def test_a_stopped_bench_goes_on_and_failures_stay_in_the_record(tmp_path: Path) -> None:
    calls: list[int] = []

    def work(seed: int):
        def rows():
            calls.append(seed)
            if seed == 2:
                raise UserError("no data")
            return [
                row("d", "m", "ours", "auroc", Estimate(0.8 + 0.1 * seed, 0.7, 0.9), goal=0.75),
                row("d", "f", "floor", "auroc", 0.5),
            ]

        return rows

    for _ in range(2):
        bench = Bench(tmp_path, {"minutes": 1}, say=lambda line: None)
        for seed in range(3):
            bench.run("t", seed, work(seed))
    assert calls == [0, 1, 2, 2]  # what failed is tried again
    results = json.loads(bench.write().read_text())
    ours = next(r for r in results if r["method"] == "m")
    assert ours["value"] == pytest.approx(0.85) and ours["seeds"] == 2 and ours["low"] < 0.8 and ours["goal"] == 0.75
    failed = next(r for r in results if r["metric"] == "failed")
    assert failed["value"] is None and failed["note"] == "no data"
    Bench(tmp_path, {"minutes": 2}, say=lambda line: None).run("t", 0, work(0))
    assert calls == [0, 1, 2, 2, 0]


def test_the_interval_over_seeds_is_never_narrower_than_one_seeds() -> None:
    def one(value: float) -> dict:
        return {
            "test": "t",
            "minutes": 1.0,
            "machine": "",
            "commit": "",
            "seed": 0,
            **row("d", "m", "ours", "x", Estimate(value, value - 0.1, value + 0.1)),
        }

    assert combine([one(0.5), one(0.5), one(0.5)])["high"] == pytest.approx(0.6, abs=1e-3)
    assert combine([one(0.4), one(0.5), one(0.6)])["high"] > 0.74
    assert combine([one(0.7), one(0.9)])["high"] == 1.0
    assert combine([{**one(value), "metric": "gain x"} for value in (0.1, 0.9)])["low"] < 0  # a difference is no share
    published = {**one(0.3), "low": None, "high": None}
    assert combine([published, published])["high"] is None


def test_known_sets_say_where_to_get_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = {"beauty": Known("recsys/beauty", {"a.txt": "0" * 64}, "its authors")}
    monkeypatch.setenv("TACIT_DATA", str(tmp_path))
    with pytest.raises(UserError, match="get it from its authors"):
        locate("beauty", known)
    (tmp_path / "recsys/beauty").mkdir(parents=True)
    assert locate("beauty", known) == tmp_path / "recsys/beauty"
    with pytest.raises(UserError, match="missing"):
        verify(tmp_path / "recsys/beauty", known["beauty"])
    (tmp_path / "recsys/beauty/a.txt").write_text("other")
    with pytest.raises(UserError, match="differs"):
        verify(tmp_path / "recsys/beauty", known["beauty"])
    with pytest.raises(UserError, match="known sets: beauty"):
        locate("nothing", known)
    (tmp_path / "empty.csv").touch()
    (tmp_path / "folder").mkdir()
    for place, message in (("empty.csv", "file is empty"), ("folder", "folder is empty")):
        with pytest.raises(UserError, match=message):
            locate(tmp_path / place, known)
