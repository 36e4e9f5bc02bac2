"""Training: equal seeds give equal weights, a killed run goes on bit-equal, trouble is named."""

from __future__ import annotations

import itertools
import json
import os
import resource
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from core.batches import ArrayBatches, Ragged, SequenceBatches
from core.encoders import Field, FieldStem, TokenEncoder, Transformer, TransformerConfig, small_convnet
from core.errors import UserError
from core.masking import random_mask
from core.methods import Classifier, MaskedPrediction, SimCLR
from core.pretext import Masked, Pseudo, Views
from core.training import TrainConfig, learning_rate, train

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


@pytest.mark.parametrize("at", [3, 7, 14])
def test_a_killed_run_goes_on_bit_equal(events: Ragged, tmp_path: Path, at: int) -> None:
    config = TrainConfig(steps=16, log_every=1, save_every_minutes=1e-9)
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


def test_bf16_trains_to_finite_fp32_weights(events: Ragged) -> None:
    model = method()
    train(model, batches(events), pretext, TrainConfig(steps=5, precision="bf16"), note=quiet)
    assert all(p.dtype == torch.float32 and torch.isfinite(p).all() for p in model.parameters())


def test_the_rate_rises_then_falls_to_zero() -> None:
    config = TrainConfig(steps=100, lr=1.0)
    rates = [learning_rate(step, 100, config) for step in range(100)]
    assert rates[0] == 0.1 and max(rates) == rates[10] == 1.0 and rates[-1] < 1e-3
    assert all(a >= b for a, b in itertools.pairwise(rates[10:]))


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


def test_batches_are_a_pure_function_of_seed_epoch_and_number(events: Ragged) -> None:
    a, b = batches(events), batches(events)
    a.batch(5, 1), a.batch(2, 0)
    for key, value in a.batch(3, 2).items():
        assert torch.equal(value, b.batch(3, 2)[key])
    assert not torch.equal(a.batch(0, 0)["index"], a.batch(1, 0)["index"])


def test_an_epoch_holds_no_row_twice_and_buckets_waste_little(events: Ragged) -> None:
    data = SequenceBatches(events, 16, max_length=64)
    epoch = [data.batch(0, i) for i in range(len(data))]
    rows = torch.cat([b["index"] for b in epoch])
    assert len(set(rows.tolist())) == len(rows) == len(data) * 16
    wasted = sum(int(b["pad"].sum()) for b in epoch) / sum(b["pad"].numel() for b in epoch)
    assert wasted < 0.1
    seen = torch.cat([b["index"] for b in data.ordered()])
    assert seen.tolist() == list(range(len(events)))


def test_windows_hold_consecutive_events_of_one_sequence(events: Ragged) -> None:
    ragged = Ragged({"place": np.concatenate([np.arange(n) for n in events.lengths])}, events.offsets)
    batch = SequenceBatches(ragged, 32, max_length=5).batch(0, 0)
    steps = batch["place"].diff(dim=1)[~batch["pad"][:, 1:]]
    assert (steps == 1).all()
    last = ragged.padded(np.arange(8), 5)
    assert (last["place"].amax(1).numpy() == events.lengths[:8] - 1).all()
    part = ragged.select(np.array([7, 2]))
    assert part.lengths.tolist() == events.lengths[[7, 2]].tolist()
