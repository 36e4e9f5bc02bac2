"""docs/*.ipynb: kept with their outputs, and still running."""

from __future__ import annotations

import contextlib
import io
import json
import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"
# a figure that each prints, by a line's beginning: machines round differently, so it may move by as much
FIGURES = {
    "finance": (r"^with labels: average precision ([0-9.]+)", 0.1),
    "healthcare": (r"^ours auroc ([0-9.]+)", 0.05),
    "recsys": (r"^ours ([0-9.]+)", 0.05),
    "speech": (r"^ours ([0-9.]+)", 0.1),
}


def cells(name: str) -> list[dict]:
    made = json.loads((DOCS / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]
    return [cell for cell in made if cell["cell_type"] == "code"]


def test_every_notebook_is_looked_at():
    assert {path.stem for path in DOCS.glob("*.ipynb")} == set(FIGURES)


@pytest.mark.parametrize("name", FIGURES)
def test_it_is_kept_as_it_ran_and_tells_nothing_of_the_machine(name):
    code = cells(name)
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell["outputs"]]
    assert len(outputs) >= len(code) - 1
    assert not [o for o in outputs if o["output_type"] == "error" or o.get("name") == "stderr"]
    assert not re.search(r"/(tmp|home|root|Users|private|var)/", (DOCS / f"{name}.ipynb").read_text(encoding="utf-8"))


@pytest.mark.slow
@pytest.mark.parametrize("name", FIGURES)
def test_its_cells_run_and_say_what_they_said(name):
    names: dict[str, object] = {}
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        for cell in cells(name):
            exec("".join(cell["source"]), names)
    kept = "".join("".join(o["text"]) for cell in cells(name) for o in cell["outputs"] if o["output_type"] == "stream")
    line, tolerance = FIGURES[name]
    before, now = (re.search(line, text, re.MULTILINE) for text in (kept, said.getvalue()))
    assert before and now and abs(float(before[1]) - float(now[1])) < tolerance
