"""The same network trained on the labels alone: from scratch, the floor that most claims of pretraining forget."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from core.batches import ArrayBatches
from core.encoders import Encoder
from core.methods import Classifier
from core.tokens import to_device
from core.training import TrainConfig, train
from healthcare.pretext import Labelled
from healthcare.views import ViewConfig, fixed_views

MILD = ViewConfig(area=0.7, brightness=0.1, contrast=1.3, gamma=1.2, noise=0.02, blur=0.3, erase=0.0)


@dataclass(frozen=True)
class SupervisedConfig:
    """How a classifier is trained on few labels.

    Attributes:
        rates: learning rates to choose from, by log loss on a third of the labelled images.
        epochs, least_steps, most_steps: the length is `epochs` passes, but within these bounds.
        trial_steps: at most so many for each learning rate that is tried.
        batch: labelled images a step.
        views: augmentation, as in pretraining but without the extreme crops and erasures that hide a finding.
    """

    rates: tuple[float, ...] = (3e-4, 1e-3, 3e-3)
    epochs: int = 30
    least_steps: int = 200
    most_steps: int = 1000
    trial_steps: int = 200
    batch: int = 64
    weight_decay: float = 0.05
    views: ViewConfig = MILD
    device: str = "cpu"

    def steps(self, images: int) -> int:
        return min(self.most_steps, max(self.least_steps, self.epochs * images // self.batch))

    def shortened(self, share: float) -> SupervisedConfig:
        """The same with every length multiplied by `share`, at least ten steps each."""

        def cut(length: int, least: int = 10) -> int:
            return max(least, int(length * share))

        return replace(
            self, epochs=cut(self.epochs, 1), least_steps=cut(self.least_steps), most_steps=cut(self.most_steps),
            trial_steps=cut(self.trial_steps),
        )  # fmt: skip


def fit_classifier(
    fresh: Callable[[], Encoder], classes: int, pixels: NDArray[np.float32], label: NDArray[np.int64], config: SupervisedConfig,
    rate: float, seed: int = 0,
) -> Classifier:  # fmt: skip
    """Train an encoder and a linear layer on images (N, C, H, W) and labels (N,); the last step counts, nothing is selected.

    Args:
        fresh: gives the encoder, untrained or pretrained; called after seeding.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        method = Classifier(fresh(), classes)
        batches = ArrayBatches({"image": pixels, "label": label}, config.batch, seed)
        steps = config.steps(len(pixels))
        settings = TrainConfig(
            steps=steps, lr=rate, weight_decay=config.weight_decay, seed=seed, device=config.device, log_every=steps
        )
        train(method, batches, Labelled(config.views), settings, note=lambda line: None)
    return method


@torch.no_grad()
def probabilities(
    method: Classifier, pixels: NDArray[np.float32], crop: float, device: str = "cpu", batch: int = 512
) -> NDArray[np.float64]:
    """Class probabilities (N, K), averaged over an image and four crops of it, as the features of `ImageEncoder` are."""
    method.eval()
    parts = []
    for start in range(0, len(pixels), batch):
        views = fixed_views(torch.from_numpy(np.ascontiguousarray(pixels[start : start + batch])), crop)
        guesses = [method.logits(to_device({"image": view}, device)).softmax(1).cpu().numpy() for view in views]
        parts.append(np.mean(guesses, axis=0))
    return np.concatenate(parts).astype(np.float64)


def choose_rate(
    fresh: Callable[[], Encoder], classes: int, pixels: NDArray[np.float32], label: NDArray[np.int64], patient: NDArray[np.int64],
    config: SupervisedConfig, seed: int = 0,
) -> float:  # fmt: skip
    """The learning rate with the lowest log loss on a third of these labelled images, kept apart by patient."""
    from sklearn.metrics import log_loss
    from sklearn.model_selection import StratifiedGroupKFold

    fewest = min(len(np.unique(patient[label == k])) for k in range(classes))
    if len(config.rates) == 1 or fewest < 2:
        return config.rates[len(config.rates) // 2]
    folds = StratifiedGroupKFold(min(3, fewest), shuffle=True, random_state=seed)
    rows, held = next(iter(folds.split(pixels, label, patient)))
    if len(np.unique(label[rows])) < classes:
        return config.rates[len(config.rates) // 2]
    trial = replace(config, most_steps=min(config.most_steps, config.trial_steps))
    losses = {}
    for rate in config.rates:
        method = fit_classifier(fresh, classes, pixels[rows], label[rows], trial, rate, seed)
        guess = probabilities(method, pixels[held], 1.0, config.device)
        losses[rate] = log_loss(label[held], guess / guess.sum(1, keepdims=True), labels=np.arange(classes))
    return min(losses, key=lambda rate: losses[rate])
