"""Rows to prototypes: balanced soft assignments (Sinkhorn) for batches, k-means on whitened features for whole data sets."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from core.errors import UserError

CHUNK = 1 << 22  # numbers in the largest table of distances
SEEDED = 4096  # k-means++ looks at this many rows, or 32 a cluster if that is more


@torch.no_grad()
def sinkhorn(scores: Tensor, epsilon: float = 0.05, iterations: int = 3) -> Tensor:
    """Soft assignments that use all prototypes evenly (Cuturi 2013; SwAV, Caron et al. 2020).

    Computed in fp32 on logarithms, so that no score overflows. Rows of several processes are gathered by the caller: what is
    balanced is the whole batch.

    Args:
        scores: (N, K) similarities.
        epsilon: entropy; small gives nearly hard assignments.
        iterations: alternations between even columns and rows that sum to one, which come last.

    Returns:
        (N, K) fp32; every row sums to one, every column to about N ÷ K.
    """
    with torch.autocast(scores.device.type, enabled=False):
        log_q = scores.float() / epsilon
        for _ in range(iterations):
            log_q = log_q - log_q.logsumexp(0, keepdim=True)
            log_q = log_q - log_q.logsumexp(1, keepdim=True)
        return log_q.softmax(1)


def perplexity(shares: Tensor) -> Tensor:
    """exp of the entropy of counts or shares (K,): how many of K are in use, from 1 to K."""
    p = shares.float() / shares.sum()
    return torch.special.entr(p).sum().exp()


def usage(q: Tensor) -> Tensor:
    """Share of the prototypes that assignments q (N, K) tell apart, in (0, 1]: the information between row and prototype.

    It is exp(H(mean of q) − mean of H(q)) ÷ min(N, K): lowest where all rows are at one prototype and as well where every row
    is spread over all of them, two kinds of collapse that balanced or centred assignments turn into each other.
    """
    q = q.float()
    information = torch.special.entr(q.mean(0)).sum() - torch.special.entr(q).sum(1).mean()
    return information.exp() / min(q.shape)


def code_usage(code: Tensor, codes: int) -> float:
    """Perplexity of codes (N, G), mean over groups, as a share of the `codes` of a group, or of N where they are fewer."""
    if not len(code):
        return 1.0
    used = [float(perplexity(group.bincount(minlength=codes))) for group in code.T]
    return sum(used) / len(used) / min(codes, len(code))


@dataclass(frozen=True)
class Clusters:
    """What k-means found.

    Attributes:
        assignment: (N,) long, each row's nearest centre.
        centres: (k, D) fp32.
        inertia: sum of squared distances to the nearest centres (of normalised rows where the clusters are spherical).
    """

    assignment: Tensor
    centres: Tensor
    inertia: float


@torch.no_grad()
def kmeans(
    x: Tensor, k: int, generator: Generator, iterations: int = 50, spherical: bool = False, start: Tensor | None = None
) -> Clusters:
    """Lloyd's algorithm from greedy k-means++ (Arthur & Vassilvitskii 2007), the same for the same generator.

    Rows are read in chunks: beside `x` it needs room for N numbers and some 4 million more. An empty cluster moves to the row that is
    farthest from its own centre. It ends early once no row changes its cluster.

    Args:
        x: (N, D), any floating type; computed in fp32.
        k: clusters.
        generator: draws the first centres.
        iterations: at most so many updates.
        spherical: rows and centres have unit length, so that the angle decides.
        start: (k, D) first centres to go on from, so that clusters keep their numbers.

    Raises:
        UserError: k is below 1 or above the number of rows.
    """
    if not 1 <= k <= len(x):
        raise UserError(f"{k} clusters of {len(x)} rows", where="clusters", mend="use at least 1 and at most the rows")
    # squared distances as |a|² − 2ab + |b|² are exact only near the origin
    shift = torch.zeros_like(x[0], dtype=torch.float32) if spherical else x.mean(0, dtype=torch.float32)

    def read(rows: Tensor) -> Tensor:
        return F.normalize(rows.float(), dim=1) if spherical else rows.float() - shift

    def chunks() -> Iterator[Tensor]:
        return (read(rows) for rows in x.split(_step(k, x.shape[1])))

    if start is None:
        many = max(SEEDED, 32 * k)
        chosen = torch.randperm(len(x), generator=generator, device=generator.device)[:many].to(x.device)
        centres = _seeds(read(x[chosen]), k, generator)
    else:
        centres = read(start)
    assignment, distance, sums, counts = _assign(chunks(), centres)
    for _ in range(iterations):
        centres = (sums / counts.clamp(min=1)[:, None]).float()
        empty = counts == 0
        centres[empty] = read(x[distance.topk(int(empty.sum())).indices])
        centres = F.normalize(centres, dim=1) if spherical else centres
        before = assignment
        assignment, distance, sums, counts = _assign(chunks(), centres)
        if torch.equal(assignment, before):
            break
    return Clusters(assignment, centres + shift, float(distance.sum(dtype=torch.float64)))


@torch.no_grad()
def means(x: Tensor, assignment: Tensor, k: int) -> Tensor:
    """(k, D) fp32: the mean of each cluster's rows of x (N, D); zeros for a cluster without any."""
    sums = torch.zeros(k, x.shape[1], dtype=torch.float64, device=x.device)
    step = _step(k, x.shape[1])
    for rows, at in zip(x.split(step), assignment.split(step), strict=True):
        sums += _sums(rows.float(), at, k)
    return (sums / assignment.bincount(minlength=k).clamp(min=1)[:, None]).float()


