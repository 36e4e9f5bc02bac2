"""The attentive probe: a learned query reads frozen token features, where a mean over tokens would drown what few of them know.

Used for encoders whose tokens were never asked to agree, such as masked autoencoders (Bardes et al. 2024; Chen et al. 2022).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from core.config import SIZE, within
from core.encoders.encoder import Encoder
from core.errors import UserError
from core.tokens import Batch, to_device


@dataclass(frozen=True)
class FrozenTokens:
    """Token features of rows.

    Attributes:
        x: (N, T, D), zero at padding.
        pad: (N, T) bool, True where a token is padding.
    """

    x: Tensor
    pad: Tensor

    def __len__(self) -> int:
        return len(self.x)

    def select(self, rows: ArrayLike) -> FrozenTokens:
        """Those rows, in that order."""
        at = torch.as_tensor(np.asarray(rows))
        return FrozenTokens(self.x[at], self.pad[at])


@torch.no_grad()
def embed_tokens(encoder: Encoder, batches: Iterable[Batch], device: str = "cpu") -> FrozenTokens:
    """Token features of every row in the order of the batches, padded to the longest."""
    encoder.to(device).eval()
    parts = []
    for batch in batches:
        tokens = encoder(to_device(batch, device))
        pad = ~tokens.valid()
        parts.append((tokens.x.float().masked_fill(pad[..., None], 0.0).cpu(), pad.cpu()))
    longest = max(x.shape[1] for x, _ in parts)
    return FrozenTokens(
        torch.cat([F.pad(x, (0, 0, 0, longest - x.shape[1])) for x, _ in parts]),
        torch.cat([F.pad(pad, (0, longest - pad.shape[1]), value=True) for _, pad in parts]),
    )


@dataclass(frozen=True)
class AttentiveConfig:
    """heads: queries, each of which reads the tokens for itself; steps, batch, lr, weight_decay: of its training by AdamW."""

    heads: int = 4
    steps: int = 300
    batch: int = 256
    lr: float = 1e-2
    weight_decay: float = 0.05

    def __post_init__(self) -> None:
        within(self, heads=SIZE, steps=SIZE, batch=SIZE, lr=(1e-8, 10), weight_decay=(0, 1e3))


class AttentivePool(nn.Module):
    """Token features (N, T, D) and padding (N, T) -> logits (N, C).

    Each query weighs the tokens by its inner product with their keys, and the weighted means go through one linear layer. It
    starts at equal weights, that is, at the linear probe on the mean.
    """

    def __init__(self, dim: int, classes: int, heads: int = 4) -> None:
        super().__init__()
        self.query = nn.Linear(dim, heads, bias=False)
        nn.init.zeros_(self.query.weight)
        self.norm = nn.LayerNorm(heads * dim)
        self.out = nn.Linear(heads * dim, classes)

    def weights(self, x: Tensor, pad: Tensor) -> Tensor:
        """How much each query looks at each token, (N, T, heads); sums to 1 over real tokens, 0 at padding."""
        scores = self.query(x) / x.shape[-1] ** 0.5
        nothing = pad.all(1, keepdim=True)  # a row of padding alone looks at its zeros, else softmax is NaN
        return scores.masked_fill((pad & ~nothing)[..., None], float("-inf")).softmax(1)

    def forward(self, x: Tensor, pad: Tensor) -> Tensor:
        return self.out(self.norm(torch.einsum("ntd,nth->nhd", x, self.weights(x, pad)).flatten(1)))


def attentive(
    train: FrozenTokens, train_y: ArrayLike, test: FrozenTokens, config: AttentiveConfig = AttentiveConfig(), seed: int = 0
) -> NDArray[np.float64]:  # fmt: skip
    """Class probabilities (M, C) of an attentive probe on standardised tokens; equal seeds give equal probabilities.

    Raises:
        UserError: one class only, other widths, or features that are not finite.
    """
    y = np.asarray(train_y)
    classes, codes = np.unique(y, return_inverse=True)
    _check(train, y, classes, test)
    real = train.x[~train.pad]  # (tokens, D)
    mean, scale = real.mean(0), real.std(0).clamp(min=1e-6)
    label = torch.from_numpy(codes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        probe = AttentivePool(train.x.shape[2], len(classes), config.heads)
    order = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(probe.parameters(), lr=config.lr, weight_decay=config.weight_decay)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, config.lr, total_steps=config.steps, pct_start=0.1)
    rows = torch.empty(0, dtype=torch.long)
    for _ in range(config.steps):
        if len(rows) < min(config.batch, len(label)):  # each epoch in an order of its own
            rows = torch.randperm(len(label), generator=order)
        now, rows = rows[: config.batch], rows[config.batch :]
        loss = F.cross_entropy(probe((train.x[now] - mean) / scale, train.pad[now]), label[now])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        rate.step()
    with torch.no_grad():
        parts = [
            probe((x - mean) / scale, pad).double().softmax(1)
            for x, pad in zip(test.x.split(config.batch), test.pad.split(config.batch), strict=True)
        ]
    return torch.cat(parts).numpy()


def _check(train: FrozenTokens, y: NDArray, classes: NDArray, test: FrozenTokens) -> None:
    if y.shape != (len(train),):
        raise UserError(f"{y.size} labels for {len(train)} rows of tokens", where="label", mend="give one label a row")
    if len(classes) < 2:
        raise UserError("the labels hold one class only", where="label", mend="label at least two classes")
    if train.x.shape[2] != test.x.shape[2]:
        raise UserError(
            f"tokens of width {train.x.shape[2]} and {test.x.shape[2]}", where="probe", mend="use one encoder for both"
        )
    for name, tokens in (("labelled", train), ("test", test)):
        finite = torch.isfinite(tokens.x).flatten(1).all(1)
        if not finite.all():
            row = int(finite.int().argmin())
            raise UserError("a feature is NaN or infinite", where=f"{name} row {row}", mend="look at that row's input")
