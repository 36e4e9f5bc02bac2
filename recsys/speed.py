"""How fast recsys is: a training step beside its peers', one session after the other, and a catalogue of a million items.

Figures of processor time stand beside those of the clock: on a machine that others use too, only the former can be compared.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from core import benchmark
from core.bench import Row, row
from core.codec import FIRST, Categories
from core.device import one_thread
from recsys.data import load
from recsys.estimators import SessionRecommender
from recsys.peers import PEERS, write
from recsys.sequences import Sequences
from recsys.split import without_last

DATA = "beauty"
SHAPE = {"dim": 64, "heads": 2, "negatives": 512, "length": 50, "dropout": 0.2}
BLOCK = 64  # rows of our full softmax, see core.chunked: so many rows of Beauty's logits stay in a processor's cache
ROUNDS, SECONDS = 7, 4.0  # of a side, and processor time of each
# the goal of each peer, by the loss that both sides have: times as many interactions a core-second
GOALS = {("sampled", "rectools"): 2.0, ("full", "rectools"): None, ("full", "recbole"): 5.0}

OFFERED, CLICKS, K = 100_000, 10, 20  # items of the catalogue, of a session, of an answer
WIDTHS = (64, 128)  # of the models that are asked: the usual one of such models, and the preset's
ONE = "recommend_session"  # what a service answers with; the others make and read tables
LATENCY = {50: 3.0, 99: 10.0}  # milliseconds a session that each percentile is to stay within
ASKED, TURNS, WARM = 500, 10, 5  # sessions asked about, in so many turns, of each of which the first are not counted

LARGE, EVENTS = 1_000_000, 11  # items, and items of a sequence
STEPS = 3  # of which the first is not counted
MEMORY = 8.0  # GiB
# loss and sequences a step. All rows' logits at once are for few of them: of 128 sequences they would be 5 GB, four times over
HEADS = (("full", 32), ("chunked", 32), ("sampled", 32), ("chunked", 128), ("sampled", 128))


def training(out: Path) -> list[Row]:
    """Real interactions that a step of training teaches a core-second, beside those of the peers that are installed, on `beauty`."""
    rows = []
    train = without_last(load(DATA).sequences, 2)
    with TemporaryDirectory(dir=_made(out)) as folder:
        data = str(write(Path(folder) / "train.npz", train))
        for loss, peers in (("sampled", ["rectools"]), ("full", ["rectools", "recbole"])):
            names = benchmark.beside(["ours"], {peer: PEERS[peer] for peer in peers})
            settings = {**SHAPE, "batch": 128, "loss": loss, "chunk": BLOCK, "seconds": SECONDS, "data": data}
            sides, last = benchmark.compare("recsys.peers", names, ROUNDS, **settings)
            said = f"{loss} softmax"
            for name in names:
                who, role = (PEERS[name], "peer") if name in PEERS else ("next", "ours")
                note = f"{last[name]['weights']} parameters, {last[name]['memory']:.0f} MB above the start"
                figure = benchmark.median(sides[name].each("cpu"))
                rows.append(row(DATA, f"{who}, {said}", role, "interactions trained a core-second", figure, note=note))
            rows += [
                row(DATA, f"next, {said}", "ours", f"ratio: interactions trained a core-second, to that of {PEERS[name]}",
                    benchmark.faster(sides, name, "cpu"), goal=GOALS[loss, name])
                for name in names if name in PEERS
            ]  # fmt: skip
    return rows


def latency(items: int = OFFERED, asked: int = ASKED, warm: int = WARM, widths: tuple[int, ...] = WIDTHS) -> list[Row]:
    """Milliseconds of one session's recommendations, one session after the other, on one core, by the model's width.

    What is timed depends on the size of the item table and not on how long the model was trained: a few steps are enough.
    """
    log = sessions(items, 4 * items // CLICKS, CLICKS)
    return [one for width in widths for one in _latency(log, width, asked, warm)]


def _latency(log: Sequences, width: int, asked: int, warm: int) -> list[Row]:
    """`latency` of one width."""
    changes = ("model.dropout=0.2", "model.start=random", f"model.dim={width}")
    with one_thread():
        model = SessionRecommender(steps=5, changes=changes).fit_sequences(log, note=lambda line: None)
        each = [log.select(np.array([i])) for i in range(asked)]
        names = [one.catalogue.decode(one.items).tolist() for one in each]
        frames = [
            pd.DataFrame({"user_id": one.keys[0], "item_id": items, "timestamp": np.arange(CLICKS)})
            for one, items in zip(each, names, strict=True)
        ]  # fmt: skip
        ways: dict[str, Callable[[int], object]] = {
            ONE: lambda i: model.recommend_session(names[i], K),
            "recommend_sequences": lambda i: model.recommend_sequences(each[i], K),
            "recommend, a table": lambda i: model.recommend(frames[i], K),
        }
        data, note = f"generated, width {width}", f"{log.n_items} items, {CLICKS} clicks, k={K}"
        taken = _times(ways, asked, warm)
    return [one for way, times in taken.items() for one in _said(data, way, times, note)]


def _times(ways: dict[str, Callable[[int], object]], asked: int, warm: int) -> dict[str, NDArray[np.float64]]:
    """Seconds of the clock and of the processor, (2, sessions), of each way to answer sessions 0, 1, …

    They take turns, a tenth of the sessions at a time, so that what else happens on the machine happens to all; the first `warm`
    answers of a turn, for which a way's own code must be read anew, are not counted.
    """
    taken: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
    for turn in np.array_split(np.arange(asked), min(TURNS, asked)):
        for way, answer in ways.items():
            for place, i in enumerate(turn.tolist()):
                busy, start = time.process_time(), time.perf_counter()
                answer(i)
                wall, cpu = time.perf_counter() - start, time.process_time() - busy
                if place >= warm:
                    taken[way].append((wall, cpu))
    return {way: np.array(times).T for way, times in taken.items()}


def _said(data: str, way: str, times: NDArray[np.float64], note: str) -> list[Row]:
    """Percentiles of one way's times in milliseconds."""
    rows = []
    for metric, taken in zip(("ms a session", "processor ms a session"), times, strict=True):
        for share, most in LATENCY.items():
            goal = most if metric == "ms a session" and way == ONE else None
            value = float(np.percentile(taken * 1e3, share))
            rows.append(
                row(data, way, "ours", f"{metric}, p{share}", value, goal=goal, note=f"{note}; {len(taken)} sessions")
            )
    return rows


