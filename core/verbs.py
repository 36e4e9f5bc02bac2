"""Verbs that are the same in every domain; each domain gives its estimator's place, so that `--help` imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Annotated, ClassVar

import tyro


@dataclass(frozen=True)
class Export:
    """Write a run's encoder and pool as one file for other programs: .onnx, or .pt2 (torch.export).

    Attributes:
        run_folder: what pretrain wrote.
        out: file to write; its ending says the format.
    """

    run_folder: Annotated[Path, tyro.conf.arg(name="run")]
    out: Path = Path("encoder.onnx")

    estimator: ClassVar[str] = ""

    def run(self) -> None:
        module, _, name = self.estimator.partition(":")
        encoder = getattr(import_module(module), name).load(self.run_folder)
        print(f"encoder: {encoder.export(self.out)}")


def export_of(estimator: str) -> type[Export]:
    """The verb `export` for an estimator, given as `module:name`."""
    return type("Export", (Export,), {"estimator": estimator, "__doc__": Export.__doc__})
