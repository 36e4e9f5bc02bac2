"""What each layer of a frozen encoder tells, and a probe on a weighted sum of all of them (SUPERB, Yang et al. 2021).

The last layer of a network that was trained on a pretext is bent towards that pretext: what a task needs often lies below.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from core.device import one_thread
from core.encoders.encoder import Encoder
from core.errors import UserError
from core.probes import COSTS, checked, label_folds
from core.tokens import Batch, to_device

ITERATIONS = 100  # of L-BFGS


@torch.no_grad()
def embed_layers(encoder: Encoder, batches: Iterable[Batch], device: str = "cpu") -> list[NDArray[np.float32]]:
    """(N, D) of every layer, from first to last, of every row in the order of the batches."""
    encoder.to(device).eval()
    parts = [[x.float().cpu().numpy() for x in encoder.layer_features(to_device(batch, device))] for batch in batches]
    return [np.concatenate(layer) for layer in zip(*parts, strict=True)]


def stacked(layers: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Layers as one array (N, L, D).

    Raises:
        UserError: they differ in width, so that no sum of them is to be had.
    """
    if len({layer.shape[1] for layer in layers}) > 1:
        raise UserError(
            "the layers differ in width and have no weighted sum", where="encoder", mend="use a Transformer, or the last layer"
        )  # fmt: skip
    return np.stack(layers, 1)


class LayerProbe(nn.Module):
    """Pooled layers (B, L, D) -> logits (B, C): a linear layer on the weighted sum of the standardised layers."""

    mean: Tensor
    scale: Tensor

    def __init__(self, layers: int, dim: int, classes: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(layers, dim))
        self.register_buffer("scale", torch.ones(layers, dim))
        self.score = nn.Parameter(torch.zeros(layers))
        self.linear = nn.Linear(dim, classes)

    @property
    def weights(self) -> Tensor:
        """How much each layer counts, (L,); they sum to 1."""
        return self.score.softmax(0)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(torch.einsum("bld,l->bd", (x - self.mean) / self.scale, self.weights))


def fit_layers(x: NDArray, y: ArrayLike, cost: float) -> LayerProbe:
    """Weights of the layers and linear layer together, on labelled rows x (N, L, D) alone.

    The loss is that of scikit-learn's logistic regression: half the squared weights, and `cost` times the summed cross entropy;
    the layers' scores are shrunk as if drawn from a normal distribution, so that few labels leave the weights near each other. It starts
    at equal weights of all layers, and draws nothing at random.

    Raises:
        UserError: one class only, or features that are not finite.
    """
    rows, layers, dim = x.shape
    flat, y, _ = checked(np.asarray(x, np.float64).reshape(rows, -1), y)
    classes, codes = np.unique(y, return_inverse=True)
    probe = LayerProbe(layers, dim, len(classes)).double()
    features, target = torch.from_numpy(flat).view(rows, layers, dim), torch.from_numpy(codes)
    spread = features.std(0, unbiased=False)
    probe.mean.copy_(features.mean(0))
    probe.scale.copy_(torch.where(spread < 1e-12, torch.ones_like(spread), spread))
    nn.init.zeros_(probe.linear.weight)
    nn.init.zeros_(probe.linear.bias)
    standard = (features - probe.mean) / probe.scale
    optimizer = torch.optim.LBFGS(
        probe.parameters(), max_iter=ITERATIONS, line_search_fn="strong_wolfe", tolerance_grad=1e-6
    )

    likeness = torch.einsum("bld,bmd->lm", standard, standard) / standard[:, 0].numel()  # (L, L)

    def size() -> Tensor:
        """Standard deviation of the weighted sum: the more alike two layers, the larger is that of their sum."""
        return (probe.weights @ likeness @ probe.weights).clamp(min=1e-12).sqrt()

    def loss() -> Tensor:
        optimizer.zero_grad()
        # of unit variance, or the penalty would draw all weight to one layer, whose variance is larger than that of a sum
        logits = probe.linear(torch.einsum("bld,l->bd", standard, probe.weights / size()))
        shrunk = probe.linear.weight.square().sum() / cost + probe.score.square().sum()
        value = F.cross_entropy(logits, target) + shrunk / (2 * rows)
        value.backward()
        return value

    with one_thread():
        optimizer.step(loss)
    with torch.no_grad():
        probe.linear.weight /= size()
    return probe.float().requires_grad_(False).eval()


def layer_model(
    x: NDArray, y: ArrayLike, groups: ArrayLike | None = None, costs: tuple[float, ...] = COSTS, seed: int = 0
) -> LayerProbe:
    """`fit_layers` at the cost of the lowest cross-validated log loss inside the labelled rows, in folds that keep `groups`
    together; the middle cost where there are too few labels, or groups, for two folds."""
    y = np.asarray(y)
    classes = np.unique(y)
    pairs = label_folds(y, groups, seed) if len(costs) > 1 and len(classes) > 1 else []
    if not pairs:
        return fit_layers(x, y, costs[len(costs) // 2])
    codes = np.searchsorted(classes, y)
    losses = []
    for cost in costs:
        parts = [(probabilities(fit_layers(x[a], y[a], cost), x[b]), codes[b]) for a, b in pairs]
        losses.append(np.mean([-np.log(share[np.arange(len(c)), c] + 1e-15).mean() for share, c in parts]))
    return fit_layers(x, y, costs[int(np.argmin(losses))])


def probabilities(probe: LayerProbe, x: NDArray) -> NDArray[np.float64]:
    """(M, C) of pooled layers (M, L, D)."""
    with torch.no_grad():
        return probe(torch.from_numpy(np.asarray(x, np.float32))).double().softmax(1).numpy()
