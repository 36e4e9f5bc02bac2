"""The engines that tests of more than one domain run on."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from core.engines import DuckDB, Engine, Spark


def pytest_configure() -> None:
    """Of several test processes each has one thread."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        import torch

        torch.set_num_threads(1)


@pytest.fixture(scope="session")
def spark() -> Iterator[Spark]:
    """Spark in local mode; tests that take it are marked `spark`."""
    pytest.importorskip("pyspark", reason="the extra `spark` is not installed")
    if not (os.environ.get("JAVA_HOME") or shutil.which("java")):
        pytest.skip("there is no Java")
    from core.engines import Spark

    engine = Spark("local[1]")
    yield engine
    engine.close()


@pytest.fixture(params=["duckdb", pytest.param("spark", marks=pytest.mark.spark)])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """Every test is one of both engines, which must give what pandas gives."""
    yield request.getfixturevalue(request.param)


@pytest.fixture
def duckdb(tmp_path: Path) -> Iterator[DuckDB]:
    """The engine inside this process; for what does not depend on which it is."""
    from core.engines import DuckDB

    with closing(DuckDB(0.5, tmp_path / "scratch", threads=1)) as made:
        yield made
