"""Training: equal seeds give equal weights, a killed run goes on bit-equal, trouble is named."""

from __future__ import annotations

import itertools
import json
import os
import resource
import signal
import sys
import types
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from core.batches import ArrayBatches, Ragged, SequenceBatches
from core.encoders import Field, FieldStem, TokenEncoder, Transformer, TransformerConfig, small_convnet
from core.errors import UserError
from core.masking import random_mask
from core.methods import Classifier, MaskedPrediction, Method, SimCLR
from core.methods.base import Out
from core.pretext import Masked, Pseudo, Views
from core.training import TrainConfig, train

FIELDS = (Field("category", "categorical", 12), Field("amount", "numeric"))


def method() -> MaskedPrediction:
    torch.manual_seed(0)
    stem = FieldStem(FIELDS, 16)
    config = TransformerConfig(dim=16, depth=1, heads=2, dropout=0.1, position="sinusoidal")
    return MaskedPrediction(TokenEncoder(stem, Transformer(config)), stem.heads())


def pretext(batch: dict, generator: torch.Generator) -> Masked:
    mask = {name: random_mask(batch["pad"], 0.2, generator) for name in ("category", "amount")}
    return Masked(batch, mask, {name: batch[name] for name in mask})


def batches(events: Ragged) -> SequenceBatches:
    return SequenceBatches(events, 32, max_length=16)


def quiet(line: str) -> None:
    pass


class Killed(Exception):
    pass


def dies_at(step: int):
    """A pretext that is killed at its `step`-th call."""
    calls = 0

    def killed(batch: dict, generator: torch.Generator) -> Masked:
        nonlocal calls
        calls += 1
        if calls > step:
            raise Killed
        return pretext(batch, generator)

    return killed


def test_equal_seeds_give_equal_weights_and_others_do_not(events: Ragged) -> None:
    trained = []
    for seed in (1, 1, 2):
        model = method()
        train(model, batches(events), pretext, TrainConfig(steps=12, seed=seed), note=quiet)
        trained.append(torch.cat([p.flatten() for p in model.parameters()]))
    assert torch.equal(trained[0], trained[1]) and not torch.equal(trained[0], trained[2])


def test_the_loss_falls(events: Ragged) -> None:
    history = train(method(), batches(events), pretext, TrainConfig(steps=120, log_every=20, lr=3e-3), note=quiet)
    assert history.losses[-1] < history.losses[0] - 0.3 and history.steps == 120


@pytest.mark.parametrize(("at", "average"), [(3, 0.0), (7, 0.9), (14, 0.0)])
def test_a_killed_run_goes_on_bit_equal(events: Ragged, tmp_path: Path, at: int, average: float) -> None:
    config = TrainConfig(steps=16, log_every=1, save_every_minutes=1e-9, average=average)
    whole, resumed = method(), method()
    train(whole, batches(events), pretext, config, tmp_path / "whole", note=quiet)
    with pytest.raises(Killed):
        train(resumed, batches(events), dies_at(at), config, tmp_path / "cut", note=quiet)
    again = method()
    train(again, batches(events), pretext, config, tmp_path / "cut", note=quiet)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), again.parameters(), strict=True))
    logs = [
        [json.loads(line) for line in (tmp_path / d / "metrics.jsonl").read_text().splitlines()]
        for d in ("whole", "cut")
    ]
    assert [row["loss"] for row in logs[0]] == [row["loss"] for row in logs[1]]


def test_an_averaged_run_ends_with_the_mean_of_its_weights(events: Ragged) -> None:
    """Computed again from the weights after each step; the steps themselves are the same as without it."""
    model, steps = method(), 15
    seen: list[list[torch.Tensor]] = []
    model.after_step = lambda progress: seen.append([p.detach().clone() for p in model.parameters()])  # type: ignore[method-assign]
    start = [p.detach().clone() for p in model.parameters()]
    train(model, batches(events), pretext, TrainConfig(steps=steps, average=0.5), note=quiet)
    mean = start
    for step, weights in enumerate(seen, start=1):
        keep = min(0.5, 1 - 1 / (1 + step / 10))
        mean = [keep * m + (1 - keep) * w for m, w in zip(mean, weights, strict=True)]
    assert all(torch.allclose(m, p, atol=1e-6) for m, p in zip(mean, model.parameters(), strict=True))
    plain = method()
    train(plain, batches(events), pretext, TrainConfig(steps=steps), note=quiet)
    assert all(torch.equal(w, p) for w, p in zip(seen[-1], plain.parameters(), strict=True))


