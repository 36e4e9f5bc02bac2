"""Methods that compare two views: each learns what the views share, and moves its teacher and queue once a step, no sooner."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from core.encoders import Encoder, small_convnet
from core.errors import UserError
from core.losses import negative_cosine
from core.methods import (
    BYOL,
    BarlowConfig,
    BarlowTwins,
    BYOLConfig,
    Method,
    MoCo,
    MoCoConfig,
    SimSiam,
    SimSiamConfig,
    VICReg,
    VICRegConfig,
)
from core.norms import synchronised
from core.pretext import Views
from core.queue import Queue
from core.tokens import Batch
from core.training import TrainConfig, train

sys.path.insert(0, str(Path(__file__).parent))
from lit_things import SIDE, drawn, light, nudge, score, things

METHODS: dict[str, Callable[[Encoder], Method]] = {
    "moco": lambda encoder: MoCo(encoder, MoCoConfig(queue=256)),
    "byol": lambda encoder: BYOL(encoder, BYOLConfig(momentum=0.95)),
    "simsiam": SimSiam,
    "barlow": lambda encoder: BarlowTwins(encoder, BarlowConfig(hidden=128, out=128)),
    "vicreg": lambda encoder: VICReg(encoder, VICRegConfig(hidden=128, out=128)),
}


def views(batch: Batch, generator: torch.Generator) -> Views:
    """The same things under two other lights."""

    def view() -> Batch:
        image = batch["image"]
        return {"image": image + light(len(image), generator) + 0.5 * torch.randn(image.shape, generator=generator)}

    return Views([view(), view()])


def small(rows: int = 8, seed: int = 0) -> Views:
    return views({"image": torch.randn(rows, 1, SIDE, SIDE, generator=drawn(seed))}, drawn(seed + 100))


def quiet(line: str) -> None:
    pass


def fresh(name: str, seed: int = 0) -> Method:
    torch.manual_seed(seed)
    return METHODS[name](small_convnet(1, 8)).train()


def step(method: Method, data: Views, progress: float = 0.0) -> None:
    method.zero_grad()
    method(data, drawn(0)).loss.backward()
    nudge(method)
    method.after_step(progress)


@pytest.mark.parametrize("name", METHODS)
def test_it_learns_what_the_views_share(name: str) -> None:
    batches, kind = things()

    method = fresh(name)
    before = score(method.encoder, batches, kind)
    history = train(
        method, batches, views, TrainConfig(steps=100, lr=3e-3, log_every=20, weight_decay=1e-4), note=quiet
    )
    assert history.losses[-1] < history.losses[0]
    assert before < 0.6 and score(method.encoder, batches, kind) > 0.85


@pytest.mark.parametrize("name", METHODS)
def test_equal_seeds_give_equal_weights_queues_and_teachers(name: str) -> None:
    batches, _ = things()
    states = []
    for seed in (1, 1, 2):
        method = fresh(name)
        train(method, batches, views, TrainConfig(steps=3, seed=seed), note=quiet)
        states.append(method.state_dict())
    assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())
    assert any(not torch.equal(value, states[2][key]) for key, value in states[0].items())


@pytest.mark.parametrize("name", METHODS)
def test_a_saved_state_goes_on_bit_equal(name: str, tmp_path: Path) -> None:
    method, again = fresh(name), fresh(name, seed=9)
    for number in range(3):
        step(method, small(seed=number), 0.1 * number)
    torch.save(method.state_dict(), tmp_path / "state.pt")
    again.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    for each in (method, again):
        step(each, small(seed=5), 0.5)
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in method.state_dict().items())


@pytest.mark.parametrize("name", METHODS)
def test_small_crops_beside_the_two_views_are_not_read(name: str) -> None:
    data = small()
    more = Views([*data.views, {"image": torch.randn(8, 1, SIDE // 2, SIDE // 2)}])
    assert torch.equal(fresh(name)(data, drawn(0)).loss, fresh(name)(more, drawn(0)).loss)


@pytest.mark.parametrize("name", METHODS)
def test_either_view_may_come_first(name: str) -> None:
    a, b = small().views
    torch.testing.assert_close(fresh(name)(Views([a, b]), drawn(0)).loss, fresh(name)(Views([b, a]), drawn(0)).loss)


@pytest.mark.parametrize("name", METHODS)
def test_a_batch_of_one_is_one_clear_line(name: str) -> None:
    with pytest.raises(UserError, match=rf"{name} has no negatives or statistics in a batch of 1 \(batch_size\)"):
        fresh(name)(small(1), drawn(0))


@pytest.mark.parametrize("name", ["moco", "byol"])
def test_the_teacher_moves_once_a_step_by_its_momentum(name: str) -> None:
    method = fresh(name)
    student, teacher = method.student, method.teacher.net
    before = [p.clone() for p in teacher.parameters()]
    for number in range(3):  # micro-batches
        method(small(seed=number), drawn(0)).loss.backward()
    nudge(method)
    assert all(torch.equal(p, q) for p, q in zip(teacher.parameters(), before, strict=True))
    method.after_step(0.3)
    keep = method.teacher.at(0.3)
    for slow, old, new in zip(teacher.parameters(), before, student.parameters(), strict=True):
        torch.testing.assert_close(slow, keep * old + (1 - keep) * new)
    assert all(torch.equal(p, q) for p, q in zip(teacher.buffers(), student.buffers(), strict=True))
    assert any(not torch.equal(p, q) for p, q in zip(teacher.parameters(), before, strict=True))


@pytest.mark.parametrize("name", ["moco", "byol"])
def test_no_gradient_reaches_the_teacher_even_with_norms_over_all_processes(name: str) -> None:
    method = synchronised(fresh(name))
    method(small(), drawn(0)).loss.backward()
    assert all(p.grad is None and not p.requires_grad for p in method.teacher.parameters())
    assert all(p.grad is not None for p in method.student.parameters())


def test_byols_teacher_stands_still_at_the_end_and_mocos_keeps_its_pace() -> None:
    byol, moco = fresh("byol").teacher, fresh("moco").teacher
    assert (byol.at(0.0), byol.at(1.0)) == (pytest.approx(0.95), pytest.approx(1.0))
    assert moco.at(0.0) == moco.at(1.0) == pytest.approx(0.99)


def test_the_queue_takes_the_keys_of_all_micro_batches_once_a_step() -> None:
    method = fresh("moco")
    before = method.queue.rows.clone()
    outs = [method(small(seed=number), drawn(0)) for number in range(2)]
    assert torch.equal(method.queue.rows, before)
    keys = torch.cat(method.staged)
    assert keys.shape == (16, 128) and not keys.requires_grad
    torch.testing.assert_close(keys.norm(dim=1), torch.ones(16))
    method.after_step(0.1)
    assert torch.equal(method.queue.rows[:16], keys) and torch.equal(method.queue.rows[16:], before[16:])
    assert [out.logs["usage_queue"] for out in outs] == [8 / 256, 16 / 256]
    method.after_step(0.2)
    assert int(method.queue.place) == 16 and torch.equal(method.queue.rows[:16], keys)
    for _ in range(30):
        method(small(), drawn(0))
    method.after_step(0.3)
    assert method(small(), drawn(0)).logs["usage_queue"] == 1.0 and method.queue.fresh().all()


def test_measuring_the_loss_leaves_the_queue_alone() -> None:
    method = fresh("moco").eval()
    before = method.queue.rows.clone()
    method(small(), drawn(0))
    method.after_step(0.1)
    assert torch.equal(method.queue.rows, before) and int(method.queue.pushed) == 0


def test_a_queue_need_be_no_multiple_of_the_batch() -> None:
    queue = Queue(10, 3)
    pushed = [torch.full((4, 3), float(step)) for step in range(1, 5)]
    for rows in pushed:
        queue.push(rows)
    kept = torch.cat(pushed)[-10:]  # the newest ten, two of the second step among them
    assert sorted(queue.rows[:, 0].tolist()) == sorted(kept[:, 0].tolist()) and queue.fresh().all()
    queue.push(torch.zeros(4, 3))
    assert sorted(queue.rows[:, 0].tolist()) == [0, 0, 0, 0, 3, 3, 4, 4, 4, 4], "the oldest go first"


def test_moco_without_batch_norms_does_not_mix_rows() -> None:
    """Then four micro-batches are one large batch: gradients, queue and teacher alike."""
    data = small(16)
    states = []
    for size in (16, 4):
        torch.manual_seed(0)
        method = MoCo(small_convnet(1, 8, norm="channel"), MoCoConfig(queue=64)).train()
        assert not method.batch_statistics
        for start in range(0, 16, size):
            part = Views([{"image": view["image"][start : start + size]} for view in data.views])
            (method(part, drawn(0)).loss * size / 16).backward()
        nudge(method)
        method.after_step(0.5)
        states.append(method.state_dict())
    for key, value in states[0].items():
        torch.testing.assert_close(states[1][key], value, rtol=1e-4, atol=1e-5)
    assert MoCo(small_convnet(1, 8), MoCoConfig(norm=True)).batch_statistics


def test_simsiam_stops_the_gradient_of_its_targets() -> None:
    """Where the predictor says what it hears, both halves of the symmetric loss have the gradient of one cosine's one side."""
    torch.manual_seed(0)
    method = SimSiam(small_convnet(1, 8), SimSiamConfig(hidden=32, out=16)).train()
    method.predictor = nn.Sequential(nn.Identity())
    weights = list(method.projector.parameters())
    data = small()
    stopped = torch.autograd.grad(method(data, drawn(0)).loss, weights)
    za, zb = (method.projector(method.encoder.embed(view)) for view in data.views)
    both = torch.autograd.grad(negative_cosine(za, zb), weights)
    assert max(float(g.abs().max()) for g in both) > 1e-3
    for mine, twice in zip(stopped, both, strict=True):
        torch.testing.assert_close(2 * mine, twice, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("trouble", ["zeros", "equal rows", "loud"])
@pytest.mark.parametrize("name", METHODS)
def test_half_precision_gives_finite_gradients(name: str, trouble: str, kind: torch.dtype) -> None:
    method, data = fresh(name), small()
    if trouble == "zeros":
        nn.init.zeros_(method.encoder.stages[-1][0].weight)
    elif trouble == "equal rows":
        data = Views([{"image": view["image"][:1].expand(8, -1, -1, -1)} for view in data.views])
    else:
        method.encoder.stages[-1].register_forward_hook(lambda module, inputs, out: 30 * out)
    with torch.autocast("cpu", kind):
        loss = method(data, drawn(0)).loss
    loss.backward()
    assert loss.dtype == torch.float32 and torch.isfinite(loss)
    assert all(torch.isfinite(p.grad).all() for p in method.parameters() if p.grad is not None)
