"""Rewrites the README's figure table from `docs/results`: `python -m core.figures`, or `make figures`."""

from __future__ import annotations

import re
from pathlib import Path

from core.bench import figures

START, END = "<!-- figures: made by make figures -->", "<!-- end of figures -->"


def rewritten(readme: str, results: Path) -> str:
    """The README's text with the table between the two marks made anew."""
    table = f"{START}\n{figures(results)}\n{END}"
    return re.sub(f"{re.escape(START)}.*?{re.escape(END)}", lambda _: table, readme, flags=re.DOTALL)


if __name__ == "__main__":
    root = Path(__file__).parent.parent
    path = root / "README.md"
    path.write_text(rewritten(path.read_text(encoding="utf-8"), root / "docs" / "results"), encoding="utf-8")
