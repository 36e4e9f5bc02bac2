"""From hidden states back to the input: what teaches denoising and variational autoencoders."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from core import distributed
from core.codec import MISSING
from core.encoders.convnet import ConvNet
from core.encoders.encoder import Encoder, TokenEncoder, ValueStem
from core.encoders.patches import PatchStem
from core.encoders.transformer import sinusoids
from core.errors import UserError
from core.heads import Head, head_table
from core.norms import ChannelNorm
from core.tokens import Batch, Tokens

Error = Literal["l1", "l2"]
PROBE = 64  # side of the square that tells how often a convolutional net halves its input; of the cube, half of it


class Decoder(nn.Module):
    """Hidden states of width `dim` -> how far they are from telling the clean batch.

    `nats`: the loss is −log p of each place; else it is the mean error of each value. `batch_statistics`: as of a head.
    """

    dim: int
    nats: bool = False
    batch_statistics: bool = False

    def layout(self, clean: Batch) -> tuple[tuple[int, ...], Tensor | None]:
        """The grid of tokens that the decoder reads for this batch, and which of them are padding (B, T)."""
        raise TypeError(f"{type(self).__name__} must define layout")

    def count(self, clean: Batch) -> Tensor:
        """How many values (or places, where the loss is in nats) each row has, (B,)."""
        raise TypeError(f"{type(self).__name__} must define count")

    def loss(
        self, tokens: Tokens, clean: Batch, generator: Generator, error: Error = "l2"
    ) -> tuple[Tensor, dict[str, float]]:
        """Scalar in fp32, over the rows of all processes and without padding, and its parts by field."""
        raise TypeError(f"{type(self).__name__} must define loss")


class ConvDecoder(Decoder):
    """The last map of a convolutional net, doubled `steps` times, each time followed by a convolution 3 a side.

    It serves images (B, C, H, W), volumes (B, C, D, H, W) and spectrograms (B, T, F) of any size: every map is cut to the size
    that the net's own map had there, and padding is kept out of every convolution. Norms look at one place alone.

    Args:
        dim: channels of the map.
        channels: of the image; 1 for spectrograms.
        steps: how often the net halved its input.
        key: the batch's key.
        width: channels of the first map here; later ones have half, down to 16.
        dims: 2 for images and spectrograms, 3 for volumes.
    """

    def __init__(self, dim: int, channels: int, steps: int, key: str = "image", width: int = 64, dims: int = 2) -> None:
        super().__init__()
        self.dim, self.steps, self.key, self.dims = dim, steps, key, dims
        convolution: Any = nn.Conv3d if dims == 3 else nn.Conv2d
        widths = [max(width >> step, 16) for step in range(steps + 1)]
        self.first = nn.Sequential(ChannelNorm(dim), convolution(dim, widths[0], 1), nn.GELU())
        self.stages = nn.ModuleList(
            nn.Sequential(convolution(i, o, 3, padding=1), ChannelNorm(o), nn.GELU()) for i, o in pairwise(widths)
        )
        self.last = convolution(widths[-1], channels, 3, padding=1)

    def _sides(self, clean: Batch, halved: int) -> tuple[int, ...]:
        """Sides of the map that was halved so often."""
        return tuple(-(-side >> halved) for side in clean[self.key].shape[-self.dims :])

    def layout(self, clean: Batch) -> tuple[tuple[int, ...], Tensor | None]:
        sides, pad = self._sides(clean, self.steps), clean.get("pad")
        return sides, None if pad is None else pad[:, :: 1 << self.steps].repeat_interleave(sides[1], 1)

    def count(self, clean: Batch) -> Tensor:
        value, pad = clean[self.key], clean.get("pad")
        each = torch.full((len(value),), math.prod(value.shape[1:]), device=value.device)
        return each if pad is None else (~pad).sum(1) * value.shape[2]

    def forward(self, tokens: Tokens, clean: Batch) -> Tensor:
        """The restored values, of the shape of `clean[key]`."""
        pad, sides = clean.get("pad"), self._sides(clean, self.steps)
        x = tokens.x.transpose(1, 2).unflatten(2, sides)  # (B, dim, …)

        def real(x: Tensor, halved: int) -> Tensor:
            return x if pad is None else x.masked_fill(pad[:, None, :: 1 << halved, None], 0.0)

        x = real(self.first(x), self.steps)
        for halved, stage in zip(reversed(range(self.steps)), self.stages, strict=True):
            cut = [slice(side) for side in self._sides(clean, halved)]
            x = F.interpolate(x, scale_factor=2.0, mode="nearest")[:, :, *cut]
            x = real(stage(real(x, halved)), halved)
        return self.last(x).view(clean[self.key].shape)

    def loss(
        self, tokens: Tokens, clean: Batch, generator: Generator, error: Error = "l2"
    ) -> tuple[Tensor, dict[str, float]]:
        pad = clean.get("pad")
        known = None if pad is None else ~pad[..., None].expand(clean[self.key].shape)
        return value_error(self(tokens, clean), clean[self.key], known, error), {}


class TokenDecoder(Decoder):
    """Each hidden state tells the values behind its token, through one hidden layer.

    Args:
        dim: width of the hidden states.
        stem: knows the values behind its tokens.
        width: of the hidden layer.
    """

    def __init__(self, dim: int, stem: ValueStem, width: int = 256) -> None:
        super().__init__()
        self.dim = dim
        self.stem = [stem]  # in a list, so that the stem belongs to the encoder alone
        self.net = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, width), nn.GELU(), nn.Linear(width, stem.size))

    def layout(self, clean: Batch) -> tuple[tuple[int, ...], Tensor | None]:
        count, pad = self.stem[0].layout(clean)
        return self.stem[0].grid(clean) if isinstance(self.stem[0], PatchStem) else (count,), pad

    def count(self, clean: Batch) -> Tensor:
        return (~self.stem[0].values(clean).isnan()).flatten(1).sum(1)

    def forward(self, tokens: Tokens) -> Tensor:
        """The restored values behind each token, (B, T, size)."""
        return self.net(tokens.x)

    def loss(
        self, tokens: Tokens, clean: Batch, generator: Generator, error: Error = "l2"
    ) -> tuple[Tensor, dict[str, float]]:
        target = self.stem[0].values(clean)
        known = ~target.isnan() & tokens.valid()[..., None]
        return value_error(self(tokens), target.nan_to_num(), known, error), {}


class FieldDecoder(Decoder):
    """A head for each field says how likely the clean value is, at every place where it is known.

    Unknown are NaN, -100 and the id of a missing value.

    Args:
        dim: width of the hidden states.
        heads: by the field's key in the batch.
        weights: how much each field counts; 1 where it is not named.
    """

    nats = True

    def __init__(
        self, dim: int, heads: Mapping[str, Head] | nn.ModuleDict, weights: dict[str, float] | None = None
    ) -> None:
        super().__init__()
        self.dim, self.heads, self.weights = dim, head_table(heads), weights or {}
        self.batch_statistics = any(cast(Head, head).batch_statistics for head in self.heads.values())

    def layout(self, clean: Batch) -> tuple[tuple[int, ...], Tensor | None]:
        return (clean[next(iter(self.heads))].shape[1],), clean.get("pad")

    def count(self, clean: Batch) -> Tensor:
        (time,), pad = self.layout(clean)
        rows = len(clean[next(iter(self.heads))])
        device = clean[next(iter(self.heads))].device
        return torch.full((rows,), time, device=device) if pad is None else (~pad).sum(1)

    def loss(
        self, tokens: Tokens, clean: Batch, generator: Generator, error: Error = "l2"
    ) -> tuple[Tensor, dict[str, float]]:
        target = {name: clean[name] for name in self.heads}
        target = {k: v if v.is_floating_point() else v.masked_fill(v == MISSING, -100) for k, v in target.items()}
        return field_losses(self.heads, self.weights, tokens.x, target, tokens.valid(), generator)


class Spread(nn.Module):
    """One vector to the tokens that a decoder reads: its features, each scaled and moved by what the place's sinusoids say.

    Like the spatial broadcast decoder (Watters et al. 2019) it serves any number of places, and padding changes nothing.

    Args:
        latent: width of the vector.
        dim: width of the tokens.
        width: of the features.
    """

    rates = 32  # sines and cosines an axis
    axes = 3

    def __init__(self, latent: int, dim: int, width: int = 256) -> None:
        super().__init__()
        self.vector, self.place = nn.Linear(latent, width), nn.Linear(self.axes * self.rates, 2 * width)
        self.net = nn.Sequential(nn.GELU(), nn.Linear(width, dim))

    def forward(self, vector: Tensor, grid: tuple[int, ...], pad: Tensor | None) -> Tokens:
        """(B, latent) -> Tokens (B, T, dim), T being the product of the grid's sides (at most three)."""
        sides = (*grid, *[1] * (self.axes - len(grid)))
        at = torch.cartesian_prod(*(torch.arange(side, device=vector.device) for side in sides))  # (T, 3)
        place = sinusoids(at.T, self.rates).transpose(0, 1).flatten(1)  # (T, 3·rates)
        scale, shift = self.place(place).chunk(2, -1)  # (T, width) each
        return Tokens(self.net(self.vector(vector)[:, None] * (1 + scale) + shift), pad, grid=grid)


