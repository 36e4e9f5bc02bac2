"""Which method belongs to which settings, and what it is made from on images: one table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from core import methods as m
from core.encoders import Encoder
from core.errors import UserError
from core.pretext import Pretext
from healthcare.encoders import EncoderConfig, build_encoder
from healthcare.places import Places
from healthcare.pretext import Coloured, Damaged, HiddenPatches, Noisy, Shuffled, Turned, Whole
from healthcare.views import ImageViews

Objective = (
    m.SimCLRConfig | m.MoCoConfig | m.BYOLConfig | m.SimSiamConfig | m.BarlowConfig | m.VICRegConfig | m.SwAVConfig
    | m.DINOConfig | m.DeepClusterConfig | m.MAEConfig | m.Data2VecConfig | m.DenoiseConfig | m.VAEConfig | m.PuzzleConfig | m.PositionConfig
)  # fmt: skip
Task = ImageViews | HiddenPatches | Damaged | Noisy | Whole | Coloured | Turned | Shuffled | Places


@dataclass(frozen=True)
class Plan:
    """What a method is made of.

    Attributes:
        encoder: untrained.
        objective: the method's settings.
        task: what it learns from.
        images: how many there are to learn from.
        dims: 2 for images, 3 for volumes.
    """

    encoder: Encoder
    objective: Any
    task: Task
    images: int
    dims: int = 2


def _clusters(plan: Plan) -> m.Method:
    return m.DeepCluster(plan.encoder, plan.images, plan.objective)


def _puzzle(plan: Plan) -> m.Method:
    if not isinstance(plan.task, Turned | Shuffled):
        raise UserError("no puzzle in this pretext", where="pretext", mend="use turned or shuffled images")
    classes, pieces = plan.task.classes(plan.dims), plan.task.pieces(plan.dims)
    return m.PretextClassifier(plan.encoder, replace(plan.objective, classes=classes, pieces=pieces))


SPECIAL: Mapping[type, Callable[[Plan], m.Method]] = {  # the others: core.methods.plain
    m.DeepClusterConfig: _clusters,
    m.PuzzleConfig: _puzzle,
}


def build(
    objective: Objective, task: Task, encoder: EncoderConfig, channels: int, size: int, images: int, dims: int = 2
) -> tuple[m.Method, Pretext]:
    """The method with a fresh encoder, and the pretext that feeds it.

    Args:
        channels, size: of an image (channels, size, size).
        images: how many there are to learn from.
        dims: 2 for images, 3 for volumes (channels, size, size, size).

    Raises:
        UserError: settings that do not fit together, such as masked patches on a convolutional net.
    """
    plan = Plan(build_encoder(encoder, channels, size, dims), objective, task, images, dims)
    pretext = task.bound(encoder) if isinstance(task, HiddenPatches) else task
    return m.method_of(plan, SPECIAL), pretext
