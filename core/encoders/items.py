"""The stem for sequences of items from one catalogue."""

from __future__ import annotations

from torch import Tensor, nn

from core.codec import MASKED
from core.encoders.encoder import Stem
from core.heads import TiedHead
from core.tokens import Batch, Tokens


class ItemStem(Stem):
    """Item ids `batch["item"]` (B, T) -> Tokens (B, T, dim). Ids as in core.codec: 0 missing, 1 unknown, 2 masked, 3+ items.

    Args:
        size: ids, the three reserved ones counted.
        dim: width of an item.
        dropout: on the item vectors.
        norm: a layer norm after the table, before positions are added. A Xavier table of 12,000 items has entries of about
            .013, which the blocks' outputs drown in a pre-norm trunk; a larger table would make the tied logits too sharp.
            Normed, Beauty learns in 12 epochs what took 60 (ndcg@10 .0436 against .0251 after 40 seconds on one core).
    """

    def __init__(self, size: int, dim: int, dropout: float = 0.0, norm: bool = False) -> None:
        super().__init__()
        self.dim = dim
        self.embedding = nn.Embedding(size, dim)
        # the usual N(0, 1) makes tied logits so sharp that training stalls; measured in a pilot on Beauty
        nn.init.xavier_normal_(self.embedding.weight)
        self.dropout = nn.Dropout(dropout)
        self.norm = nn.LayerNorm(dim) if norm else nn.Identity()

    def layout(self, batch: Batch) -> tuple[int, Tensor | None]:
        """How many tokens a batch gives, and which are padding."""
        return batch["item"].shape[1], batch.get("pad")

    def forward(self, batch: Batch, mask: dict[str, Tensor] | None = None) -> Tokens:
        item = batch["item"]
        if mask and "item" in mask:
            item = item.masked_fill(mask["item"], MASKED)
        return Tokens(self.norm(self.dropout(self.embedding(item))), batch.get("pad"))

    def heads(self, dim: int | None = None) -> nn.ModuleDict:
        """A head tied to the item table."""
        return nn.ModuleDict({"item": TiedHead(dim or self.dim, self.embedding)})
