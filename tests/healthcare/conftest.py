"""Small data for the tests of healthcare."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from healthcare.data import Images, read
from healthcare.methods_bench import images_of
from healthcare.synthetic import CohortConfig, generate, write


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


@pytest.fixture(scope="session")
def volumes() -> Images:
    """160 generated volumes of 16³."""
    return images_of(generate(CohortConfig(images=160, size=16, dims=3)))


@pytest.fixture(scope="session")
def coloured(images: Images) -> Images:
    """The generated images, tinted by their grey values: bright places are red, dark ones blue."""
    grey = images.pixels
    return replace(images, pixels=np.concatenate([grey, grey**1.5, np.sqrt(grey) * 0.8], 1).astype(np.float32))


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(0)
