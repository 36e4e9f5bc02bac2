"""Signs of collapse: an encoder that gives every input the same features has learned nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from core.batches import Batches
from core.encoders.encoder import Encoder
from core.errors import UserError
from core.features import Prepare, features

LEAST_ROWS, PER_DIM = 256, 4  # rows of the sample: RankMe needs several times the width
LEAST_STEPS = 200  # between two looks
COST = 0.02  # of a run's time, at most
NEIGHBOURS = 10


def feature_std(features: Tensor) -> float:
    """Mean standard deviation of L2-normalised features (N, D), times √D: about 1 when healthy, 0 when collapsed (SimSiam)."""
    z = torch.nn.functional.normalize(features.float(), dim=1)
    return float(z.std(0, unbiased=False).mean() * features.shape[1] ** 0.5)


def rankme(features: Tensor) -> float:
    """Effective rank (RankMe, Garrido et al. 2023): exp of the entropy of the centred features' singular values.

    The figure depends on the sample: compare only equal N, and take N ≥ 4·D.
    """
    centred = features.double() - features.double().mean(0)
    gram = centred.T @ centred if len(centred) > centred.shape[1] else centred @ centred.T
    values = torch.linalg.eigvalsh(gram).clamp(min=0).sqrt()
    if values.sum() <= 1e-12:
        return 1.0
    share = values / values.sum()
    return float(torch.exp(-(share * (share + 1e-12).log()).sum()))


def knn_accuracy(features: Tensor, labels: Tensor, k: int = NEIGHBOURS) -> float:
    """Share of rows (N, D) whose label (N,) most of their `k` nearest other rows by cosine have."""
    z = torch.nn.functional.normalize(features.float(), dim=1)
    near = (z @ z.T).fill_diagonal_(-2.0).topk(min(k, len(z) - 1), dim=1).indices  # (N, k)
    return float((labels[near].mode(1).values == labels).float().mean())


@dataclass(frozen=True)
class Sign:
    """When a figure says that training has collapsed, and what helps.

    Attributes:
        share: of the figure's best so far, which is what a fresh encoder had or better: below it is collapse.
        floor: below it is collapse whatever came before.
        cure: what to try.
        after: share of the training before which it is not judged: prototypes and predictions of a fresh network tell little.
    """

    share: float
    floor: float
    cure: str
    after: float = 0.0


DIVERSITY = "raise the weight of diversity or the temperature at which codes are drawn"
SIGNS = {
    "feature_std": Sign(0.1, 0.005, "lower the learning rate, use a larger batch, a slower teacher or a variance term"),
    "rank": Sign(0.1, 0.01, "use a larger batch, a higher temperature or a covariance term, or weaken the augmentation"),
    "usage": Sign(0.1, 0.02, "use fewer prototypes or codes, a sharper teacher or a longer warm-up", 0.2),
    "usage_codes": Sign(0.1, 0.02, f"{DIVERSITY}, lower the learning rate or use fewer codes", 0.1),
    "usage_softmax": Sign(0.1, 0.02, f"{DIVERSITY}, lower the learning rate or use fewer codes", 0.1),
    "usage_units": Sign(0.1, 0.05, "use fewer units, or cluster another layer: the clustering leaves most of them out, not the network"),
    "usage_targets": Sign(0.1, 0.05, "use fewer codes, a codebook of another seed, or an input that is normalised band by band"),
    "usage_latent": Sign(0.1, 0.02, "lower the weight of the Kullback-Leibler term, or raise it slowly", 0.2),
    "target_std": Sign(0.1, 0.01, "use a slower teacher, fewer of its top blocks or a lower learning rate", 0.05),
    "prediction_std": Sign(0.1, 0.01, "lower the learning rate or hide less", 0.05),
}  # fmt: skip


@dataclass(frozen=True)
class Alarm:
    """A figure that has collapsed: its name, what there is to say, and what to try."""

    name: str
    what: str
    cure: str


@dataclass
class Monitor:
    """Looks at a fixed sample every so many steps, and says when a figure collapses.

    Args:
        batches: whose rows are embedded: at least four times as many as the features are wide, chosen once by `seed`.
        every: steps between two looks; 0 for so many that looking costs less than 2 % of the time.
        prepare: what the encoder reads, of a batch that nothing has augmented.
        labels: (N,) of every row, -1 where unknown; then the sample prefers labelled rows, and their kNN accuracy is told.
    """

    encoder: Encoder
    batches: Batches
    device: torch.device
    seed: int
    every: int = 0
    prepare: Prepare | None = None
    labels: ArrayLike | None = None
    bf16: bool = False
    best: dict[str, float] = field(default_factory=dict)
    told: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        rows, wanted = self.batches.rows, max(LEAST_ROWS, PER_DIM * self.encoder.dim)
        self.batch_size = max(1, rows // len(self.batches))
        self.known = np.full(rows, -1) if self.labels is None else np.asarray(self.labels).astype(np.int64)
        if len(self.known) != rows:
            raise UserError(
                f"{len(self.known)} labels for {rows} rows", where="labels", mend="give one a row, -1 unknown"
            )
        order = np.random.default_rng([self.seed, rows]).permutation(rows)
        order = order[np.argsort(self.known[order] < 0, kind="stable")]
        self.sample: NDArray = np.sort(order[:wanted])
        if not self.every:  # a step reads each row forwards and backwards, a look reads its rows forwards
            self.every = max(LEAST_STEPS, math.ceil(len(self.sample) / (3 * COST * self.batch_size)))

    def due(self, step: int) -> bool:
        return step % self.every == 0

    def look(self, logs: Mapping[str, float], progress: float = 1.0) -> tuple[dict[str, float], list[Alarm]]:
        """Figures of the encoder as it is, and an alarm for each that has newly collapsed.

        Args:
            logs: of the newest step: `usage_…`, `target_std` and `prediction_std` are watched beside the sample's figures.
            progress: share of the training done.
        """
        parts = np.array_split(self.sample, max(1, len(self.sample) // self.batch_size))
        x = features(self.encoder, map(self.batches.at, parts), self.device, self.prepare, self.bf16)
        most, effective = min(len(x) - 1, x.shape[1]), rankme(x)
        figures = {"feature_std": feature_std(x), "rankme": effective, "rank": effective / most}
        labels = torch.from_numpy(self.known[self.sample]).to(self.device)
        if (labels >= 0).sum() > NEIGHBOURS:
            figures["knn_accuracy"] = knn_accuracy(x[labels >= 0], labels[labels >= 0])
        watched = figures | {name: float(value) for name, value in logs.items()}
        alarms = [self._judge(name, value, progress, 1.5 / most) for name, value in watched.items() if _sign(name)]
        return figures, [alarm for alarm in alarms if alarm is not None]

    def _judge(self, name: str, value: float, progress: float, one: float) -> Alarm | None:
        """The alarm of a figure that has collapsed and is not among those `told`; `one` is the rank of a single direction."""
        sign = SIGNS[_sign(name)]
        best = self.best[name] = max(value, self.best.get(name, value))
        floor = max(sign.floor, sign.share * best, one if name == "rank" else 0.0)
        if name in self.told or value >= floor or progress < sign.after:
            return None
        return Alarm(name, f"{name} has collapsed to {value:.3g}, its best was {best:.3g}", sign.cure)


def _sign(name: str) -> str:
    """The key of SIGNS for that figure; empty where it is no sign of collapse."""
    if name in SIGNS:
        return name
    return "usage" if name.startswith("usage_") else ""
