"""Puzzles with a known answer: which turn (Gidaris et al. 2018), which order of tiles (Noroozi & Favaro 2016) or segments, which
values were replaced (Clark et al. 2020). What makes them up is in `core/puzzles.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Generator, Tensor, nn

from core.config import SIZE, within
from core.encoders.encoder import Encoder, TokenEncoder, pool_tokens
from core.errors import UserError
from core.losses import masked_ce
from core.methods.base import Method, Out, need
from core.pretext import Pieces, Pseudo


@dataclass(frozen=True)
class PuzzleConfig:
    """What is asked, and how it is answered.

    Attributes:
        classes: how many each task has, by name.
        per_token: an answer for every token, not for the row.
        pieces: how many pieces of a row are read one by one and answered for together: 1 for whole rows.
        hidden: width of a hidden layer between features and answer, which takes what only the puzzle needs away from the
            features (Chen et al. 2020); 0 for none.
        dropout: before the answer.
    """

    kind: Literal["puzzle"] = "puzzle"
    classes: tuple[tuple[str, int], ...] = (("rotation", 4),)
    per_token: bool = False
    pieces: int = 1
    hidden: int = 0
    dropout: float = 0.0

    def __post_init__(self) -> None:
        within(self, dropout=(0, 0.99), pieces=SIZE, hidden=(0, 1e6))
        if not self.classes or min(count for _, count in self.classes) < 2:
            raise UserError(f"no puzzle has the classes {self.classes}", where="classes", mend="give 2 or more to each")
        if self.per_token and self.pieces > 1:
            raise UserError("a token belongs to one piece", where="pieces", mend="leave it at 1, or per_token off")


class PretextClassifier(Method):
    """Eats `Pseudo`: labels (B,) are told from pooled features, labels (B, T) from hidden states; -100 is ignored, and so is padding.
    Eats `Pieces`: the encoder sees each piece alone (the context-free network of Noroozi & Favaro), the labels (B,) are told
    from the pooled features of all of them.

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
        dim = cast(TokenEncoder, encoder).trunk.dim if config.per_token else config.pieces * encoder.dim
        self.heads = nn.ModuleDict({name: _head(dim, count, config) for name, count in config.classes})

    def forward(self, data: Pseudo | Pieces, generator: Generator) -> Out:
        states, features, pad = self._read(data)
        labels = data.label if isinstance(data.label, dict) else {next(iter(self.heads)): data.label}
        if labels.keys() != self.heads.keys():
            raise UserError(
                f"labels of {sorted(labels)}, classes of {sorted(self.heads)}",
                where="classes",
                mend="name the same tasks",
            )
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

    def _read(self, data: Pseudo | Pieces) -> tuple[Tensor, Tensor, Tensor | None]:
        """What answers are told from, (B, D) or (B, T, D), the features (B, D) of each row, and the padding (B, T) of tokens."""
        if self.config.pieces > 1:
            need(data, Pieces, "a puzzle of pieces")
            pieces = cast(Pieces, data).pieces
            if len(pieces) != self.config.pieces:
                raise UserError(
                    f"{len(pieces)} pieces, {self.config.pieces} expected",
                    where="pieces",
                    mend="give as many as are made",
                )
            features = [self.encoder.embed(piece) for piece in pieces]
            return torch.cat(features, 1), torch.stack(features).mean(0), None
        need(data, Pseudo, "puzzle")
        batch = cast(Pseudo, data).batch
        if not self.config.per_token:
            pooled = self.encoder.embed(batch)
            return pooled, pooled, None
        tokens = self.encoder(batch)
        return tokens.x, pool_tokens(tokens, cast(TokenEncoder, self.encoder).pool), tokens.pad


def _head(dim: int, count: int, config: PuzzleConfig) -> nn.Sequential:
    answer = (nn.Dropout(config.dropout), nn.Linear(config.hidden or dim, count))
    return nn.Sequential(nn.Linear(dim, config.hidden), nn.GELU(), *answer) if config.hidden else nn.Sequential(*answer)
