"""SwAV, DeepCluster and DINO: they learn what views share, use their prototypes, and move their state once a step, no sooner.
Sinkhorn, k-means and whitening, on which they stand, equal what others compute, and stay finite where others do not."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from lightly.loss import DINOLoss, SwaVLoss
from lightly.loss.swav_loss import sinkhorn as their_sinkhorn
from sklearn.cluster import KMeans
from sklearn.datasets import make_blobs
from torch import Tensor, nn

from core import assignments
from core.assignments import kmeans, means, perplexity, sinkhorn, usage, whitening
from core.batches import ArrayBatches
from core.encoders import Encoder, small_convnet
from core.errors import UserError
from core.losses import dino, swav
from core.methods import DINO, DeepCluster, DeepClusterConfig, DINOConfig, Method, SwAV, SwAVConfig
from core.pretext import Views
from core.probes import embed
from core.tokens import Batch

sys.path.insert(0, str(Path(__file__).parent))
from lit_things import ROWS, SIDE, drawn, light, nudge, score, things

METHODS: dict[str, Callable[[Encoder], Method]] = {
    "swav": lambda encoder: SwAV(encoder, SwAVConfig(hidden=64)),
    "deepcluster": lambda encoder: DeepCluster(encoder, ROWS, DeepClusterConfig(clusters=24)),
    "dino": lambda encoder: DINO(encoder, DINOConfig(hidden=64, out=64, momentum=0.95)),
}


def views(batch: Batch, generator: torch.Generator) -> Views:
    """The same things under other lights: two views and, of another resolution, one crop."""

    def view(side: int = SIDE) -> Batch:
        image = batch["image"]
        seen = image + light(len(image), generator) + 0.5 * torch.randn(image.shape, generator=generator)
        return {"image": seen[..., :side, :side], "index": batch["index"]}

    return Views([view(), view(), view(12)])


def small(rows: int = 8, seed: int = 0) -> Views:
    image = torch.randn(rows, 1, SIDE, SIDE, generator=drawn(seed))
    return views({"image": image, "index": torch.arange(rows)}, drawn(seed + 100))


def fresh(name: str, seed: int = 0, encoder: Encoder | None = None) -> Method:
    """With weights of that seed; clustered once where there are clusters."""
    torch.manual_seed(seed)
    method = METHODS[name](encoder or small_convnet(1, 8)).train()
    method.start_epoch(0, lambda: torch.randn(ROWS, method.encoder.dim, generator=drawn(3)), drawn(4))
    return method


def step(method: Method, data: Views, progress: float = 0.1) -> None:
    method.zero_grad()
    method(data, drawn(0)).loss.backward()
    nudge(method)
    method.after_step(progress)


def trained(method: Method, batches: ArrayBatches, steps: int) -> list[float]:
    """Losses of a short training."""
    optimizer, losses = torch.optim.AdamW(method.parameters(), 3e-3, weight_decay=1e-4), []

    def embed_all() -> Tensor:
        features = torch.from_numpy(embed(method.encoder, batches.ordered()))
        method.train()
        return features

    for number in range(steps):
        epoch, place = divmod(number, len(batches))
        if place == 0:
            method.start_epoch(epoch, embed_all, drawn(epoch))
        result = method(views(batches.batch(epoch, place), drawn(number)), drawn(number))
        optimizer.zero_grad()
        result.loss.backward()
        optimizer.step()
        method.after_step((number + 1) / steps)
        losses.append(float(result.loss.detach()))
    return losses


def blobs(rows: int = 3000, centres: int = 20) -> Tensor:
    x, _ = make_blobs(rows, 8, centers=centres, cluster_std=0.7, random_state=0)
    return torch.from_numpy(x).float()


# Sinkhorn, k-means, whitening


def test_sinkhorn_equals_lightlys() -> None:
    scores = torch.rand(64, 10, generator=drawn(0)) * 2 - 1
    for epsilon, iterations in ((0.05, 3), (0.5, 1), (0.2, 10)):
        theirs = their_sinkhorn(scores.clone(), iterations, epsilon)
        torch.testing.assert_close(sinkhorn(scores, epsilon, iterations), theirs, rtol=1e-4, atol=1e-6)


def test_sinkhorn_uses_all_prototypes_evenly_and_each_row_once() -> None:
    q = sinkhorn(torch.randn(60, 12, generator=drawn(0)) + 3 * torch.arange(12), 0.5, 200)
    torch.testing.assert_close(q.sum(1), torch.ones(60))
    torch.testing.assert_close(q.sum(0), torch.full((12,), 5.0), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("scale", [0.0, 1.0, 30.0])
def test_sinkhorn_does_not_overflow(kind: torch.dtype, scale: float) -> None:
    scores = (scale * torch.randn(32, 8, generator=drawn(0))).to(kind)
    q = sinkhorn(scores, 0.05)
    assert q.dtype == torch.float32 and torch.isfinite(q).all()
    torch.testing.assert_close(q.sum(1), torch.ones(32))
    if scale == 30.0:
        assert not torch.isfinite(their_sinkhorn(scores.float())).all()


def test_perplexity_counts_what_is_in_use() -> None:
    assert float(perplexity(torch.tensor([5, 5, 0, 0]))) == pytest.approx(2.0)
    assert float(perplexity(torch.tensor([7.0, 0.0]))) == pytest.approx(1.0)


def test_usage_tells_both_kinds_of_collapse_from_assignments_that_differ() -> None:
    one_place, everywhere = torch.eye(16)[torch.zeros(32, dtype=torch.long)], torch.full((32, 16), 1 / 16)
    assert float(usage(one_place)) == pytest.approx(1 / 16) and float(usage(everywhere)) == pytest.approx(1 / 16)
    assert float(usage(torch.eye(16)[torch.arange(32) % 16])) == pytest.approx(1.0)
    assert float(usage(torch.eye(16)[torch.arange(32) % 4])) == pytest.approx(1 / 4)
    assert float(usage(torch.eye(64)[:32])) == pytest.approx(1.0)  # no more than the rows can be told apart


def test_kmeans_is_as_tight_as_scikit_learns() -> None:
    x = blobs()
    theirs = KMeans(20, n_init=5, random_state=0).fit(x.numpy())
    ours = kmeans(x + 1000, 20, drawn(0))  # where squared distances lose digits
    assert ours.inertia == pytest.approx(theirs.inertia_, rel=0.02)
    torch.testing.assert_close(ours.centres[ours.assignment[:50]] - 1000, x[:50], rtol=0, atol=4.0)
    loose = min(kmeans(x, 7, drawn(seed)).inertia for seed in range(5))  # fewer clusters than blobs
    assert loose == pytest.approx(KMeans(7, n_init=5, random_state=0).fit(x.numpy()).inertia_, rel=0.05)


def test_kmeans_gives_each_row_its_nearest_centre_and_counts_the_inertia_of_those() -> None:
    x = blobs(500)
    found = kmeans(x, 9, drawn(1), iterations=3)
    distance = torch.cdist(x, found.centres, compute_mode="donot_use_mm_for_euclid_dist")
    assert torch.equal(distance.argmin(1), found.assignment)
    assert float(distance.amin(1).square().sum()) == pytest.approx(found.inertia, rel=1e-4)


def test_kmeans_hangs_on_its_generator_alone_and_not_on_the_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    x = blobs(600)
    first, same, other = (kmeans(x, 12, drawn(seed), 2) for seed in (0, 0, 1))
    assert torch.equal(first.centres, same.centres) and not torch.equal(first.centres, other.centres)
    monkeypatch.setattr(assignments, "CHUNK", 100)
    chunked = kmeans(x, 12, drawn(0), 2)
    torch.testing.assert_close(chunked.centres, first.centres)
    assert torch.equal(chunked.assignment, first.assignment)


def test_spherical_kmeans_asks_for_the_direction_alone() -> None:
    directions = F.normalize(torch.randn(4, 16, generator=drawn(0)), dim=1)
    kind = torch.arange(200) % 4
    length = 10 ** (4 * torch.rand(200, 1, generator=drawn(1)) - 2)  # from .01 to 100
    found = kmeans(directions[kind] * length, 4, drawn(2), spherical=True)
    assert all(len(found.assignment[kind == k].unique()) == 1 for k in range(4)) and len(found.assignment.unique()) == 4
    torch.testing.assert_close(found.centres.norm(dim=1), torch.ones(4))


def test_an_empty_cluster_moves_to_the_row_farthest_from_its_centre() -> None:
    x = torch.cat([torch.zeros(50, 2), torch.full((50, 2), 10.0), torch.full((1, 2), 40.0)])
    start = torch.tensor([[0.0, 0.0], [9.0, 9.0], [-500.0, 0.0], [-600.0, 0.0]])
    found = kmeans(x + 0.1 * torch.randn(x.shape, generator=drawn(0)), 4, drawn(0), start=start)
    assert found.assignment.unique().tolist() == [0, 1, 2, 3]
    assert (found.assignment == found.assignment[-1]).sum() == 1


def test_kmeans_goes_on_from_given_centres_so_that_clusters_keep_their_numbers() -> None:
    x = blobs(centres=6)
    first = kmeans(x, 6, drawn(0))
    moved = x + 0.05 * torch.randn(x.shape, generator=drawn(1))
    again = kmeans(moved, 6, drawn(2), start=means(moved, first.assignment, 6))
    assert (again.assignment == first.assignment).float().mean() > 0.99
    drawn_anew = kmeans(moved, 6, drawn(2))
    assert (drawn_anew.assignment == first.assignment).float().mean() < 0.9


def test_equal_rows_and_half_precision_are_no_trouble_for_kmeans() -> None:
    for x in (torch.zeros(20, 4), torch.full((20, 4), 7.0).half()):
        for spherical in (False, True):
            found = kmeans(x, 3, drawn(0), spherical=spherical)
            assert torch.isfinite(found.centres).all() and len(found.assignment.unique()) == 1
    assert kmeans(blobs().half(), 20, drawn(0)).inertia == pytest.approx(
        kmeans(blobs(), 20, drawn(0)).inertia, rel=0.01
    )


def test_more_clusters_than_rows_is_one_clear_line() -> None:
    with pytest.raises(UserError, match=r"5 clusters of 4 rows \(clusters\); use at least 1 and at most the rows"):
        kmeans(torch.zeros(4, 2), 5, drawn(0))


def test_means_are_those_of_each_clusters_rows() -> None:
    x, at = torch.randn(30, 3, generator=drawn(0)), torch.arange(30) % 4
    found = means(x, at, 5)
    torch.testing.assert_close(found[:4], torch.stack([x[at == k].mean(0) for k in range(4)]))
    assert torch.equal(found[4], torch.zeros(3))


def test_whitened_columns_have_unit_variance_and_no_correlation() -> None:
    x = torch.randn(400, 6, generator=drawn(0)) @ torch.randn(6, 6, generator=drawn(1)) + 50
    y = whitening(x, 4)(x)
    torch.testing.assert_close(y.mean(0), torch.zeros(4), rtol=0, atol=1e-3)
    torch.testing.assert_close(y.T @ y / 400, torch.eye(4), rtol=0, atol=0.01)
    kept = torch.linalg.lstsq(y, x - x.mean(0)).solution
    lost = (x - x.mean(0) - y @ kept).square().sum() / (x - x.mean(0)).square().sum()
    values = torch.linalg.eigvalsh(torch.cov(x.T))
    assert float(lost) == pytest.approx(float(values[:2].sum() / values.sum()), rel=0.05)


def test_whitening_does_not_blow_up_what_does_not_vary() -> None:
    x = torch.randn(100, 1, generator=drawn(0)).expand(-1, 5) + 1e-6 * torch.randn(100, 5, generator=drawn(1))
    assert whitening(x, 5)(x).std(0)[:4].max() < 0.01
    assert torch.isfinite(whitening(torch.ones(10, 5), 3)(torch.ones(10, 5))).all()


# losses


def logits(count: int, scale: float = 1.0, kind: torch.dtype = torch.float32) -> list[Tensor]:
    return [(scale * torch.randn(16, 10, generator=drawn(s))).to(kind).requires_grad_() for s in range(count)]


@pytest.mark.parametrize("crops", [0, 3])
def test_swav_and_its_gradient_equal_lightlys(crops: int) -> None:
    scores = logits(2 + crops, 0.5)
    ours = swav(scores, [sinkhorn(s, 0.05) for s in scores[:2]], 0.1)
    theirs = SwaVLoss(0.1, 3, 0.05)(scores[:2], scores[2:])[0]
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    for x, y in zip(torch.autograd.grad(ours, scores), torch.autograd.grad(theirs, scores), strict=True):
        torch.testing.assert_close(x, y, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("crops", [0, 3])
def test_dino_and_its_gradient_equal_lightlys(crops: int) -> None:
    student, said = logits(2 + crops, 0.5), [x.detach() + 0.1 for x in logits(2, 0.7)]
    centre = torch.randn(10, generator=drawn(9))
    loss = DINOLoss(10, teacher_temp=0.05, student_temp=0.1)
    loss.center.copy_(centre)
    theirs = loss(said, student)
    ours = dino(student, [((x - centre) / 0.05).softmax(1) for x in said], 0.1)
    torch.testing.assert_close(ours, theirs)
    for x, y in zip(torch.autograd.grad(ours, student), torch.autograd.grad(theirs, student), strict=True):
        torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("scale", [0.0, 1.0, 30.0])
def test_both_losses_are_finite_in_half_precision(kind: torch.dtype, scale: float) -> None:
    for loss in (swav, dino):
        scores = logits(3, scale, kind)
        value = loss(scores, [sinkhorn(x, 0.02) for x in scores[:2]], 0.05)
        value.backward()
        assert value.dtype == torch.float32 and torch.isfinite(value)
        assert all(torch.isfinite(x.grad).all() for x in scores)


def test_a_single_view_is_one_clear_line() -> None:
    with pytest.raises(UserError, match="a single view has no other to predict"):
        swav([torch.randn(4, 3)], [torch.full((4, 3), 1 / 3)])


# methods


@pytest.mark.parametrize("name", METHODS)
def test_it_learns_what_the_views_share(name: str) -> None:
    batches, kind = things()

    torch.manual_seed(0)
    method = METHODS[name](small_convnet(1, 8)).train()
    before = score(method.encoder, batches, kind)
    losses = trained(method, batches, 72)
    assert np.mean(losses[-12:]) < np.mean(losses[:12]) - 0.3
    assert before < 0.6 and score(method.encoder, batches, kind) > before + 0.25


@pytest.mark.parametrize("name", METHODS)
def test_a_saved_state_goes_on_bit_equal(name: str, tmp_path: Path) -> None:
    if name == "swav":  # with past rows too
        torch.manual_seed(0)
        method, again = (SwAV(small_convnet(1, 8), SwAVConfig(prototypes=24, queue=32)).train() for _ in range(2))
    else:
        method, again = fresh(name), METHODS[name](small_convnet(1, 8)).train()
    for number in range(3):
        step(method, small(seed=number), 0.1 * number)
    torch.save(method.state_dict(), tmp_path / "state.pt")
    again.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    for each in (method, again):
        each.start_epoch(0, lambda: pytest.fail("a resumed epoch keeps its clusters"), drawn(5))
        step(each, small(seed=5), 0.5)
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in method.state_dict().items())


@pytest.mark.parametrize("name", METHODS)
def test_all_views_are_read_whatever_their_size(name: str) -> None:
    data = small()
    changed = Views([*data.views[:2], {**data.views[2], "image": data.views[2]["image"] + 1}])
    with_crop, other_crop, without = (
        float(fresh(name)(d, drawn(0)).loss.detach()) for d in (data, changed, Views(data.views[:2]))
    )
    assert len({with_crop, other_crop, without}) == 3


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("trouble", ["zeros", "equal rows", "loud"])
@pytest.mark.parametrize("name", METHODS)
def test_half_precision_gives_finite_gradients(name: str, trouble: str, kind: torch.dtype) -> None:
    method, data = fresh(name), small()
    if trouble == "zeros":
        nn.init.zeros_(method.encoder.stages[-1][0].weight)
    elif trouble == "equal rows":
        data = Views([{**view, "image": view["image"][:1].expand(8, -1, -1, -1)} for view in data.views])
    else:
        method.encoder.stages[-1].register_forward_hook(lambda module, inputs, out: 30 * out)
    with torch.autocast("cpu", kind):
        loss = method(data, drawn(0)).loss
    loss.backward()
    assert loss.dtype == torch.float32 and torch.isfinite(loss)
    assert all(torch.isfinite(p.grad).all() for p in method.parameters() if p.grad is not None)


@pytest.mark.parametrize("name", ["swav", "dino"])
def test_usage_is_lowest_where_all_rows_are_alike(name: str) -> None:
    data = small(24)
    alike = Views([{**view, "image": torch.zeros_like(view["image"])} for view in data.views])
    healthy, collapsed = (fresh(name)(d, drawn(0)).logs["usage_prototypes"] for d in (data, alike))
    assert collapsed == pytest.approx(1 / 24, rel=1e-3) and 3 * collapsed < healthy <= 1


# SwAV


def test_prototypes_have_unit_length_from_the_start_and_after_each_step_but_do_not_move_in_forward() -> None:
    method = fresh("swav")
    torch.testing.assert_close(method.prototypes.norm(dim=1), torch.ones(64))
    before = method.prototypes.detach().clone()
    method(small(), drawn(0)).loss.backward()
    assert torch.equal(method.prototypes, before)
    nudge(method)
    stepped = method.prototypes.detach().clone()
    assert (stepped.norm(dim=1) - 1).abs().max() > 1e-4
    method.after_step(0.1)
    torch.testing.assert_close(method.prototypes.detach(), F.normalize(stepped, dim=1))


def test_past_rows_join_the_assignments_once_the_queue_is_full() -> None:
    torch.manual_seed(0)
    method = SwAV(small_convnet(1, 8), SwAVConfig(prototypes=24, queue=32)).train()
    scores = torch.rand(8, 24, generator=drawn(0))
    alone = sinkhorn(scores, 0.02)
    method(small(seed=1), drawn(0))
    rows = torch.cat(method.staged)
    assert rows.shape == (16, 64) and int(method.queue.pushed) == 0
    method.after_step(0.1)
    assert torch.equal(method.queue.rows[:16], rows) and torch.equal(method.assign(scores), alone)
    method(small(seed=2), drawn(0))
    method.after_step(0.2)
    assert method.queue.fresh().all()
    whole = torch.cat([scores, method.queue.rows @ method.prototypes.detach().T])
    assert torch.equal(method.assign(scores), sinkhorn(whole, 0.02)[:8])
    assert not torch.allclose(method.assign(scores), alone, atol=1e-3)


# DeepCluster


def clustered(sizes: list[int]) -> tuple[DeepCluster, Views]:
    """A method whose clusters have those sizes, and a batch of all rows."""
    rows = sum(sizes)
    torch.manual_seed(0)
    method = DeepCluster(small_convnet(1, 8, norm="channel"), rows, DeepClusterConfig(clusters=len(sizes))).eval()
    kind = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    features = 10 * torch.eye(len(sizes), method.encoder.dim)[kind] + 0.01 * torch.randn(rows, method.encoder.dim)
    method.start_epoch(0, lambda: features, drawn(0))
    return method, small(rows)


def test_unequal_clusters_count_evenly() -> None:
    method, data = clustered([3, 8, 29])
    assert sorted(method.sizes.tolist()) == [3.0, 8.0, 29.0]
    with torch.no_grad():
        loss = method(data, drawn(0)).loss
        logs = [method.head(method.encoder.embed(view)).log_softmax(1) for view in data.views]
    each = -torch.stack([x[torch.arange(40), method.cluster] for x in logs]).mean(0)
    torch.testing.assert_close(loss, torch.stack([each[method.cluster == k].mean() for k in range(3)]).mean())


def test_rows_are_found_by_their_index() -> None:
    method, data = clustered([3, 8, 29])
    order = torch.randperm(40, generator=drawn(1))
    shuffled = Views([{key: value[order] for key, value in view.items()} for view in data.views])
    torch.testing.assert_close(method(shuffled, drawn(0)).loss, method(data, drawn(0)).loss)
    elsewhere = Views([{**view, "index": order} for view in data.views])
    assert not torch.isclose(method(elsewhere, drawn(0)).loss, method(data, drawn(0)).loss)


def test_clusters_are_found_every_few_epochs_and_keep_their_numbers() -> None:
    torch.manual_seed(0)
    method = DeepCluster(small_convnet(1, 8), 300, DeepClusterConfig(clusters=5, every=2))
    kind = torch.randint(0, 5, (300,), generator=drawn(0))
    features = 3 * torch.randn(5, 32, generator=drawn(1))[kind] + torch.randn(300, 32, generator=drawn(2))
    head = method.head.weight.detach().clone()
    seen = []
    for epoch in range(5):
        method.start_epoch(epoch, lambda epoch=epoch: seen.append(epoch) or features + 0.1 * epoch, drawn(epoch))
        if epoch == 0:
            first = method.cluster.clone()
            assert all(len(first[kind == k].unique()) == 1 for k in range(5))
    assert seen == [0, 2, 4] and int(method.clustered) == 4
    assert torch.equal(method.cluster, first) and torch.equal(method.head.weight, head)


def test_what_deepcluster_cannot_do_is_one_clear_line() -> None:
    method, data = clustered([3, 8, 29])
    with pytest.raises(UserError, match=r"must know which rows it sees \(pretext\); let the first view carry"):
        method(Views([{"image": view["image"]} for view in data.views]), drawn(0))
    with pytest.raises(UserError, match="row 40, but deepcluster was made for 40"):
        method(Views([{**view, "index": view["index"] + 1} for view in data.views]), drawn(0))
    with pytest.raises(UserError, match="39 rows, but deepcluster was made for 40"):
        method.start_epoch(1, lambda: torch.randn(39, method.encoder.dim), drawn(0))
    with pytest.raises(UserError, match="64 clusters of 40 rows"):
        DeepCluster(small_convnet(1, 8), 40)
    with pytest.raises(UserError, match="no clusters yet"):
        DeepCluster(small_convnet(1, 8), 40, DeepClusterConfig(clusters=3))(data, drawn(0))


def test_one_large_cluster_shows_as_little_usage() -> None:
    method, data = clustered([3, 8, 29])
    even, _ = clustered([13, 13, 14])
    method.start_epoch(1, lambda: torch.ones(40, method.encoder.dim), drawn(0))  # collapsed
    assert method(data, drawn(0)).logs["usage_clusters"] == pytest.approx(1 / 3)
    assert even(data, drawn(0)).logs["usage_clusters"] > 0.99


# DINO


def test_centre_and_teacher_move_once_a_step_by_their_momentum() -> None:
    method = fresh("dino")
    student, teacher = method.student, method.teacher.net
    before = [p.clone() for p in teacher.parameters()]
    said = []
    method.teacher.net[1].register_forward_hook(lambda module, inputs, out: said.append(out))
    for number in range(3):  # micro-batches of unequal size
        method(small(6 + number, seed=number), drawn(0)).loss.backward()
    assert all(not x.requires_grad for x in said) and torch.equal(method.centre, torch.zeros(64))
    nudge(method)
    assert all(torch.equal(p, q) for p, q in zip(teacher.parameters(), before, strict=True))
    method.after_step(0.3)
    torch.testing.assert_close(method.centre, 0.1 * torch.cat(said).mean(0))
    keep = method.teacher.at(0.3)
    for slow, old, new in zip(teacher.parameters(), before, student.parameters(), strict=True):
        torch.testing.assert_close(slow, keep * old + (1 - keep) * new)


def test_four_micro_batches_move_the_centre_as_one_large_batch_does() -> None:
    data, states = small(16), []
    for size in (16, 4):
        torch.manual_seed(0)
        method = DINO(small_convnet(1, 8, norm="channel"), DINOConfig(out=64, norm=False)).train()
        assert not method.batch_statistics
        for start in range(0, 16, size):
            part = Views([{k: v[start : start + size] for k, v in view.items()} for view in data.views])
            (method(part, drawn(0)).loss * size / 16).backward()
        nudge(method)
        method.after_step(0.5)
        states.append(method.state_dict())
    assert states[0]["centre"].abs().max() > 1e-3
    for key, value in states[0].items():
        torch.testing.assert_close(states[1][key], value, rtol=1e-4, atol=1e-5)


def test_measuring_the_loss_leaves_centre_and_queue_alone() -> None:
    torch.manual_seed(0)
    for method in (fresh("dino"), SwAV(small_convnet(1, 8), SwAVConfig(prototypes=24, queue=32))):
        before = {key: value.clone() for key, value in method.eval().named_buffers()}
        method(small(), drawn(0))
        method.after_step(0.0)
        assert all(torch.equal(value, before[key]) for key, value in method.named_buffers())


def test_the_teachers_temperature_rises_with_progress_and_then_stays() -> None:
    torch.manual_seed(0)
    config = DINOConfig(out=16, teacher_start=0.02, teacher_temperature=0.06, warmup=0.5)
    method = DINO(small_convnet(1, 8), config)
    seen = [float(method.teacher_temperature)]
    for progress in (0.25, 0.5, 1.0):
        method(small(), drawn(0))
        assert float(method.teacher_temperature) == seen[-1]
        method.after_step(progress)
        seen.append(float(method.teacher_temperature))
    assert seen == pytest.approx([0.02, 0.04, 0.06, 0.06])


def test_a_scaled_last_layer_says_the_same() -> None:
    method, data = fresh("dino"), small()
    before = method(data, drawn(0)).loss.detach()
    with torch.no_grad():
        method.head.prototypes *= 7
    torch.testing.assert_close(method(data, drawn(0)).loss.detach(), before)


@pytest.mark.parametrize("name", ["swav", "dino"])
def test_a_batch_of_one_is_one_clear_line(name: str) -> None:
    with pytest.raises(UserError, match=rf"{name} has no negatives or statistics in a batch of 1 \(batch_size\)"):
        fresh(name)(small(1), drawn(0))
