"""The benchmark `coles-vs-ptls`: customers' personas told from frozen embeddings, ours and pytorch-lifestream's, at equal size and epochs.

Both sides learn CoLES (Babaev et al. 2022) from the same generated log without labels: two slices of a customer's history attract. Both
encoders are a GRU of 64 over events of 64, both see every customer once an epoch in batches of 64, on one thread, in processes of their own
that take turns epoch by epoch, so that whatever else the machine does slows both. Then every customer is embedded, and a logistic
regression and boosted trees tell the persona from the embedding, in three folds: each customer is judged by models that have not seen them.
Ours goes through the training loop that `pretrain` uses; the other side is stepped in a bare loop, which spares it its trainer.
Settings were chosen on crowds of other seeds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from core import benchmark as peers
from core.batches import Ragged, SequenceBatches
from core.bench import Row, row
from core.device import one_thread
from core.encoders import GRU, Field, FieldStem, GRUConfig, TokenEncoder, parameters
from core.methods import CoLES
from core.peers.loop import Gated
from core.peers.rounds import Rounds
from core.probes import linear
from core.statistics import mean_interval
from core.train_config import TrainConfig
from core.training import train
from finance.data import DAY, Transactions
from finance.histories import EventCodec
from finance.peers import PEERS, lifestream, lifestream_data, lifestream_steps, read, write
from finance.personas import PERSONAS, Crowd, generate
from finance.pretext import Slices
from finance.trees import boosted

DATA = "personas"
CROWD = Crowd()
EPOCHS = 12
MARGIN = 0.002  # of accuracy that may be missing
FOLDS = 3
SIDES = {"ours": "coles", "ptls": "pytorch-lifestream's CoLES"}
RATE = 8e-3  # of learning, on a crowd of another seed the best for both sides: of 1e-3, 4e-3, 8e-3 and about 1e-2
SLICES = {"shortest": 10, "longest": 77}  # events; ours takes at most 77 / 128 = .6 of what a customer has
Array = NDArray[np.float64]
Tell = Callable[[Array, NDArray[np.int64], Array], Array]  # (N, D), classes (N,), (M, D) -> (M, classes)


def run(side: str, settings: dict[str, Any], rounds: Rounds) -> None:
    """A side, in a process of its own (see core.peers): an epoch a round, then a round that embeds every customer.

    Settings: data (what finance.peers.write wrote), out (where the embeddings go), epochs, dim, batch, shortest and longest (events of a
    slice), rate (of learning), seed.
    """
    ragged, fields = read(settings["data"])
    embeddings, weights = {"ours": ours, "ptls": ptls}[side](ragged, fields, settings, rounds)
    np.save(settings["out"] + f"-{side}.npy", embeddings)
    rounds.go()  # until the word to stop
    rounds.finish(weights=weights)


def ours(
    ragged: Ragged, fields: tuple[Field, ...], s: dict[str, Any], rounds: Rounds
) -> tuple[NDArray[np.float32], int]:
    """Embeddings (C, D) and how many parameters the encoder has."""
    encoder = TokenEncoder(FieldStem(fields, s["dim"]), GRU(GRUConfig(s["dim"])), pool="last")
    method = CoLES(encoder)
    batches = SequenceBatches(ragged, s["batch"], s["seed"], max_length=128)
    gated = Gated(batches, len(batches), rounds)
    training = TrainConfig(steps=len(batches) * s["epochs"], lr=s["rate"], seed=s["seed"], monitor_every=0)
    pretext = Slices(shortest=s["shortest"], share=s["longest"] / 128).bound(fields)
    train(method, gated, pretext, training, note=lambda line: None)
    rounds.done(len(ragged))
    rounds.go()
    with torch.no_grad():
        made = np.concatenate([encoder.embed(batch).numpy() for batch in gated.ordered()])
    rounds.done(len(ragged))
    return made, parameters(encoder)


def ptls(
    ragged: Ragged, fields: tuple[Field, ...], s: dict[str, Any], rounds: Rounds
) -> tuple[NDArray[np.float32], int]:
    """The same by pytorch-lifestream."""
    from ptls.data_load.utils import collate_feature_dict

    data = lifestream_data(ragged, fields)
    module, loader = lifestream(data, fields, s)
    step = lifestream_steps(module, loader, s["rate"])
    for _ in range(s["epochs"]):
        rounds.go()
        for _ in range(len(loader)):
            step()
        rounds.done(len(ragged))
    module.eval()
    rounds.go()
    with torch.no_grad():
        made = np.concatenate(
            [module(collate_feature_dict(data[i : i + s["batch"]])).numpy() for i in range(0, len(data), s["batch"])]
        )
    rounds.done(len(ragged))
    return made, parameters(module.seq_encoder)


def coles_vs_ptls(out: Path, seed: int, crowd: Crowd = CROWD, epochs: int = EPOCHS) -> list[Row]:
    """Accuracy of both sides and of hand-made features, and how many times as fast ours is, by the clock and by processor time.

    Without pytorch-lifestream its rows are left out, with a line that says how to install it.

    Args:
        out: folder for what the sides read and write.
        crowd: its seed is replaced.
    """
    out.mkdir(parents=True, exist_ok=True)
    data, persona = generate(replace(crowd, seed=seed))
    codec = EventCodec.fit(data)
    ragged = codec.encode(data).ragged
    names = peers.beside(["ours"], PEERS)
    place, stem = str(write(out / f"personas-{seed}.npz", ragged, codec.fields)), str(out / f"embeddings-{seed}")
    settings = {
        "data": place,
        "out": stem,
        "dim": 64,
        "batch": 64,
        **SLICES,
        "rate": RATE,
        "epochs": epochs,
        "seed": seed,
    }
    sides, last = peers.compare("finance.coles", names, epochs, **settings)
    x = {SIDES[side]: np.load(f"{stem}-{side}.npy") for side in names} | {"hand-made features": handmade(data)}
    note = f"{len(persona)} customers of {PERSONAS} personas, {epochs} epochs; chance {1 / PERSONAS:.3f}"
    made = []
    for probe, tell in (("logistic regression", _logistic), ("trees", _trees)):
        right = {name: _right(tell, values, persona, seed) for name, values in x.items()}
        for name, hit in right.items():
            role = "ours" if name == SIDES["ours"] else "floor" if name.startswith("hand") else "peer"
            weights = next((f"; {last[s]['weights']} parameters" for s in names if SIDES[s] == name), "")
            made.append(row(DATA, name, role, f"accuracy, {probe}", mean_interval(hit), note=note + weights))
        for name, hit in right.items():
            if name != SIDES["ours"]:
                gain = mean_interval(right[SIDES["ours"]] - hit)
                goal = -MARGIN if name == SIDES.get("ptls") else None
                made.append(
                    row(DATA, SIDES["ours"], "ours", f"gain accuracy, {probe}, over {name}", gain, goal=goal, note=note)
                )
    seconds = {side: {per: sum(r[per] for r in sides[side].rounds) for per in ("wall", "cpu")} for side in names}
    for per, said in (("wall", "seconds"), ("cpu", "processor seconds")):
        for side in names:
            role = "ours" if side == "ours" else "peer"
            made.append(row(DATA, SIDES[side], role, f"{said} to train and embed", seconds[side][per], note=note))
        if "ptls" in names:
            ratio = seconds["ptls"][per] / seconds["ours"][per]
            metric = f"ratio: {said}, pytorch-lifestream's to ours"
            made.append(row(DATA, SIDES["ours"], "ours", metric, ratio, goal=2.0, note="one thread each, in turns"))
    return made


def handmade(data: Transactions) -> Array:
    """What an analyst counts of each customer (C, F): shares of categories, hours and weekdays, mean and spread of amounts by category,
    and of all amounts and gaps."""
    frame = pd.DataFrame(
        {
            "card": data.card, "category": pd.factorize(data.frame[data.schema.categorical[0]], sort=True)[0],
            "hour": data.time % DAY // 3600, "weekday": data.day % 7, "amount": np.log1p(data.amount),
        }
    )  # fmt: skip
    frame["gap"] = np.log1p(pd.Series(data.time).groupby(data.card).diff())
    by = frame.groupby("card")
    parts = [pd.crosstab(frame["card"], frame[name], normalize="index") for name in ("category", "hour", "weekday")]
    parts.append(frame.pivot_table(index="card", columns="category", values="amount").fillna(0.0))
    parts.append(by[["amount", "gap"]].agg(["mean", "std"]))
    return np.column_stack([part.to_numpy(dtype=float) for part in parts])


def _right(tell: Tell, x: Array, persona: NDArray[np.int64], seed: int) -> Array:
    """1 for each customer whose persona is told by a model of the other folds' customers (C,)."""
    from sklearn.model_selection import StratifiedKFold

    hit = np.zeros(len(persona))
    with one_thread():
        for learn, test in StratifiedKFold(FOLDS, shuffle=True, random_state=seed).split(x, persona):
            hit[test] = tell(x[learn], persona[learn], x[test]).argmax(1) == persona[test]
    return hit


def _logistic(x: Array, y: NDArray[np.int64], test: Array) -> Array:
    return linear(x, y, test, costs=(0.1, 1.0))


def _trees(x: Array, y: NDArray[np.int64], test: Array) -> Array:
    made = boosted(
        x, y, 60, objective="multiclass", num_class=PERSONAS, learning_rate=0.1, num_leaves=15, feature_fraction=0.5, num_threads=1
    )  # fmt: skip
    return np.asarray(made.predict(test))


def bench(out: Path, minutes: float | None, seed: int, device: str) -> list[Row]:
    """The rows of a seed, which moves the crowd, both encoders and the folds; epochs are fixed, and the processor is what is timed."""
    return coles_vs_ptls(out / "coles", seed)