def test_an_average_of_a_finished_run_is_read_back_as_it_was(events: Ragged, tmp_path: Path) -> None:
    config = TrainConfig(steps=8, average=0.9)
    one, two = method(), method()
    train(one, batches(events), pretext, config, tmp_path, note=quiet)
    train(two, batches(events), pretext, config, tmp_path, note=quiet)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))


def interrupting(at: int, times: int = 1):
    """A pretext during whose `at`-th call Ctrl-C is pressed, so many times."""
    calls = 0

    def pressed(batch: dict, generator: torch.Generator) -> Masked:
        nonlocal calls
        calls += 1
        if calls == at:
            for _ in range(times):
                os.kill(os.getpid(), signal.SIGINT)
        return pretext(batch, generator)

    return pressed


def test_ctrl_c_finishes_the_step_and_saves(events: Ragged, tmp_path: Path) -> None:
    whole, again, config = method(), method(), TrainConfig(steps=9)
    train(whole, batches(events), pretext, config, tmp_path / "whole", note=quiet)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt, match="stopped at step 6; the same command goes on from there"):
        train(method(), batches(events), interrupting(6), config, tmp_path / "run", note=quiet)
    assert signal.getsignal(signal.SIGINT) is before
    lines: list[str] = []
    train(again, batches(events), pretext, config, tmp_path / "run", note=lines.append)
    assert lines[0] == "resuming at step 6 of 9"
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), again.parameters(), strict=True))


def test_a_second_ctrl_c_stops_at_once_and_leaves_the_older_state(events: Ragged, tmp_path: Path) -> None:
    config = TrainConfig(steps=9, save_every_minutes=1e-9)
    with pytest.raises(KeyboardInterrupt, match="at once"):
        train(method(), batches(events), interrupting(6, times=2), config, tmp_path, note=quiet)
    lines: list[str] = []
    train(method(), batches(events), pretext, config, tmp_path, note=lines.append)
    assert lines[0] == "resuming at step 5 of 9"


def test_a_full_disk_while_saving_is_one_line_and_leaves_the_older_state(
    events: Ragged, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = TrainConfig(steps=9, save_every_minutes=1e-9)
    with pytest.raises(Killed):
        train(method(), batches(events), dies_at(3), config, tmp_path, note=quiet)
    state = tmp_path / "resume" / "state.pt"
    whole, limits = state.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    try:  # the kernel refuses larger files, as a full disk would
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) // 2, limits[1]))
        with pytest.raises(UserError, match="the training state could not be written"):
            train(method(), batches(events), pretext, config, tmp_path, note=quiet)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert state.read_bytes() == whole and [p.name for p in state.parent.iterdir()] == ["state.pt"]


def test_an_unfinished_run_with_other_settings_is_not_overwritten(events: Ragged, tmp_path: Path) -> None:
    train(method(), batches(events), pretext, TrainConfig(steps=3), tmp_path / "run", note=quiet)
    with pytest.raises(UserError, match="other settings"):
        train(method(), batches(events), pretext, TrainConfig(steps=4), tmp_path / "run", note=quiet)


def test_a_damaged_training_state_is_one_clear_line(events: Ragged, tmp_path: Path) -> None:
    (tmp_path / "resume").mkdir()
    (tmp_path / "resume" / "state.pt").write_bytes(b"PK\x03\x04 not a state")
    with pytest.raises(UserError, match="cannot be read"):
        train(method(), batches(events), pretext, TrainConfig(steps=3), tmp_path, note=quiet)


