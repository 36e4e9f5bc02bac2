"""Losses against lightly's and torch's; heads are proper distributions; fp32 whatever comes in."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from lightly.loss import NTXentLoss

from core.codec import FIRST
from core.heads import Head, LinearHead, MixtureHead, SampledHead, TiedHead
from core.losses import margin_contrast, masked_ce, nt_xent


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


@pytest.mark.parametrize("group", [None, [0, 0, 1, 2, 2, 2]])
def test_margin_contrast_counts_positives_and_the_nearest_others(group: list[int] | None) -> None:
    a, b = torch.randn(6, 3), torch.randn(6, 3)
    rows = F.normalize(torch.cat([a, b])).numpy()
    own = (list(range(6)) if group is None else group) * 2
    expected = 0.0
    for i in range(12):
        distances = np.linalg.norm(rows - rows[i], axis=1)
        expected += sum(distances[j] ** 2 / 2 for j in range(12) if own[j] == own[i] and j != i)
        others = sorted(distances[j] for j in range(12) if own[j] != own[i])[:3]
        expected += sum(max(0.0, 1.2 - d) ** 2 for d in others)
    found = margin_contrast(a, b, 1.2, 3, None if group is None else torch.tensor(group))
    torch.testing.assert_close(found, torch.tensor(expected / 12), rtol=1e-4, atol=1e-5, check_dtype=False)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("scale", [0.0, 1.0, 30.0])
def test_margin_contrast_is_finite_in_half_precision(kind: torch.dtype, scale: float) -> None:
    a = (torch.randn(8, 16) * scale).to(kind).requires_grad_()
    loss = margin_contrast(a, a.detach().clone())
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


def test_the_sampled_loss_is_the_full_one_when_every_item_is_a_candidate() -> None:
    torch.manual_seed(0)
    table = torch.nn.Embedding(FIRST + 6, 8)
    head = SampledHead(8, table, torch.ones(FIRST + 6), negatives=4000)
    hidden, target = torch.randn(50, 8), torch.randint(FIRST, FIRST + 6, (50,))
    full = TiedHead(8, table).loss(hidden, target)
    assert head.loss(hidden, target, torch.Generator().manual_seed(0)).item() == pytest.approx(full.item(), abs=1e-4)


def test_the_chance_to_be_a_candidate_is_what_a_simulation_finds() -> None:
    torch.manual_seed(0)
    counts = torch.tensor([0.0, 0, 0, 60, 25, 10, 5, 0, 0, 0])
    head = SampledHead(4, torch.nn.Embedding(10, 4), counts, negatives=3)
    generator = np.random.default_rng(0)
    found = np.zeros(10)
    for _ in range(4000):
        drawn = np.concatenate([generator.choice(10, 5, p=counts.numpy() / 100), generator.integers(3, 10, 3)])
        found[np.unique(drawn)] += 1 / 4000
    chance = head.log_chance(torch.arange(3, 10), targets=5).exp()
    assert chance.numpy() == pytest.approx(found[3:], abs=0.03)


def test_the_correction_removes_the_bias_against_popular_targets() -> None:
    """The mean of corrected softmax sums comes near the sum over all items; without correction it would not."""
    torch.manual_seed(0)
    size, n = 400, 64
    share = torch.arange(1.0, size + 1).pow(-1)
    counts = torch.cat([torch.zeros(FIRST), share])
    table = torch.nn.Embedding(FIRST + size, 8)
    head = SampledHead(8, table, counts, negatives=64)
    hidden = torch.randn(1, 8) * 0.5
    whole = (hidden @ table.weight[FIRST:].T).exp().sum()
    generator = torch.Generator().manual_seed(0)
    sums = []
    for _ in range(500):
        target = torch.multinomial(share, n, replacement=True, generator=generator) + FIRST
        loss = head.loss(hidden.expand(n, -1), target, generator)
        own = (hidden * table(target)).sum(1) - head.log_chance(target, n)
        sums.append((loss + own.mean()).exp())  # loss = log sum − mean corrected logit of the targets
    assert torch.stack(sums).mean().item() == pytest.approx(whole.item(), rel=0.05)


def heads() -> dict[str, tuple[Head, torch.Tensor]]:
    """Every head, with targets that suit it."""
    torch.manual_seed(0)
    table = torch.nn.Embedding(20, 8)
    ids = torch.randint(3, 20, (6,))
    return {
        "linear": (LinearHead(8, 20), ids),
        "tied": (TiedHead(8, table, bias=True), ids),
        "tied, projected": (TiedHead(6, table), ids),
        "sampled": (SampledHead(8, table, torch.ones(20), 5), ids),
        "mixture": (MixtureHead(8), torch.randn(6)),
        "mixture, trimmed": (MixtureHead(8, trim=0.2), torch.randn(6)),
    }


@pytest.mark.parametrize("name", heads())
def test_where_nothing_is_asked_the_loss_is_zero_with_a_gradient(name: str) -> None:
    head, target = heads()[name]
    hidden = torch.randn(0, 6 if "projected" in name else 8, requires_grad=True)
    loss = head.loss(hidden, target[:0], torch.Generator().manual_seed(0))
    assert loss == 0
    loss.backward()
    assert hidden.grad is not None


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", heads())
def test_heads_are_finite_in_half_precision_and_give_fp32(name: str, kind: torch.dtype) -> None:
    head, target = heads()[name]
    for scale in (0.0, 30.0):
        hidden = (scale * torch.randn(6, 6 if "projected" in name else 8)).to(kind).requires_grad_()
        with torch.autocast("cpu", kind):
            loss = head.loss(hidden, target, torch.Generator().manual_seed(0))
            log_prob = head.log_prob(hidden, target)
        loss.backward()
        assert loss.dtype == log_prob.dtype == torch.float32
        assert torch.isfinite(loss) and torch.isfinite(log_prob).all() and torch.isfinite(hidden.grad).all()


def test_heads_whose_loss_depends_on_the_rest_of_the_batch_say_so() -> None:
    torch.manual_seed(1)
    for name, (head, target) in heads().items():
        hidden = 3 * torch.randn(6, 6 if "projected" in name else 8)
        whole = head.loss(hidden, target, torch.Generator().manual_seed(0))
        parts = [head.loss(hidden[i : i + 1], target[i : i + 1], torch.Generator().manual_seed(0)) for i in range(6)]
        assert head.batch_statistics == (not torch.isclose(whole, torch.stack(parts).mean())), name
