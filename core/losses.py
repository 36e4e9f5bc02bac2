"""Losses: pure functions, always computed in fp32."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from core import distributed
from core.errors import UserError


def unit(x: Tensor) -> Tensor:
    """Rows (N, D) of length 1, in fp32. Those shorter than 1e-3, which batch and layer norms take for noise as well, stay
    short, so that a row of zeros has a gradient that half precision can hold."""
    return F.normalize(x.float(), dim=-1, eps=1e-3)


def nt_xent(
    a: Tensor, b: Tensor, temperature: float = 0.2, group: Tensor | None = None, alike: Tensor | None = None
) -> Tensor:
    """Normalised temperature-scaled cross entropy (SimCLR, Chen et al. 2020).

    Args:
        a, b: two views of the same N samples, (N, D), normalised here.
        temperature: divides the cosine similarities.
        group: (N,) long; rows of one group are positives of each other, and the loss is the mean over a row's positives
            of −log p (SupCon, Khosla et al. 2020; CoLES, Babaev et al. 2022). None: the other view alone.
        alike: (N,) long; rows of one value are left out of each other's negatives (DuoRec, Qiu et al. 2022). None: no row.
    """
    with torch.autocast(a.device.type, enabled=False):
        z = unit(torch.cat([a, b]))  # (2N, D)
        n = len(a)
        logits = z @ z.T / temperature
        itself = torch.eye(2 * n, dtype=torch.bool, device=z.device)
        away = itself
        if alike is not None:
            own = (torch.arange(n, device=z.device) if group is None else group).repeat(2)
            twice = alike.repeat(2)
            away = itself | ((twice[:, None] == twice) & (own[:, None] != own))
        logits = logits.masked_fill(away, float("-inf"))
        if group is None:
            target = torch.arange(2 * n, device=z.device).roll(n)
            return F.cross_entropy(logits, target)
        both = torch.cat([group, group])
        positive = (both[:, None] == both[None]) & ~itself
        log_p = logits.log_softmax(1).masked_fill(~positive, 0.0)
        return -(log_p.sum(1) / positive.sum(1)).mean()


def margin_contrast(a: Tensor, b: Tensor, margin: float = 0.5, hardest: int = 5, group: Tensor | None = None) -> Tensor:
    """Contrastive loss with hard negatives (Hadsell et al. 2006, as CoLES, Babaev et al. 2022, has it).

    Mean over rows of half the squared distance to each positive, plus max(0, margin − distance)² over the row's nearest others.

    Args:
        a, b: two views of the same N samples, (N, D), normalised here.
        margin: others that are farther away do not count; distances lie between 0 and 2.
        hardest: how many others count at most.
        group: (N,) long; rows of one group are positives of each other. None: the other view alone.
    """
    with torch.autocast(a.device.type, enabled=False):
        z, n = unit(torch.cat([a, b])), len(a)
        own = (torch.arange(n, device=z.device) if group is None else group).repeat(2)
        same = own[:, None] == own[None]
        squared = (2 - 2 * z @ z.T).clamp(min=0)  # (2N, 2N)
        itself = torch.eye(2 * n, dtype=torch.bool, device=z.device)
        near = squared.masked_fill(same, 9.0).topk(min(hardest, 2 * n), largest=False).values  # 9: beyond any margin
        apart = (
            (margin - (near + 1e-8).sqrt()).clamp(min=0).square().sum(1)
        )  # a distance of 0 has no gradient, this one has
        return (squared.masked_fill(~same | itself, 0.0).sum(1) / 2 + apart).mean()


def info_nce(query: Tensor, key: Tensor, negatives: Tensor, temperature: float = 0.2) -> Tensor:
    """Each query picks its own key out of shared negatives (InfoNCE, van den Oord et al. 2018, as in MoCo, He et al. 2019).

    A mean over the rows of all processes, whose negatives are the same.

    Args:
        query, key: (N, D), row by row of the same samples, normalised here.
        negatives: (K, D), keys of other samples, normalised here.
        temperature: divides the cosine similarities.
    """
    with torch.autocast(query.device.type, enabled=False):
        q, k = unit(query), unit(key)
        logits = torch.cat([(q * k).sum(1, keepdim=True), q @ unit(negatives).T], 1) / temperature  # (N, 1 + K)
        return distributed.mean(-logits.log_softmax(1)[:, 0])


def contrast_within(
    context: Tensor, target: Tensor, code: Tensor, count: Tensor, drawn: Tensor, temperature: float = 0.1
) -> tuple[Tensor, Tensor]:
    """Each place picks its own target among places drawn from the same row (wav2vec 2.0, Baevski et al. 2020).

    Cosines are computed once for every two places of a row and then picked, which is cheaper than to copy K targets a place.

    Args:
        context, target: (N, D), row after row, normalised here.
        code: (N, G) long; drawn places with the codes of the own one are no negatives.
        count: (B,) long, how many of the N are each row's.
        drawn: (N, K) long, numbers among the places of the same row, from 0.
        temperature: divides the cosines.

    Returns:
        The losses (N,), and whether the own target scored above all others, (N,) bool; means are the caller's.
    """
    with torch.autocast(context.device.type, enabled=False):
        row = torch.arange(len(count), device=count.device).repeat_interleave(count)
        first = (count.cumsum(0) - count)[row]  # (N,) where the row begins
        place = torch.arange(len(row), device=row.device) - first
        most = int(count.max()) if len(count) else 0
        a, b = (
            x.new_zeros(len(count), most, x.shape[1]).index_put((row, place), x) for x in (unit(context), unit(target))
        )
        cosine = (a @ b.transpose(1, 2))[row, place] / temperature  # (N, M)
        same = (code[first[:, None] + drawn] == code[:, None]).all(-1)
        own, others = cosine.gather(1, place[:, None]), cosine.gather(1, drawn).masked_fill(same, float("-inf"))
        losses = torch.cat([own, others], 1).logsumexp(1) - own[:, 0]
        return losses, (own > others).all(1)


def negative_cosine(p: Tensor, z: Tensor) -> Tensor:
    """−cos(p, z), mean over the rows of all processes (SimSiam, Chen & He 2020); BYOL's (Grill et al. 2020) is 2 + 2 times this.

    Args:
        p: predictions (N, D).
        z: targets (N, D); the caller stops their gradient.
    """
    with torch.autocast(p.device.type, enabled=False):
        return -distributed.mean((unit(p) * unit(z)).sum(1))


def barlow(a: Tensor, b: Tensor, redundancy: float = 5e-3) -> Tensor:
    """The cross-correlation of two views' features is to be the identity (Barlow Twins, Zbontar et al. 2021).

    Σ (1 − Cᵢᵢ)² + redundancy · Σ Cᵢⱼ² over i ≠ j. A feature that is the same in every row correlates with none.

    Args:
        a, b: two views of the same N samples, (N, D): the whole batch's, since correlations are the batch's.
        redundancy: weight of the correlations between different features.
    """
    with torch.autocast(a.device.type, enabled=False):
        za, zb = ((x - x.mean(0)) * (x.var(0, unbiased=False) + 1e-5).rsqrt() for x in (a.float(), b.float()))
        c = za.T @ zb / len(a)  # (D, D)
        itself = torch.eye(len(c), dtype=torch.bool, device=c.device)
        return (1 - c.diagonal()).square().sum() + redundancy * c.masked_fill(itself, 0.0).square().sum()


def vicreg(a: Tensor, b: Tensor, invariance: float = 25.0, variance: float = 25.0, covariance: float = 1.0) -> Tensor:
    """Two views' features agree, keep a standard deviation of 1 and are uncorrelated (VICReg, Bardes et al. 2021).

    Args:
        a, b: two views of the same N ≥ 2 samples, (N, D): the whole batch's, since variances are the batch's.
        invariance: weight of the mean squared difference.
        variance: of max(0, 1 − standard deviation), mean over features and views.
        covariance: of Σ Covᵢⱼ² ÷ D over i ≠ j, summed over the views.
    """
    with torch.autocast(a.device.type, enabled=False):
        a, b = a.float(), b.float()
        loss = invariance * F.mse_loss(a, b)
        for x in (a, b):
            x = x - x.mean(0)
            cov = x.T @ x / (len(x) - 1)  # (D, D)
            std = (cov.diagonal() + 1e-4).sqrt()  # a standard deviation of 0 has no gradient, this one has
            itself = torch.eye(len(cov), dtype=torch.bool, device=cov.device)
            spread = cov.masked_fill(itself, 0.0).square().sum() / len(cov)
            loss = loss + variance * F.relu(1 - std).mean() / 2 + covariance * spread
        return loss


def masked_ce(logits: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean cross entropy over the places (of all processes) where `mask` holds and the target is not -100; 0 where there is none.

    Args:
        logits: (..., C).
        target: (...) long.
        mask: (...) bool.
    """
    with torch.autocast(logits.device.type, enabled=False):
        if mask is not None:
            target = target.masked_fill(~mask, -100)
        keep = target != -100
        return distributed.mean(F.cross_entropy(logits[keep].float(), target[keep], reduction="none"))


