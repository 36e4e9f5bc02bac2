"""The training loop's overhead: core.training.train, and the same model stepped in a bare torch loop."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from core.augment import views
from core.batches import ArrayBatches, SequenceBatches
from core.encoders import small_convnet
from core.methods.simclr import SimCLR
from core.optim import optimizer_for
from core.peers.rounds import Rounds
from core.tokens import Batch
from core.train_config import TrainConfig
from core.training import train


@dataclass
class Gated:
    """Batches that end a round, and wait for the next, every `steps` batches: so that `train` is timed from inside.

    Args:
        batches: what the loop reads.
        steps: a round; batch: images of a batch.
    """

    batches: ArrayBatches | SequenceBatches
    steps: int
    rounds: Rounds
    given: int = 0

    def __len__(self) -> int:
        return len(self.batches)

    def batch(self, epoch: int, number: int) -> Batch:
        if self.given % self.steps == 0:
            if self.given:
                self.rounds.done(self.steps * self.batches.batch_size)
            if not self.rounds.go():
                raise SystemExit(0)  # nobody is there to ask for more
        self.given += 1
        return self.batches.batch(epoch, number)

    def ordered(self) -> Iterator[Batch]:
        return self.batches.ordered()

    def at(self, rows: NDArray) -> Batch:
        return self.batches.at(rows)

    @property
    def rows(self) -> int:
        return self.batches.rows


def run(side: str, settings: dict[str, Any], rounds: Rounds) -> None:
    batch, steps, count = settings["batch"], settings["steps"], settings["rounds"]
    images = np.random.default_rng(0).random((16 * batch, 3, 28, 28), dtype=np.float32)
    method = SimCLR(small_convnet(3))
    batches = ArrayBatches({"image": images}, batch)
    config = TrainConfig(steps=steps * count, lr=1e-3)
    if side == "ours":
        gated = Gated(batches, steps, rounds)
        train(method, gated, lambda data, generator: views(data, generator), config, note=lambda line: None)
        rounds.done(steps * batch)
        rounds.finish()
        return
    optimizer, generator, taken = optimizer_for(method, config), torch.Generator().manual_seed(0), 0

    def work() -> int:
        nonlocal taken
        for _ in range(steps):
            data = batches.batch(*divmod(taken, len(batches)))
            loss = method(views(data, generator), generator).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(method.parameters(), config.clip)
            optimizer.step()
            optimizer.zero_grad()
            taken += 1
        return steps * batch

    rounds.repeat(work)
