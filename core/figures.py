"""Rewrites the README's figure table, docs/figures.md, the picture and the presets' figures from `docs/results`: `python -m core.figures`, or `make figures`.

`python -m core.figures bench/*/results.json` first takes what benchmarks wrote into the record, test by test; each file lies in a folder
of its domain's name.
"""

from __future__ import annotations

import json
import re
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

from core.bench import Row, shown
from core.errors import UserError
from core.files import whole

HEAD = "| data | method | metric | figure [95 % interval] | best floor | best published | goal | seeds |\n|---|---|---|---|---|---|---|---|"
ROLES = ("ours", "floor", "peer", "published", "ceiling")
SPEED = "core"
START, END = "<!-- figures: made by make figures -->", "<!-- end of figures -->"
COLOURS = {"ours": "#0b6e4f", "floor": "#888888", "peer": "#4059ad", "published": "#c1666b", "ceiling": "#d4a017"}


def load(results: Path) -> dict[str, list[Row]]:
    """The record of every domain, by its name; that of speed (`core.json`) has a page of its own, docs/performance.md."""
    paths = [path for path in sorted(results.glob("*.json")) if path.stem != SPEED]
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in paths}


def beside(rows: list[Row], one: Row) -> list[Row]:
    """All that was measured for the same test, data and metric, best first, ours before the others."""
    same = [r for r in rows if all(r[k] == one[k] for k in ("test", "data", "metric")) and r["value"] is not None]
    return sorted(same, key=lambda r: (ROLES.index(r["role"]), -r["value"]))


def falls(metric: str) -> bool:
    """Whether less of it is better: time, memory, errors."""
    return metric in ("seconds", "ece", "eer", "hd95") or metric.endswith(("GiB", "MB", ", p50", ", p99"))


def goals(rows: list[Row]) -> list[Row]:
    """Every row that has a goal and a figure, in the order of the record."""
    return [r for r in rows if r["goal"] is not None and r["value"] is not None]


def mains(rows: list[Row]) -> list[Row]:
    """The first with a goal of each test on each data set: what the test is about; and every other that missed its goal. A figure that two
    tests hold for the same goal stands once."""
    found: dict[tuple, Row] = {}
    begun: set[tuple] = set()
    for r in goals(rows):
        if (r["test"], r["data"]) not in begun or not met(r):
            found.setdefault((r["data"], r["method"], r["metric"], r["value"], r["goal"]), r)
        begun.add((r["test"], r["data"]))
    return list(found.values())


def _best(rows: list[Row], one: Row, role: str) -> str:
    """Name and value of the best of a role for the same data and metric, of the same test where it has any; empty where there is none."""
    same = [
        r for r in rows
        if r["role"] == role and r["value"] is not None and all(r[k] == one[k] for k in ("data", "metric"))
    ]  # fmt: skip
    sign = -1 if falls(one["metric"]) else 1
    best = max([r for r in same if r["test"] == one["test"]] or same, key=lambda r: sign * r["value"], default=None)
    return "" if best is None else f"{best['method']} {best['value']:.3g}"


def by_interval(one: Row) -> bool:
    """Whether a goal asks for the whole interval: a gain that is to be above 0, where it has an interval."""
    return one["goal"] == 0 and one["low"] is not None


def met(one: Row) -> bool:
    """Whether a row reaches its goal."""
    if by_interval(one):
        return one["low"] > 0
    return one["value"] <= one["goal"] if falls(one["metric"]) else one["value"] >= one["goal"]


def aim(one: Row) -> str:
    """A row's goal in words, bold where it was missed."""
    words = "interval above 0" if by_interval(one) else f"{'≤' if falls(one['metric']) else '≥'} {one['goal']:.3g}"
    return words if met(one) else f"**{words}, missed**"


