"""Losses against lightly's and torch's; heads are proper distributions; fp32 whatever comes in."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from lightly.loss import NTXentLoss

from core.heads import LinearHead, MixtureHead, TiedHead
from core.losses import masked_ce, nt_xent


def test_nt_xent_and_its_gradient_equal_lightlys() -> None:
    a, b = (torch.randn(32, 16, requires_grad=True) for _ in range(2))
    ours = nt_xent(a, b, 0.2)
    theirs = NTXentLoss(temperature=0.2)(a, b)
    torch.testing.assert_close(ours, theirs)
    for x, y in zip(torch.autograd.grad(ours, [a, b]), torch.autograd.grad(theirs, [a, b]), strict=True):
        torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-6)


def test_nt_xent_with_groups_of_one_equals_the_plain_one() -> None:
    a, b = torch.randn(8, 4), torch.randn(8, 4)
    torch.testing.assert_close(nt_xent(a, b, 0.5, torch.arange(8)), nt_xent(a, b, 0.5))
    shared = nt_xent(a, b, 0.5, torch.tensor([0, 0, 1, 1, 2, 2, 3, 3]))
    assert torch.isfinite(shared) and not torch.isclose(shared, nt_xent(a, b, 0.5))


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("scale", [0.0, 1.0, 30.0])
def test_nt_xent_is_finite_in_half_precision(kind: torch.dtype, scale: float) -> None:
    a = (torch.randn(8, 16) * scale).to(kind).requires_grad_()
    loss = nt_xent(a, a.detach().clone(), 0.05)
    loss.backward()
    assert loss.dtype == torch.float32 and torch.isfinite(loss) and torch.isfinite(a.grad).all()


def test_masked_ce_counts_masked_known_places_alone() -> None:
    logits, target = torch.randn(2, 5, 7), torch.randint(0, 7, (2, 5))
    mask = torch.tensor([[1, 1, 0, 0, 0], [0, 0, 0, 1, 1]]).bool()
    target[1, 4] = -100
    keep = torch.tensor([[1, 1, 0, 0, 0], [0, 0, 0, 1, 0]]).bool()
    torch.testing.assert_close(masked_ce(logits, target, mask), F.cross_entropy(logits[keep], target[keep]))
    assert masked_ce(logits, target, torch.zeros_like(mask)) == 0


def test_mixture_density_integrates_to_one_and_its_tail_to_the_rest() -> None:
    torch.manual_seed(0)
    head = MixtureHead(6, 5)
    hidden = torch.randn(1, 6)
    grid = torch.linspace(-60, 60, 40_001)
    density = head.log_prob(hidden.expand(len(grid), 6), grid).exp()
    assert torch.trapezoid(density, grid).item() == pytest.approx(1.0, abs=1e-3)
    above = torch.trapezoid(density[grid >= 0.7], grid[grid >= 0.7]).item()
    assert head.log_survival(hidden, torch.tensor([0.7])).exp().item() == pytest.approx(above, abs=2e-3)
    mean = torch.trapezoid(density * grid, grid).item()
    assert head.mean(hidden).item() == pytest.approx(mean, abs=1e-2)
    far = head.log_survival(hidden, torch.tensor([200.0]))
    assert torch.isfinite(far) and far < -50


def test_trimmed_losses_leave_the_outlier_out() -> None:
    hidden, target = torch.zeros(100, 4), torch.zeros(100)
    target[0] = 1e3
    assert MixtureHead(4, trim=0.05).loss(hidden, target) < 10 < MixtureHead(4).loss(hidden, target)


@pytest.mark.parametrize("kind", ["linear", "tied"])
def test_categorical_heads_are_distributions(kind: str) -> None:
    embedding = torch.nn.Embedding(9, 4)
    head = LinearHead(4, 9) if kind == "linear" else TiedHead(4, embedding)
    hidden, target = torch.randn(20, 4), torch.randint(3, 9, (20,))
    log_probs = head.log_probs(hidden)
    torch.testing.assert_close(log_probs.exp().sum(1), torch.ones(20))
    torch.testing.assert_close(head.log_prob(hidden, target), log_probs[torch.arange(20), target])
    torch.testing.assert_close(head.loss(hidden, target), -log_probs[torch.arange(20), target].mean())
    if kind == "tied":
        assert log_probs[:, :3].exp().max() < 1e-6 and not list(head.parameters())
