"""Vectors of items from what stands near them in sequences: where next-item training starts from."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.linalg import eigsh
from torch import nn

from core.codec import FIRST
from core.distributed import broadcast, rank
from core.encoders import TokenEncoder
from recsys.sequences import Sequences

REACH = 10  # places apart at which two items still count as met
HALF_LIFE = 3.0  # places apart at which a meeting counts half as much as next to each other
SMALL = 500  # items up to which all eigenvectors are found, which is exact
MOST = (
    100_000  # items up to which that start is made: there it takes a minute or two, and more than in proportion beyond
)
LENGTH, DRAWN = 4.0, 0.1  # of the vectors that training starts from, see `start_items`
SMOOTH = 0.75  # power of the counts that meetings by chance are reckoned from (Levy et al. 2015)


def meetings(train: Sequences) -> sparse.csr_matrix:
    """(items, items) symmetric: how often two items stand within `REACH` places of each other, near ones counting more."""
    items, rows, size = train.items, train.rows(), train.n_items
    found = sparse.csr_matrix((size, size), dtype=np.float64)
    for apart in range(1, REACH + 1):
        one, other = items[:-apart], items[apart:]
        pair = (rows[:-apart] == rows[apart:]) & (one >= FIRST) & (other >= FIRST) & (one != other)
        weight = np.full(int(pair.sum()), 2.0 ** (-(apart - 1) / HALF_LIFE))
        found = found + sparse.csr_matrix((weight, (one[pair] - FIRST, other[pair] - FIRST)), shape=(size, size))
    return sparse.csr_matrix(found + found.T)


def association(train: Sequences) -> sparse.csr_matrix:
    """(items, items) positive pointwise mutual information of meeting (Church & Hanks 1990), made symmetric."""
    met = meetings(train).tocoo()
    total = np.bincount(met.row, met.data, minlength=train.n_items)
    smooth = total**SMOOTH
    by_chance = total[met.row] * smooth[met.col] / max(smooth.sum(), 1e-12)
    value = np.maximum(np.log(met.data / by_chance), 0.0)
    found = sparse.csr_matrix((value, (met.row, met.col)), shape=met.shape)
    found.eliminate_zeros()
    return sparse.csr_matrix((found + found.T) / 2)


def vectors(train: Sequences, dim: int) -> NDArray[np.float32]:
    """(items, dim) rows of length 1, alike where items stand near the same others; zeros for an item that never met one.

    The eigenvectors of the association with the largest eigenvalues, each by the root of its value: what word vectors by negative
    sampling come to (Levy & Goldberg 2014). Those below zero say what does not meet, and are left out. Seconds for tens of thousands
    of items; nothing is drawn but from a fixed seed, so equal sequences give equal vectors.
    """
    found, size = association(train), train.n_items
    result = np.zeros((size, dim), dtype=np.float32)
    if not found.nnz:
        return result
    if size <= max(SMALL, 2 * dim):
        value, left = np.linalg.eigh(found.toarray())
        value, left = value[::-1][:dim], left[:, ::-1][:, :dim]
    else:
        value, left = eigsh(found, k=dim, which="LA", v0=np.random.default_rng(0).standard_normal(size), tol=1e-3)
        value, left = value[::-1], left[:, ::-1]
    raw = left * np.sqrt(np.maximum(value, 0.0))
    length = np.linalg.norm(raw, axis=1, keepdims=True)
    result[:, : raw.shape[1]] = np.where(length > 1e-6, raw / np.maximum(length, 1e-12), 0.0)
    return result


def start_items(
    table: nn.Embedding, vectors: NDArray[np.float32], length: float = LENGTH, drawn: float = DRAWN
) -> None:
    """Let a freshly drawn item table start from given directions, in place; a row of zeros keeps what was drawn.

    Args:
        vectors: (items, dim), rows of length 1 or 0.
        length: of the new rows, in those of the drawn ones.
        drawn: share of what was drawn that stays beside, so that items which share all their neighbours differ.
    """
    with torch.no_grad():
        rows = table.weight[FIRST:]  # a view
        given = torch.from_numpy(vectors).to(rows)
        made = length * (given * rows.norm(dim=1).mean() + drawn * rows)
        rows.copy_(torch.where(given.any(1, keepdim=True), made, rows))


def start_near(encoder: TokenEncoder, train: Sequences, note: Callable[[str], None] | None) -> None:
    """Let an encoder's freshly drawn item table start from co-occurrence in the training sequences; a catalogue of more than `MOST` items
    keeps what was drawn, and `note` is told. Of several processes the first one finds the vectors for all."""
    table = encoder.stem.embedding
    assert isinstance(table, nn.Embedding)
    if train.n_items <= MOST:
        shape = (train.n_items, table.embedding_dim)
        found = vectors(train, table.embedding_dim) if rank() == 0 else np.empty(shape, dtype=np.float32)
        start_items(table, broadcast(torch.from_numpy(found)).numpy())
    elif note is not None:
        note(f"{train.n_items} items are more than {MOST}: their vectors start at random, not from co-occurrence")
