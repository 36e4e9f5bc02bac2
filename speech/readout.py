"""Linear layers that read labels off an encoder's features, by logistic regression: the start of fine-tuning, or all there is."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from core.probes import linear_model
from speech.probes import COSTS

COST = 10.0  # of the regression on unit features, whose logits are small


class UnitHead(nn.Module):
    """A linear layer on features that are standardised and scaled to length 1: (N, D) to logits (N, C)."""

    mean: Tensor
    spread: Tensor

    def __init__(self, dim: int, classes: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("spread", torch.ones(dim))
        self.linear = nn.Linear(dim, classes)

    def unit(self, features: Tensor) -> Tensor:
        """What the linear layer reads, (N, D)."""
        return F.normalize((features - self.mean) / self.spread, dim=1)

    def forward(self, features: Tensor) -> Tensor:
        return self.linear(self.unit(features))


def linear_head(features: NDArray, label: NDArray, groups: NDArray | None) -> nn.Linear:
    """The logistic regression of speech.probes as one layer, (N, D) features to (N, C) logits: its standardisation is folded in."""
    model = linear_model(features, label, groups, COSTS)
    scale, regression = model[0], model[-1]
    head = nn.Linear(features.shape[1], len(regression.classes_))
    _put(
        head,
        regression.coef_ / scale.scale_,
        regression.intercept_ - (regression.coef_ * scale.mean_ / scale.scale_).sum(1),
    )
    return head


def unit_head(features: NDArray, label: NDArray, every: NDArray) -> UnitHead:
    """A logistic regression on features of length 1, for few labels (SimpleShot, Wang et al. 2019).

    Args:
        features, label: (N, D) and (N,), labelled.
        every: (M, D) of which mean and spread are taken: also those of recordings without a label.
    """
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    head = UnitHead(features.shape[1], len(np.unique(label)))
    head.mean.copy_(torch.from_numpy(every.mean(0)))
    head.spread.copy_(torch.from_numpy(every.std(0) + 1e-3))
    with torch.no_grad():
        unit = head.unit(torch.from_numpy(features)).numpy()
    with threadpool_limits(1, user_api="blas"):
        regression = LogisticRegression(C=COST, max_iter=2000).fit(unit, label)
    _put(head.linear, regression.coef_, regression.intercept_)
    return head


@torch.no_grad()
def _put(layer: nn.Linear, weight: NDArray, bias: NDArray) -> None:
    """A regression's weights (C, D) and biases (C,), or its one row for the second of two classes."""
    if len(weight) == 1:
        weight, bias = np.concatenate([0 * weight, weight]), np.concatenate([0 * bias, bias])
    layer.weight.copy_(torch.from_numpy(weight))
    layer.bias.copy_(torch.from_numpy(bias))
