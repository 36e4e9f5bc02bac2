"""The same network trained on the labels alone: from scratch, the floor that most claims of pretraining forget."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Generator

from core.batches import ArrayBatches
from core.encoders import Encoder
from core.methods import Classifier, Out
from core.pretext import Pseudo
from core.tokens import to_device
from core.training import TrainConfig, train
from healthcare.pretext import Labelled
from healthcare.views import MILD, ViewConfig, fixed_views


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


class FindingsClassifier(Classifier):
    """Several findings at once: eats `Pseudo` with labels (B, L) of 1, 0 and −1 (unknown, which teaches nothing)."""

    def forward(self, data: Pseudo, generator: Generator) -> Out:  # type: ignore[override]
        features = self.encoder.embed(data.batch)
        logits, label = self.head(features).float(), data.label
        assert isinstance(label, torch.Tensor)
        known = label >= 0
        each = F.binary_cross_entropy_with_logits(logits, label.float().clamp(min=0), reduction="none")
        loss = (each * known).sum() / known.sum().clamp(min=1)
        right = ((logits > 0) == (label == 1))[known]
        return Out(loss, {"accuracy_label": float(right.float().mean())} if len(right) else {}, features.detach())


def fit_classifier(
    fresh: Callable[[], Encoder], classes: int, pixels: NDArray[np.float32], label: NDArray, config: SupervisedConfig,
    rate: float, seed: int = 0,
) -> Classifier:  # fmt: skip
    """Train an encoder and a linear layer on images (N, C, …) and labels (N,), or findings (N, L); the last step counts, nothing is
    selected.

    Args:
        fresh: gives the encoder, untrained or pretrained; called after seeding.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        method = (Classifier if label.ndim == 1 else FindingsClassifier)(fresh(), classes)
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
    several = isinstance(method, FindingsClassifier)
    parts = []
    for start in range(0, len(pixels), batch):
        views = fixed_views(torch.from_numpy(np.ascontiguousarray(pixels[start : start + batch])), crop)
        logits = [method.logits(to_device({"image": view}, device)).double() for view in views]
        guesses = [(one.sigmoid() if several else one.softmax(1)).cpu().numpy() for one in logits]
        parts.append(np.mean(guesses, axis=0))
    return np.concatenate(parts).astype(np.float64)


def choose_rate(
    fresh: Callable[[], Encoder], classes: int, pixels: NDArray[np.float32], label: NDArray, patient: NDArray[np.int64],
    config: SupervisedConfig, seed: int = 0,
) -> float:  # fmt: skip
    """The learning rate with the lowest log loss on a third of these labelled images, kept apart by patient.

    The middle one where there are too few labels to hold a third out.
    """
    middle = config.rates[len(config.rates) // 2]
    parted = None if len(config.rates) == 1 else a_third(label, patient, classes, seed)
    if parted is None:
        return middle
    rows, held = parted
    trial = replace(config, most_steps=min(config.most_steps, config.trial_steps))
    losses = {}
    for rate in config.rates:
        method = fit_classifier(fresh, classes, pixels[rows], label[rows], trial, rate, seed)
        losses[rate] = loss(label[held], probabilities(method, pixels[held], 1.0, config.device))
    return min(losses, key=lambda rate: losses[rate])


def a_third(label: NDArray, patient: NDArray[np.int64], classes: int, seed: int) -> tuple[NDArray, NDArray] | None:
    """Rows to learn from and rows held out, by patient, so that both hold every class; None where that cannot be."""
    from sklearn.model_selection import GroupShuffleSplit, StratifiedGroupKFold

    if label.ndim == 2:
        if len(np.unique(patient)) < 6:
            return None
        return next(GroupShuffleSplit(1, test_size=1 / 3, random_state=seed).split(label, groups=patient))
    fewest = min(len(np.unique(patient[label == k])) for k in range(classes))
    if fewest < 2:
        return None
    folds = StratifiedGroupKFold(min(3, fewest), shuffle=True, random_state=seed)
    rows, held = next(iter(folds.split(label, label, patient)))
    return None if len(np.unique(label[rows])) < classes else (rows, held)


def loss(label: NDArray, guess: NDArray[np.float64]) -> float:
    """Mean negative log-likelihood of labels (N,) or of the known ones of findings (N, L)."""
    p = np.clip(guess, 1e-12, 1 - 1e-12)
    if label.ndim == 2:
        known = label >= 0
        return float(-np.where(label == 1, np.log(p), np.log(1 - p))[known].mean()) if known.any() else 0.0
    return float(-np.log(p[np.arange(len(label)), label]).mean())