def catalogue(out: Path, items: int = LARGE, heads: tuple[tuple[str, int], ...] = HEADS) -> list[Row]:
    """Peak memory and seconds of a training step over a large catalogue, by the kind of softmax, each in a process of its own."""
    rows = []
    with TemporaryDirectory(dir=_made(out)) as folder:
        data = str(write(Path(folder) / "train.npz", sessions(items, max(2 * batch for _, batch in heads), EVENTS)))
        for kind, batch in heads:
            loss = "sampled" if kind == "sampled" else "full"
            chunk = BLOCK if kind == "chunked" else 0
            settings = {**SHAPE, "batch": batch, "loss": loss, "chunk": chunk, "seconds": 0, "data": data}
            last, spent = _alone(settings)
            note = f"{items} items, width {SHAPE['dim']}, {batch} sequences a step, {batch * (EVENTS - 1)} targets"
            method = f"next, {kind} softmax, {batch} sequences"
            rows += [
                row("generated", method, "ours", "peak memory of training, GiB", last["peak"] / 1024, note=f"{note}; goal ≤ {MEMORY:g}"),
                row("generated", method, "ours", "processor seconds a step", spent["cpu"], note=note),
                row("generated", method, "ours", "seconds a step", spent["wall"], note=note),
            ]  # fmt: skip
    return rows


def _alone(settings: dict[str, Any]) -> tuple[dict[str, Any], dict[str, float]]:
    """What our side says at its end, and the median times of its steps, run by itself."""
    side = benchmark.Side("recsys.peers", "ours", {**settings, "rounds": STEPS})
    try:
        for _ in range(STEPS):
            side.round()
        last = side.finish()
    finally:
        side.stop()
    return last, {per: float(np.median([r[per] for r in side.rounds[1:]])) for per in ("cpu", "wall")}


def sessions(items: int, count: int, length: int, seed: int = 0) -> Sequences:
    """`count` sequences of `length` items each, drawn evenly from a catalogue of so many."""
    drawn = np.random.default_rng(seed).integers(FIRST, FIRST + items, (count, length))
    names = Categories(tuple(f"item-{i:07d}" for i in range(items)))
    keys = np.array([f"session-{i}" for i in range(count)], dtype=object)
    return Sequences(keys, drawn.reshape(-1), np.arange(count + 1) * length, names)


def _made(out: Path) -> Path:
    out.mkdir(parents=True, exist_ok=True)
    return out
