"""How long pretraining on cubes of a large volume takes and how much memory: on a generated one of 256³ voxels."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from core.bench import Row, row
from core.measured import measured as command

SIDE = 256  # voxels
MEMORY_GOAL = 4.0  # GiB
STEPS = 30
SETTINGS = ("patches=64", "reading.size=32", "batch=16")


def volume_speed(out: Path, methods: tuple[str, ...] = ("simclr", "mae", "restore")) -> list[Row]:
    """Seconds and peak memory of a short `pretrain` on a generated volume, a process each.

    Raises:
        UserError: a child process failed.
    """
    made = []
    out.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=out) as folder:
        data = large_volume(Path(folder) / "large.npy", SIDE)
        for method in methods:
            seconds, peak = measured(data, Path(folder) / method, method, STEPS)
            note = f"{SIDE}³ voxels of 2 bytes, {STEPS} steps of 16 cubes of 32³, start included"
            made.append(row("generated volume", method, "ours", "seconds", seconds, note=note))
            made.append(row("generated volume", method, "ours", "peak GiB", peak, goal=MEMORY_GOAL, note=note))
    return made


def measured(
    data: Path, out: Path, method: str, steps: int, settings: tuple[str, ...] = SETTINGS
) -> tuple[float, float]:
    """Seconds and GiB of one `pretrain` in a process of its own."""
    arguments = ["pretrain", "--data", str(data), "--out", str(out), "--method", method, "--steps", str(steps)]
    return command("healthcare.cli", [*arguments, "--set", *settings], str(data))


def large_volume(path: Path, side: int, seed: int = 0) -> Path:
    """A volume (side, side, side) of 16-bit values, slice by slice: air around a body with smooth tissue and noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    y, x = np.mgrid[0:side, 0:side] / side * 2 - 1
    volume = np.lib.format.open_memmap(path, mode="w+", dtype=np.int16, shape=(side, side, side))
    waves = random.uniform(2, 12, (6, 3))
    for plane in range(side):
        z = plane / side * 2 - 1
        tissue = sum(np.sin(a * x + b * y + c * z) for a, b, c in waves)
        body = x**2 + y**2 + z**2 < 0.8
        volume[plane] = np.where(body, 100 * tissue, -1000) + random.normal(0, 20, (side, side))
    volume.flush()
    return path
