"""The table of docs/methods.md: what each method gained over its untrained network, on every data set that it was proven on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from core.bench import FAILED, Row
from core.proof import PROBES, learned

HEAD = (
    "| method | data | figure | kNN: untrained → trained | gain [95 %] | linear: untrained → trained | gain [95 %] | "
    "spread | rank | seeds | minutes | |\n|---|---|---|---|---|---|---|---|---|---|---|---|"
)
PREFIX = "methods-"  # of the tests' names in the record


def _gain(r: Row | None) -> str:
    if r is None or r["value"] is None:
        return "–"
    interval = "" if r["low"] is None else f" [{r['low']:+.3f}, {r['high']:+.3f}]"
    return f"{r['value']:+.3f}{interval}"


def _line(method: str, data: str, rows: Sequence[Row]) -> str:
    by = {(r["role"], r["metric"]): r for r in rows}
    failed = by.get(("ours", FAILED))
    if failed is not None:
        return f"| {method} | {data} | failed: {failed['note']} |" + " |" * 9
    metric = _metric(rows)
    cells = []
    for probe in PROBES:
        floor, ours = by["floor", f"{metric} {probe}"], by["ours", f"{metric} {probe}"]
        cells += [f"{floor['value']:.3f} → {ours['value']:.3f}", _gain(by["ours", f"gain {metric} {probe}"])]
    std, rank = by["ours", "feature_std"]["value"], by["ours", "rank"]["value"]
    said = "learns" if learned(rows) else "**not shown to beat its untrained network**"
    return f"| {method} | {data} | {metric} | {' | '.join(cells)} | {std:.2f} | {rank:.2f} | {ours['seeds']} | {ours['minutes']} | {said} |"


def _groups(rows: Iterable[Row]) -> dict[tuple[str, str], list[Row]]:
    """The rows of each method on each data set."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for r in rows:
        if r["test"].startswith(PREFIX):
            groups.setdefault((r["method"].removesuffix(": untrained"), r["data"]), []).append(r)
    return groups


def expected(rows: Iterable[Row], method: str) -> str:
    """One sentence for a preset's docstring: what its features are worth on each data set, and untrained ones, in brackets."""
    parts = []
    for (name, data), group in sorted(_groups(rows).items()):
        figures = {(r["role"], r["metric"]): r["value"] for r in group}
        if name != method or ("ours", FAILED) in figures:
            continue
        metric = _metric(group)
        said = [
            f"{_share(figures['ours', f'{metric} {p}'])} ({_share(figures['floor', f'{metric} {p}'])})" for p in PROBES
        ]
        minutes = f"{group[0]['minutes']:.1f} minutes"
        parts.append(f"{data} {metric} {said[0]} by kNN, {said[1]} by a linear probe, after {minutes}")
    found = "; ".join(parts) or "not yet measured"
    return f"Expected of {method}'s features, of untrained ones in brackets: {found} (docs/methods.md)."


def _share(value: float) -> str:
    return f"{value:.3f}".removeprefix("0")


def _metric(rows: Sequence[Row]) -> str:
    floor = next(r["metric"] for r in rows if r["role"] == "floor" and r["metric"].endswith(PROBES[0]))
    return floor.removesuffix(f" {PROBES[0]}")


def table(record: Mapping[str, Iterable[Row]]) -> str:
    """Markdown: one line for each method and data set of the record, which has the rows of each domain."""
    groups = _groups(r for rows in record.values() for r in rows)
    return "\n".join([HEAD, *(_line(method, data, rows) for (method, data), rows in sorted(groups.items()))])
