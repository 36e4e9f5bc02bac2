"""Small generated logs that the finance tests share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from finance.data import Transactions, read
from finance.synthetic import World, write


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Small tensors: more threads than one only get in each other's way."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("log") / "data", World(cards=50, days=40, compromised=12.0, leaked=12.0))


@pytest.fixture(scope="session")
def log(folder: Path) -> Transactions:
    return read(folder)