def _swapped(logits: Sequence[Tensor], targets: Sequence[Tensor], temperature: float) -> Tensor:
    """Mean cross entropy of every view's softmax with the targets of every other view; the first views made the targets."""
    if len(logits) < 2:
        raise UserError(
            "a single view has no other to predict", where="pretext", mend="choose one that gives two views"
        )
    with torch.autocast(logits[0].device.type, enabled=False):
        log_p = (torch.stack(list(logits)).float() / temperature).log_softmax(-1)  # (V, N, K)
        crossed = -torch.einsum("tnk,vnk->tvn", torch.stack(list(targets)).float(), log_p)
        others = ~torch.eye(*crossed.shape[:2], dtype=torch.bool, device=crossed.device)
        return distributed.mean(crossed[others].mean(0))


def swav(scores: Sequence[Tensor], assignments: Sequence[Tensor], temperature: float = 0.1) -> Tensor:
    """Swapped prediction (SwAV, Caron et al. 2020): each view predicts the assignments of the others.

    Args:
        scores: similarities (N, K) to the prototypes of V ≥ 2 views of the same samples.
        assignments: (N, K) each, rows sum to one, without gradient; assignments[i] are those of view i, for the first of them.
        temperature: divides the scores.
    """
    return _swapped(scores, assignments, temperature)


def dino(student: Sequence[Tensor], teacher: Sequence[Tensor], temperature: float = 0.1) -> Tensor:
    """Self-distillation (DINO, Caron et al. 2021): the student's view of a sample gives what the teacher says of another.

    Args:
        student: logits (N, K) of V ≥ 2 views of the same samples.
        teacher: probabilities (N, K) each, centred and sharpened, without gradient; teacher[i] saw what student[i] saw.
        temperature: of the student.
    """
    return _swapped(student, teacher, temperature)
