"""Losses against lightly's and torch's; heads are proper distributions; fp32 whatever comes in."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from lightly.loss import NTXentLoss

from core.codec import FIRST
from core.heads import GBCEHead, Head, LinearHead, MixtureHead, MultiLabelHead, SampledHead, TiedHead
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


@pytest.mark.parametrize("group", [None, [0, 1, 2, 2, 4, 5]])
def test_rows_that_are_alike_are_no_negatives_of_each_other(group: list[int] | None) -> None:
    a, b = torch.randn(6, 3), torch.randn(6, 3)
    alike = [7, 7, 8, 9, 9, 9] * 2
    rows = F.normalize(torch.cat([a, b])).double().numpy()
    own = (list(range(6)) if group is None else group) * 2
    expected = 0.0
    for i in range(12):
        similar = np.exp(rows @ rows[i] / 0.5)
        positive = [j for j in range(12) if own[j] == own[i] and j != i]
        below = sum(similar[j] for j in range(12) if j in positive or alike[j] != alike[i])
        expected -= np.mean([np.log(similar[j] / below) for j in positive]) / 12
    found = nt_xent(a, b, 0.5, None if group is None else torch.tensor(group), torch.tensor(alike[:6]))
    assert found.item() == pytest.approx(expected, rel=1e-4)


def test_a_batch_of_one_kind_leaves_the_positives_alone() -> None:
    a = torch.randn(4, 3, requires_grad=True)
    loss = nt_xent(a, torch.randn(4, 3), alike=torch.zeros(4, dtype=torch.long))
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-6) and torch.isfinite(a.grad).all()


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


def papers_gbce(positive: float, negatives: list[float], items: int, t: float) -> float:
    """Equations 9 and 10 of gSASRec, number by number."""
    alpha = len(negatives) / (items - 1)
    beta = alpha * (t * (1 - 1 / alpha) + 1 / alpha)
    sigmoid = lambda s: 1 / (1 + np.exp(-s))  # noqa: E731
    total = np.log(sigmoid(positive) ** beta) + sum(np.log(1 - sigmoid(s)) for s in negatives)
    return -total / (len(negatives) + 1)


@pytest.mark.parametrize("t", [0.0, 0.75, 1.0])
@pytest.mark.parametrize("negatives", [5, 0])
def test_gbce_is_the_papers_formula(negatives: int, t: float) -> None:
    torch.manual_seed(0)
    table = torch.nn.Embedding(FIRST + 40, 8)
    head = GBCEHead(8, table, negatives, t)
    hidden, target = torch.randn(20, 8), torch.randint(FIRST, FIRST + 40, (20,))
    drawn = list(range(FIRST, FIRST + 40))
    if negatives:
        drawn = torch.randint(FIRST, FIRST + 40, (negatives,), generator=torch.Generator().manual_seed(3)).tolist()
    clear = torch.tensor([negatives == 0 or int(item) not in drawn for item in target])  # its own target is no negative
    scores = (hidden @ table.weight.T).detach()
    expected = [
        papers_gbce(float(row[i]), [float(row[j]) for j in drawn if j != i], 40, t)
        for row, i in zip(scores[clear], target[clear], strict=True)
    ]
    found = head.loss(hidden[clear], target[clear], torch.Generator().manual_seed(3))
    assert clear.sum() > 5 and found.item() == pytest.approx(np.mean(expected), rel=1e-4)


def test_gbce_is_at_rest_where_scores_are_the_items_shares_and_plain_bce_is_not() -> None:
    """At t = 1, whatever the number of negatives; at t = 0 targets would rise further."""
    counts = (120 / torch.arange(1.0, 41)).round().long()
    target = torch.repeat_interleave(torch.arange(40), counts) + FIRST
    share = counts / counts.sum()
    table = torch.nn.Embedding(FIRST + 40, 1)
    with torch.no_grad():
        table.weight[FIRST:, 0] = torch.logit(share)
    generator, hidden = torch.Generator().manual_seed(0), torch.ones(len(target), 1)

    def pull(t: float) -> float:
        """Mean gradient of the items' scores, as a share of what the targets alone would give."""
        head, draws = GBCEHead(1, table, 8, t), 400
        found = torch.zeros(40)
        for _ in range(draws):
            loss = head.loss(hidden, target, generator)
            found += torch.autograd.grad(loss, table.weight)[0][FIRST:, 0] / draws
        return float(-found.sum() / (head.power * share * (1 - share) / 9).sum())

    assert abs(pull(1.0)) < 0.1 and pull(0.0) > 0.5


def test_a_set_of_labels_costs_the_binary_cross_entropy_of_all() -> None:
    head = MultiLabelHead(4, 9)
    hidden = torch.randn(5, 4)
    target = torch.tensor([[0, 3, -100], [8, -100, -100], [1, 2, 4], [-100, -100, -100], [5, 6, -100]])
    many_hot = torch.stack([torch.tensor([float(i in row) for i in range(9)]) for row in target.tolist()])
    expected = F.binary_cross_entropy_with_logits(head.linear(hidden), many_hot, reduction="none").sum(1)
    torch.testing.assert_close(-head.log_prob(hidden, target), expected)
    torch.testing.assert_close(head.loss(hidden, target), expected.mean())


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
        "gbce": (GBCEHead(8, table, 5), ids),
        "labels": (MultiLabelHead(8, 20), torch.stack([ids, ids - 3], 1)),
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
    for name, (head, target) in heads().items():
        torch.manual_seed(1)
        hidden = torch.randn(6, 6 if "projected" in name else 8)
        whole = head.loss(hidden, target, torch.Generator().manual_seed(0))
        parts = [head.loss(hidden[i : i + 1], target[i : i + 1], torch.Generator().manual_seed(0)) for i in range(6)]
        assert head.batch_statistics == (not torch.isclose(whole, torch.stack(parts).mean())), name


@pytest.mark.parametrize("kind", ["tied", "sampled", "gbce"])
def test_with_a_temperature_the_length_of_vectors_does_not_matter(kind: str) -> None:
    table, hidden, target = torch.nn.Embedding(20, 8), torch.randn(6, 8), torch.randint(3, 20, (6,))
    head = {
        "tied": TiedHead(8, table, temperature=0.1),
        "sampled": SampledHead(8, table, torch.ones(20), 5, temperature=0.1),
        "gbce": GBCEHead(8, table, 5, temperature=0.1),
    }[kind]
    cosine = torch.nn.functional.cosine_similarity(hidden[:, None], table.weight[None, 3:], dim=-1) / 0.1
    assert torch.allclose(head.log_probs(hidden)[:, 3:], cosine.log_softmax(-1), atol=1e-5)
    before = head.loss(hidden, target, torch.Generator().manual_seed(0))
    with torch.no_grad():
        table.weight.mul_(torch.rand(20, 1) + 0.5)
    after = head.loss(3 * hidden, target, torch.Generator().manual_seed(0))
    assert torch.allclose(before, after, atol=1e-5)
