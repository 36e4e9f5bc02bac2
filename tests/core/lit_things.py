"""Things under lights: small images whose kind two views share, for the tests of methods that compare views."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from core.batches import ArrayBatches
from core.encoders import Encoder
from core.methods import Method
from core.probes import embed, knn

SIDE, ROWS, KINDS = 16, 384, 6


def drawn(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def light(rows: int, generator: torch.Generator) -> Tensor:
    """How bright an image is, from side to side: what is no feature, and most of what a random network sees."""
    level = 2 * torch.randn(rows, 3, 1, 1, generator=generator)
    along = torch.linspace(-1, 1, SIDE)
    return (level[:, 0] + level[:, 1] * along[:, None] + level[:, 2] * along)[:, None]


def things() -> tuple[ArrayBatches, np.ndarray]:
    """Images (ROWS, 1, SIDE, SIDE) of a few kinds of things, each under a light of its own."""
    g = drawn(0)
    kind = torch.randint(0, KINDS, (ROWS,), generator=g)
    shape = torch.randn(KINDS, 1, SIDE, SIDE, generator=g)
    image = 0.7 * shape[kind] + light(ROWS, g) + 0.5 * torch.randn(ROWS, 1, SIDE, SIDE, generator=g)
    return ArrayBatches({"image": image.numpy()}, 64), kind.numpy()


def nudge(method: Method) -> None:
    """Move the weights as an optimizer would."""
    with torch.no_grad():
        for p in method.parameters():
            if p.grad is not None:
                p -= 0.05 * p.grad


def score(encoder: Encoder, batches: ArrayBatches, kind: np.ndarray) -> float:
    """Accuracy of kNN from one half of the things to the other."""
    x = embed(encoder, batches.ordered())
    half = ROWS // 2
    return float((knn(x[:half], kind[:half], x[half:], k=10).argmax(1) == kind[half:]).mean())
