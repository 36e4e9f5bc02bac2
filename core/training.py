"""The training loop, in plain torch: one readable loop for every method, deterministic in its seed and resumable."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

import torch
from lightly.utils.scheduler import cosine_schedule
from torch import Generator, nn

from core.batches import Batches
from core.errors import UserError
from core.methods.base import Method, Out
from core.monitors import feature_std
from core.pretext import Pretext
from core.resume import load_state, save_state
from core.tokens import to_device

NOTE_SECONDS = 10  # between two progress lines in a log; metrics.jsonl has every one
TIMED_STEPS = 20  # `minutes` becomes a step count after these


@dataclass(frozen=True)
class TrainConfig:
    """How to train.

    Attributes:
        steps: optimizer steps; or
        minutes: wall time, turned into steps after the first 20, so that schedule and resume know steps alone.
        lr: highest learning rate; weight_decay: on matrices alone, not on norms, biases, tokens and embeddings.
        warmup: share of the steps with rising rate; schedule: what follows.
        clip: gradient norm; accumulate: micro-batches an optimizer step.
        precision: bf16 runs under autocast, losses stay fp32.
        save_every_minutes: how much a killed run can lose.
    """

    steps: int | None = None
    minutes: float | None = None
    lr: float = 1e-3
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.98)
    warmup: float = 0.1
    schedule: Literal["cosine", "constant"] = "cosine"
    clip: float = 1.0
    accumulate: int = 1
    precision: Literal["fp32", "bf16"] = "fp32"
    seed: int = 0
    device: str = "cpu"
    log_every: int = 50
    save_every_minutes: float = 2.0

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.minutes is None):
            raise UserError(
                "training needs steps or minutes, one of them", where="train", mend="give --steps or --minutes"
            )
        for name in ("steps", "minutes", "lr", "clip", "accumulate", "log_every"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise UserError(f"{name} is {value}", where="train", mend="give a number above 0")


@dataclass
class History:
    """What a training run did: steps, seconds, and the mean loss of each logged interval."""

    steps: int = 0
    seconds: float = 0.0
    losses: list[float] = field(default_factory=list)


def seed_for(seed: int, *parts: int) -> int:
    """A 63-bit seed that depends on all of its parts (splitmix64)."""
    value = seed & 0xFFFFFFFFFFFFFFFF
    for part in parts:
        value = (value ^ (part + 0x9E3779B97F4A7C15)) & 0xFFFFFFFFFFFFFFFF
        value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
        value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
        value ^= value >> 31
    return value >> 1


def learning_rate(step: int, steps: int, config: TrainConfig) -> float:
    """Linear warm-up, then half a cosine to zero (Loshchilov & Hutter 2016), or constant."""
    warm = max(1, round(config.warmup * steps))
    if step < warm:
        return config.lr * (step + 1) / warm
    if config.schedule == "constant":
        return config.lr
    return cosine_schedule(step - warm, steps - warm, config.lr, 0.0)


def optimizer_for(method: nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW (Loshchilov & Hutter 2017), decaying the matrices of linear and convolutional layers alone."""
    decayed = {id(m.weight) for m in method.modules() if isinstance(m, nn.Linear | nn.Conv1d | nn.Conv2d)}
    trained = [p for p in method.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if id(p) in decayed], "weight_decay": config.weight_decay},
        {"params": [p for p in trained if id(p) not in decayed], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.lr, betas=config.betas)


def resolve_device(name: str) -> torch.device:
    """The device of that name, or one clear line."""
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"device '{name}' cannot be used here", where="device", mend="use --device cpu") from error
    return device


