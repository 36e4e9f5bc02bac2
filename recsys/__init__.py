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
    from recsys.baselines import ItemKNN, Popularity, SessionKNN
    from recsys.data import Columns, load
    from recsys.estimators import SessionRecommender
    from recsys.evaluation import evaluate
    from recsys.prepared import read_prepared
    from recsys.sequences import LeaveOneOut, Sequences

_HOMES = {
    "SessionRecommender": "estimators",
    "Columns": "data",
    "load": "data",
    "evaluate": "evaluation",
    "read_prepared": "prepared",
    "Sequences": "sequences",
    "LeaveOneOut": "sequences",
    "Popularity": "baselines",
    "ItemKNN": "baselines",
    "SessionKNN": "baselines",
}
__all__ = [
    "Columns",
    "ItemKNN",
    "LeaveOneOut",
    "Popularity",
    "Sequences",
    "SessionKNN",
    "SessionRecommender",
    "evaluate",
    "load",
    "read_prepared",
]


def __getattr__(name: str) -> Any:
    # PEP 562: torch and pandas are loaded when something needs them, so that `--help` answers at once
    if name not in _HOMES:
        raise AttributeError(f"module 'recsys' has no attribute '{name}'")
    return getattr(import_module(f"recsys.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
