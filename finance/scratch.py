"""The encoder's own architecture trained from labels alone: what pretraining has to be better than."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor, nn

from core.batches import ArrayBatches
from core.encoders import TokenEncoder
from core.errors import UserError
from core.losses import masked_ce
from core.methods.base import Method, Out, need
from core.pretext import Pseudo
from core.tokens import Batch
from core.training import train
from finance.data import Transactions
from finance.encoders import event_encoder
from finance.estimators import TransactionEncoder, embed_stride
from finance.histories import Windows
from finance.metrics import average_precision

RATES = (5e-4, 3e-3)  # learning rates tried


class EventClassifier(Method):
    """Eats `Pseudo` with a label (B, T) for every event, -100 where not labelled: all labelled events of a window at once."""

    may_collapse = (
        False  # labels are given by a person, and its batches are numbers of windows, which an encoder cannot read
    )

    def __init__(self, encoder: TokenEncoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = nn.Linear(encoder.dim, 2)

    def forward(self, data: Pseudo, generator: Generator) -> Out:
        need(data, Pseudo, "the event classifier")
        assert isinstance(data.label, Tensor)
        return Out(masked_ce(self.head(self.encoder(data.batch).x), data.label))


def scratch_scores(
    encoder: TransactionEncoder,
    data: Transactions,
    labelled: NDArray[np.int64],
    test: NDArray[np.bool_],
    *,
    steps: int,
    seed: int,
) -> NDArray[np.float64]:
    """Log-odds of fraud of the test rows, (test.sum(),), by a network of the encoder's shape with fresh weights.

    A third of the steps goes to two learning rates, compared by average precision on a fifth of the labelled cards; the rest to
    training on all labelled rows with the better one.

    Args:
        labelled: row numbers whose labels may be seen.
        steps: for everything together, of the encoder's own batch size and window.
    """
    histories = encoder.codec_.encode(data)
    label = np.full(len(data), -100, dtype=np.int64)
    label[labelled] = data.label[labelled]
    if len(np.unique(data.label[labelled])) < 2:
        raise UserError("the labels hold one class only", where="label", mend="label at least two classes")
    cards = np.unique(data.card[labelled])
    held = np.random.default_rng(seed).permutation(cards)[: max(1, len(cards) // 5)]
    inside = np.isin(data.card, held) & (label >= 0)
    rates = list(RATES)
    if len(np.unique(label[inside])) == 2 and len(np.unique(label[(label >= 0) & ~inside])) == 2:
        found = {}
        for rate in RATES:
            kept = np.where(inside, -100, label)
            network = _fit(encoder, histories.ragged, histories.from_table(kept), rate, steps // 6, seed)
            score = histories.to_table(_scores(network, encoder, histories.ragged, histories.from_table(inside)))
            found[rate] = float(average_precision(label[inside], score[inside])[0])
        rates = [max(found, key=lambda rate: found[rate])]
    network = _fit(encoder, histories.ragged, histories.from_table(label), rates[0], steps - steps // 6 * 2, seed)
    return histories.to_table(_scores(network, encoder, histories.ragged, histories.from_table(test)))[test]


def _fit(
    encoder: TransactionEncoder, ragged, label: NDArray[np.int64], rate: float, steps: int, seed: int
) -> EventClassifier:
    """Train on windows that end at labelled events."""
    shape, recipe = encoder.recipe_.shape, encoder.recipe_
    windows = Windows.over(ragged, label >= 0, shape.context, embed_stride(shape.context))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = EventClassifier(event_encoder(encoder.codec_, shape))
        numbers = np.arange(len(windows)) if len(windows) > 1 else np.zeros(2, dtype=np.int64)
        batches = ArrayBatches({"window": numbers}, min(recipe.batch_size, len(numbers)), seed)

        def pretext(batch: Batch, generator: Generator) -> Pseudo:
            whole, event = windows.batch(ragged, batch["window"].numpy())
            return Pseudo(whole, torch.from_numpy(np.where(event >= 0, label[event], -100)))

        config = replace(
            recipe.train, steps=max(1, steps), minutes=None, lr=rate, seed=seed, log_every=10**9, device="cpu"
        )
        train(network, batches, pretext, config, note=lambda line: None)
    return network


@torch.no_grad()
def _scores(
    network: EventClassifier, encoder: TransactionEncoder, ragged, wanted: NDArray[np.bool_]
) -> NDArray[np.float64]:
    windows = Windows.over(ragged, wanted, encoder.recipe_.shape.context, embed_stride(encoder.recipe_.shape.context))
    out = np.full(len(wanted), np.nan)
    for at, begin in windows.batches(128):
        batch, event = windows.batch(ragged, at)
        encoded = cast(TokenEncoder, network.encoder)
        logits = network.head(encoded.trunk.tail(encoded.stem(batch), begin)).numpy()
        event = event[:, begin:]
        here = (event >= 0) & wanted[event]
        out[event[here]] = (logits[..., 1] - logits[..., 0])[here]
    return out
