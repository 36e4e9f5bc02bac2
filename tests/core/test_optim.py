"""Which parameters decay, how fast each depth learns, how the rate moves."""

from __future__ import annotations

import itertools

import pytest
import torch

from core.encoders import Field, FieldStem, TokenEncoder, Transformer, TransformerConfig, small_convnet
from core.errors import UserError
from core.methods import Classifier, Method
from core.optim import depths_of, learning_rate, optimizer_for, set_rate
from core.train_config import TrainConfig

FIELDS = (Field("category", "categorical", 12), Field("amount", "numeric"))


class Parts(Method):
    """Something of everything that decays or does not."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = TokenEncoder(
            FieldStem(FIELDS, 16), Transformer(TransformerConfig(dim=16, depth=2, heads=2, position="learned"))
        )
        self.token = torch.nn.Parameter(torch.zeros(16))
        self.volume, self.cell = torch.nn.Conv3d(1, 2, 3), torch.nn.GRU(4, 4)
        self.head, self.norm = torch.nn.Linear(16, 3), torch.nn.BatchNorm1d(3)


def test_matrices_alone_decay() -> None:
    model = Parts()
    name_of = {id(p): name for name, p in model.named_parameters()}
    groups = optimizer_for(model, TrainConfig(steps=1)).param_groups
    decayed = {name_of[id(p)] for g in groups for p in g["params"] if g["weight_decay"]}
    others = {name_of[id(p)] for g in groups for p in g["params"] if not g["weight_decay"]}
    assert decayed | others == set(name_of.values()) and not decayed & others
    assert {"head.weight", "volume.weight", "cell.weight_ih_l0", "encoder.trunk.blocks.0.qkv.weight"} <= decayed
    assert not [
        name for name in decayed if any(word in name for word in ("bias", "norm", "token", "place", "embeddings.c"))
    ]


def test_rates_fall_with_depth_and_heads_learn_in_full() -> None:
    model = Parts()
    config = TrainConfig(steps=1, lr=0.1, layer_decay=0.5)
    optimizer = optimizer_for(model, config)
    set_rate(optimizer, config.lr)
    rate = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    of = {name: round(rate[id(p)] / config.lr, 6) for name, p in model.named_parameters()}
    assert of["head.weight"] == of["token"] == of["encoder.trunk.norm.weight"] == 1
    assert of["encoder.trunk.blocks.1.qkv.weight"] == of["encoder.trunk.blocks.1.norm1.bias"] == 0.5
    assert of["encoder.trunk.blocks.0.qkv.bias"] == 0.25
    assert of["encoder.stem.norm.weight"] == of["encoder.trunk.place.weight"] == 0.125
    stages = depths_of(Classifier(small_convnet(1, 8), 3))
    assert stages["encoder.stages.0.0.weight"] == 1 and stages["encoder.stages.3.0.weight"] == 4
    assert stages["heads.label.1.weight"] == 5


def test_what_an_optimizer_cannot_do_is_one_line() -> None:
    with pytest.raises(UserError, match="nothing decays"):
        optimizer_for(Parts(), TrainConfig(steps=3, optimizer="lars", weight_decay=0.0))
    with pytest.raises(UserError, match="no parameter takes gradients"):
        optimizer_for(Parts().requires_grad_(False), TrainConfig(steps=3))


def test_the_rate_rises_then_falls_to_zero() -> None:
    config = TrainConfig(steps=100, lr=1.0)
    rates = [learning_rate(step, 100, config) for step in range(100)]
    assert rates[0] == 0.1 and max(rates) == rates[10] == 1.0 and rates[-1] < 1e-3
    assert all(a >= b for a, b in itertools.pairwise(rates[10:]))
