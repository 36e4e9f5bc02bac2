"""What an evaluation says: figures with intervals, floors beside them, and three honest answers."""

from __future__ import annotations

import json
import math
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from core.files import whole
from core.statistics import Estimate

HELPS, EQUAL, HURTS = "helps", "no measurable difference", "hurts"


@dataclass(frozen=True)
class Answer:
    """One of the three answers: a verdict, the figure behind it with its interval, and what was compared with what."""

    verdict: str
    estimate: Estimate
    detail: str


@dataclass(frozen=True)
class Clip:
    """A sound with its drawing: `wav` is a whole file, empty where there is nothing to play; `svg` is made by us."""

    caption: str
    svg: str = field(default="", repr=False)
    wav: bytes = field(default=b"", repr=False)

    @property
    def address(self) -> str:
        """The sound as a data address, so that the page needs nothing beside it."""
        return "data:audio/wav;base64," + b64encode(self.wav).decode()

    def _repr_html_(self) -> str:
        return Section("", clips=(self,))._repr_html_()


@dataclass(frozen=True)
class Section:
    """A part of the report: text, a table, a drawing (inline SVG made by us), or sounds."""

    title: str
    text: str = ""
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[object, ...], ...] = ()
    svg: str = field(default="", repr=False)
    clips: tuple[Clip, ...] = ()

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        from core.report import section_html

        return section_html(self)


@dataclass
class Evaluation:
    """Everything that `evaluate` writes.

    Attributes:
        task: what was measured, in words.
        protocol: split, seeds, counts, data hashes.
        metrics: ours; floors: the same metrics of every floor; main: the metric that the answers speak of.
        label_curve: rows `{fraction, labels, arm, seed, metric, value}`; unit: what is counted, labels or for example users.
        answers: `pretraining`, `best_tool`, `labels_saved`.
        main_words: what the main metric is, in words, where its name does not say it.
        curve_intervals: rows `{labels, arm, value, low, high}` of the curve over its seeds, drawn where there are any in place of the
            range of seeds.
    """

    task: str
    protocol: dict[str, Any]
    main: str
    metrics: dict[str, Estimate]
    floors: dict[str, dict[str, Estimate]]
    answers: dict[str, Answer]
    label_curve: list[dict[str, Any]] = field(default_factory=list)
    sections: list[Section] = field(default_factory=list)
    unit: str = "labels"
    curve_intervals: list[dict[str, Any]] = field(default_factory=list)
    main_words: str = ""

    def json(self) -> dict[str, Any]:
        return _finite(
            {
                "task": self.task,
                "protocol": self.protocol,
                "main": self.main,
                "metrics": {name: estimate.json() for name, estimate in self.metrics.items()},
                "floors": {f: {name: e.json() for name, e in m.items()} for f, m in self.floors.items()},
                "label_curve": self.label_curve,
                "curve_intervals": self.curve_intervals,
                "answers": {name: asdict(answer) for name, answer in self.answers.items()},
            }
        )

    def best_floor(self) -> tuple[str, Estimate]:
        """The strongest floor on the main metric."""
        return max(
            ((name, m[self.main]) for name, m in self.floors.items() if self.main in m), key=lambda pair: pair[1].value
        )

    def write(self, out: str | Path) -> Path:
        """Write `evaluation.json` and `report.html`; returns the report's path."""
        from core.report import render

        out = Path(out)
        with whole(out / "evaluation.json", "the figures") as figures, whole(out / "report.html", "the report") as page:
            figures.write_text(json.dumps(self.json(), indent=1) + "\n", encoding="utf-8")
            page.write_text(render(self), encoding="utf-8")
        return out / "report.html"

    def tell(self, out: str | Path) -> None:
        """Write, then print every figure, each answer, and where the report is."""
        page = self.write(out)
        for name, estimate in self.metrics.items():
            print(f"{name}: {estimate}")
        for question, found in self.answers.items():
            print(f"{question}: {found.verdict}, {found.estimate}: {found.detail}")
        print(f"report: {page}")


def verdict(difference: Estimate) -> str:
    """What an interval of a difference allows to say."""
    if difference.low > 0:
        return HELPS
    return HURTS if difference.high < 0 else EQUAL


def answer(difference: Estimate, detail: str) -> Answer:
    """The answer to "is ours better?", from the interval of ours minus theirs."""
    return Answer(verdict(difference), difference, detail)


def labels_saved(
    curve: Sequence[dict[str, Any]], metric: str, ours: str = "pretrained", other: str = "scratch", *, what: str = "labels",
    draws: int = 1000, seed: int = 0,
) -> Answer:  # fmt: skip
    """How many labels `other` needs for what `ours` reaches with the fewest, divided by those labels.

    The other arm's mean curve is made monotone and read between its points on a logarithmic scale of labels. Where it never
    reaches ours, the ratio is that of its largest point, and the answer says "at least". The interval resamples seeds.
    """
    table = {
        arm: [
            (row["labels"], row["seed"], row["value"]) for row in curve if row["arm"] == arm and row["metric"] == metric
        ]
        for arm in (ours, other)
    }
    if not table[ours] or not table[other]:
        nan = Estimate(math.nan, math.nan, math.nan)
        return Answer("not measured", nan, f"the curve lacks {ours} or {other}")
    fewest = min(labels for labels, _, _ in table[ours])
    generator = np.random.default_rng(seed)

    def mean_by_labels(rows: list[tuple[int, int, float]], picked: dict[int, int] | None) -> dict[int, float]:
        sums: dict[int, list[float]] = {}
        for labels, run, value in rows:
            sums.setdefault(labels, []).extend([value] * (1 if picked is None else picked.get(run, 0)))
        return {labels: float(np.mean(values)) for labels, values in sorted(sums.items()) if values}

    def ratio(picked: dict[int, int] | None) -> tuple[float, bool]:
        mine = mean_by_labels(table[ours], picked).get(fewest)
        theirs = mean_by_labels(table[other], picked)
        if mine is None or not theirs:
            return math.nan, False
        amounts = np.array(list(theirs), dtype=float)
        values = np.maximum.accumulate(np.array(list(theirs.values())))
        if mine > values[-1]:
            return amounts[-1] / fewest, True
        if mine <= values[0]:
            return amounts[0] / fewest, False
        above = int(np.argmax(values >= mine))
        share = (mine - values[above - 1]) / (values[above] - values[above - 1])
        needed = np.exp(np.log(amounts[above - 1]) + share * (np.log(amounts[above]) - np.log(amounts[above - 1])))
        return float(needed / fewest), False

    value, censored = ratio(None)
    runs = sorted({run for rows in table.values() for _, run, _ in rows})
    drawn = []
    for _ in range(draws if len(runs) > 1 else 0):
        numbers = generator.integers(0, len(runs), len(runs))
        drawn.append(ratio({run: int((numbers == i).sum()) for i, run in enumerate(runs)})[0])
    finite = [d for d in drawn if math.isfinite(d)]
    low, high = np.percentile(finite, [2.5, 97.5]) if finite else (math.nan, math.nan)
    words = f"{'at least ' if censored else ''}{value:.1f}× the {what}"
    return Answer(
        words, Estimate(value, float(low), float(high)), f"{other} against {ours} at {fewest} {what}, {metric}"
    )


def _finite(value: Any) -> Any:
    """NaN and infinities as null: JSON has none."""
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    return int(value) if isinstance(value, np.integer) else value
