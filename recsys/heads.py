"""A head over a catalogue that is too large to score whole at every step.

This is the "sampled" head of the shared design. It lives here until a second domain needs it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from core.heads import TiedHead


class SampledHead(TiedHead):
    """`TiedHead` whose loss scores the target against uniformly drawn items, one draw shared by the batch.

    Full softmax over Beauty's 12,101 items costs 8 times as much a step. Log-probabilities stay those of the whole catalogue.
    Sampled softmax with shared negatives: Klenitskiy & Vasilev 2023 ("Turning dross into gold loss").

    Args:
        dim: width of the hidden states.
        embedding: the table of the items.
        negatives: items drawn at each step; one equal to a row's target is left out of that row.
    """

    def __init__(self, dim: int, embedding: nn.Embedding, negatives: int = 512) -> None:
        super().__init__(dim, embedding)
        self.negatives = negatives

    def loss(self, hidden: Tensor, target: Tensor, generator: Generator | None = None) -> Tensor:
        """Mean over rows (N, D) of −log softmax of the target among itself and the drawn items; scalar, fp32."""
        with torch.autocast(hidden.device.type, enabled=False):
            hidden = self.project(hidden.float())
            table = self.table[0]
            drawn = torch.randint(
                self.first, table.num_embeddings, (self.negatives,), generator=generator,
                device=hidden.device if generator is None else generator.device,
            ).to(hidden.device)  # fmt: skip
            own = (hidden * table(target).float()).sum(1, keepdim=True)  # (N, 1)
            others = hidden @ table(drawn).float().T  # (N, negatives)
            others = others.masked_fill(target[:, None] == drawn, float("-inf"))
            place = torch.zeros(len(hidden), dtype=torch.long, device=hidden.device)
            return F.cross_entropy(torch.cat([own, others], 1), place)
