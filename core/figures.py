"""Rewrites the README's figure table and its picture from `docs/results`: `python -m core.figures`, or `make figures`."""

from __future__ import annotations

import json
import re
from pathlib import Path

from core.bench import Row, figures

START, END = "<!-- figures: made by make figures -->", "<!-- end of figures -->"
COLOURS = {"ours": "#0b6e4f", "floor": "#888888", "peer": "#4059ad", "published": "#c1666b"}


def rewritten(readme: str, results: Path) -> str:
    """The README's text with the table between the two marks made anew."""
    table = f"{START}\n{figures(results)}\n{END}"
    return re.sub(f"{re.escape(START)}.*?{re.escape(END)}", lambda _: table, readme, flags=re.DOTALL)


def headline(rows: list[Row]) -> list[Row]:
    """The first figure that has a goal, with all that stands beside it: same test, data and metric, best last."""
    first = next(r for r in rows if r["goal"] is not None and r["value"] is not None)
    beside = [r for r in rows if all(r[k] == first[k] for k in ("test", "data", "metric")) and r["value"] is not None]
    return sorted(beside, key=lambda r: (r["role"] == "ours", r["value"]))


def picture(results: Path) -> str:
    """One panel a domain: ours and everything beside it, with intervals and the goal; SVG text."""
    from matplotlib.figure import Figure

    from core.report import svg

    panels = {
        path.stem: headline(json.loads(path.read_text(encoding="utf-8"))) for path in sorted(results.glob("*.json"))
    }
    drawing = Figure(
        figsize=(10, 0.9 + 0.27 * max(map(len, panels.values())) * ((len(panels) + 1) // 2)), layout="constrained"
    )
    axes = drawing.subplots((len(panels) + 1) // 2, 2, squeeze=False).ravel()
    for ax, (domain, rows) in zip(axes, panels.items(), strict=False):
        for place, r in enumerate(rows):
            if r["low"] is not None:
                ax.plot([r["low"], r["high"]], [place, place], color=COLOURS[r["role"]], linewidth=2)
            ax.plot([r["value"]], [place], "o", color=COLOURS[r["role"]], markersize=5)
        goal = next((r["goal"] for r in rows if r["goal"] is not None), None)
        if goal is not None:
            ax.axvline(goal, color="#d4a017", linewidth=1, linestyle="--")
        ax.set_yticks(range(len(rows)), [r["method"] for r in rows], fontsize=8)
        ax.set_title(f"{domain}: {rows[0]['data']}, {rows[0]['metric']}", fontsize=9, loc="left")
        ax.tick_params(axis="x", labelsize=8)
        ax.spines[["top", "right"]].set_visible(False)
    for ax in axes[len(panels) :]:
        ax.set_visible(False)
    return svg(drawing) + "\n"


if __name__ == "__main__":
    root = Path(__file__).parent.parent
    path = root / "README.md"
    path.write_text(rewritten(path.read_text(encoding="utf-8"), root / "docs" / "results"), encoding="utf-8")
    (root / "docs" / "figures.svg").write_text(picture(root / "docs" / "results"), encoding="utf-8")
