"""Images for diagnosis: pretrain without labels, classify with few, and say honestly what it was worth.

>>> from healthcare import ImageClassifier, ImageEncoder, read
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

import core

if getattr(core, "DISTRIBUTION", None) != "tacit":
    _line = "another package named 'core' stands first on the path; start from another folder, or run tacit-healthcare"
    if sys.argv[:1] == ["-m"]:  # `python -m healthcare` imports this package before its __main__ could catch anything
        print(f"tacit-healthcare: {_line}", file=sys.stderr)
        sys.exit(2)
    raise ImportError(_line)

if TYPE_CHECKING:
    from healthcare.classifier import ImageClassifier
    from healthcare.data import Images, Reading, read
    from healthcare.estimators import ImageEncoder
    from healthcare.evaluation import EvaluationConfig, evaluate
    from healthcare.masks import MaskedImages, MaskReading, read_masks
    from healthcare.presets import Recipe, simclr
    from healthcare.segment_recipes import segment_recipe
    from healthcare.segmenter import Segmenter
    from healthcare.volumes import Volumes, open_volumes

_HOME = {
    "Images": "data", "Reading": "data", "read": "data", "ImageClassifier": "classifier", "ImageEncoder": "estimators",
    "EvaluationConfig": "evaluation", "evaluate": "evaluation", "Recipe": "presets", "simclr": "presets",
    "MaskReading": "masks", "MaskedImages": "masks", "read_masks": "masks", "Segmenter": "segmenter", "segment_recipe": "segment_recipes",
    "Volumes": "volumes", "open_volumes": "volumes",
}  # fmt: skip
__all__ = [
    "EvaluationConfig", "ImageClassifier", "ImageEncoder", "Images", "MaskReading", "MaskedImages", "Reading", "Recipe", "Segmenter",
    "Volumes", "evaluate", "open_volumes", "read", "read_masks", "segment_recipe", "simclr",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Import on first use (PEP 562): `--help` must not wait for torch."""
    if name not in _HOME:
        raise AttributeError(f"module 'healthcare' has no attribute '{name}'")
    return getattr(import_module(f"healthcare.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