def train(
    method: Method,
    batches: Batches,
    pretext: Pretext,
    config: TrainConfig,
    out: Path | None = None,
    note: Callable[[str], None] = lambda line: print(line, file=sys.stderr),
) -> History:
    """Train `method` in place; it ends on the CPU or GPU it was trained on, in eval mode.

    Args:
        out: working folder for `metrics.jsonl` and `resume/`; a run that was interrupted there goes on where it stopped.
        note: where progress lines go.

    Raises:
        UserError: a non-finite loss (step and batch named), or an unfinished run with other settings in `out`.
        KeyboardInterrupt: after the state has been saved.
    """
    device = resolve_device(config.device)
    method.to(device).train()
    optimizer = optimizer_for(method, config)
    settings = json.loads(json.dumps(asdict(config)))
    steps, step, spent = config.steps, 0, 0.0
    saved = load_state(out, settings, device) if out is not None else None
    if saved is not None:
        method.load_state_dict(saved["method"])
        optimizer.load_state_dict(saved["optimizer"])
        steps, step, spent = saved["steps"], saved["step"], saved["seconds"]
        note(f"resuming at step {step} of {steps}")
    history, loss_sum, logged = History(), 0.0, 0
    generator = Generator(device=device)
    bar = _progress(steps, step)
    started = last_save = last_note = time.monotonic()
    marks: list[float] = []
    try:
        while steps is None or step < steps:
            rate = learning_rate(step, steps if steps is not None else 10**9, config)
            for group in optimizer.param_groups:
                group["lr"] = rate
            loss, result = _step(method, batches, pretext, config, generator, step)
            torch.nn.utils.clip_grad_norm_(method.parameters(), config.clip)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            step += 1
            method.after_step(step / steps if steps else 0.0)
            loss_sum, logged = loss_sum + loss, logged + 1
            if steps is None:
                marks.append(time.monotonic())
                if len(marks) == TIMED_STEPS:
                    steps = step + _steps_left(marks, started, config)
                    note(f"{steps} steps fit into {config.minutes:g} minutes")
                    bar = _progress(steps, step)
            bar(step)
            if step % config.log_every == 0 or step == steps:
                seconds = spent + time.monotonic() - started
                history.losses.append(loss_sum / logged)
                _log(out, step, steps, loss_sum / logged, rate, seconds, result)
                if not sys.stderr.isatty() and (step == steps or time.monotonic() - last_note >= NOTE_SECONDS):
                    note(f"step {step}{f'/{steps}' if steps else ''}  loss {loss_sum / logged:.4f}  {seconds:.0f} s")
                    last_note = time.monotonic()
                loss_sum, logged = 0.0, 0
            if out is not None and time.monotonic() - last_save > 60 * config.save_every_minutes and steps is not None:
                save_state(out, method, optimizer, settings, step, steps, spent + time.monotonic() - started)
                last_save = time.monotonic()
    except KeyboardInterrupt:
        if out is not None and steps is not None:
            save_state(out, method, optimizer, settings, step, steps, spent + time.monotonic() - started)
            note(f"stopped at step {step}; the same command goes on from there")
        raise
    history.steps, history.seconds = step, spent + time.monotonic() - started
    if out is not None:
        save_state(out, method, optimizer, settings, step, step, history.seconds)
    method.eval()
    return history


def _step(
    method: Method, batches: Batches, pretext: Pretext, config: TrainConfig, generator: Generator, step: int
) -> tuple[float, Out]:
    """Gradients of one optimizer step; everything random depends on (seed, step, micro-batch) alone."""
    total, device = 0.0, generator.device
    for micro in range(config.accumulate):
        seed = seed_for(config.seed, step, micro)
        torch.manual_seed(seed)
        generator.manual_seed(seed)
        epoch, number = divmod(step * config.accumulate + micro, len(batches))
        batch = to_device(batches.batch(epoch, number), device)
        with torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16"):
            result = method(pretext(batch, generator), generator)
        loss = float(result.loss.detach())
        if not math.isfinite(loss):
            raise UserError(
                f"the loss is {loss} at step {step}", where=f"batch {number} of epoch {epoch}",
                mend="lower the learning rate, or look at that batch's values",
            )  # fmt: skip
        (result.loss / config.accumulate).backward()
        total += loss / config.accumulate
    return total, result


def _steps_left(marks: list[float], started: float, config: TrainConfig) -> int:
    """How many more steps fit into the minutes; the first few steps, which warm caches, are not counted."""
    assert config.minutes is not None
    each = (marks[-1] - marks[4]) / (len(marks) - 5)
    return max(0, int((60 * config.minutes - (marks[-1] - started)) / each))


def _log(
    out: Path | None, step: int, steps: int | None, loss: float, rate: float, seconds: float, result: Out
) -> None:  # fmt: skip
    """A line of metrics.jsonl."""
    if out is None:
        return
    row: dict[str, float | int | None] = {
        "step": step,
        "steps": steps,
        "loss": loss,
        "lr": rate,
        "seconds": round(seconds, 2),
    }
    row.update(result.logs)
    if result.embedding is not None:
        row["feature_std"] = feature_std(result.embedding)
    out.mkdir(parents=True, exist_ok=True)
    with (out / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def _progress(steps: int | None, step: int) -> Callable[[int], None]:
    """A bar on a terminal; nothing in a log, where plain lines are written instead."""
    if not sys.stderr.isatty():
        return lambda now: None
    from tqdm import tqdm

    bar = tqdm(total=steps, initial=step, unit="step", leave=False)

    def update(now: int) -> None:
        bar.update(now - bar.n)
        if steps is not None and now >= steps:
            bar.close()

    return update
