"""Core's speed beside its peers': `python -m core.benchmark [--only TEST] [--out DIR]`, resumable by test.

Both sides of a comparison are processes of their own (`core.peers`) that work in alternating rounds in one run on one machine, so
that whatever else disturbs it disturbs both. A figure is the median over rounds, with a bootstrap interval. All ratios are written so that
more is better for us. `make peers` installs the peers that are no dependencies; without them their rows are left out, with a line.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from core.bench import Bench, Row, row, shown
from core.cli import say
from core.datasets import Known, locate
from core.errors import UserError
from core.statistics import Estimate

ROOT = Path(__file__).parent.parent
PNEUMONIA = {
    "pneumoniamnist": Known("healthcare/pneumoniamnist", source="MedMNIST v2 (Yang et al. 2023)", licence="CC BY 4.0")
}
SEEDS = 3  # of the runs whose accuracy is compared
START, END = "<!-- figures: made by python -m core.benchmark --write-docs -->", "<!-- end of figures -->"
Figures = dict[str, Any]


@dataclass
class Side:
    """One side of a comparison, as a running process.

    Args:
        module, name, settings: see `core.peers`.
        path: a folder of packages that only this side sees.
    """

    module: str
    name: str
    settings: Figures
    path: Path | None = None

    def __post_init__(self) -> None:
        threads = str(self.settings.get("threads", 1))
        more = [str(ROOT)] + ([str(self.path)] if self.path is not None else [])
        environment = {**os.environ, "OMP_NUM_THREADS": threads, "PYTHONPATH": os.pathsep.join(more)}
        self.rounds: list[Figures] = []
        self.process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "core.peers", self.module, self.name, json.dumps(self.settings)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
        )  # fmt: skip
        self.read()  # it is ready

    def read(self) -> Figures:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("{"):  # libraries print too
                return json.loads(line)
        raise UserError(
            f"the peer '{self.name}' of '{self.module}' ended with code {self.process.wait()}", where="benchmark",
            mend="its last words stand above",
        )  # fmt: skip

    def tell(self, word: str) -> None:
        assert self.process.stdin is not None
        print(word, file=self.process.stdin, flush=True)

    def round(self) -> None:
        self.tell("go")
        self.rounds.append(self.read())

    def finish(self) -> Figures:
        with suppress(BrokenPipeError):  # one that counts its rounds may have ended; its last words stand in the pipe
            self.tell("stop")
        figures = self.read()
        self.process.wait()
        return figures

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def each(self, per: str) -> np.ndarray:
        """Things done a second of each round but the first: of the clock (`wall`) or of the processor (`cpu`)."""
        return np.array([r["count"] / r[per] for r in self.rounds[1:]])


def compare(
    module: str, names: Sequence[str], rounds: int, **settings: Any
) -> tuple[dict[str, Side], dict[str, Figures]]:
    """`rounds` rounds of each side, in turns, and one before them that is not counted; what each said at its end."""
    sides: dict[str, Side] = {}
    try:
        for name in names:
            sides[name] = Side(module, name, {**settings, "rounds": rounds + 1}, installed(name))
        for number in range(rounds + 1):
            for name in names if number % 2 else reversed(names):
                sides[name].round()
        return sides, {name: side.finish() for name, side in sides.items()}
    finally:
        for side in sides.values():
            side.stop()


def installed(peer: str) -> Path | None:
    """Where `make peers` put a peer that is no dependency; None where it did not."""
    folder = ROOT / ".peers" / peer
    return folder if folder.is_dir() else None


def beside(sides: Sequence[str], peers: Mapping[str, str]) -> list[str]:
    """Our sides and those peers, called by their names, that are installed; a line for each that is not."""
    found = [peer for peer in peers if installed(peer)]
    for peer in peers:
        if peer not in found:
            say(f"{peers[peer]} is left out: it is not installed; `make peers` does that")
    return [*sides, *found]


def median(values: np.ndarray) -> Estimate:
    """The median of a figure's rounds, with a bootstrap interval."""
    draw = np.random.default_rng(0).choice(values, (2000, len(values)))
    low, high = np.percentile(np.median(draw, axis=1), [2.5, 97.5])
    return Estimate(float(np.median(values)), float(low), float(high))


def faster(sides: dict[str, Side], peer: str, per: str, side: str = "ours") -> Estimate:
    """How many times as much as the peer a side of ours does a second, round by round."""
    return median(sides[side].each(per) / sides[peer].each(per))


