"""What a batch of images is turned into for each family of methods, one frozen dataclass each: the settings and the work in one.

Views stand in `healthcare.views`; here is what hides, damages or reorders an image.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Generator

from core.pretext import Pseudo
from core.tokens import Batch
from healthcare.views import ViewConfig, augment


@dataclass(frozen=True)
class Labelled:
    """Augmented images with their labels, for a classifier trained from scratch or further."""

    view: ViewConfig = field(default_factory=ViewConfig)

    def __call__(self, batch: Batch, generator: Generator) -> Pseudo:
        return Pseudo({"image": augment(batch["image"], self.view, generator)}, batch["label"])
