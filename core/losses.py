"""Losses: pure functions, always computed in fp32."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from core import distributed


def nt_xent(a: Tensor, b: Tensor, temperature: float = 0.2, group: Tensor | None = None) -> Tensor:
    """Normalised temperature-scaled cross entropy (SimCLR, Chen et al. 2020).

    Args:
        a, b: two views of the same N samples, (N, D), normalised here.
        temperature: divides the cosine similarities.
        group: (N,) long; rows of one group are positives of each other, and the loss is the mean over a row's positives
            of −log p (SupCon, Khosla et al. 2020; CoLES, Babaev et al. 2022). None: the other view alone.
    """
    with torch.autocast(a.device.type, enabled=False):
        z = F.normalize(torch.cat([a, b]).float(), dim=1)  # (2N, D)
        n = len(a)
        logits = z @ z.T / temperature
        itself = torch.eye(2 * n, dtype=torch.bool, device=z.device)
        logits = logits.masked_fill(itself, float("-inf"))
        if group is None:
            target = torch.arange(2 * n, device=z.device).roll(n)
            return F.cross_entropy(logits, target)
        both = torch.cat([group, group])
        positive = (both[:, None] == both[None]) & ~itself
        log_p = logits.log_softmax(1).masked_fill(~positive, 0.0)
        return -(log_p.sum(1) / positive.sum(1)).mean()


def masked_ce(logits: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean cross entropy over the places (of all processes) where `mask` holds and the target is not -100; 0 where there is none.

    Args:
        logits: (..., C).
        target: (...) long.
        mask: (...) bool.
    """
    with torch.autocast(logits.device.type, enabled=False):
        if mask is not None:
            target = target.masked_fill(~mask, -100)
        keep = target != -100
        return distributed.mean(F.cross_entropy(logits[keep].float(), target[keep], reduction="none"))
