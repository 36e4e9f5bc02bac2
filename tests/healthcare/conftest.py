"""Small data for the tests of healthcare."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from healthcare.data import Images, read
from healthcare.synthetic import CohortConfig, write


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """240 generated images as an npz."""
    return write(tmp_path_factory.mktemp("cohort"), CohortConfig(images=240), seed=0)


@pytest.fixture(scope="session")
def images(cohort: Path) -> Images:
    return read(cohort)


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(0)
