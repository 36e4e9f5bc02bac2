"""What holds for every method: two processes equal one, half precision, accumulation, resume, padding, equal seeds."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parent))
from method_cases import CASES, ROWS, TIME, drawn, fresh, rows_of

from core.batches import ArrayBatches
from core.encoders import TokenEncoder
from core.methods import Method
from core.tokens import Tokens
from core.training import TrainConfig, train

PADDED = [name for name, case in CASES.items() if case.padded]
# losses or heads that mix the rows of a batch: several micro-batches are not one large batch
MIXING = {
    "simclr", "simclr, grouped events", "coles", "coles, grouped events", "moco", "byol", "simsiam", "barlow", "vicreg", "swav", "deepcluster", "dino",
    "masked fields, trimmed", "masked items, sampled", "next, sampled", "cpc, events", "cpc, frames",
    "denoise, images", "vae", "wav2vec2", "wav2vec2, frames", "rotation", "jigsaw", "position", "classifier", "joint, events", "joint, images",
}  # fmt: skip


def gradient(method: Method, data, seed: int = 4) -> dict[str, Tensor]:
    method.zero_grad()
    torch.manual_seed(3)
    method(data, drawn(seed)).loss.backward()
    return {name: p.grad for name, p in method.named_parameters() if p.grad is not None}


def relative(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    """Norm of the difference over the norm, all tensors together; a missing tensor is zero."""
    difference = total = 0.0
    for name in a.keys() | b.keys():
        x, y = a.get(name), b.get(name)
        x = torch.zeros_like(y) if x is None else x.double()
        y = torch.zeros_like(x) if y is None else y.double()
        difference, total = difference + float((x - y).square().sum()), total + float(y.square().sum())
    return (difference / max(total, 1e-30)) ** 0.5


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict]:
    out = tmp_path_factory.mktemp("two") / "gradients.pt"
    script = Path(__file__).with_name("two_processes.py")
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        str(script),
        str(out),
    ]
    root = str(Path(__file__).parents[2])
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": root},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return torch.load(out, weights_only=True)


@pytest.mark.parametrize("name", CASES)
def test_two_processes_equal_one(name: str, two_processes: dict[str, dict]) -> None:
    theirs = two_processes[name]
    assert "error" not in theirs, theirs
    method = fresh(name)
    ours = gradient(method, CASES[name].data())
    method.after_step(0.5)
    assert relative(theirs["gradient"], ours) <= 1e-5
    state = dict(method.named_buffers())
    assert state.keys() == theirs["state"].keys()
    for key, value in state.items():
        torch.testing.assert_close(
            theirs["state"][key], value, rtol=1e-4, atol=1e-5, msg=lambda m, key=key: f"{key}: {m}"
        )
    still = {n: p for n, p in method.named_parameters() if not p.requires_grad}
    assert relative(theirs["teacher"], still) <= 1e-6 if still else not theirs["teacher"]


def louder(method: Method, times: float) -> None:
    """Multiply what the encoder gives."""

    def hook(module: nn.Module, arguments: tuple, out: Tokens | Tensor):
        return out.with_x(out.x * times) if isinstance(out, Tokens) else out * times

    encoder = method.encoder
    target = encoder.trunk if isinstance(encoder, TokenEncoder) else encoder.stages[-1]
    target.register_forward_hook(hook)


def constant(data):
    """Every row the same, so that features collapse."""
    return rows_of(data, torch.zeros(ROWS, dtype=torch.long))


def zero(data):
    """Every floating input zero."""
    if isinstance(data, Tensor):
        return torch.zeros_like(data) if data.is_floating_point() else data
    return data


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", CASES)
def test_half_precision_gives_finite_losses_and_gradients(name: str, kind: torch.dtype) -> None:
    for trouble in ("zeros", "loud", "collapsed"):
        method = fresh(name)
        data = CASES[name].data()
        if trouble == "loud":
            louder(method, 30.0)
        elif trouble == "collapsed":
            data = constant(data)
        else:
            for p in method.encoder.parameters():
                nn.init.zeros_(p)
        with torch.autocast("cpu", kind):
            out = method(data, drawn(4))
        assert out.loss.dtype == torch.float32, trouble
        assert torch.isfinite(out.loss), (trouble, out.loss)
        out.loss.backward()
        for parameter, p in method.named_parameters():
            assert p.grad is None or torch.isfinite(p.grad).all(), (trouble, parameter)


@pytest.mark.parametrize("name", CASES)
def test_state_moves_once_per_optimizer_step_and_nowhere_else(name: str) -> None:
    method, data = fresh(name), CASES[name].data()

    def state() -> dict[str, Tensor]:
        norms = {
            f"{at}.{key}"
            for at, m in method.named_modules(remove_duplicate=False)  # parts of a joint share an encoder
            if hasattr(m, "running_mean")
            for key, _ in m.named_buffers()
        }
        return {key: value.clone() for key, value in method.state_dict().items() if key not in norms}

    before = state()
    for micro in range(3):
        method(rows_of(data, slice(4 * micro, 4 * micro + 4)), drawn(micro)).loss.backward()
    assert all(torch.equal(value, before[key]) for key, value in state().items())
    with torch.no_grad():  # as an optimizer step would
        for p in method.parameters():
            if p.grad is not None:
                p -= 0.1 * p.grad
    stepped = state()
    method.after_step(0.5)
    once = state()
    method.after_step(0.5)  # nothing is staged any more: only a teacher may come nearer
    twice = state()
    for key, value in once.items():
        if "teacher" not in key and not torch.equal(value, stepped[key]):
            assert torch.equal(value, twice[key]), f"{key} moved without a step"


@pytest.mark.parametrize("name", [n for n in CASES if n not in MIXING])
def test_four_micro_batches_equal_one_large_batch(name: str) -> None:
    data, whole, parts = CASES[name].data(), fresh(name).eval(), fresh(name).eval()
    # every micro-batch with as many predicted places: all rows alike but for their order
    data = constant(data)
    want = gradient(whole, data)
    parts.zero_grad()
    for micro in range(4):
        (parts(rows_of(data, slice(3 * micro, 3 * micro + 3)), drawn(4)).loss / 4).backward()
    have = {n: p.grad for n, p in parts.named_parameters() if p.grad is not None}
    assert relative(have, want) <= 1e-4
    whole.after_step(0.5), parts.after_step(0.5)
    for (key, a), b in zip(whole.state_dict().items(), parts.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5, msg=lambda m, key=key: f"{key}: {m}")


def test_methods_that_mix_rows_say_so() -> None:
    for name in CASES:
        said = fresh(name).batch_statistics
        assert not said or name in MIXING, f"{name} says that it mixes rows: name it"


@pytest.mark.parametrize("name", PADDED)
def test_extra_padding_changes_neither_loss_nor_embedding(name: str) -> None:
    case, method = CASES[name], fresh(name).eval()
    with torch.no_grad():
        short, long = (method(case.data(ROWS, time), drawn(4)) for time in (TIME, TIME + 6))
    torch.testing.assert_close(short.loss, long.loss, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(short.embedding, long.embedding, rtol=1e-4, atol=1e-5)


class Killed(Exception):
    pass


@pytest.mark.parametrize("name", CASES)
def test_a_killed_run_goes_on_bit_equal(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    batches = ArrayBatches({"row": torch.arange(ROWS).numpy()}, ROWS)
    config = TrainConfig(steps=5, lr=1e-3, log_every=1, save_every_minutes=1e-9, monitor_every=0)

    def pretext(batch, generator):
        data = case.data()
        return rows_of(data, batch["row"])  # rows in the order of the epoch

    def run(folder: str, killed_at: int | None = None) -> dict[str, Tensor]:
        calls = 0

        def watched(batch, generator):
            nonlocal calls
            calls += 1
            if killed_at is not None and calls > killed_at:
                raise Killed
            return pretext(batch, generator)

        torch.manual_seed(0)
        method = case.method()
        train(
            method,
            batches,
            watched,
            config,
            tmp_path / folder,
            note=lambda line: None,
            prepare=lambda batch: embeddable(case),
        )
        return method.state_dict()

    whole = run("whole")
    with pytest.raises(Killed):
        run("cut", 3)
    again = run("cut")
    assert whole.keys() == again.keys()
    for key, value in whole.items():
        assert torch.equal(value, again[key]), key


def embeddable(case) -> dict[str, Tensor]:
    """A batch that the encoder reads, for the epochs of clustering methods."""
    data = case.data()
    data = next(iter(data.parts.values())) if hasattr(data, "parts") else data
    return data.views[0] if hasattr(data, "views") else data.batch