def _step(k: int, dim: int) -> int:
    """Rows a chunk."""
    return max(1, CHUNK // max(k, dim))


def _sums(rows: Tensor, at: Tensor, k: int) -> Tensor:
    """(k, D) sums of the rows of each cluster: a product, unlike an addition by index, has one order on a GPU too."""
    return F.one_hot(at, k).float().T @ rows


def _squares(rows: Tensor, centres: Tensor) -> Tensor:
    """(N, k) squared distances."""
    both = rows.square().sum(1)[:, None] + centres.square().sum(1)
    return torch.addmm(both, rows, centres.T, alpha=-2).clamp_(min=0)


def _assign(chunks: Iterator[Tensor], centres: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Nearest centre (N,) and squared distance (N,) of every row; sum (k, D) and number (k,) of each centre's rows."""
    nearest, distances = [], []
    sums = torch.zeros_like(centres, dtype=torch.float64)
    for rows in chunks:
        distance, at = _squares(rows, centres).min(1)
        sums += _sums(rows, at, len(centres))
        nearest.append(at)
        distances.append(distance)
    assignment = torch.cat(nearest)
    return assignment, torch.cat(distances), sums, assignment.bincount(minlength=len(centres))


def _seeds(rows: Tensor, k: int, generator: Generator) -> Tensor:
    """Greedy k-means++: of a few rows drawn by their squared distance to the seeds so far, the one that leaves the least."""
    at = torch.randint(len(rows), (1,), generator=generator, device=generator.device).to(rows.device)
    seeds, nearest = [at], _squares(rows, rows[at])[:, 0]
    for _ in range(k - 1):
        weight = nearest if nearest.sum() > 0 else torch.ones_like(nearest)  # all rows may be alike
        tried = torch.multinomial(weight.to(generator.device), 2 + int(math.log(k)), True, generator=generator)
        tried = tried.to(rows.device)
        left = torch.minimum(nearest[:, None], _squares(rows, rows[tried]))  # (N, tried)
        best = left.sum(0).argmin()
        seeds.append(tried[best][None])
        nearest = left[:, best]
    return rows[torch.cat(seeds)]


@dataclass(frozen=True)
class Whitening:
    """An affine map (x − mean) @ matrix after which the rows it was fitted on have uncorrelated columns of unit variance.

    Attributes:
        mean: (D,); matrix: (D, P).
    """

    mean: Tensor
    matrix: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        return (x.float() - self.mean) @ self.matrix


@torch.no_grad()
def whitening(x: Tensor, components: int) -> Whitening:
    """The `components` principal directions of x (N, D), each scaled to unit variance; fp32, computed in fp64.

    Directions in which there is next to no variance (below 1e-4 of the largest) are not blown up to one.
    """
    mean = x.mean(0, dtype=torch.float64)
    covariance = torch.zeros(x.shape[1], x.shape[1], dtype=torch.float64, device=x.device)
    for rows in x.split(_step(1, x.shape[1])):
        centred = rows.double() - mean
        covariance += centred.T @ centred / len(x)
    values, vectors = torch.linalg.eigh(covariance)  # ascending
    values, vectors = values[-components:].clamp(min=0), vectors[:, -components:]
    floor = 1e-4 * values[-1] + 1e-12
    return Whitening(mean.float(), (vectors * (values + floor).rsqrt()).float())
