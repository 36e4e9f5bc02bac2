"""A head over a catalogue that is too large to score whole at every step.

This is the "sampled" head of the shared design. It lives here until a second domain needs it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from core.heads import TiedHead


class SampledHead(TiedHead):
    """`TiedHead` whose loss scores a target against the batch's other targets and some items drawn evenly.

    All rows share these candidates. Targets of a batch are popular items, so each logit is lowered by the log of the chance
    that its item is among the candidates (logQ correction, Bengio & Senécal 2008; Yi et al. 2019): in expectation the loss
    is that of the whole catalogue. On Beauty's 12,101 items a step costs an eighth of full softmax; evenly drawn
    negatives alone are as cheap, but learn more slowly (ndcg@10 after 20 epochs .0461 against .0499).
    Log-probabilities are those of the whole catalogue.

    Args:
        dim: width of the hidden states.
        embedding: the table of the items.
        counts: (size,) how often each id is a target in training.
        negatives: items drawn evenly at each step.
    """

    counts: Tensor

    def __init__(self, dim: int, embedding: nn.Embedding, counts: Tensor, negatives: int = 512) -> None:
        super().__init__(dim, embedding)
        self.negatives = negatives
        self.register_buffer("counts", counts.float())

    def log_chance(self, ids: Tensor, targets: int) -> Tensor:
        """log P(id is a candidate), given that many targets in the batch; (ids,)."""
        even = torch.log1p(torch.tensor(-1.0 / (self.table[0].num_embeddings - self.first)))
        share = (self.counts[ids] / self.counts.sum().clamp(min=1)).clamp(max=0.999)
        missed = self.negatives * even + targets * torch.log1p(-share)  # log of the chance that no draw gives it
        return torch.log(-torch.expm1(missed))

    def loss(self, hidden: Tensor, target: Tensor, generator: Generator | None = None) -> Tensor:
        """Mean over rows (N, D) of −log softmax of the target among the candidates; scalar, fp32."""
        with torch.autocast(hidden.device.type, enabled=False):
            hidden = self.project(hidden.float())
            table = self.table[0]
            drawn = torch.randint(
                self.first, table.num_embeddings, (self.negatives,), generator=generator,
                device=hidden.device if generator is None else generator.device,
            ).to(hidden.device)  # fmt: skip
            candidates = torch.unique(torch.cat([target, drawn]))  # (C,) sorted
            logits = hidden @ table(candidates).float().T - self.log_chance(candidates, len(target))  # (N, C)
            return F.cross_entropy(logits, torch.searchsorted(candidates, target))
