"""The benchmark record: parts by (test, seed), so that a stopped bench goes on; one `results.json` made from them."""

from __future__ import annotations

import json
import math
import os
import platform
import re
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from core.errors import UserError
from core.files import whole
from core.statistics import Estimate

Row = dict[str, Any]
FAILED = "failed"  # the metric of a test that could not be measured; it is tried again
KEY = ("test", "data", "method", "role", "metric")


def row(
    data: str,
    method: str,
    role: str,
    metric: str,
    estimate: Estimate | float | None,
    *,
    goal: float | None = None,
    note: str = "",
) -> Row:
    """One figure of one seed. Roles: ours, floor, peer, published, and ceiling, which nothing can pass. A None estimate needs a note that says why."""
    if role not in ("ours", "floor", "peer", "published", "ceiling"):
        raise ValueError(f"role {role}")
    if isinstance(estimate, int | float):
        estimate = Estimate(float(estimate), math.nan, math.nan)
    value, low, high = (None, None, None) if estimate is None else (estimate.value, estimate.low, estimate.high)
    return {"data": data, "method": method, "role": role, "metric": metric, "value": value, "low": low, "high": high, "goal": goal, "note": note}  # fmt: skip


@dataclass(frozen=True)
class Bench:
    """A benchmark's folder.

    Args:
        out: where parts and `results.json` go.
        settings: what the figures depend on (minutes and the like); parts made under other settings are not reused.
    """

    out: Path
    settings: dict[str, Any]
    say: Callable[[str], None] = print

    def run(self, test: str, seed: int, work: Callable[[], Sequence[Row]]) -> list[Row]:
        """The rows of (test, seed): read back where they were made before, else made and saved."""
        part = self.out / "parts" / f"{test}-{seed}.json"
        if part.exists():
            known = _part(part)
            failed = any(r["metric"] == FAILED for r in known["rows"])
            if not failed and known["settings"] == json.loads(json.dumps(self.settings)):
                self.say(f"{test}, seed {seed}: from before")
                return known["rows"]
        started = time.monotonic()
        try:
            rows = list(work())
        except UserError as error:
            rows = [row("", test, "ours", FAILED, None, note=str(error))]
        minutes = (time.monotonic() - started) / 60
        rows = [{"test": test, **r, "seed": seed, "minutes": round(minutes, 2)} for r in rows]
        text = json.dumps(
            {"settings": self.settings, "machine": machine(), "commit": commit(), "rows": _null(rows)}, indent=1
        )
        with whole(part, "the figures") as temporary:
            temporary.write_text(text + "\n", encoding="utf-8")
        for r in rows:
            if r["role"] == "ours":
                what = "" if r["metric"] == FAILED else f"{r['method']} {r['metric']} "
                self.say(f"{test}, seed {seed}: {what}{shown(r)}  ({minutes:.1f} min)")
        return rows

    def write(self) -> Path:
        """Combine every part in the folder into `results.json`: one row a figure, over its seeds."""
        parts = [_part(path) for path in sorted((self.out / "parts").glob("*.json"))]
        rows: dict[tuple, list[Row]] = {}
        for part in parts:
            for r in part["rows"]:
                rows.setdefault(tuple(r[k] for k in KEY), []).append(
                    {**r, "machine": part["machine"], "commit": part["commit"]}
                )
        results = [combine(group) for group in rows.values()]
        path = self.out / "results.json"
        with whole(path, "the results") as temporary:
            temporary.write_text(json.dumps(_null(results), indent=1) + "\n", encoding="utf-8")
        return path


def _part(path: Path) -> dict[str, Any]:
    """What a seed of a test gave."""
    try:
        part = json.loads(path.read_text(encoding="utf-8"))
        return {key: part[key] for key in ("settings", "machine", "commit", "rows")}
    except (ValueError, TypeError, LookupError) as error:
        raise UserError("that part is damaged", where=path, mend="remove it, and it will be measured again") from error


def lengthless(recipe: Any) -> dict[str, Any]:
    """A recipe's settings without what a record names itself: length, seed and device of its training."""
    from core.config import to_dict

    settings = to_dict(recipe)
    for name in ("steps", "minutes", "seed", "device"):
        settings["train"].pop(name)
    return settings


def combine(rows: Sequence[Row]) -> Row:
    """One row from those of several seeds.

    The interval joins two sources of doubt, taken as independent: the sample of each seed (its bootstrap interval, as a
    standard error) and the spread between seeds.
    """
    values = [r["value"] for r in rows if r["value"] is not None]
    last = rows[-1]
    base = {k: last[k] for k in KEY} | {
        "goal": last["goal"], "note": last["note"], "seeds": len(values), "minutes": round(float(np.mean([r["minutes"] for r in rows])), 2),
        "machine": last["machine"], "commit": last["commit"],
    }  # fmt: skip
    if not values:
        return base | {"value": None, "low": None, "high": None}
    widths = [(r["high"] - r["low"]) / 3.92 for r in rows if r["low"] is not None and r["high"] is not None]
    if len(values) == 1:
        return base | {"value": values[0], "low": rows[0]["low"], "high": rows[0]["high"]}
    if (
        not widths and len(set(values)) == 1
    ):  # a figure that no seed moves and no sample stands behind, such as a published one
        return base | {"value": values[0], "low": None, "high": None}
    from scipy.stats import t

    within = float(np.mean(widths)) if widths else 0.0
    between = float(np.std(values, ddof=1)) / math.sqrt(len(values)) * float(t.ppf(0.975, len(values) - 1)) / 1.96
    half = 1.96 * math.hypot(within, between)
    mean = float(np.mean(values))
    low, high = mean - half, mean + half
    known = [v for r in rows for v in (r["value"], r["low"], r["high"]) if v is not None]
    gain = last["metric"].startswith("gain ")  # may be below 0, whatever the seeds gave
    # a share: with two seeds Student's factor of 12.7 would leave its range
    if not gain and min(known) >= 0 and max(known) <= 1:
        low, high = max(low, 0.0), min(high, 1.0)
    return base | {"value": mean, "low": low, "high": high}


def machine() -> str:
    """The processor and how many cores this process may use."""
    name = platform.processor() or platform.machine()
    try:
        found = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))
        name = found.group(1).strip() if found else name
    except OSError:
        pass
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{name}, {cores} cores"


def commit() -> str:
    """The short commit of the source tree, empty where there is none."""
    try:
        done = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def shown(r: Row) -> str:
    """The figure with its interval, or why there is none."""
    if r["value"] is None:
        return f"failed: {r['note']}"
    text = f"{r['value']:.3f}" if abs(r["value"]) >= 0.1 else f"{r['value']:.4f}"
    if r["low"] is not None and math.isfinite(r["low"]):
        digits = 3 if abs(r["value"]) >= 0.1 else 4
        text += f" [{r['low']:.{digits}f}, {r['high']:.{digits}f}]"
    return text


def _null(rows: Sequence[Row]) -> list[Row]:
    return [{k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in r.items()} for r in rows]
