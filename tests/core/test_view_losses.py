"""Losses over two views: equal to lightly's in value and gradient, and finite whatever half precision brings."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from lightly.loss import BarlowTwinsLoss, NegativeCosineSimilarity, NTXentLoss, VICRegLoss
from torch import Tensor

from core.losses import barlow, info_nce, negative_cosine, nt_xent, unit, vicreg

Loss = Callable[[Tensor, Tensor], Tensor]
NEGATIVES = F.normalize(torch.randn(24, 16, generator=torch.Generator().manual_seed(1)), dim=1)

OURS: dict[str, Loss] = {
    "nt_xent": nt_xent,
    "info_nce": lambda a, b: info_nce(a, b, NEGATIVES, 0.1),
    "negative_cosine": negative_cosine,
    "barlow": lambda a, b: barlow(a, b, 0.02),
    "vicreg": vicreg,
}


def bank() -> Loss:
    """MoCo's loss: a memory bank that holds our negatives."""
    loss = NTXentLoss(temperature=0.1, memory_bank_size=(24, 16))
    loss.memory_bank.bank = NEGATIVES.clone()
    return loss


THEIRS: dict[str, Callable[[], Loss]] = {
    "nt_xent": lambda: NTXentLoss(temperature=0.2),
    "info_nce": bank,
    "negative_cosine": NegativeCosineSimilarity,
    "barlow": lambda: BarlowTwinsLoss(lambda_param=0.02),
    "vicreg": VICRegLoss,
}


def pair(rows: int = 32, scale: float = 1.0) -> tuple[Tensor, Tensor]:
    """Two views that agree in part."""
    g = torch.Generator().manual_seed(0)
    a = torch.randn(rows, 16, generator=g)
    b = a + 0.5 * torch.randn(rows, 16, generator=g)
    return (scale * a).requires_grad_(), (scale * b).requires_grad_()


@pytest.mark.parametrize("scale", [0.3, 1.0, 10.0])
@pytest.mark.parametrize("name", OURS)
def test_a_loss_and_its_gradients_equal_lightlys(name: str, scale: float) -> None:
    a, b = pair(scale=scale)
    ours, theirs = OURS[name](a, b), THEIRS[name]()(a, b)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    for x, y in zip(torch.autograd.grad(ours, [a, b]), torch.autograd.grad(theirs, [a, b]), strict=True):
        assert x.abs().max() > 1e-5
        torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-5 * float(y.abs().max()))


def zeros(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    return torch.zeros_like(a), torch.zeros_like(b)


def one_side_zero(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    return torch.zeros_like(a), b


def constant(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    return a[:1].expand_as(a).clone(), b[:1].expand_as(b).clone()


def nearly_constant(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    return a[:1] + 1e-3 * a, b[:1] + 1e-3 * b


def equal(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    return a, a.clone()


def opposite(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    return a, -a


def loud(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    return 30 * a, 30 * b


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("trouble", [zeros, one_side_zero, constant, nearly_constant, equal, opposite, loud])
@pytest.mark.parametrize("name", OURS)
def test_losses_and_gradients_are_finite_in_half_precision(name: str, trouble: Callable, kind: torch.dtype) -> None:
    # covariances of two loud rows have gradients beyond 65,504, the largest number of fp16, which the loss scaler handles
    for rows in (8, 64) if trouble is loud else (2, 8, 64):
        a, b = (x.detach().to(kind).requires_grad_() for x in trouble(*pair(rows)))
        with torch.autocast("cpu", torch.bfloat16):
            loss = OURS[name](a, b)
        loss.backward()
        assert loss.dtype == torch.float32 and torch.isfinite(loss)
        assert torch.isfinite(a.grad).all() and torch.isfinite(b.grad).all()


@pytest.mark.parametrize("name", OURS)
def test_autocast_changes_nothing(name: str) -> None:
    a, b = pair()
    with torch.autocast("cpu", torch.bfloat16):
        inside = OURS[name](a, b)
    assert torch.equal(inside, OURS[name](a, b))


def test_rows_have_length_one_unless_they_are_noise() -> None:
    x = torch.tensor([[3.0, 4.0], [2e-3, 0.0], [5e-4, 0.0], [0.0, 0.0]])
    torch.testing.assert_close(unit(x).norm(dim=1), torch.tensor([1.0, 1.0, 0.5, 0.0]))


def test_info_nce_is_the_share_of_the_own_key() -> None:
    query, key, negatives = torch.eye(3)[:2], torch.eye(3)[:2], torch.eye(3)[2:]
    expected = -torch.log(torch.exp(torch.tensor(2.0)) / (torch.exp(torch.tensor(2.0)) + 1))
    torch.testing.assert_close(info_nce(5 * query, 7 * key, 3 * negatives, 0.5), expected)


def test_byols_distance_is_twice_the_negative_cosine_and_two() -> None:
    p, z = pair()
    byol = (F.normalize(p, dim=1) - F.normalize(z, dim=1)).square().sum(1).mean()
    torch.testing.assert_close(2 + 2 * negative_cosine(p, z), byol)


def whitened(rows: int = 64, dim: int = 8) -> Tensor:
    """Features of mean 0, variance 1 and no correlation."""
    x = torch.randn(rows, dim, generator=torch.Generator().manual_seed(3))
    return torch.linalg.qr(x - x.mean(0)).Q * (rows - 1) ** 0.5


def test_redundancy_losses_are_least_for_uncorrelated_features_that_agree() -> None:
    z = whitened()
    assert barlow(z, z) < 1e-6 and vicreg(z, z) < 1e-2
    repeated = torch.cat([z[:, :4], z[:, :4]], 1)
    assert barlow(repeated, repeated, 1.0) == pytest.approx(
        8, rel=1e-3
    )  # each feature repeats one other, in both orders
    # unbiased covariances of 1: 8 of them, over 8 features, in two views
    assert vicreg(repeated, repeated, 0, 0, 1) == pytest.approx(2, rel=1e-3)


def test_collapsed_features_cost_what_the_papers_say() -> None:
    same = torch.ones(16, 8)
    assert barlow(same, same) == 8  # no feature correlates with itself
    assert vicreg(same, same) == pytest.approx(
        25 * (1 - 0.01), rel=1e-5
    )  # standard deviation √(0 + 1e-4) where 1 is asked