def test_a_non_finite_loss_names_step_and_batch(events: Ragged) -> None:
    bad = Ragged({**events.fields, "amount": np.full_like(events.fields["amount"], np.inf)}, events.offsets)
    with pytest.raises(UserError, match=r"loss is (nan|inf) at step 0 \(batch 0 of epoch 0\)"):
        train(method(), batches(bad), pretext, TrainConfig(steps=3), note=quiet)


def test_four_micro_batches_equal_one_large_batch() -> None:
    draw = np.random.default_rng(0)
    arrays = {"image": draw.standard_normal((32, 1, 16, 16)).astype(np.float32), "label": draw.integers(0, 3, 32)}

    def labelled(batch: dict, generator: torch.Generator) -> Pseudo:
        return Pseudo(batch, batch["label"])

    class Fixed(ArrayBatches):
        def batch(self, epoch: int, number: int) -> dict:
            at = np.arange(number * self.batch_size, (number + 1) * self.batch_size)
            return self.at(at % self.rows)

    weights = []
    for size, accumulate in ((32, 1), (8, 4)):
        torch.manual_seed(0)
        model = Classifier(small_convnet(1, 8, norm="channel"), 3)
        train(model, Fixed(arrays, size), labelled, TrainConfig(steps=1, accumulate=accumulate, lr=1e-2), note=quiet)
        weights.append(torch.cat([p.flatten() for p in model.parameters()]))
    torch.testing.assert_close(weights[0], weights[1], rtol=1e-4, atol=1e-5)


def test_minutes_become_steps_after_the_first_twenty(events: Ragged) -> None:
    lines: list[str] = []
    history = train(method(), batches(events), pretext, TrainConfig(minutes=0.01), note=lines.append)
    assert history.steps >= 20 and any("steps fit into 0.01 minutes" in line for line in lines)


@pytest.mark.parametrize("instructions", [True, False])
def test_bf16_trains_to_finite_fp32_weights_and_only_where_it_is_no_slower(
    events: Ragged, monkeypatch: pytest.MonkeyPatch, instructions: bool
) -> None:
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: instructions)
    model, asked = method(), []

    def looked(batch: dict, generator: torch.Generator) -> Masked:
        asked.append(torch.is_autocast_enabled("cpu"))
        return pretext(batch, generator)

    train(model, batches(events), looked, TrainConfig(steps=5, precision="bf16"), note=quiet)
    assert all(p.dtype == torch.float32 and torch.isfinite(p).all() for p in model.parameters())
    assert len(asked) == 5 and set(asked) == {instructions}


