"""What a token's value is known to be: its labels, told from the stem's vector alone (associated attributes in S3-Rec, Zhou et al. 2020)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast

from torch import Generator, nn

from core.config import within
from core.encoders.encoder import Encoder, TokenEncoder, pool_tokens
from core.errors import UserError
from core.heads import Head, MultiLabelHead
from core.methods.base import Method, Out, need
from core.methods.masked import need_tokens
from core.pretext import Pseudo


@dataclass(frozen=True)
class TokenLabelsConfig:
    """count: how many labels there are, which the data say."""

    kind: Literal["labels"] = "labels"
    count: int = 2

    def __post_init__(self) -> None:
        within(self, count=(1, 1e7))


class TokenLabels(Method):
    """Eats `Pseudo` whose label (B, T, K) is each token's set of labels, filled up with -100; a token without any is ignored, and
    so is padding.

    The trunk is not read: vectors of rare values come near those of like labels, at a fraction of a pass through the encoder. It is
    meant as a part of a `Joint`, whose other parts teach the trunk.

    Args:
        encoder: a token encoder.
    """

    may_collapse = False  # labels are given by a person

    def __init__(self, encoder: Encoder, config: TokenLabelsConfig = TokenLabelsConfig()) -> None:
        super().__init__()
        self.encoder: TokenEncoder = need_tokens(encoder, "labels of tokens")
        self.config = config
        self.heads = nn.ModuleDict({"labels": MultiLabelHead(self.encoder.stem.dim, config.count)})

    def forward(self, data: Pseudo, generator: Generator) -> Out:
        need(data, Pseudo, "labels of tokens")
        tokens, label = self.encoder.stem(data.batch), data.label
        if isinstance(label, dict) or label.shape[:-1] != tokens.x.shape[:-1]:
            shape = "by task" if isinstance(label, dict) else f"of shape {tuple(label.shape)}"
            raise UserError(
                f"labels {shape} for tokens of shape {tuple(tokens.x.shape[:-1])}", where="pretext",
                mend="give one set of labels for each token",
            )  # fmt: skip
        asked = tokens.valid() & (label != -100).any(-1)
        loss = cast(Head, self.heads["labels"]).loss(tokens.x[asked], label[asked], generator)
        return Out(loss, embedding=pool_tokens(tokens, "mean").detach())
