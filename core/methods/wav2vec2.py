"""wav2vec 2.0 (Baevski et al. 2020): at hidden places, tell the quantised input that stood there from those of other hidden places."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Generator, Tensor, nn

from core import distributed
from core.assignments import code_usage
from core.config import SIZE, within
from core.encoders.encoder import Encoder, TokenEncoder, pool_tokens
from core.errors import UserError
from core.losses import contrast_within
from core.masking import others_of_row
from core.methods.base import Method, Out, need
from core.methods.masked import need_tokens, token_mask
from core.pretext import Masked
from core.quantiser import GumbelQuantiser, perplexities
from core.tokens import Batch


@dataclass(frozen=True)
class Wav2Vec2Config:
    """What is told apart, and how.

    Attributes:
        groups, codes, width: of the quantiser: `groups` books of `codes` codes, together `width` numbers (a multiple of `groups`).
        out: width in which context and code are compared.
        negatives: drawn, with repetition, from the other hidden places of the same recording.
        temperature: divides the cosines.
        diversity: weight of the term that asks for all codes to be used alike.
        start, end: temperature of the Gumbel softmax, which falls geometrically over the training.
    """

    kind: Literal["wav2vec2"] = "wav2vec2"
    groups: int = 2
    codes: int = 64
    width: int = 64
    out: int = 64
    negatives: int = 50
    temperature: float = 0.1
    diversity: float = 0.1
    start: float = 2.0
    end: float = 0.5

    def __post_init__(self) -> None:
        within(
            self, groups=SIZE, codes=(2, 1e6), width=SIZE, out=SIZE, negatives=SIZE, temperature=(1e-4, 1e4),
            diversity=(0, 1e6), start=(1e-3, 1e3), end=(1e-3, 1e3),
        )  # fmt: skip
        if self.width % self.groups:
            raise UserError(
                f"codes of width {self.width} in {self.groups} groups", where="width", mend="use a multiple of groups"
            )


class Wav2Vec2(Method):
    """Eats `Masked` with one (B, T) mask; targets are the quantised latents (what the stem has before its projection) of the
    unmasked batch, so that the quantiser learns with the rest.

    `usage_codes` in the logs is the perplexity of the codes chosen in this batch, as a share of how many could have been.
    The diversity term is fairseq's: the share of all codes that the perplexity of the mean softmax leaves unused.

    Args:
        encoder: a token encoder; the paper's has a stem of strided convolutions over the waveform.
    """

    tau: Tensor
    batch_statistics = True  # the diversity of codes is a batch's

    def __init__(self, encoder: Encoder, config: Wav2Vec2Config = Wav2Vec2Config()) -> None:
        super().__init__()
        self.encoder: TokenEncoder = need_tokens(encoder, "wav2vec2")
        self.config = config
        stem = self.encoder.stem
        self.mask_token = nn.Parameter(torch.rand(stem.dim))
        self.quantiser = GumbelQuantiser(stem.latent_dim, config.groups, config.codes, config.width)
        self.project_context = nn.Linear(self.encoder.trunk.dim, config.out)
        self.project_code = nn.Linear(config.width, config.out)
        self.register_buffer("tau", torch.tensor(config.start))

    def forward(self, data: Masked, generator: Generator) -> Out:
        need(data, Masked, "wav2vec2")
        c, stem = self.config, self.encoder.stem
        latent = stem.latent(data.batch)
        mask = token_mask(data, stem) & latent.valid()
        tokens = stem.projected(latent)
        x = torch.where(mask[..., None], self.mask_token.to(tokens.x.dtype), tokens.x)
        hidden = self.encoder.trunk(tokens.with_x(x))
        codes = self.quantiser(latent.x[mask], float(self.tau), generator)  # N hidden places of all rows
        with torch.autocast(x.device.type, enabled=False):
            context = self.project_context(hidden.x[mask].float())
            target = self.project_code(codes.x)
            count = mask.sum(1)
            drawn = others_of_row(count, c.negatives, generator)
            losses, right = contrast_within(context, target, codes.code, count, drawn, c.temperature)
            contrast = distributed.mean(losses)
            used = perplexities(codes.shares).sum()
            spare = 1 - used / (c.groups * c.codes)
        logs = {
            "contrast": float(contrast.detach()),
            "accuracy": float(right.float().mean()) if len(right) else 0.0,
            "usage_codes": code_usage(codes.code, c.codes),
            "usage_softmax": float(used.detach()) / (c.groups * c.codes),
            "temperature": float(self.tau),
        }
        return Out(contrast + c.diversity * spare, logs, pool_tokens(hidden, "mean").detach())

    def after_step(self, progress: float) -> None:
        self.tau.fill_(self.config.start * (self.config.end / self.config.start) ** progress)

    def codes(self, batch: Batch) -> tuple[Tensor, int]:
        latent = self.encoder.stem.latent(batch)
        places = latent.x[latent.valid()]
        return self.quantiser(places, 1.0, Generator(places.device)).code, self.config.codes
