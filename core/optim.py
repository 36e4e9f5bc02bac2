"""The optimizer and its schedule: which parameters decay, how fast each depth learns, how the rate moves."""

from __future__ import annotations

import re
from collections.abc import Iterator

import torch
from lightly.utils.lars import LARS
from lightly.utils.scheduler import cosine_schedule
from torch import nn

from core.errors import UserError
from core.train_config import TrainConfig

MATRICES = (nn.Linear, nn.modules.conv._ConvNd, nn.RNNBase, nn.MultiheadAttention)
DEPTH = re.compile(r"\.(?:blocks|stages|cells)\.(\d+)\.")
# a trunk's norm behind its last block; what makes features of the last stage's maps
FINAL = re.compile(r"\.norm\.(?:weight|bias)$|\.fold\.")
FUSED = ("cpu", "cuda")


def learning_rate(step: int, steps: int, config: TrainConfig) -> float:
    """Linear warm-up, then half a cosine to zero (Loshchilov & Hutter 2016), or constant."""
    warm = max(1, round(config.warmup * steps))
    if step < warm:
        return config.lr * (step + 1) / warm
    if config.schedule == "constant":
        return config.lr
    return cosine_schedule(step - warm, steps - warm, config.lr, 0.0)


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """The step's learning rate, times what layer decay leaves of it in each group."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["scale"]


def optimizer_for(method: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """The optimizer of all parameters that take gradients.

    AdamW (Loshchilov & Hutter 2017), fused where torch can; LARS (You et al. 2017), for batches of thousands; or SGD with
    momentum. Only the matrices of linear, convolutional and recurrent layers decay: not norms, biases, tokens, embeddings
    and positions, which LARS leaves unscaled too.

    Raises:
        UserError: nothing to train, or LARS without weight decay, which would scale nothing.
    """
    groups = _groups(method, config)
    if not groups:
        raise UserError("no parameter takes gradients", where="method", mend="unfreeze the encoder or add a head")
    if config.optimizer == "lars":
        if not config.weight_decay:
            raise UserError(
                "LARS scales decayed matrices alone, and nothing decays", where="weight_decay",
                mend="use 1e-6 or more, or optimizer=sgd",
            )  # fmt: skip
        return LARS(groups, lr=config.lr, momentum=config.momentum)
    device = next(method.parameters()).device.type
    fused = True if device in FUSED else None
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, fused=fused)
    return torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, fused=fused)


def _groups(method: nn.Module, config: TrainConfig) -> list[dict]:
    """Parameters by (what the depth leaves of the rate, whether they decay), in the method's order."""
    decayed = {id(p) for p in _matrices(method)}
    depths = depths_of(method)
    top = max(depths.values(), default=0)
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in method.named_parameters():
        if parameter.requires_grad:
            scale = config.layer_decay ** (top - depths[name])
            groups.setdefault((scale, id(parameter) in decayed), []).append(parameter)
    order = sorted(groups, key=lambda key: (-key[0], not key[1]))
    return [
        {"params": groups[scale, decays], "scale": scale, "weight_decay": config.weight_decay if decays else 0.0}
        for scale, decays in order
    ]


def _matrices(method: nn.Module) -> Iterator[nn.Parameter]:
    for module in method.modules():
        if isinstance(module, MATRICES):
            yield from (p for n, p in module.named_parameters(recurse=False) if "weight" in n and p.dim() > 1)


def depths_of(method: nn.Module) -> dict[str, int]:
    """Each parameter's depth, for layer-wise decay (ELECTRA, Clark et al. 2020; BEiT, Bao et al. 2021).

    0 for the stem, positions and tokens; i + 1 for block, cell or stage i of the encoder; one more than the last block for
    its final norm or fold and for all heads, which learn at the full rate.
    """
    names = [name for name, _ in method.named_parameters()]
    depths: dict[str, int] = {}
    for name in names:
        found = DEPTH.search(name)
        if name.startswith("encoder.") and ".stem." in name:
            depths[name] = 0
        elif name.startswith("encoder.") and found:
            depths[name] = int(found.group(1)) + 1
        elif name.startswith("encoder.") and not FINAL.search(name):
            depths[name] = 0
    top = max(depths.values(), default=0) + 1
    return {name: depths.get(name, top) for name in names}