def value_error(guess: Tensor, value: Tensor, known: Tensor | None, error: Error) -> Tensor:
    """Mean over rows (of all processes) of each row's mean absolute or squared error over its known values.

    Args:
        guess, value: (B, …).
        known: like `value`, bool; None where all are. A row without any takes no part.
    """
    with torch.autocast(guess.device.type, enabled=False):
        gap = guess.float() - value.float()
        if known is not None:
            gap = gap.masked_fill(~known, 0.0)
        gap = (gap.abs() if error == "l1" else gap.square()).flatten(1).sum(1)
        if known is None:
            return distributed.mean(gap / math.prod(value.shape[1:]))
        count = known.flatten(1).sum(1)
        return distributed.mean(gap[count > 0] / count[count > 0])


def field_losses(
    heads: nn.ModuleDict, weights: Mapping[str, float], hidden: Tensor, target: Mapping[str, Tensor],
    places: Tensor, generator: Generator,
) -> tuple[Tensor, dict[str, float]]:  # fmt: skip
    """Weighted sum over fields of each head's loss at those of the places where the field's target is known.

    Args:
        hidden: (B, T, D).
        target: (B, T) by field: ids (-100 is unknown) or numbers (NaN is unknown).
        places: (B, T) bool.

    Returns:
        The sum, 0 (with a gradient) for a field of which nothing is known, and each field's loss as `loss_<field>`.
    """
    losses: list[Tensor] = []
    logs: dict[str, float] = {}
    for name, value in target.items():
        known = places & (~value.isnan() if value.is_floating_point() else value != -100)
        part = cast(Head, heads[name]).loss(hidden[known], value[known], generator)
        logs[f"loss_{name}"] = float(part.detach())
        losses.append(weights.get(name, 1.0) * part)
    return torch.stack(losses).sum(), logs