def augmentation() -> list[Row]:
    """Views a core-second: ours, lightly's transform, kornia on whole batches."""
    rows, names = [], ["ours", "lightly"]
    if installed("kornia"):
        names.append("kornia")
    else:
        say("kornia is left out: it is not installed; `make peers` does that")
    for size, goal in ((28, 10.0), (64, 4.0)):
        sides, _ = compare("views", names, 11, size=size, images=512, batch=256)
        for name in names:
            role = "ours" if name == "ours" else "peer"
            rows.append(row(f"{size} px", name, role, "views per core-second", median(sides[name].each("cpu"))))
        for peer in names[1:]:
            rows.append(
                row(f"{size} px", "augment", "ours", f"ratio: views per core-second, to {peer}'s", faster(sides, peer, "cpu"),
                    goal=goal if peer == "lightly" else None)
            )  # fmt: skip
    return rows


def loop() -> list[Row]:
    """`core.training.train` beside a bare loop: SimCLR with the small net at 28 px, batches of 64."""
    sides, _ = compare("loop", ["ours", "bare"], 11, batch=64, steps=8)
    milliseconds = median(1000 / sides["bare"].each("cpu") * 64)
    note = f"a bare step of 64 images takes {milliseconds.value:.0f} ms"
    return [
        row("simclr, small net", "train", "ours", "ratio: speed of the loop, to a bare one's", faster(sides, "bare", "cpu"),
            goal=0.97, note=note)
    ]  # fmt: skip


def simclr(
    net: str, goal: float, batch: int, steps: int, rounds: int, lr: float, seed: int, threads: int = 2
) -> list[Row]:
    """SimCLR from grey PneumoniaMNIST as RGB: images a second, and the kNN accuracy that equal images gave.

    With two threads the figure is that of the clock, on two cores; with one it is that of the processor, lightly's workers included.
    """
    folder = locate("pneumoniamnist", PNEUMONIA)
    sides, last = compare(
        "simclr", ["ours", "lightly"], rounds - 1, data=str(folder / "pneumoniamnist.npz"), net=net, batch=batch,
        steps=steps, lr=lr, seed=seed, threads=threads,
    )  # fmt: skip
    per, unit = ("wall", "second, two cores") if threads > 1 else ("cpu", "core-second")
    place = f"pneumoniamnist, {net}, {rounds * steps * batch} images"
    rows = []
    for name, role in (("ours", "ours"), ("lightly", "peer")):
        rows.append(row(place, name, role, f"images per {unit}", median(sides[name].each(per))))
        rows.append(row(place, name, role, "knn accuracy", last[name]["knn"]))
    gain = last["ours"]["knn"] - last["lightly"]["knn"]
    return [
        *rows,
        row(place, "simclr", "ours", f"ratio: images per {unit}, to lightly's recipe", faster(sides, "lightly", per), goal=goal),
        row(place, "simclr", "ours", "knn accuracy, minus lightly's", gain, goal=0.0 if threads > 1 else None),
    ]  # fmt: skip


def steps(module: str, peer: str, place: str, goal: float, rounds: int, **settings: Any) -> list[Row]:
    """Speed and peak memory of a step beside the peer's, on one core."""
    sides, last = compare(module, ["ours", peer], rounds, **settings)
    rows = [
        row(place, name, role, "steps per core-second", median(sides[name].each("cpu")))
        for name, role in (("ours", "ours"), (peer, "peer"))
    ]
    memory = {name: f"{figures['memory']:.0f} MB" for name, figures in last.items()}
    return [
        *rows,
        row(place, module, "ours", f"ratio: steps per second, to {peer}'s", faster(sides, peer, "cpu"), goal=goal),
        row(place, module, "ours", f"ratio: {peer}'s peak memory, to ours", last[peer]["memory"] / last["ours"]["memory"],
            goal=1.0, note=f"{memory['ours']}, {peer} {memory[peer]}"),
    ]  # fmt: skip


def mae() -> list[Row]:
    """A step of the masked autoencoder, 64 × 64 px in 64 patches, three quarters hidden."""
    shape = {
        "size": 64,
        "patch": 8,
        "channels": 1,
        "dim": 192,
        "depth": 6,
        "heads": 3,
        "decoder_dim": 96,
        "decoder_depth": 2,
    }
    return steps("mae", "monai", "64 px, width 192, 6 + 2 blocks, batch 32", 1.0, 11, batch=32, steps=2, **shape)


