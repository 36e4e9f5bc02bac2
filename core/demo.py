"""`tacit demo`: the main job of every domain on generated data, each step a command as a user would type it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from core.cli import domains
from core.errors import UserError
from core.files import whole
from core.statistics import Estimate


@dataclass(frozen=True)
class Demo:
    """Generate data, pretrain without labels, evaluate with few labels: every domain, one page of results.

    Attributes:
        out: folder for data, runs and reports.
        minutes: pretraining time of each domain.
        seed: of generators and training.
    """

    out: Path = Path("demo")
    minutes: float = 0.3
    seed: int = 0

    def run(self) -> None:
        found = domains()
        if not found:
            raise UserError("no domain is installed", where="entry points", mend="install with pip install tacit")
        rows = [self._domain(name, point.module.partition(".")[0]) for name, point in found.items()]
        from core.report import environment

        page = self.out / "index.html"
        with whole(page, "the index") as temporary:
            temporary.write_text(environment().get_template("index.html.j2").render(rows=rows), encoding="utf-8")
        print(table(rows))
        print(f"\nreports: {page}")

    def _domain(self, name: str, module: str) -> dict[str, object]:
        place, started = self.out / name, time.monotonic()
        data, run, report = str(place / "data"), str(place / "run"), str(place / "report")
        seed = ["--seed", str(self.seed)]
        self._step(module, "synth", "--out", data, *seed)
        self._step(module, "pretrain", "--data", data, "--out", run, "--minutes", str(self.minutes), *seed)
        self._step(module, "evaluate", "--run", run, "--data", data, "--out", report)
        print(f"{name}: done in {time.monotonic() - started:.0f} s\n", flush=True)
        return summary(name, place / "report")

    @staticmethod
    def _step(module: str, *arguments: str) -> None:
        # -P: the working directory is no place to import from
        command = [sys.executable, "-P", "-m", module, *arguments]
        print(f"$ tacit-{module} {' '.join(arguments)}", flush=True)
        done = subprocess.run(command, check=False)
        if done.returncode:
            raise UserError(
                f"tacit-{module} {arguments[0]} ended with exit code {done.returncode}", mend="its own line is above"
            )


def summary(name: str, report: Path) -> dict[str, object]:
    """The row of one domain, from its evaluation.json."""
    evaluation = json.loads((report / "evaluation.json").read_text(encoding="utf-8"))
    main = evaluation["main"]
    ours = {key: float("nan") if value is None else value for key, value in evaluation["metrics"][main].items()}
    floors = {floor: metrics[main]["value"] for floor, metrics in evaluation["floors"].items() if main in metrics}
    best = max(floors, key=lambda floor: floors[floor])
    return {
        "domain": name, "metric": main, "value": ours["value"], "estimate": Estimate(**ours), "floor": best,
        "floor_value": floors[best], "answer": evaluation["answers"]["pretraining"]["verdict"], "link": f"{name}/report/report.html",
    }  # fmt: skip


def table(rows: list[dict[str, object]]) -> str:
    """The rows as aligned text."""
    head = ("domain", "metric", "pretrained", "95 % interval", "best floor", "", "did pretraining help?")
    body = [
        (
            str(r["domain"]), str(r["metric"]), f"{r['value']:.3f}", f"{r['estimate'].low:.3f} to {r['estimate'].high:.3f}",  # type: ignore[attr-defined]
            str(r["floor"]), f"{r['floor_value']:.3f}", str(r["answer"]),
        )
        for r in rows
    ]  # fmt: skip
    widths = [max(len(line[i]) for line in [head, *body]) for i in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in [head, *body]
    )
