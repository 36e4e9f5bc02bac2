"""Which method belongs to which settings, and what it is made from on card histories: one table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from core import methods as m
from core.encoders import Field, TokenEncoder
from core.errors import UserError
from finance.pretext import Masks, NextEvent, Segments, Slices, Swaps

Objective = (
    m.MaskedConfig | m.AutoregressiveConfig | m.SimCLRConfig | m.MoCoConfig | m.BYOLConfig | m.SimSiamConfig | m.BarlowConfig
    | m.CoLESConfig | m.VICRegConfig | m.SwAVConfig | m.Data2VecConfig | m.DenoiseConfig | m.CPCConfig | m.PuzzleConfig
)  # fmt: skip
Task = Masks | NextEvent | Slices | Swaps | Segments
WITH_HEADS = (m.MaskedConfig, m.AutoregressiveConfig, m.DenoiseConfig)  # of whose run the heads by field are kept


@dataclass(frozen=True)
class Plan:
    """What a method is made of: an untrained encoder, a head for each field with its weight, settings, what it learns from."""

    encoder: TokenEncoder
    heads: nn.ModuleDict
    weights: dict[str, float]
    objective: Any
    task: Task
    fields: tuple[Field, ...]


def _puzzle(plan: Plan) -> m.Method:
    if not isinstance(plan.task, Swaps | Segments):
        raise UserError("no puzzle in this pretext", where="pretext", mend="use swaps or segments")
    classes = plan.task.classes(plan.fields)
    return m.PretextClassifier(plan.encoder, replace(plan.objective, classes=classes, per_token=plan.task.per_token))


SPECIAL: Mapping[type, Callable[[Plan], m.Method]] = {  # the others: core.methods.plain
    m.MaskedConfig: lambda plan: m.MaskedPrediction(plan.encoder, plan.heads, plan.weights),
    m.AutoregressiveConfig: lambda plan: m.Autoregressive(plan.encoder, plan.heads, plan.weights),
    m.DenoiseConfig: lambda plan: m.DenoisingAutoencoder(plan.encoder, plan.objective, plan.heads, plan.weights),
    m.PuzzleConfig: _puzzle,
}


def build(plan: Plan) -> m.Method:
    """The method of a plan.

    Raises:
        UserError: settings that do not fit together, such as a puzzle's on slices.
    """
    return m.method_of(plan, SPECIAL)