def trunk() -> list[Row]:
    """Forward and backward of a trunk, with and without padding."""
    shape = {"batch": 16, "length": 128, "dim": 256, "depth": 6, "heads": 4, "steps": 1}
    place = "128 tokens, width 256, 6 blocks, batch 16"
    return steps("trunk", "torch", place, 1.0, 11, padded=False, **shape) + steps(
        "trunk", "torch", f"{place}, a quarter padding", 1.0, 11, padded=True, **shape
    )


def gpu() -> list[Row]:
    """bf16 steps of ViT-S and of a 12-layer sequence trunk on a GPU, compiled, beside torch's `nn.TransformerEncoder`."""
    import torch

    from core.peers.gpu import SHAPES

    if not torch.cuda.is_available():
        say("gpu is skipped: no GPU is visible here")
        return []
    rows = []
    for place, shape in SHAPES.items():
        sides, last = compare("gpu", ["ours", "torch"], 9, **shape)
        for name, role in (("ours", "ours"), ("torch", "peer")):
            note = f"model FLOP utilisation {last[name]['utilisation']:.2f} of a measured peak of {last[name]['peak']:.0f} TFLOP/s"
            rows.append(row(place, name, role, "steps per second", median(sides[name].each("wall")), note=note))
        rows.append(
            row(place, "gpu", "ours", "ratio: steps per second, to torch's", faster(sides, "torch", "wall"), goal=1.1)
        )
    return rows


TESTS: dict[str, Callable[[], list[Row]]] = {
    "augment": augmentation,
    "loop": loop,
    "mae": mae,
    "trunk": trunk,
    **{f"simclr-small-{seed}": partial(simclr, "small", 2.5, 128, 36, 6, 2e-3, seed) for seed in range(SEEDS)},
    "simclr-resnet18": partial(simclr, "resnet18", 1.15, 64, 9, 7, 1e-3, 0),
    "simclr-small-brief": partial(simclr, "small", 2.5, 128, 9, 4, 2e-3, 0, threads=1),
    "simclr-resnet18-brief": partial(simclr, "resnet18", 1.15, 64, 1, 4, 1e-3, 0, threads=1),
    "gpu": gpu,
}


@dataclass(frozen=True)
class Benchmark:
    """Measure core beside its peers; what was measured before, in the same folder, is not measured again.

    Attributes:
        only: one of the tests: augment, loop, mae, trunk, simclr-small-0 (-1, -2), simclr-resnet18, gpu; and simclr-small-brief
            and simclr-resnet18-brief, which are run on request alone, on one thread, where a machine is busy.
        out: folder for the parts and results.json.
        write_docs: only rewrite the table of docs/performance.md from docs/results/core.json.
    """

    only: str | None = None
    out: Path = Path("bench/core")
    write_docs: bool = False

    def run(self) -> None:
        if self.write_docs:
            page = ROOT / "docs" / "performance.md"
            page.write_text(documented(page.read_text(encoding="utf-8"), ROOT / "docs" / "results"), encoding="utf-8")
            return
        if self.only is not None and self.only not in TESTS:
            raise UserError(f"no test '{self.only}'", where="--only", mend=f"choose from {', '.join(TESTS)}")
        record = Bench(self.out, {}, say)
        for name, work in TESTS.items():
            if self.only == name or (self.only is None and not name.endswith("brief")):
                record.run(name, 0, work)
        print(f"results: {record.write()}")


def documented(page: str, results: Path) -> str:
    """The text of docs/performance.md with its table made anew from the record."""
    path = results / "core.json"
    rows = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    rows.sort(key=lambda r: (r["test"], r["data"], r["metric"], r["role"]))
    lines = [
        "| test | what | who | metric | figure [95 %] | goal | commit | note |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for r in rows:
        goal = (
            ""
            if r["goal"] is None
            else f"≥ {r['goal']:g}" + ("" if r["value"] is None or r["value"] >= r["goal"] else ", missed")
        )
        lines.append(
            f"| {r['test']} | {r['data']} | {r['method']} | {r['metric']} | {shown(r)} | {goal} | {r['commit']} | {r['note']} |"
        )
    machines = "; ".join(sorted({r["machine"] for r in rows}))
    table = "\n".join([START, "", *lines, "", f"Machine: {machines}.", "", END])
    return re.sub(f"{re.escape(START)}.*?{re.escape(END)}", lambda _: table, page, flags=re.DOTALL)


if __name__ == "__main__":
    import tyro

    from core.cli import run_safely

    run_safely("core.benchmark", tyro.cli(Benchmark, prog="python -m core.benchmark").run)
