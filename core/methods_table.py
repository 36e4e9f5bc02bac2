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
    metric = next(
        name.removesuffix(f" {PROBES[0]}") for role, name in by if role == "floor" and name.endswith(PROBES[0])
    )
    cells = []
    for probe in PROBES:
        floor, ours = by["floor", f"{metric} {probe}"], by["ours", f"{metric} {probe}"]
        cells += [f"{floor['value']:.3f} → {ours['value']:.3f}", _gain(by["ours", f"gain {metric} {probe}"])]
    std, rank = by["ours", "feature_std"]["value"], by["ours", "rank"]["value"]
    said = "learns" if learned(rows) else "**not shown to beat its untrained network**"
    return f"| {method} | {data} | {metric} | {' | '.join(cells)} | {std:.2f} | {rank:.2f} | {ours['seeds']} | {ours['minutes']} | {said} |"


def table(record: Mapping[str, Iterable[Row]]) -> str:
    """Markdown: one line for each method and data set of the record, which has the rows of each domain."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for rows in record.values():
        for r in rows:
            if r["test"].startswith(PREFIX):
                method = r["method"].removesuffix(": untrained")
                groups.setdefault((method, r["data"]), []).append(r)
    return "\n".join([HEAD, *(_line(method, data, rows) for (method, data), rows in sorted(groups.items()))])
