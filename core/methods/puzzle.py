"""Puzzles with a known answer: which turn (Gidaris et al. 2018), which order of tiles (Noroozi & Favaro 2016) or segments, which
values were replaced (Clark et al. 2020). What makes them up is in `core/puzzles.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast

from torch import Generator, Tensor, nn

from core.config import within
from core.encoders.encoder import Encoder, TokenEncoder, pool_tokens
from core.errors import UserError
from core.losses import masked_ce
from core.methods.base import Method, Out, need
from core.pretext import Pseudo


@dataclass(frozen=True)
class PuzzleConfig:
    """classes: how many each task has, by name; per_token: an answer for every token, not for the row; dropout: before the answer."""

    kind: Literal["puzzle"] = "puzzle"
    classes: tuple[tuple[str, int], ...] = (("rotation", 4),)
    per_token: bool = False
    dropout: float = 0.0

    def __post_init__(self) -> None:
        within(self, dropout=(0, 0.99))
        if not self.classes or min(count for _, count in self.classes) < 2:
            raise UserError(f"no puzzle has the classes {self.classes}", where="classes", mend="give 2 or more to each")


class PretextClassifier(Method):
    """Eats `Pseudo`: labels (B,) are told from pooled features, labels (B, T) from hidden states; -100 is ignored, and so is padding.

    With several tasks the label is a dict by their names, and the loss the sum.

    Args:
        encoder: any encoder; one of tokens for labels per token.
    """

    def __init__(self, encoder: Encoder, config: PuzzleConfig = PuzzleConfig()) -> None:
        super().__init__()
        if config.per_token and not isinstance(encoder, TokenEncoder):
            raise UserError(
                "labels per token need an encoder of tokens", where="encoder", mend="use a stem and a trunk"
            )
        self.encoder, self.config = encoder, config
        dim = cast(TokenEncoder, encoder).trunk.dim if config.per_token else encoder.dim
        self.heads = nn.ModuleDict(
            {name: nn.Sequential(nn.Dropout(config.dropout), nn.Linear(dim, count)) for name, count in config.classes}
        )

    def forward(self, data: Pseudo, generator: Generator) -> Out:
        need(data, Pseudo, "puzzle")
        labels = data.label if isinstance(data.label, dict) else {next(iter(self.heads)): data.label}
        if labels.keys() != self.heads.keys():
            raise UserError(
                f"labels of {sorted(labels)}, classes of {sorted(self.heads)}",
                where="classes",
                mend="name the same tasks",
            )
        if self.config.per_token:
            tokens = self.encoder(data.batch)
            states, features, pad = tokens.x, pool_tokens(tokens, cast(TokenEncoder, self.encoder).pool), tokens.pad
        else:
            states = features = self.encoder.embed(data.batch)
            pad = None
        loss: Tensor = states.float().sum() * 0.0
        logs: dict[str, float] = {}
        for name, label in labels.items():
            if label.shape != states.shape[:-1]:
                raise UserError(
                    f"labels '{name}' of shape {tuple(label.shape)} for states of shape {tuple(states.shape[:-1])}",
                    where="per_token", mend="set it for labels of tokens, and give one for each token",
                )  # fmt: skip
            label = label if pad is None else label.masked_fill(pad, -100)
            logits, known = self.heads[name](states), label != -100
            loss = loss + masked_ce(logits, label)
            if known.any():
                logs[f"accuracy_{name}"] = float((logits.argmax(-1) == label)[known].float().mean())
        return Out(loss, logs, features.detach())
