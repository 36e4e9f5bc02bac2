"""Tacit for speech: encoders that learn from recordings without labels, and tools made from them.

`from speech import AudioEncoder, AudioClassifier, read_recordings`. Names are imported when they are first used.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import core

if getattr(core, "DISTRIBUTION", None) != "tacit":
    _line = "another package named core stands first on the path; remove it from there, or run tacit-speech"
    if sys.argv[:1] == ["-m"]:  # `python -m speech` imports this before __main__ could catch anything
        print(f"tacit-speech: {_line}", file=sys.stderr)
        sys.exit(2)
    raise ImportError(_line)

if TYPE_CHECKING:
    from speech.classifier import AudioClassifier
    from speech.data import read as read_recordings
    from speech.estimators import AudioEncoder

_WHERE = {
    "AudioEncoder": ("speech.estimators", "AudioEncoder"),
    "AudioClassifier": ("speech.classifier", "AudioClassifier"),
    "read_recordings": ("speech.data", "read"),
}
__all__ = ["AudioClassifier", "AudioEncoder", "read_recordings"]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'speech' has no attribute '{name}'")
    from importlib import import_module

    module, attribute = _WHERE[name]
    return getattr(import_module(module), attribute)
