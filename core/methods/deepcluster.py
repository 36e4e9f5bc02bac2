"""DeepCluster (Caron et al. 2018): cluster all features, predict the clusters, repeat."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from core.assignments import kmeans, means, perplexity, whitening
from core.config import SIZE, within
from core.distributed import broadcast, mean, rank
from core.encoders.encoder import Encoder
from core.errors import UserError
from core.methods.base import Method, Out, need
from core.pretext import Views
from core.tokens import Batch


@dataclass(frozen=True)
class DeepClusterConfig:
    """Settings of DeepCluster.

    Attributes:
        clusters: several times the classes that one hopes for.
        components: principal directions of the features that are clustered, each as important as the others.
        every: epochs between two clusterings.
        iterations: of k-means.
    """

    kind: Literal["deepcluster"] = "deepcluster"
    clusters: int = 64
    components: int = 32
    every: int = 1
    iterations: int = 20

    def __post_init__(self) -> None:
        within(self, clusters=(2, 1e6), components=SIZE, every=SIZE, iterations=SIZE)


class DeepCluster(Method):
    """Eats `Views` whose first batch carries `index`: every view is classified into the cluster of its sample.

    Clusters are found over all samples before an epoch. Where the paper draws new ones, and a new classifier for them, k-means
    goes on from the last ones: a cluster keeps its number, so that the classifier, and what an optimizer remembers of it, stay good.

    Args:
        encoder: any encoder.
        rows: of the whole data set.
    """

    cluster: Tensor
    sizes: Tensor
    clustered: Tensor

    def __init__(self, encoder: Encoder, rows: int, config: DeepClusterConfig = DeepClusterConfig()) -> None:
        super().__init__()
        if not 2 <= config.clusters <= rows:
            raise UserError(
                f"{config.clusters} clusters of {rows} rows",
                where="clusters",
                mend="use at least 2 and at most the rows",
            )
        self.encoder, self.config = encoder, config
        self.head = nn.Linear(encoder.dim, config.clusters)
        self.register_buffer("cluster", torch.zeros(rows, dtype=torch.long))
        self.register_buffer("sizes", torch.zeros(config.clusters))
        self.register_buffer("clustered", torch.tensor(-1))  # the epoch of the last clustering

    @torch.no_grad()
    def start_epoch(self, epoch: int, embed_all: Callable[[], Tensor], generator: Generator) -> None:
        last = int(self.clustered)
        if last >= 0 and epoch < last + self.config.every:  # a resumed epoch keeps its clusters
            return
        features = embed_all().to(self.head.weight.device)  # (N, D)
        if len(features) != len(self.cluster):
            raise UserError(
                f"{len(features)} rows, but deepcluster was made for {len(self.cluster)}",
                where="data",
                mend="give it the same rows",
            )
        found = torch.zeros_like(self.cluster)
        if rank() == 0:
            k = self.config.clusters
            rows = F.normalize(whitening(features, self.config.components)(features), dim=1)
            start = means(rows, self.cluster, k) if last >= 0 else None
            found = kmeans(rows, k, generator, self.config.iterations, spherical=True, start=start).assignment
        self.cluster.copy_(broadcast(found))
        self.sizes.copy_(self.cluster.bincount(minlength=len(self.sizes)))
        self.clustered.fill_(epoch)

    def forward(self, data: Views, generator: Generator) -> Out:
        need(data, Views, "deepcluster")
        label = self.cluster[self.index(data)]
        features = [self.encoder.embed(view) for view in data.views]  # (B, D) each
        logits = [self.head(x) for x in features]
        with torch.autocast(features[0].device.type, enabled=False):
            # a cluster counts as much as any other, however many samples it has
            weight = len(self.cluster) / ((self.sizes > 0).sum() * self.sizes[label])  # (B,), 1 on average
            losses = torch.stack([F.cross_entropy(x.float(), label, reduction="none") for x in logits])  # (V, B)
            loss = mean(losses.mean(0) * weight)
        return Out(loss, {"usage_clusters": float(perplexity(self.sizes) / len(self.sizes))}, features[0].detach())

    def codes(self, batch: Batch) -> tuple[Tensor, int] | None:
        """The cluster of each row, by its `index`; none before the first clustering."""
        if int(self.clustered) < 0 or "index" not in batch:
            return None
        return self.cluster[batch["index"]][:, None], self.config.clusters

    def index(self, data: Views) -> Tensor:
        """(B,) the rows' places in the whole data set."""
        if int(self.clustered) < 0:
            raise UserError("deepcluster has no clusters yet", where="method", mend="call start_epoch first")
        index = data.views[0].get("index")
        if index is None:
            raise UserError(
                "deepcluster must know which rows it sees",
                where="pretext",
                mend="let the first view carry the batch's index",
            )
        if int(index.max()) >= len(self.cluster):
            raise UserError(
                f"row {int(index.max())}, but deepcluster was made for {len(self.cluster)}",
                where="data",
                mend="give it the same rows",
            )
        return index
