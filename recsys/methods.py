"""Which method belongs to which settings, and what it is made from on item sequences: one table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from core import methods as m
from core.encoders import TokenEncoder
from core.errors import UserError
from recsys.pretext import MaskedItems, NextItem, ReorderedItems, SequenceViews, SwappedItems

Objective = (
    m.AutoregressiveConfig | m.MaskedConfig | m.Data2VecConfig | m.DenoiseConfig | m.CPCConfig | m.PuzzleConfig | m.SimCLRConfig
    | m.MoCoConfig | m.BYOLConfig | m.SimSiamConfig | m.BarlowConfig | m.VICRegConfig
)  # fmt: skip
Task = NextItem | MaskedItems | SequenceViews | SwappedItems | ReorderedItems


@dataclass(frozen=True)
class Plan:
    """What a method is made of: an untrained encoder, its heads over items, the method's settings, what it learns from."""

    encoder: TokenEncoder
    heads: nn.ModuleDict
    objective: Any
    task: Task


def _puzzle(plan: Plan) -> m.Method:
    if not isinstance(plan.task, SwappedItems | ReorderedItems):
        raise UserError("no puzzle in this pretext", where="pretext", mend="use swapped or reordered items")
    per_token = isinstance(plan.task, SwappedItems)
    return m.PretextClassifier(plan.encoder, replace(plan.objective, classes=plan.task.classes, per_token=per_token))


SPECIAL: Mapping[type, Callable[[Plan], m.Method]] = {  # the others: core.methods.plain
    m.AutoregressiveConfig: lambda plan: m.Autoregressive(plan.encoder, plan.heads),
    m.MaskedConfig: lambda plan: m.MaskedPrediction(plan.encoder, plan.heads),
    m.DenoiseConfig: lambda plan: m.DenoisingAutoencoder(plan.encoder, plan.objective, plan.heads),
    m.PuzzleConfig: _puzzle,
}
RANKING = (m.AutoregressiveConfig, m.MaskedConfig)  # their heads say how likely each item is to come next


def build(objective: Objective, task: Task, encoder: TokenEncoder, heads: nn.ModuleDict) -> m.Method:
    """The method on a fresh encoder and heads.

    Raises:
        UserError: settings that do not fit together, such as next-item prediction on an encoder that sees both sides.
    """
    return m.method_of(Plan(encoder, heads, objective, task), SPECIAL)
