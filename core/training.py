"""The training loop, in plain torch: one readable loop for every method, deterministic in its seed and resumable."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, is_dataclass
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from numpy.typing import ArrayLike
from torch import Generator, nn
from torch.nn.parallel import DistributedDataParallel

from core import distributed
from core.averaging import Average
from core.batches import Batches
from core.device import bf16_on, compiled, resolve_device, seed_all
from core.encoders.convolution import channels_last
from core.errors import UserError
from core.features import Prepare, features
from core.meter import Losses
from core.methods.base import Method, Out
from core.monitors import Alarm, Monitor, feature_std
from core.norms import synchronised
from core.optim import learning_rate, optimizer_for, set_rate
from core.pretext import Pretext
from core.progress import Note, Progress
from core.records import Logger, Records
from core.resume import Place, load_state, save_state
from core.signals import Held
from core.tokens import Batch, to_device
from core.train_config import TrainConfig

__all__ = ["History", "TrainConfig", "learning_rate", "resolve_device", "seed_for", "train"]
EPOCH = (-1,)  # behind the epoch's number: its seeds are not those of steps
TIMED_STEPS = 20  # `minutes` becomes a step count after these


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


def train(
    method: Method,
    batches: Batches,
    pretext: Pretext,
    config: TrainConfig,
    out: Path | None = None,
    note: Note = lambda line: print(line, file=sys.stderr),
    prepare: Prepare | None = None,
    labels: ArrayLike | None = None,
    loggers: Sequence[Logger] = (),
) -> History:
    """Train `method` in place; it ends on the CPU or GPU it was trained on, in eval mode.

    On several processes (core.distributed.processes) each takes its rows of every batch; the first one alone writes and speaks.

    Args:
        out: working folder for `metrics.jsonl` and `resume/`; a run that was interrupted there goes on where it stopped.
        note: where progress lines go.
        prepare: what the encoder reads, of a batch that nothing has augmented; None where it reads batches as they are.
        labels: (N,) of all rows, -1 where unknown: the monitor then tells the kNN accuracy. They teach nothing.
        loggers: objects with `log(dict, step)`.

    Raises:
        UserError: a non-finite loss (step and batch named), a collapse where that is to stop the run, or an unfinished run
            with other settings in `out`.
        KeyboardInterrupt: on Ctrl-C or SIGTERM, after the step was finished and the state saved.
    """
    device = resolve_device(config.device)
    bf16 = bf16_on(device, config.precision)
    note = _silent if distributed.rank() > 0 else note
    if config.precision == "bf16" and not bf16:
        note("this processor has no instructions for bf16: computed in fp32")
    if distributed.world() > 1:
        synchronised(method)
    method.to(device).train()
    if config.channels_last:
        channels_last(method)
    optimizer = optimizer_for(method, config)
    trained = [p for group in optimizer.param_groups for p in group["params"]]
    per_epoch, generator = len(batches), Generator(device=device)
    objective = getattr(method, "config", None)
    settings = {
        **asdict(config), "rows": batches.rows, "batches an epoch": per_epoch, "method": type(method).__name__,
        "objective": asdict(objective) if is_dataclass(objective) and not isinstance(objective, type) else None,
    }  # fmt: skip
    settings = json.loads(json.dumps(settings))
    average = Average(trained, config.average) if config.average else None
    place = _resumed(out, settings, method, optimizer, average, note) or Place(steps=config.steps)
    history, losses = History(), Losses(config.accumulate, per_epoch, device, place.step)
    watch = _monitor(method, batches, config, device, prepare, labels, bf16, place)
    before, started = place.seconds, time.monotonic()
    last_save, marks = started, [started]

    def save() -> None:
        losses.look()
        if out is not None and place.steps is not None:
            place.seconds = before + time.monotonic() - started
            save_state(out, method, optimizer, settings, place, average)
        distributed.barrier()

    with (
        Held() as held,
        compiled(method, config.compile),
        Records(out, loggers, place.step) as records,
        Progress(note, place.steps, place.step) as progress,
    ):
        model = _spread(method)
        if watch and place.step == 0:
            records.write(watch.look({}, 0.0)[0], 0)
        while place.steps is None or place.step < place.steps:
            step = place.step
            epoch = step * config.accumulate // per_epoch
            if step == 0 or epoch != (step - 1) * config.accumulate // per_epoch:
                generator.manual_seed(seed_for(config.seed, epoch, *EPOCH))
                method.start_epoch(
                    epoch, lambda: features(method.encoder, batches.ordered(), device, prepare, bf16), generator
                )
            rate = learning_rate(step, place.steps or 10**9, config)
            set_rate(optimizer, rate)
            result = _gradients(model, batches, pretext, config, bf16, generator, step, per_epoch, losses)
            losses.stepped(nn.utils.clip_grad_norm_(trained, config.clip))
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            place.step = step = step + 1
            method.after_step(step / place.steps if place.steps else 0.0)
            if average is not None:
                average.move(step)
            if place.steps is None:
                marks.append(time.monotonic())
                if step == TIMED_STEPS:
                    place.steps = step + _steps_left(marks, config)
                    note(f"{place.steps} steps fit into {config.minutes:g} minutes")
            progress.move(step, place.steps)
            if step % config.log_every == 0 or step == place.steps:
                seconds = before + time.monotonic() - started
                history.losses.append(losses.mean())
                records.write(_row(history.losses[-1], rate, seconds, place, result), step)
                progress.line(step, place.steps, history.losses[-1], seconds)
            if watch and (watch.due(step) or step == place.steps):
                figures, alarms = watch.look(result.logs, step / (place.steps or 10**9))
                records.write({**figures, **{f"collapse_{alarm.name}": alarm.what for alarm in alarms}}, step)
                _heed(alarms, watch, step, config, note, save)
            stop, due = distributed.any_of(held.asked(), time.monotonic() - last_save > 60 * config.save_every_minutes)
            if stop or due:
                save()
                last_save = time.monotonic()
            if stop:
                goes_on = "goes on from there" if out is not None and place.steps else "starts again"
                raise KeyboardInterrupt(f"stopped at step {step}; the same command {goes_on}")
        place.steps = place.step
        save()
    history.steps, history.seconds = place.step, before + time.monotonic() - started
    if average is not None:
        average.put()
    method.eval()
    return history


def _silent(line: str) -> None:
    """Only the first process speaks."""


def _resumed(
    out: Path | None, settings: dict, method: Method, optimizer: torch.optim.Optimizer, average: Average | None, note: Note
) -> Place | None:  # fmt: skip
    """Where the run in `out` stopped, with its weights put back; None where there is none."""
    device = next(method.parameters()).device
    saved = load_state(out, settings, device) if out is not None else None
    if saved is None:
        return None
    try:
        method.load_state_dict(saved["method"])
        optimizer.load_state_dict(saved["optimizer"])
        if average is not None:
            average.load(saved["average"])
    except (RuntimeError, ValueError) as error:
        raise UserError(
            "an unfinished run of another network is there",
            where=out,
            mend="remove that folder, or give the same settings",
        ) from error
    note(f"resuming at step {saved['place'].step} of {saved['place'].steps}")
    return saved["place"]


def _monitor(
    method: Method, batches: Batches, config: TrainConfig, device: torch.device, prepare: Prepare | None,
    labels: ArrayLike | None, bf16: bool, place: Place,
) -> Monitor | None:  # fmt: skip
    """The look-out for collapse; None where nobody wants it or the run is too short for it."""
    if config.monitor_every == 0 or not method.may_collapse:
        return None
    watch = Monitor(
        method.encoder, batches, device, config.seed, config.monitor_every or 0, prepare, labels, bf16,
        place.best, place.told,
    )  # fmt: skip
    return watch if place.steps is None or place.steps >= watch.every else None


def _heed(
    alarms: list[Alarm], watch: Monitor, step: int, config: TrainConfig, note: Note, save: Callable[[], None]
) -> None:
    """Warn of a collapse, once for each figure, or end the run with its state saved."""
    if config.on_collapse != "stop":
        watch.told.extend(alarm.name for alarm in alarms)
    if config.on_collapse == "warn":
        for alarm in alarms:
            note(f"step {step}: {alarm.what}; {alarm.cure}")
    [stop] = distributed.any_of(bool(alarms) and config.on_collapse == "stop")
    if stop:
        save()
        alarm = alarms[0] if alarms else Alarm("", "a figure of another process has collapsed", "see its line")
        raise UserError(alarm.what, where=f"step {step}", mend=f"{alarm.cure}; on_collapse=warn goes on from there")


def _spread(method: Method) -> nn.Module:
    """The method, its gradients averaged over processes where there are several.

    Which parameters a step uses may differ from step to step (a mask token, prototypes that rest at first).
    """
    if distributed.world() == 1:
        return method
    # buffers are equal already (core.norms.BatchNorm); their flag has another name since torch 2.14
    new = "forward_sync_buffers" in signature(DistributedDataParallel).parameters
    flags: dict[str, Any] = {"forward_sync_buffers" if new else "broadcast_buffers": False}
    return DistributedDataParallel(method, find_unused_parameters=True, gradient_as_bucket_view=True, **flags)


def _gradients(
    model: nn.Module, batches: Batches, pretext: Pretext, config: TrainConfig, bf16: bool, generator: Generator, step: int,
    per_epoch: int, losses: Losses,
) -> Out:  # fmt: skip
    """Gradients of one optimizer step; everything random depends on (seed, step, micro-batch, process) alone."""
    device, rank = generator.device, distributed.rank()
    for micro in range(config.accumulate):
        seed = seed_for(config.seed, step, micro, *([rank] if rank else []))
        seed_all(seed, device)
        generator.manual_seed(seed)
        epoch, number = divmod(step * config.accumulate + micro, per_epoch)
        batch = to_device(_share(batches.batch(epoch, number), f"batch {number} of epoch {epoch}"), device)
        inner = isinstance(model, DistributedDataParallel) and micro < config.accumulate - 1
        with model.no_sync() if inner else nullcontext():  # type: ignore[operator]
            with torch.autocast(device.type, torch.bfloat16) if bf16 else nullcontext():
                result = model(pretext(batch, generator), generator)
            (result.loss if config.accumulate == 1 else result.loss / config.accumulate).backward()
        losses.add(result.loss)
    return result


def _share(batch: Batch, where: str) -> Batch:
    """This process's rows."""
    rows = len(next(iter(batch.values())))
    if rows < distributed.world():
        raise UserError(
            f"{rows} rows for {distributed.world()} processes",
            where=where,
            mend="use a larger batch or fewer processes",
        )
    return distributed.shard(batch)


def _steps_left(marks: list[float], config: TrainConfig) -> int:
    """How many more steps fit into the minutes; the first few steps, which warm caches, are not counted."""
    assert config.minutes is not None
    each = (marks[-1] - marks[5]) / (len(marks) - 6)
    left = max(0, int((60 * config.minutes - (marks[-1] - marks[0])) / each))
    return int(distributed.broadcast(torch.tensor(left)))


def _row(loss: float, rate: float, seconds: float, place: Place, result: Out) -> dict[str, Any]:
    """What metrics.jsonl says of a step; beside the loss, figures of the first process's rows."""
    row = {"steps": place.steps, "loss": loss, "lr": rate, "seconds": round(seconds, 2)}
    row |= {name: float(value) for name, value in result.logs.items()}
    if result.embedding is not None:
        row["embedding_std"] = feature_std(result.embedding)
    return row
