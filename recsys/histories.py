"""Vectors of whole histories: who somebody is, where the state after the last item (`SessionRecommender.hidden`) tells what comes next."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from core.tokens import to_device
from core.training import resolve_device
from core.vectors import unit_rows
from recsys.estimators import SessionRecommender
from recsys.sequences import Sequences


def whole(
    model: SessionRecommender, history: Sequences, batch: int = 256, beside: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """(N, 3 · dim + 1): three directions, each times the logarithm of 1 + the number of items, and that logarithm.

    The directions are those of the mean state over all events, of the mean vector of the items, and of the same with rarely met items
    weighing more (by the root of how often training met them), which tell more of people than what everybody has seen. A longer history
    says more surely who it is of, so its vector is longer. Rows do not depend on each other; a history without a known item is NaN.

    Args:
        model: trained on sequences, of any method.
        history: over the model's catalogue.
        batch: windows that the encoder reads at once.
        beside: (items, D) further vectors of the catalogue's items, such as `recsys.cooccurrence.vectors(train, 256)`: 2 · D more numbers,
            their mean direction and that with rare items weighing more.
    """
    known = history.known()
    met = known.matrix()
    often = np.sqrt(np.maximum(model.popularity_, 1))[:, None]
    sums = [_summed_states(model, known, batch)]
    for vectors in (model.item_vectors(), *([] if beside is None else [beside])):
        each = unit_rows(vectors)
        sums += [np.asarray(met @ each), np.asarray(met @ (each / often))]
    amount = np.log1p(known.lengths.astype(np.float32))[:, None]
    found = np.hstack([*(amount * unit_rows(s) for s in sums), amount])
    found[known.lengths == 0] = np.nan
    return found.astype(np.float32)


def _summed_states(model: SessionRecommender, known: Sequences, batch: int) -> NDArray[np.float64]:
    """(N, dim): the sum of the states at all events, read in windows as long as the model reads, one after another."""
    length, device = model.recipe_.model.length, resolve_device(model.device)
    count = -(-known.lengths // length)
    owner = np.repeat(np.arange(len(known)), count)
    place = np.arange(len(owner)) - np.repeat(np.cumsum(count) - count, count)
    starts = known.offsets[owner] + place * length
    windows = known.window(starts, np.minimum(starts + length, known.offsets[owner + 1]), known.keys[owner])
    ragged, order = windows.ragged(), np.argsort(windows.lengths, kind="stable")
    result = np.zeros((len(known), model.encoder_.dim))
    encoder = model.encoder_.to(device).eval()
    with torch.no_grad():
        for start in range(0, len(order), batch):
            rows = order[start : start + batch]
            tokens = encoder(to_device(ragged.padded(rows, length), device))
            x = tokens.x.float()
            if tokens.pad is not None:
                x = x.masked_fill(tokens.pad[..., None], 0.0)
            np.add.at(result, owner[rows], x.sum(1).double().cpu().numpy())
    return result