def weights(model: torch.nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def test_an_infinite_gradient_names_step_and_batch_before_it_does_harm(events: Ragged) -> None:
    model = method()
    before = weights(model)
    model.mask_token.register_hook(lambda gradient: gradient * torch.inf)

    def hidden(batch: dict, generator: torch.Generator) -> Masked:
        made = pretext(batch, generator)
        return Masked(made.batch, made.mask["amount"], made.target)

    with pytest.raises(UserError, match=r"the gradient is (nan|inf) at step 0 \(batch 0 of epoch 0\)"):
        train(model, batches(events), hidden, TrainConfig(steps=3), note=quiet)
    assert torch.equal(before, weights(model))


@pytest.mark.parametrize("optimizer", ["adamw", "lars", "sgd"])
def test_every_optimizer_learns_and_goes_on_bit_equal(events: Ragged, tmp_path: Path, optimizer: str) -> None:
    config = TrainConfig(
        steps=24, optimizer=optimizer, lr={"adamw": 3e-3, "lars": 0.5, "sgd": 0.05}[optimizer], log_every=6
    )  # type: ignore[arg-type]
    whole, again = method(), method()
    history = train(whole, batches(events), pretext, config, note=quiet)
    assert history.losses[-1] < history.losses[0] - 0.1
    with pytest.raises(KeyboardInterrupt):
        train(method(), batches(events), interrupting(9), config, tmp_path, note=quiet)
    train(again, batches(events), pretext, config, tmp_path, note=quiet)
    assert torch.equal(weights(whole), weights(again))


def images(generator: torch.Generator) -> ArrayBatches:
    return ArrayBatches(
        {"image": torch.randn(48, 1, 16, 16, generator=generator).numpy(), "label": np.arange(48) % 3}, 16
    )


def labelled(batch: dict, generator: torch.Generator) -> Pseudo:
    return Pseudo(batch, batch["label"])


def test_channels_last_and_compiled_nets_keep_names_and_learn_the_same(
    generator: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, made, parts = images(generator), [], []
    whole = torch.nn.Module.compile

    def light(module: torch.nn.Module) -> None:
        parts.append(type(module).__name__)
        whole(module, backend="eager")  # traced as it would be, without the minutes that a C++ compiler takes

    monkeypatch.setattr(torch.nn.Module, "compile", light)
    for extra in ({}, {"channels_last": True}, {"compile": True}):
        torch.manual_seed(0)
        model = Classifier(small_convnet(1, 8), 3)
        names = list(model.state_dict())
        train(model, data, labelled, TrainConfig(steps=6, **extra), note=quiet)  # type: ignore[arg-type]
        assert list(model.state_dict()) == names
        made.append(weights(model))
    torch.testing.assert_close(made[1], made[0], rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(made[2], made[0], rtol=1e-3, atol=1e-4)
    assert parts == ["ConvNet"] and model.encoder._compiled_call_impl is None


def test_compiling_without_a_compiler_is_one_line(events: Ragged, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(UserError, match=r"no C\+\+ compiler is found"):
        train(method(), batches(events), pretext, TrainConfig(steps=1, compile=True), note=quiet)


class Clustering(Method):
    """Asks for all features in the epochs that it is told of, and keeps what it drew."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = small_convnet(1, 8)
        self.head = torch.nn.Linear(32, 3)
        self.told: list[tuple[int, tuple[int, ...], float]] = []
        self.steps = 0

    def start_epoch(self, epoch: int, embed_all, generator: torch.Generator) -> None:
        self.told.append((epoch, tuple(embed_all().shape), float(torch.rand(1, generator=generator))))

    def after_step(self, progress: float) -> None:
        self.steps += 1

    def forward(self, data: Pseudo, generator: torch.Generator) -> Out:
        return Out(torch.nn.functional.cross_entropy(self.head(self.encoder.embed(data.batch)), data.label))


@pytest.mark.parametrize("accumulate", [1, 2])
def test_an_epoch_begins_once_whether_resumed_or_not(
    generator: torch.Generator, tmp_path: Path, accumulate: int
) -> None:
    data, prepared = images(generator), []
    config = TrainConfig(steps=7, accumulate=accumulate, save_every_minutes=1e-9)

    def prepare(batch: dict) -> dict:
        prepared.append(len(batch["index"]))
        return batch

    whole = Clustering()
    train(whole, data, labelled, config, note=quiet, prepare=prepare)
    epochs = sorted({step * accumulate // 3 for step in range(7)})
    assert [told[0] for told in whole.told] == epochs and whole.told[0][1] == (48, 32) and whole.steps == 7
    assert len({told[2] for told in whole.told}) == len(epochs) and sum(prepared) == 48 * len(epochs)
    for at in range(1, 7):  # killed after any step, told of the epochs that had not begun
        calls = itertools.count()

        def killed(batch: dict, generator: torch.Generator, calls=calls, at=at) -> Pseudo:
            if next(calls) == at * accumulate:
                raise Killed
            return labelled(batch, generator)

        place = tmp_path / str(at)
        with pytest.raises(Killed):
            train(Clustering(), data, killed, config, place, note=quiet, prepare=prepare)
        again = Clustering()
        train(again, data, labelled, config, place, note=quiet, prepare=prepare)
        begun = (at - 1) * accumulate // 3
        assert again.told == [told for told in whole.told if told[0] > begun]


class Listed:
    """A logger of one's own."""

    def __init__(self) -> None:
        self.rows: list[tuple[int, dict]] = []

    def log(self, row: dict, step: int) -> None:
        self.rows.append((step, row))


def test_rows_go_to_the_file_to_tensorboard_where_it_is_and_to_any_logger(
    events: Ragged, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[tuple[str, float, int]] = []

    class SummaryWriter:
        def __init__(self, folder: str, purge_step: int) -> None:
            assert folder == str(tmp_path / "tensorboard") and purge_step == 1

        def add_scalar(self, name: str, value: float, step: int) -> None:
            written.append((name, value, step))

        def close(self) -> None:
            written.append(("closed", 0.0, 0))

    board = types.ModuleType("torch.utils.tensorboard")
    board.SummaryWriter = SummaryWriter  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", board)
    logger = Listed()
    train(method(), batches(events), pretext, TrainConfig(steps=4, log_every=2), tmp_path, quiet, loggers=[logger])
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [2, 4] and logger.rows == [(row["step"], row) for row in rows]
    assert ("loss", rows[0]["loss"], 2) in written and written[-1][0] == "closed"
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)  # as if it were not installed
    train(method(), batches(events), pretext, TrainConfig(steps=2), tmp_path / "without", note=quiet)
    assert (tmp_path / "without" / "metrics.jsonl").exists()


def test_what_is_watched_may_change_when_a_run_goes_on_but_not_what_is_computed(events: Ragged, tmp_path: Path) -> None:
    config = TrainConfig(steps=9)
    with pytest.raises(KeyboardInterrupt):
        train(method(), batches(events), interrupting(3), config, tmp_path, note=quiet)
    with pytest.raises(UserError, match="other settings is there: lr, seed"):
        train(method(), batches(events), pretext, replace(config, lr=0.1, seed=4), tmp_path, note=quiet)
    with pytest.raises(UserError, match="other settings is there: batches an epoch"):
        train(method(), SequenceBatches(events, 16, max_length=16), pretext, config, tmp_path, note=quiet)
    watched = replace(config, log_every=1, monitor_every=3, on_collapse="stop")
    assert train(method(), batches(events), pretext, watched, tmp_path, note=quiet).steps == 9


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"optimizer": "adam"}, "optimizer is 'adam' .*choose from adamw, lars, sgd"),
        ({"precision": "fp8"}, "precision is 'fp8'"),
        ({"on_collapse": "panic"}, "on_collapse is 'panic'"),
        ({"lr": float("nan")}, "lr is nan"),
        ({"lr": "fast"}, "lr is 'fast'"),
        ({"steps": 2.5}, "steps is 2.5"),
        ({"accumulate": 0}, "accumulate is 0"),
        ({"layer_decay": 0.0}, "layer_decay is 0"),
        ({"layer_decay": 1.5}, "layer_decay is 1.5"),
        ({"warmup": 2.0}, "warmup is 2"),
        ({"weight_decay": -1.0}, "weight_decay is -1"),
        ({"betas": (0.9, 1.0)}, "betas are"),
        ({"monitor_every": -1}, "monitor_every is -1"),
    ],
)
def test_absurd_settings_are_one_line(setting: dict, said: str) -> None:
    with pytest.raises(UserError, match=said):
        TrainConfig(**{"steps": 3, **setting})


def test_what_cannot_be_is_refused(events: Ragged) -> None:
    with pytest.raises(UserError, match="steps or minutes"):
        TrainConfig()
    with pytest.raises(UserError, match="lr is -1"):
        TrainConfig(steps=3, lr=-1.0)
    with pytest.raises(UserError, match="device 'abacus'"):
        train(method(), batches(events), pretext, TrainConfig(steps=3, device="abacus"), note=quiet)
    with pytest.raises(UserError, match="needs a pretext that gives Masked"):
        train(method(), batches(events), lambda b, g: Views([b, b]), TrainConfig(steps=3), note=quiet)
    with pytest.raises(UserError, match="nothing to learn from"):
        ArrayBatches({"image": np.zeros((1, 1, 8, 8), np.float32)}, 8)
    with pytest.raises(UserError, match="encoder of tokens"):
        MaskedPrediction(small_convnet(1, 8), {})
    with pytest.raises(UserError, match="no negatives"):
        one = {"image": torch.zeros(1, 1, 8, 8)}
        SimCLR(small_convnet(1, 8))(Views([one, one]), torch.Generator())