@torch.no_grad()
def decoder_for(
    encoder: Encoder, width: int = 64, heads: Mapping[str, Head] | nn.ModuleDict | None = None,
    weights: dict[str, float] | None = None,
) -> Decoder:  # fmt: skip
    """The decoder that fits an encoder: heads of the stem's fields, the values behind its tokens, or maps doubled to the image.

    Args:
        encoder: a token encoder whose stem has fields (`stem.heads`) or values (`stem.values`), or a convolutional net.
        width: of the decoder's layers: channels of a ConvDecoder's first map; a TokenDecoder's hidden layer is 4 times as wide.
        heads: by field, in the place of the stem's own.
        weights: of the fields.

    Raises:
        UserError: an encoder of another kind, or one that does not halve its input a whole number of times.
    """
    stem = getattr(encoder, "stem", None)
    if isinstance(encoder, TokenEncoder) and (heads is not None or hasattr(stem, "heads")):
        return FieldDecoder(encoder.trunk.dim, heads or stem.heads(encoder.trunk.dim), weights)  # type: ignore[union-attr, operator]
    if heads is not None:
        raise UserError(
            "heads predict the fields of tokens", where="encoder", mend="use a stem with fields and a trunk"
        )
    if isinstance(encoder, TokenEncoder) and isinstance(stem, ValueStem):
        return TokenDecoder(encoder.trunk.dim, stem, 4 * width)
    if isinstance(encoder, ConvNet):
        first = next(m for m in encoder.modules() if isinstance(m, nn.Conv2d | nn.Conv3d))
        channels, dims = first.in_channels, len(first.kernel_size)
        side, device = PROBE if dims == 2 else PROBE // 2, next(encoder.parameters()).device
        was, _ = encoder.training, encoder.eval()
        last = encoder.layers({encoder.key: torch.zeros(1, channels, *[side] * dims, device=device)})[-1]
        encoder.train(was)
        steps = round(math.log2(side / last.shape[2]))
        if set(last.shape[2:]) == {side >> steps}:
            return ConvDecoder(last.shape[1], channels, steps, encoder.key, width, dims)
    raise UserError(
        f"no decoder leads from {type(encoder).__name__} back to its input", where="encoder",
        mend="use a ConvNet that halves its input, or a stem whose tokens stand for fields or values",
    )  # fmt: skip
