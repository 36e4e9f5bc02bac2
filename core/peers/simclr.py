"""SimCLR end to end, by core and by lightly's documented recipe, on the same images with the same net."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from core.augment import IMAGENET, AugmentConfig, views
from core.batches import ArrayBatches
from core.encoders import resnet, small_convnet
from core.encoders.convnet import ConvNet
from core.methods.simclr import SimCLR, SimCLRConfig
from core.peers.loop import Gated
from core.peers.rounds import Rounds
from core.probes import knn
from core.train_config import TrainConfig
from core.training import train


def run(side: str, settings: dict[str, Any], rounds: Rounds) -> None:
    """Settings: data (an npz of MedMNIST), net, batch, steps (a round), rounds, seed, threads."""
    with np.load(Path(settings["data"])) as file:
        data = {name: file[name] for name in ("train_images", "train_labels", "test_images", "test_labels")}
    {"ours": ours, "lightly": lightly}[side](settings, rounds, data)


def network(name: str) -> ConvNet:
    return small_convnet(3) if name == "small" else resnet(name, small=True)


def plain(name: str) -> tuple[nn.Module, int]:
    """The same network as a user of torch writes it, and the width of its features."""
    if name == "small":
        widths = (3, 32, 64, 128, 128)
        stages = [
            nn.Sequential(nn.Conv2d(i, o, 3, 2, 1, bias=False), nn.BatchNorm2d(o), nn.ReLU(inplace=True))
            for i, o in itertools.pairwise(widths)
        ]
        return nn.Sequential(*stages, nn.AdaptiveAvgPool2d(1), nn.Flatten()), widths[-1]
    import torchvision.models as models

    net = models.get_model(name, weights=None)
    net.conv1, net.maxpool = nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.Identity()
    dim, net.fc = net.fc.in_features, nn.Identity()
    return net, dim


def ours(settings: dict[str, Any], rounds: Rounds, data: dict[str, NDArray]) -> None:
    encoder = network(settings["net"])
    method = SimCLR(encoder, SimCLRConfig(hidden=encoder.dim, out=128))
    images = np.repeat(data["train_images"][:, None], 3, 1)
    batches = ArrayBatches({"image": images}, settings["batch"], settings["seed"])
    config = AugmentConfig(mean=IMAGENET[0], std=IMAGENET[1])
    training = TrainConfig(
        steps=settings["steps"] * settings["rounds"], lr=settings["lr"], weight_decay=1e-4, seed=settings["seed"],
        channels_last=True,
    )  # fmt: skip
    gated = Gated(batches, settings["steps"], rounds)
    train(
        method, gated, lambda batch, generator: views(batch, generator, config), training, note=lambda line: None,
        prepare=lambda batch: {"image": normalised(batch["image"])},
    )  # fmt: skip
    rounds.done(settings["steps"] * settings["batch"])
    rounds.finish(knn=accuracy(lambda x: encoder.embed({"image": x}), encoder, data))


def lightly(settings: dict[str, Any], rounds: Rounds, data: dict[str, NDArray]) -> None:
    """The example of lightly's documentation: its transform, loss and head, torch's loader with workers, SGD of 0.06."""
    from lightly.loss import NTXentLoss
    from lightly.models.modules import SimCLRProjectionHead
    from lightly.transforms import SimCLRTransform

    backbone, dim = plain(settings["net"])
    head = SimCLRProjectionHead(dim, dim, 128)
    criterion = NTXentLoss()
    optimizer = torch.optim.SGD([*backbone.parameters(), *head.parameters()], lr=0.06)
    dataset = Pictures(data["train_images"], SimCLRTransform(input_size=28))
    order = np.random.default_rng(settings["seed"])
    share = settings["steps"] * settings["batch"]
    queue: list[int] = []

    def work() -> int:
        nonlocal queue
        if len(queue) < share:
            queue = order.permutation(len(dataset)).tolist()
        part, queue = torch.utils.data.Subset(dataset, queue[:share]), queue[share:]
        loader = torch.utils.data.DataLoader(part, settings["batch"], shuffle=True, drop_last=True, num_workers=2)
        for x0, x1 in loader:
            loss = criterion(head(backbone(x0)), head(backbone(x1)))
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        return share

    while rounds.go():
        rounds.done(work())
    rounds.finish(knn=accuracy(backbone, backbone, data))


class Pictures(torch.utils.data.Dataset):
    """Grey images as RGB pictures, each transformed when it is read."""

    def __init__(self, images: NDArray, transform) -> None:
        self.images, self.transform = images, transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, row: int) -> list[Tensor]:
        from PIL import Image

        return self.transform(Image.fromarray(self.images[row]).convert("RGB"))


def normalised(image: Tensor) -> Tensor:
    """uint8 (B, 3, H, W) as both networks read it."""
    mean, std = (torch.tensor(v, device=image.device)[:, None, None] for v in IMAGENET)
    return (image.float().div(255) - mean) / std


@torch.no_grad()
def accuracy(embed: Callable[[Tensor], Tensor], module: nn.Module, data: dict[str, NDArray]) -> float:
    """Of the 20 nearest training images by cosine, on the test split."""
    module.eval()

    def features(images: NDArray) -> NDArray:
        parts = torch.from_numpy(images)[:, None].expand(-1, 3, -1, -1).split(256)
        return np.concatenate([embed(normalised(part)).numpy() for part in parts])

    shares = knn(features(data["train_images"]), data["train_labels"][:, 0], features(data["test_images"]))
    return float((shares.argmax(1) == data["test_labels"][:, 0]).mean())
