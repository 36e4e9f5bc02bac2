"""A step of a masked autoencoder of equal shape, by core and by MONAI's `MaskedAutoEncoderViT`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from core.encoders import PatchStem, TokenEncoder, Transformer, TransformerConfig
from core.masking import random_mask
from core.methods.mae import MAEConfig, MaskedAutoencoder
from core.optim import optimizer_for
from core.peers.rounds import Rounds
from core.pretext import Masked
from core.train_config import TrainConfig

RATIO = 0.75


def run(side: str, settings: dict[str, Any], rounds: Rounds) -> None:
    """Settings: size, patch, channels, dim, depth, heads, decoder_dim, decoder_depth, batch, steps (a round)."""
    s = settings
    x = torch.rand(s["batch"], s["channels"], s["size"], s["size"])
    model, loss = (ours if side == "ours" else monai)(s)
    if isinstance(model, MaskedAutoencoder):
        optimizer: torch.optim.Optimizer = optimizer_for(model, TrainConfig(steps=1))  # the engine's: AdamW, fused
    else:
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)

    def work() -> int:
        for _ in range(s["steps"]):
            loss(x).backward()
            optimizer.step()
            optimizer.zero_grad()
        return s["steps"]

    rounds.repeat(work)


def ours(s: dict[str, Any]) -> tuple[nn.Module, Callable[[Tensor], Tensor]]:
    trunk = Transformer(TransformerConfig(dim=s["dim"], depth=s["depth"], heads=s["heads"], position="grid"))
    config = MAEConfig(dim=s["decoder_dim"], depth=s["decoder_depth"], heads=s["heads"], norm_target=False)
    model = MaskedAutoencoder(TokenEncoder(PatchStem(s["channels"], s["patch"], s["dim"]), trunk), config)
    generator, tokens = torch.Generator().manual_seed(0), (s["size"] // s["patch"]) ** 2

    def loss(x: Tensor) -> Tensor:
        mask = random_mask(torch.zeros(len(x), tokens, dtype=torch.bool), RATIO, generator)
        return model(Masked({"image": x}, mask, {}), generator).loss

    return model, loss


def monai(s: dict[str, Any]) -> tuple[nn.Module, Callable[[Tensor], Tensor]]:
    """With the paper's loss: mean squared error at the hidden patches."""
    from monai.networks.nets import MaskedAutoEncoderViT

    model = MaskedAutoEncoderViT(
        s["channels"], s["size"], s["patch"], hidden_size=s["dim"], mlp_dim=4 * s["dim"], num_layers=s["depth"],
        num_heads=s["heads"], masking_ratio=RATIO, decoder_hidden_size=s["decoder_dim"],
        decoder_mlp_dim=4 * s["decoder_dim"], decoder_num_layers=s["decoder_depth"], decoder_num_heads=s["heads"],
        qkv_bias=True, spatial_dims=2,
    )  # fmt: skip
    p, grid = s["patch"], s["size"] // s["patch"]

    def loss(x: Tensor) -> Tensor:
        restored, mask = model(x)
        target = x.view(len(x), s["channels"], grid, p, grid, p).permute(0, 2, 4, 3, 5, 1).reshape(restored.shape)
        return ((restored - target).square().mean(-1) * mask).sum() / mask.sum()

    return model, loss
