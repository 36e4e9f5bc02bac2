"""A slowly moving copy of a network (mean teacher, Tarvainen & Valpola 2017), saved with its method."""

from __future__ import annotations

import copy
import math

import torch
from torch import nn


class Teacher(nn.Module):
    """An exponential moving average of `student`: `teacher.net` is called like the student, without gradients.

    Parameters move by `momentum`; buffers, such as the statistics of batch norms, are copied, since an average of them that
    starts at a random network lags behind. The momentum rises along half a cosine from `momentum` to `final` (BYOL, Grill et
    al. 2020). It is moved by `move`, once per optimizer step, and nowhere else.

    Args:
        student: copied; stays the method's own.
        momentum, final: at the start and the end of training, in [0, 1].
    """

    def __init__(self, student: nn.Module, momentum: float = 0.99, final: float = 1.0) -> None:
        super().__init__()
        self.net = copy.deepcopy(student)
        self.net.requires_grad_(False)
        self.momentum, self.final = momentum, final

    def at(self, progress: float) -> float:
        """The momentum after that share of training."""
        return self.final - (self.final - self.momentum) * (1 + math.cos(math.pi * progress)) / 2

    @torch.no_grad()
    def move(self, student: nn.Module, progress: float) -> None:
        """One step towards the student's present weights."""
        keep = self.at(progress)
        torch._foreach_lerp_(list(self.net.parameters()), list(student.parameters()), 1 - keep)
        for mine, theirs in zip(self.net.buffers(), student.buffers(), strict=True):
            mine.copy_(theirs)
