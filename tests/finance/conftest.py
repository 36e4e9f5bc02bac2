"""Small generated logs that the finance tests share."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from finance.data import Transactions, read
from finance.engines import DuckDB, Engine, Spark
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


@pytest.fixture(scope="session")
def spark() -> Iterator[Spark]:
    """Spark in local mode; tests that take it are marked `spark`."""
    pytest.importorskip("pyspark", reason="the extra `spark` is not installed")
    if not (os.environ.get("JAVA_HOME") or shutil.which("java")):
        pytest.skip("there is no Java")
    engine = Spark("local[1]")
    yield engine
    engine.close()


@pytest.fixture(params=["duckdb", pytest.param("spark", marks=pytest.mark.spark)])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """Every test is one of both engines, which must give what pandas gives."""
    if request.param == "spark":
        yield request.getfixturevalue("spark")
    else:
        with closing(DuckDB(0.5, tmp_path / "scratch", threads=1)) as made:
            yield made
