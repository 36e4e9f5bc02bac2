"""One session read by numpy: for ten items torch's calls take several times as long as their arithmetic."""

from __future__ import annotations

import math
from functools import cache
from typing import Self, cast

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import erf
from torch import Tensor, nn

from core.encoders import ItemStem, TokenEncoder, Transformer
from core.encoders.transformer import Block

Array = NDArray[np.float32]
Affine = tuple[Array, Array]  # weight and bias
EPS = np.float32(1e-5)  # of layer norms, torch's


class SessionReader:
    """What `encoder.embed` gives of one sequence, for a causal Transformer over items whose last state is asked for.

    Its arrays are the encoder's own weights, looked at and not copied: a step of training changes both. `current` tells whether they still
    are: moving the encoder to another device and back ends it.

    Args:
        encoder: see `of`.
    """

    def __init__(self, encoder: TokenEncoder) -> None:
        stem, trunk = cast(ItemStem, encoder.stem), cast(Transformer, encoder.trunk)
        self.dim = encoder.dim
        self._encoder, self._weight = encoder, stem.embedding.weight
        self._at = self._weight.data_ptr()
        self._items = _seen(stem.embedding.weight)
        self._normed = None if isinstance(stem.norm, nn.Identity) else _norm(stem.norm)
        self._place = None if trunk.place is None else _seen(trunk.place.weight)
        self._blocks = [_Block(cast(Block, block)) for block in trunk.blocks]
        self._last = _norm(trunk.norm)

    @classmethod
    def of(cls, encoder: TokenEncoder) -> Self | None:
        """A reader, or None where torch has to read: of another kind of encoder, or weights that are not on the CPU and in fp32."""
        trunk = encoder.trunk
        fits = (
            encoder.pool == "last" and isinstance(encoder.stem, ItemStem) and isinstance(trunk, Transformer) and trunk.causal
            and len(trunk.blocks) > 0 and trunk.config.position in ("learned", "none")
            and all(w.device.type == "cpu" and w.dtype == torch.float32 for w in encoder.parameters())
        )  # fmt: skip
        return cls(encoder) if fits else None

    def current(self, encoder: TokenEncoder) -> bool:
        """Whether the arrays are this encoder's weights, where they lie now."""
        return self._encoder is encoder and self._weight.data_ptr() == self._at

    def state(self, items: NDArray[np.int64]) -> Array:
        """Ids (T,) of one sequence, T ≥ 1 and at most as many as the trunk has places for -> the state at the last, (dim,)."""
        x = self._items[items]
        if self._normed is not None:
            x = _layer_norm(x, self._normed)
        if self._place is not None:
            x += self._place[: len(items)]
        for block in self._blocks[:-1]:
            x = block(x, 0)
        return _layer_norm(self._blocks[-1](x, len(items) - 1), self._last)[0]


class _Block:
    """`core.encoders.transformer.Block` without dropout, causal, for one sequence."""

    def __init__(self, block: Block) -> None:
        self.heads = block.heads
        self.norm1, self.norm2 = _norm(block.norm1), _norm(block.norm2)
        first, last = cast(nn.Linear, block.mlp[0]), cast(nn.Linear, block.mlp[2])
        self.qkv, self.out, self.first, self.last = (_linear(part) for part in (block.qkv, block.out, first, last))

    def __call__(self, x: Array, begin: int) -> Array:
        """(T, D) -> (T - begin, D): the places from `begin` on, each of which looks at itself and all before."""
        time, dim = x.shape
        size = dim // self.heads
        normed = _layer_norm(x, self.norm1)
        weight, bias = self.qkv
        q = (normed[begin:] @ weight[:, :dim] + bias[:dim]).reshape(-1, self.heads, size)
        kv = (normed @ weight[:, dim:] + bias[dim:]).reshape(time, 2, self.heads, size)
        score = q.transpose(1, 0, 2) @ kv[:, 0].transpose(1, 2, 0)  # (heads, T - begin, T)
        score *= np.float32(1 / math.sqrt(size))
        if time - begin > 1:
            score[:, np.arange(time) > np.arange(begin, time)[:, None]] = -np.inf
        score -= np.maximum.reduce(score, -1, keepdims=True)
        np.exp(score, out=score)
        score /= np.add.reduce(score, -1, keepdims=True)
        y = (score @ kv[:, 1].transpose(1, 0, 2)).transpose(1, 0, 2).reshape(-1, dim)
        x = x[begin:] + _affine(y, self.out)
        hidden = _affine(_layer_norm(x, self.norm2), self.first)
        hidden *= np.float32(0.5) * (1 + erf(hidden * np.float32(math.sqrt(0.5))))  # GELU (Hendrycks & Gimpel 2016)
        x += _affine(hidden, self.last)
        return x


def _layer_norm(x: Array, affine: Affine) -> Array:
    """(T, D) of mean 0 and variance 1 along D, times a weight, plus a bias (Ba et al. 2016)."""
    even = _even(x.shape[1])
    x = x - (x @ even)[:, None]
    x *= affine[0] / np.sqrt((x * x) @ even + EPS)[:, None]
    x += affine[1]
    return x


@cache
def _even(width: int) -> Array:
    """(width,) weights of a mean: a product takes less time than numpy's own mean."""
    return np.full(width, 1 / width, np.float32)


def _affine(x: Array, affine: Affine) -> Array:
    x = x @ affine[0]
    x += affine[1]
    return x


def _seen(weight: Tensor) -> Array:
    return weight.detach().numpy()


def _linear(layer: nn.Linear) -> Affine:
    return _seen(layer.weight).T, _seen(layer.bias)


def _norm(layer: nn.Module) -> Affine:
    assert isinstance(layer, nn.LayerNorm) and layer.eps == 1e-5
    return _seen(layer.weight), _seen(layer.bias)