def short_table(results: Path) -> str:
    """Markdown: the main figure of each test with a goal, the best floor and the best that was published beside; a missed goal is bold."""
    lines = [HEAD]
    for domain, rows in load(results).items():
        for one in mains(rows):
            cells = (
                f"{domain}: {one['data']}", one["method"], one["metric"], shown(one), _best(rows, one, "floor"), _best(rows, one, "published"),
                aim(one), str(one["seeds"]),
            )  # fmt: skip
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def full_page(results: Path) -> str:
    """Markdown: every figure of the record, failures too, with the notes."""
    parts = [
        "# Figures",
        "",
        "Made from `docs/results/` by `make figures`. Roles: ours, floors rerun here, published.",
        "",
    ]
    for domain, rows in load(results).items():
        machines = sorted({r["machine"] for r in rows if r["machine"]})
        commits = sorted({r["commit"] for r in rows if r["commit"]})
        parts += [f"## {domain}", "", f"Machine: {'; '.join(machines)}. Commits: {', '.join(commits)}.", ""]
        parts.append(
            "| test | data | method | role | metric | figure [95 % interval] | seeds | minutes a seed | note |"
        )
        parts.append("|---|---|---|---|---|---|---|---|---|")
        parts += [
            f"| {r['test']} | {r['data']} | {r['method']} | {r['role']} | {r['metric']} | {shown(r)} | {r['seeds']} | {r['minutes']} "
            f"| {r['note'].replace('|', '/')} |"
            for r in sorted(
                rows, key=lambda r: (r["test"], r["data"], r["metric"], ROLES.index(r["role"]), r["method"])
            )
        ]
        parts.append("")
    return "\n".join(parts)


def rewritten(text: str, made: str) -> str:
    """A page's text with what stands between the two marks made anew."""
    table = f"{START}\n\n{made}\n\n{END}"
    return re.sub(f"{re.escape(START)}.*?{re.escape(END)}", lambda _: table, text, flags=re.DOTALL)


def described(text: str, rows: list[Row]) -> str:
    """A domain's presets, each docstring's sentence "Expected of METHOD's features …" made anew."""
    from core.methods_table import expected

    def sentence(found: re.Match[str]) -> str:
        return textwrap.fill(expected(rows, found[1]), 116, subsequent_indent="    ", break_long_words=False)

    return re.sub(r"Expected of (\S+)'s features.*?\(docs/methods\.md\)\.", sentence, text, flags=re.DOTALL)


def picture(results: Path) -> str:
    """One panel a domain: ours and everything beside it, with intervals and the goal; SVG text."""
    from matplotlib.figure import Figure

    from core.report import svg

    panels = {domain: beside(rows, goals(rows)[0])[::-1] for domain, rows in load(results).items() if goals(rows)}
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
        ax.set_title(f"{domain}: {rows[0]['data']}", fontsize=9, loc="left")
        ax.set_xlabel(rows[0]["metric"], fontsize=8)
        ax.tick_params(axis="x", labelsize=8)
        ax.spines[["top", "right"]].set_visible(False)
    for ax in axes[len(panels) :]:
        ax.set_visible(False)
    return svg(drawing) + "\n"


def rewrite(root: Path) -> dict[Path, str]:
    """Every page that is made from the record, with its text as it should be."""
    from core.methods_table import table

    results, docs = root / "docs" / "results", root / "docs"
    record = load(results)
    marked = {root / "README.md": short_table(results), docs / "methods.md": table(record)}
    pages = {path: rewritten(path.read_text(encoding="utf-8"), made) for path, made in marked.items()}
    for domain, rows in record.items():
        presets = root / domain / "presets.py"
        pages[presets] = described(presets.read_text(encoding="utf-8"), rows)
    return pages | {docs / "figures.md": full_page(results), docs / "figures.svg": picture(results)}


def take(found: Path, results: Path) -> None:
    """Put a benchmark's `results.json` into the record of the domain that its folder is named after: each of its tests in the place
    of what was known of that test.

    Raises:
        UserError: no such domain, or a file that is not there or holds no rows.
    """
    record = results / f"{found.parent.name}.json"
    if not record.exists():
        raise UserError("no domain of that name", where=found.parent, mend="give bench/DOMAIN/results.json")
    try:
        new: list[Row] = json.loads(found.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"no results: {error}", where=found, mend="run the benchmark to its end") from None
    if not new:
        raise UserError("no rows", where=found, mend="run the benchmark to its end")
    tests = {r["test"] for r in new}
    old = json.loads(record.read_text(encoding="utf-8"))
    with whole(record, "the record") as temporary:
        text = json.dumps([*(r for r in old if r["test"] not in tests), *new], indent=1)
        temporary.write_text(text + "\n", encoding="utf-8")


def main(found: Sequence[str]) -> None:
    """Take what was found into the record, then write every page anew."""
    root = Path(__file__).parent.parent
    for path in found:
        take(Path(path), root / "docs" / "results")
    for page, text in rewrite(root).items():
        page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    from core.cli import run_safely

    run_safely("figures", lambda: main(sys.argv[1:]))
