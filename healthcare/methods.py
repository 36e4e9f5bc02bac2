"""Which method belongs to which settings, and what it is made from on images: one table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from core.encoders import Encoder
from core.methods import Method, SimCLR, SimCLRConfig
from healthcare.views import ImageViews

Objective = SimCLRConfig
Pretext = ImageViews


@dataclass(frozen=True)
class ImageShape:
    """What a method may need to know of the data: channels and side of an image, and how many there are."""

    channels: int
    size: int
    count: int


METHODS: dict[str, Callable[..., Method]] = {
    "simclr": lambda encoder, config, images: SimCLR(encoder, config),
}


def build_method(objective: Objective, encoder: Encoder, images: ImageShape) -> Method:
    """The method of these settings on top of an encoder."""
    return METHODS[objective.kind](encoder, objective, images)
