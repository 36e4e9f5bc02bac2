"""The variational autoencoder (Kingma & Welling 2013; Rezende et al. 2014): a latent with a density, from which the input is restored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Generator, Tensor, nn

from core import distributed
from core.config import SHARE, SIZE, within
from core.decoders import Spread, decoder_for
from core.encoders.encoder import Encoder
from core.heads import Head
from core.methods.base import Method, Out, need
from core.pretext import Corrupted
from core.tokens import Batch

QUIET = -4.0  # log-variance of the latent before training


@dataclass(frozen=True)
class VAEConfig:
    """A latent and its price.

    Attributes:
        latent: its width.
        beta: weight of the KL divergence (β-VAE, Higgins et al. 2017); 1 is the evidence lower bound.
        warmup: share of training in which that weight rises from 0 (Bowman et al. 2015), so that the decoder does not learn to
            do without the latent.
        free_bits: nats that each dimension may carry, on average over the batch, at no price (Kingma et al. 2016).
        width: of the decoder's layers.
    """

    kind: Literal["vae"] = "vae"
    latent: int = 32
    beta: float = 1.0
    warmup: float = 0.2
    free_bits: float = 0.0
    width: int = 64

    def __post_init__(self) -> None:
        within(self, latent=SIZE, beta=(0, 1e6), warmup=SHARE, free_bits=(0, 1e6), width=SIZE)


class VariationalAutoencoder(Method):
    """Eats `Corrupted`, or a pair (batch, clean), which may be the same: `embed(batch)` gives the latent, the latent the clean input.

    Values are Gaussian around what is restored, with one variance that follows the error (σ-VAE, Rybkin et al. 2021), so that
    `beta = 1` fits data of any scale; fields have the log-likelihood of their heads. The loss is in nats a value (an event).

    Args:
        encoder: a convolutional net, or a token encoder whose stem has fields or values.
        heads: a head per field, in the place of the stem's own.
        weights: how much each field counts; 1 where it is not named.
    """

    progress: Tensor
    variance: Tensor
    moves: Tensor

    def __init__(
        self, encoder: Encoder, config: VAEConfig = VAEConfig(),
        heads: Mapping[str, Head] | nn.ModuleDict | None = None, weights: dict[str, float] | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.encoder, self.config = encoder, config
        self.decoder = decoder_for(encoder, config.width, heads, weights)
        self.batch_statistics = self.decoder.batch_statistics or config.free_bits > 0
        told = nn.Linear(encoder.dim, 2 * config.latent)
        with (
            torch.no_grad()
        ):  # little noise at first, else the decoder learns to do without a latent that says nothing yet
            told.weight[config.latent :] *= 0.1
            told.bias[config.latent :] = QUIET
        self.posterior = nn.Sequential(nn.LayerNorm(encoder.dim), told)
        self.spread = Spread(config.latent, self.decoder.dim, 4 * config.width)
        self.register_buffer("progress", torch.tensor(0.0))
        self.register_buffer("variance", torch.tensor(1.0))
        self.register_buffer("moves", torch.tensor(0))
        self.errors: list[Tensor] = []

    def latent(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of the latent, (B, latent) each, in fp32."""
        return self._latent(self.encoder.embed(batch))

    def _latent(self, features: Tensor) -> tuple[Tensor, Tensor]:
        with torch.autocast(features.device.type, enabled=False):
            mean, log_variance = self.posterior(features.float()).chunk(2, 1)
            return mean, log_variance.clamp(-10, 10)

    def forward(self, data: Corrupted | tuple[Batch, Batch], generator: Generator) -> Out:
        data = Corrupted(*data) if isinstance(data, tuple) else data
        need(data, Corrupted, "vae")
        features = self.encoder.embed(data.batch)
        mean, log_variance = self._latent(features)
        z = mean + (0.5 * log_variance).exp() * self._noise(mean, generator)
        tokens = self.spread(z, *self.decoder.layout(data.clean))
        error, logs = self.decoder.loss(tokens, data.clean, generator)
        if not self.decoder.nats:
            if self.training:
                self.errors.append(error.detach())
            error = 0.5 * (error / self.variance + self.variance.log())
        kl = distributed.gather(divergence(mean, log_variance)).mean(0)  # (latent,) over the whole batch
        paid = kl.clamp(min=self.config.free_bits).sum()
        count = distributed.gather(self.decoder.count(data.clean).float()).mean().clamp(min=1)
        loss = error + self.weight() * paid / count
        share = float((kl > 0.01).float().mean())
        return Out(loss, {**logs, "kl": float(kl.detach().sum()), "usage_latent": share}, features.detach())

    def _noise(self, like: Tensor, generator: Generator) -> Tensor:
        """Standard normal: this process's rows of what is drawn for all, so that two processes equal one."""
        rows = distributed.sizes(len(like), like.device)
        drawn = torch.randn(sum(rows), like.shape[1], generator=generator, device=generator.device)
        start = sum(rows[: distributed.rank()])
        return drawn[start : start + len(like)].to(like.device)

    def weight(self) -> Tensor:
        """Present weight of the KL divergence."""
        risen = (self.progress / self.config.warmup).clamp(max=1) if self.config.warmup else 1.0
        return self.config.beta * risen * torch.ones_like(self.progress)

    @torch.no_grad()
    def after_step(self, progress: float) -> None:
        self.progress.fill_(progress)
        if self.errors:  # a mean of the first errors, then of about the last ten
            error = distributed.total(torch.stack(self.errors).mean()) / distributed.world()
            self.moves += 1
            self.variance.lerp_(error.clamp(min=1e-6), 1 / min(int(self.moves), 10))
            self.errors.clear()


def divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL divergence in nats of N(mean, e^log_variance) from N(0, 1), elementwise."""
    return 0.5 * (mean.square() + log_variance.exp() - log_variance - 1)
