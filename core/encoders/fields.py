"""The stem for rows and events of mixed columns: each field has an embedding, an event is their sum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.codec import MASKED
from core.encoders.encoder import Stem
from core.errors import UserError
from core.heads import LinearHead, MixtureHead
from core.tokens import Batch, Tokens

PADDED = 0.2  # share of padding from which on it is left out


@dataclass(frozen=True)
class Field:
    """One column of an event.

    Attributes:
        name: its key in the batch.
        kind: `categorical` (ids, see core.codec) or `numeric` (standardised, NaN where missing; time gaps too).
        size: ids of a categorical field, the three reserved ones included.
        table: categorical fields that name the same one share its embeddings, as the words of a text do.
    """

    name: str
    kind: Literal["categorical", "numeric"]
    size: int = 0
    table: str = ""

    def __post_init__(self) -> None:
        if self.kind == "categorical" and self.size <= MASKED:
            raise UserError(
                f"categorical field '{self.name}' has size {self.size}", where="fields", mend="give its vocabulary size"
            )


class NumberEmbedding(nn.Module):
    """A number as its value and sines of it at learned rates (Gorishniy et al. 2022), with states missing and masked."""

    def __init__(self, dim: int, rates: int = 8) -> None:
        super().__init__()
        self.rate = nn.Parameter(torch.logspace(-1, 1, rates))
        self.linear = nn.Linear(2 * rates + 1, dim)
        self.state = nn.Embedding(2, dim)  # 0 missing, 1 masked

    def forward(self, value: Tensor, mask: Tensor | None) -> Tensor:
        missing = torch.isnan(value)
        masked = torch.zeros_like(missing) if mask is None else mask
        hidden = missing | masked
        value = value.masked_fill(hidden, 0.0)[..., None]
        angle = value * self.rate
        # one product for all three states: what a hidden number is looks up its row by ones and zeros
        state = torch.stack([~hidden, missing & ~masked, masked], -1).to(value.dtype)
        given = torch.cat([value, angle.sin(), angle.cos() * state[..., :1], state], -1)
        weight = torch.cat([self.linear.weight, self.linear.bias[:, None], self.state.weight.T], 1)
        return F.linear(given, weight)


def _real(pad: Tensor | None) -> Tensor | None:
    """Where the events of a batch that is largely padding stand in it, flattened (N,), so that padding costs nothing; None where all
    places are embedded: little padding, a graph of fixed shapes, or a device that is not the CPU."""
    if pad is None or pad.device.type != "cpu" or torch.compiler.is_compiling() or torch.compiler.is_exporting():
        return None
    return (~pad).flatten().nonzero()[:, 0] if pad.float().mean() > PADDED else None


class FieldStem(Stem):
    """Events (B, T) of `fields` -> Tokens (B, T, dim). A row of a table is an event sequence of length 1.

    `stem(batch, mask)` with one (B, T) bool per field hides that field's value.
    """

    def __init__(self, fields: tuple[Field, ...], dim: int, dropout: float = 0.0) -> None:
        super().__init__()
        if not fields:
            raise UserError("no field to embed", where="fields", mend="name at least one categorical or numeric column")
        self.fields, self.dim = fields, dim
        self.embeddings = nn.ModuleDict(
            {
                f.table or f.name: nn.Embedding(f.size, dim) if f.kind == "categorical" else NumberEmbedding(dim)
                for f in fields
            }
        )
        for embedding in self.embeddings.values():
            if isinstance(embedding, nn.Embedding):
                nn.init.normal_(embedding.weight, std=0.1)
        self.norm = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)

    def layout(self, batch: Batch) -> tuple[int, Tensor | None]:
        """How many tokens a batch gives, and which are padding."""
        return batch[self.fields[0].name].shape[1], batch.get("pad")

    def forward(self, batch: Batch, mask: dict[str, Tensor] | None = None) -> Tokens:
        mask, pad = mask or {}, batch.get("pad")
        place = _real(pad)
        total = 0
        for field in self.fields:
            value, hidden = batch[field.name], mask.get(field.name)
            if place is not None:
                value = value.flatten().index_select(0, place)
                hidden = None if hidden is None else hidden.flatten().index_select(0, place)
            if field.kind == "categorical":
                if hidden is not None:
                    value = value.masked_fill(hidden, MASKED)
                total = total + self.embeddings[field.table or field.name](value)
            else:
                total = total + self.embeddings[field.name](value, hidden)
        x = self.dropout(self.norm(total))
        if place is not None and pad is not None:
            x = x.new_zeros(pad.numel(), self.dim).index_copy(0, place, x).view(*pad.shape, self.dim)
        return Tokens(x, pad)

    def heads(self, dim: int | None = None, components: int = 8, trim: float = 0.0) -> nn.ModuleDict:
        """A head per field that fits its kind: linear for categories, a mixture density for numbers."""
        width = dim or self.dim
        return nn.ModuleDict(
            {
                f.name: LinearHead(width, f.size) if f.kind == "categorical" else MixtureHead(width, components, trim)
                for f in self.fields
            }
        )
