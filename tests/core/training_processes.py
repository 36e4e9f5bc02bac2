"""Trained by two processes, or by one: `python -m torch.distributed.run --nproc-per-node 2 training_processes.py FOLDER`.

test_distributed.py runs it, and compares what is left in the folder with what one process makes.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Generator, Tensor, nn

from core import distributed
from core.batches import ArrayBatches
from core.encoders import small_convnet
from core.errors import UserError
from core.methods import Classifier
from core.methods.base import Out
from core.pretext import Pseudo
from core.tokens import Batch
from core.training import History, TrainConfig, train

CONFIG = TrainConfig(steps=6, lr=1e-2, accumulate=2, log_every=2, monitor_every=3, on_collapse="off")


class Learner(Classifier):
    """With batch norm, a part that rests in every other epoch, and features asked for in each."""

    may_collapse = True

    def __init__(self) -> None:
        torch.manual_seed(0)
        super().__init__(small_convnet(1, 4), 3)
        self.shift = nn.Parameter(torch.zeros(3))
        self.register_buffer("mean", torch.zeros(16))
        self.epoch = 0

    def start_epoch(self, epoch: int, embed_all: Callable[[], Tensor], generator: Generator) -> None:
        self.epoch = epoch
        self.mean.copy_(embed_all().mean(0))

    def forward(self, data: Pseudo, generator: Generator) -> Out:
        features = self.encoder.embed(data.batch) - self.mean
        logits = self.head(features) + (self.shift if self.epoch % 2 else 0.0)
        loss = nn.functional.cross_entropy(logits.float(), data.label, reduction="none")  # type: ignore[arg-type]
        return Out(distributed.mean(loss), {}, features.detach())


def data(rows: int = 45, size: int = 15) -> ArrayBatches:
    """Three batches an epoch of 15 rows: one process takes eight of them, the other seven."""
    draw = np.random.default_rng(0)
    label = np.arange(rows) % 3
    image = draw.standard_normal((rows, 1, 16, 16)).astype(np.float32) + label[:, None, None, None]
    return ArrayBatches({"image": image.astype(np.float32), "label": label}, size)


class Lone(ArrayBatches):
    """A batch with fewer rows than there are processes."""

    def batch(self, epoch: int, number: int) -> Batch:
        return self.at(np.array([number]))


def pretext(batch: Batch, generator: Generator) -> Pseudo:
    return Pseudo(batch, batch["label"])


def interrupted(step: int, rank: int) -> Callable[[Batch, Generator], Pseudo]:
    """Ctrl-C reaches one of the processes in the course of that step."""
    calls = 0

    def pressed(batch: Batch, generator: Generator) -> Pseudo:
        nonlocal calls
        calls += 1
        if calls == 2 * step and distributed.rank() == rank:
            os.kill(os.getpid(), signal.SIGINT)
        return pretext(batch, generator)

    return pressed


def poisoned(batch: Batch, generator: Generator) -> Pseudo:
    """Row 0, which one process holds, gives no number."""
    return pretext(
        {**batch, "image": batch["image"].masked_fill((batch["index"] == 0)[:, None, None, None], torch.nan)}, generator
    )


def trained(out: Path | None, lines: list[str], making: Callable = pretext) -> tuple[Learner, History]:
    learner = Learner()
    return learner, train(learner, data(), making, CONFIG, out, lines.append)


def main(folder: Path) -> None:
    told: dict[str, object] = {}
    torch.set_num_threads(1)
    with distributed.processes("cpu"):
        first, rank = distributed.rank() == 0, distributed.rank()
        lines: list[str] = []
        whole, history = trained(folder / "whole", lines)
        told |= {"losses": history.losses, "lines": list(lines)}
        resumed, _ = trained(folder / "one", lines)
        told["resumed"] = lines[-2:]
        try:
            trained(folder / "two", lines, interrupted(3, rank=1))
        except KeyboardInterrupt as stop:
            told["interrupted"] = str(stop)
        for name, making, batches in (("poisoned", poisoned, data()), ("lone", pretext, Lone(data().arrays, 15))):
            try:
                train(Learner(), batches, making, CONFIG, None, lines.append)
            except UserError as error:
                told[name] = str(error)
        if first:
            torch.save({"whole": whole.state_dict(), "resumed": resumed.state_dict()}, folder / "weights.pt")
        (folder / f"told{rank}.json").write_text(json.dumps(told))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
