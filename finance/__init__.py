"""Tacit for finance: encoders of card histories that learn without labels, and a score for payments.

`from finance import TransactionEncoder, FraudScorer, FraudClassifier, OnlineScorer, read_transactions`. Names are imported when they are first used.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import core

if getattr(core, "DISTRIBUTION", None) != "tacit":
    _line = (
        "another package named core stands first on the path; remove it from there, or run the command tacit-finance"
    )
    if sys.argv[:1] == ["-m"]:  # `python -m finance` imports this file before its __main__ could say it in one line
        print(f"tacit-finance: {_line}", file=sys.stderr)
        sys.exit(2)
    raise ImportError(_line)

if TYPE_CHECKING:
    from finance.classifier import FraudClassifier
    from finance.data import read as read_transactions
    from finance.estimators import FraudScorer, TransactionEncoder
    from finance.online import OnlineScorer

_WHERE = {
    "FraudClassifier": ("finance.classifier", "FraudClassifier"),
    "FraudScorer": ("finance.estimators", "FraudScorer"),
    "OnlineScorer": ("finance.online", "OnlineScorer"),
    "TransactionEncoder": ("finance.estimators", "TransactionEncoder"),
    "read_transactions": ("finance.data", "read"),
}
__all__ = ["FraudClassifier", "FraudScorer", "OnlineScorer", "TransactionEncoder", "read_transactions"]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'finance' has no attribute '{name}'")
    from importlib import import_module

    module, attribute = _WHERE[name]
    return getattr(import_module(module), attribute)
