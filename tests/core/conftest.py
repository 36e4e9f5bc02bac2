"""Small data and encoders that the core's tests share."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from core.batches import Ragged


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture
def events() -> Ragged:
    """Habits: each sequence has a kind; the kind decides category and amount of its events."""
    draw = np.random.default_rng(0)
    lengths = draw.integers(6, 25, 240)
    kind = np.repeat(draw.integers(0, 4, 240), lengths)
    category = (3 + (kind * 2 + draw.integers(0, 2, len(kind)))).astype(np.int64)
    amount = (kind - 1.5 + 0.3 * draw.standard_normal(len(kind))).astype(np.float32)
    return Ragged({"category": category, "amount": amount}, np.concatenate([[0], np.cumsum(lengths)]))
