"""Signs of collapse: an encoder that gives every input the same features has learned nothing."""

from __future__ import annotations

import torch
from torch import Tensor


def feature_std(features: Tensor) -> float:
    """Mean standard deviation of L2-normalised features (N, D), times √D: about 1 when healthy, 0 when collapsed (SimSiam)."""
    z = torch.nn.functional.normalize(features.float(), dim=1)
    return float(z.std(0, unbiased=False).mean() * features.shape[1] ** 0.5)


def rankme(features: Tensor) -> float:
    """Effective rank (RankMe, Garrido et al. 2023): exp of the entropy of the centred features' singular values.

    The figure depends on the sample: compare only equal N, and take N ≥ 4·D.
    """
    centred = features.double() - features.double().mean(0)
    values = torch.linalg.svdvals(centred)
    if values.sum() <= 1e-12:
        return 1.0
    share = values / values.sum()
    return float(torch.exp(-(share * (share + 1e-12).log()).sum()))
