"""Augmentation alone: both views of each image, by core.augment, by lightly's `SimCLRTransform`, by kornia on whole batches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from core.augment import IMAGENET, AugmentConfig, views
from core.peers.rounds import Rounds


def run(side: str, settings: dict[str, Any], rounds: Rounds) -> None:
    size, n, batch = settings["size"], settings["images"], settings["batch"]
    image = torch.rand(n, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    image = torch.nn.functional.interpolate(image, (size, size), mode="bilinear")
    rounds.repeat({"ours": ours, "lightly": lightly, "kornia": kornia}[side](image, size, batch))


def ours(image: torch.Tensor, size: int, batch: int) -> Callable[[], int]:
    config, generator = AugmentConfig(size=size, mean=IMAGENET[0], std=IMAGENET[1]), torch.Generator().manual_seed(0)

    def work() -> int:
        for part in image.split(batch):
            views({"image": part}, generator, config)
        return 2 * len(image)

    return work


def lightly(image: torch.Tensor, size: int, batch: int) -> Callable[[], int]:
    from lightly.transforms import SimCLRTransform
    from torchvision.transforms.functional import to_pil_image

    transform, pictures = SimCLRTransform(input_size=size), [to_pil_image(x) for x in image]

    def work() -> int:
        for picture in pictures:
            transform(picture)
        return 2 * len(pictures)

    return work


def kornia(image: torch.Tensor, size: int, batch: int) -> Callable[[], int]:
    import kornia.augmentation as K

    chain = K.AugmentationSequential(
        K.RandomResizedCrop((size, size), scale=(0.08, 1.0)),
        K.RandomHorizontalFlip(p=0.5),
        K.ColorJitter(0.8, 0.8, 0.8, 0.2, p=0.8),
        K.RandomGrayscale(rgb_weights=torch.tensor([0.299, 0.587, 0.114]), p=0.2),  # its default weights raise in 0.9.0
        K.RandomGaussianBlur((13, 13), (0.1, 2.0), p=0.5),
        K.Normalize(torch.tensor(IMAGENET[0]), torch.tensor(IMAGENET[1])),
    )

    @torch.no_grad()
    def work() -> int:
        for part in image.split(batch):
            for _ in range(2):
                chain(part)
        return 2 * len(image)

    return work
