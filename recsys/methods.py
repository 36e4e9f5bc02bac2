"""Which method belongs to which settings, and what it is made from on item sequences: one table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from torch import nn

from core import methods as m
from core.batches import Ragged
from core.config import within
from core.encoders import TokenEncoder
from core.errors import UserError
from core.pretext import Pretext, Together
from recsys.attributes import Attributes
from recsys.pretext import (
    ItemAttributes,
    MaskedItems,
    NextItem,
    ReorderedItems,
    SameTarget,
    SequenceViews,
    SwappedItems,
)

Objective = (
    m.AutoregressiveConfig | m.MaskedConfig | m.Data2VecConfig | m.DenoiseConfig | m.CPCConfig | m.PuzzleConfig | m.SimCLRConfig
    | m.MoCoConfig | m.BYOLConfig | m.SimSiamConfig | m.BarlowConfig | m.VICRegConfig | m.TokenLabelsConfig
)  # fmt: skip
Task = NextItem | MaskedItems | SequenceViews | SwappedItems | ReorderedItems | SameTarget | ItemAttributes
MAIN = "main"


@dataclass(frozen=True)
class Extra:
    """One more objective on the encoder.

    Attributes:
        weight: of its loss, beside the main one's, which counts 1; 0 leaves it out.
        objective: the method's own settings.
        pretext: what it learns from.
    """

    weight: float = 0.0
    objective: Objective = field(default_factory=m.SimCLRConfig)
    pretext: Task = field(default_factory=SequenceViews)

    def __post_init__(self) -> None:
        within(self, weight=(0, 1e3))


def _contrast(pretext: Task) -> Extra:
    """Views that attract, without a projection head, as CL4SRec and DuoRec have them."""
    return Extra(0.0, m.SimCLRConfig(hidden=0, temperature=0.2), pretext)


@dataclass(frozen=True)
class Auxiliary:
    """What the encoder learns beside its main objective; each is off until it gets a weight.

    Attributes:
        views: cropped, masked and reordered views attract (CL4SRec, Xie et al. 2022).
        same_target: dropout views, and sequences that go on with the same item, attract (DuoRec, Qiu et al. 2022).
        replaced: which items were swapped with another sequence's (ELECTRA, Clark et al. 2020).
        order: which order the segments are in.
        attributes: each item's vector tells its attributes (S3-Rec, Zhou et al. 2020); they come with the data.
    """

    views: Extra = field(default_factory=lambda: _contrast(SequenceViews()))
    same_target: Extra = field(default_factory=lambda: _contrast(SameTarget()))
    replaced: Extra = field(default_factory=lambda: Extra(0.0, m.PuzzleConfig(), SwappedItems()))
    order: Extra = field(default_factory=lambda: Extra(0.0, m.PuzzleConfig(), ReorderedItems()))
    attributes: Extra = field(default_factory=lambda: Extra(0.0, m.TokenLabelsConfig(), ItemAttributes()))

    def on(self) -> dict[str, Extra]:
        """Those that have a weight, by name."""
        every = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: extra for name, extra in every.items() if extra.weight}


@dataclass(frozen=True)
class Plan:
    """What a method is made of: an untrained encoder, its heads over items, the method's settings, what it learns from, how many
    attributes the data tell."""

    encoder: TokenEncoder
    heads: nn.ModuleDict
    objective: Any
    task: Task
    labels: int = 0


def _puzzle(plan: Plan) -> m.Method:
    if not isinstance(plan.task, SwappedItems | ReorderedItems):
        raise UserError("no puzzle in this pretext", where="pretext", mend="use swapped or reordered items")
    per_token = isinstance(plan.task, SwappedItems)
    return m.PretextClassifier(plan.encoder, replace(plan.objective, classes=plan.task.classes, per_token=per_token))


def _labels(plan: Plan) -> m.Method:
    if not plan.labels:
        raise _no_attributes()
    return m.TokenLabels(plan.encoder, replace(plan.objective, count=plan.labels))


def _no_attributes() -> UserError:
    return UserError(
        "this method needs the items' attributes", where="attributes",
        mend="give a table of item_id and attributes: --attributes, or SessionRecommender(attributes=…)",
    )  # fmt: skip


SPECIAL: Mapping[type, Callable[[Plan], m.Method]] = {  # the others: core.methods.plain
    m.AutoregressiveConfig: lambda plan: m.Autoregressive(plan.encoder, plan.heads),
    m.MaskedConfig: lambda plan: m.MaskedPrediction(plan.encoder, plan.heads),
    m.DenoiseConfig: lambda plan: m.DenoisingAutoencoder(plan.encoder, plan.objective, plan.heads),
    m.PuzzleConfig: _puzzle,
    m.TokenLabelsConfig: _labels,
}
RANKING = (m.AutoregressiveConfig, m.MaskedConfig)  # their heads say how likely each item is to come next


def build(
    objective: Objective, task: Task, encoder: TokenEncoder, heads: nn.ModuleDict, auxiliary: Auxiliary = Auxiliary(),
    labels: int = 0,
) -> m.Method:  # fmt: skip
    """The method on a fresh encoder and heads; with auxiliaries, a `Joint` whose main part it is.

    Args:
        labels: how many attributes the items have between them.

    Raises:
        UserError: settings that do not fit together, such as next-item prediction on an encoder that sees both sides.
    """

    def made(objective: Objective, task: Task) -> m.Method:
        return m.method_of(Plan(encoder, heads, objective, task, labels), SPECIAL)

    main, extras = made(objective, task), auxiliary.on()
    if not extras:
        return main
    parts = {name: m.Part(made(extra.objective, extra.pretext), extra.weight) for name, extra in extras.items()}
    return m.Joint({MAIN: m.Part(main), **parts})


def pretext_of(task: Task, auxiliary: Auxiliary, train: Ragged, attributes: Attributes | None = None) -> Pretext:
    """What turns batches of `train` into what the method of `build` eats.

    Raises:
        UserError: a pretext of attributes, and none are given.
    """

    def bound(task: Task) -> Any:
        if isinstance(task, SameTarget):
            return task.bound(train)
        if isinstance(task, ItemAttributes):
            if attributes is None:
                raise _no_attributes()
            return task.bound(attributes.table)
        return task

    extras = auxiliary.on()
    if not extras:
        return bound(task)
    return Together({MAIN: bound(task), **{name: bound(extra.pretext) for name, extra in extras.items()}})
