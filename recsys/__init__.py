"""Recommenders from click logs: next-item pretraining, honest floors, recommendations for new sessions.

from recsys import SessionRecommender
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

import core

if getattr(core, "DISTRIBUTION", None) != "tacit":
    _LINE = "another package named 'core' stands first on the path; run from another folder, or use the tacit-recsys command"
    if sys.argv[:1] == ["-m"]:  # `python -m recsys`: raised here, the line would come wrapped in runpy's own
        print(f"tacit-recsys: {_LINE}", file=sys.stderr)
        raise SystemExit(2)
    raise ImportError(_LINE)

if TYPE_CHECKING:
    from recsys.baselines import (
        EASE,
        STAN,
        ItemKNN,
        Markov,
        Popularity,
        RecentPopularity,
        SessionKNN,
        SessionPopularity,
    )
    from recsys.data import Columns, load
    from recsys.estimators import SessionRecommender
    from recsys.evaluation import evaluate
    from recsys.hybrid import Hybrid
    from recsys.prepared import read_prepared
    from recsys.reminder import Reminded
    from recsys.sequences import Sequences
    from recsys.sessions import read_sessions
    from recsys.split import Examples, Split, leave_one_out

_HOMES = {
    "SessionRecommender": "estimators",
    "Columns": "data",
    "load": "data",
    "evaluate": "evaluation",
    "read_prepared": "prepared",
    "Sequences": "sequences",
    "Examples": "split",
    "Split": "split",
    "leave_one_out": "split",
    "Popularity": "baselines",
    "ItemKNN": "baselines",
    "SessionKNN": "baselines",
    "RecentPopularity": "baselines",
    "SessionPopularity": "baselines",
    "Markov": "baselines",
    "STAN": "baselines",
    "EASE": "baselines",
    "Hybrid": "hybrid",
    "Reminded": "reminder",
    "read_sessions": "sessions",
}
__all__ = [
    "EASE",
    "STAN",
    "Columns",
    "Examples",
    "Hybrid",
    "ItemKNN",
    "Markov",
    "Popularity",
    "RecentPopularity",
    "Reminded",
    "Sequences",
    "SessionKNN",
    "SessionPopularity",
    "SessionRecommender",
    "Split",
    "evaluate",
    "leave_one_out",
    "load",
    "read_prepared",
    "read_sessions",
]


def __getattr__(name: str) -> Any:
    # PEP 562: torch and pandas are loaded when something needs them, so that `--help` answers at once
    if name not in _HOMES:
        raise AttributeError(f"module 'recsys' has no attribute '{name}'")
    return getattr(import_module(f"recsys.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
