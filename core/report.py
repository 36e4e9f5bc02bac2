"""One self-contained HTML page from an evaluation: no script, no network, every value escaped."""

from __future__ import annotations

import io
import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from core.statistics import Estimate

if TYPE_CHECKING:
    from core.evaluation import Evaluation, Section

QUESTIONS = {
    "pretraining": "Did pretraining help?",
    "best_tool": "Is it better than the best simple method?",
    "labels_saved": "How much labelling did it save?",
}
COLOURS = ("#0b6e4f", "#c1666b", "#4059ad", "#d4a017", "#6b4e71", "#555555")


def _number(value: float) -> str:
    return "–" if value is None or not math.isfinite(value) else f"{value:.3f}"


def _interval(estimate: Estimate) -> str:
    if not math.isfinite(estimate.low):
        return "–"
    return f"{estimate.low:.3f} – {estimate.high:.3f}"


def environment():
    """The jinja2 environment of our pages, which escapes everything that is not our own SVG."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    env = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "pages"), autoescape=True, undefined=StrictUndefined
    )
    env.filters.update(number=_number, interval=_interval)
    return env


def render(evaluation: Evaluation) -> str:
    """The report as HTML text."""
    protocol = {key: _plain(value) for key, value in evaluation.protocol.items()}
    return environment().get_template("report.html.j2").render(
        e=evaluation, questions=QUESTIONS, protocol=protocol, floors_svg=floors_plot(evaluation), curve_svg=curve_plot(evaluation.label_curve, evaluation.unit, evaluation.curve_intervals),
    )  # fmt: skip


def page(title: str, lead: str, sections: Sequence[Section]) -> str:
    """A page of sections alone, as HTML text."""
    return environment().get_template("sections.html.j2").render(title=title, lead=lead, sections=sections)


def section_html(section: Section) -> str:
    """A section by itself, as it stands in a page: what a notebook shows of it."""
    return environment().get_template("section_list.html.j2").render(sections=[section])


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}: {_plain(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_plain(item) for item in value)
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def figure(width: float = 7.0, height: float = 3.0):
    """A matplotlib figure and its axes in the report's style."""
    from matplotlib.figure import Figure

    drawing = Figure(figsize=(width, height), layout="constrained")
    axes = drawing.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    return drawing, axes


def worded(name: object) -> str:
    """A name out of the data as matplotlib shows it letter by letter: it would take what stands between two `$` for a formula, and leave
    a name that begins with `_` out of the legend."""
    words = str(name).replace("$", r"\$")
    return f" {words}" if words.startswith("_") else words


def svg(drawing: Any) -> str:
    """A matplotlib figure as inline SVG, equal for equal input."""
    import matplotlib

    text = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "tacit", "svg.fonttype": "none"}):
        drawing.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue().partition("<svg")[1] + text.getvalue().partition("<svg")[2]


def floors_plot(evaluation: Evaluation) -> str:
    """Ours and every floor on the main metric, with intervals."""
    name = evaluation.main
    rows = [(floor, m[name]) for floor, m in evaluation.floors.items() if name in m]
    rows = [*sorted(rows, key=lambda row: row[1].value), ("ours", evaluation.metrics[name])]
    drawing, axes = figure(height=0.6 + 0.35 * len(rows))
    for place, (label, estimate) in enumerate(rows):
        colour = COLOURS[0] if label == "ours" else "#888888"
        if math.isfinite(estimate.low):
            axes.plot([estimate.low, estimate.high], [place, place], color=colour, linewidth=2)
        axes.plot([estimate.value], [place], "o", color=colour)
    axes.set_yticks(range(len(rows)), [label for label, _ in rows])
    axes.set_xlabel(name)
    return svg(drawing)


def curve_plot(rows: list[dict[str, Any]], unit: str = "labels", intervals: Sequence[dict[str, Any]] = ()) -> str:
    """The label curve: mean over seeds with `intervals`, or the range of seeds, one line an arm; empty where there is no curve."""
    if not rows:
        return ""
    metric = rows[0]["metric"]
    arms: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        if row["metric"] == metric and row["value"] is not None:
            arms[row["arm"]][row["labels"]].append(row["value"])
    drawing, axes = figure()
    beside = np.exp(0.04 * (np.arange(len(arms)) - (len(arms) - 1) / 2)) if intervals else np.ones(len(arms))
    for number, (colour, (arm, points)) in enumerate(zip(COLOURS * 3, arms.items(), strict=False)):
        labels = sorted(points)
        mean = [float(np.mean(points[n])) for n in labels]
        places = [n * beside[number] for n in labels]  # side by side, or the intervals would hide each other
        style = "o-" if number < len(COLOURS) else "s--"
        axes.plot(places, mean, style, color=colour, label=arm, markersize=4)
        if intervals:
            own = [row for row in intervals if row["arm"] == arm and math.isfinite(row["low"])]
            at = [row["labels"] * beside[number] for row in own]
            axes.vlines(at, [r["low"] for r in own], [r["high"] for r in own], color=colour, linewidth=1.2, alpha=0.7)
        else:
            low, high = [min(points[n]) for n in labels], [max(points[n]) for n in labels]
            axes.fill_between(labels, low, high, color=colour, alpha=0.12)
    axes.set_xscale("log")
    amounts = sorted({labels for points in arms.values() for labels in points})
    axes.set_xticks(amounts, [f"{n:,}" for n in amounts])
    axes.minorticks_off()
    axes.set_xlabel(unit)
    axes.set_ylabel(metric)
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))  # lines are never under it
    return svg(drawing)
