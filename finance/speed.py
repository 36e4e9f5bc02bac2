"""How fast finance is: scoring a log, scoring one payment after the other, training, each on `fdh_simulated`.

Figures of processor time stand beside those of the clock: on a machine that others use too, only the former can be compared.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from core import benchmark as peers
from core.bench import Row, row
from core.device import one_thread
from core.peers.rounds import forget_peak, peak, processor_seconds
from core.statistics import Estimate
from finance.data import Transactions
from finance.estimators import FraudScorer, TransactionEncoder
from finance.online import OnlineScorer
from finance.peers import PEERS, write
from finance.presets import masked

ONLINE = 3000  # payments scored one after the other
WARM = 200  # of which the first are not counted
GROUPS = 3  # of cards, each timed by itself
TRAINED_CARDS = 1000


def speed(data: Transactions, name: str, out: Path, until: int) -> list[Row]:
    """All rows. What is timed does not depend on how long the encoder was trained: a few steps are enough.

    Args:
        name: of the data.
        out: folder for what other processes read.
        until: first day that training does not see.
    """
    recipe = masked()
    recipe = replace(recipe, train=replace(recipe.train, steps=20, minutes=None))
    encoder = TransactionEncoder(recipe).fit(data, until=until, note=lambda line: None)
    scorer = FraudScorer(encoder)
    return scoring(scorer, data, name) + online(scorer, data, name) + training(encoder, data, name, out)


def scoring(scorer: FraudScorer, data: Transactions, name: str) -> list[Row]:
    """Events a second of `score_samples` on whole histories, tables in memory, on two threads; and the peak memory above what was held."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        wall, cpu, held = [], [], []
        for group in range(GROUPS):
            part = data.where(data.card % GROUPS == group)
            memory, busy, start = forget_peak(), processor_seconds(), time.perf_counter()
            scorer.score_samples(part)
            wall.append(len(part) / (time.perf_counter() - start))
            cpu.append(len(part) / (processor_seconds() - busy))
            held.append(peak() - memory)
    finally:
        torch.set_num_threads(before)
    note = f"{len(data)} payments in {GROUPS} groups of cards"
    return [
        row(name, "score", "ours", "payments scored a second, two threads", over(wall), goal=100_000.0, note=note),
        row(name, "score", "ours", "payments scored a core-second", over(cpu), goal=50_000.0, note=note),
        row(name, "score", "ours", "peak memory of scoring, MB", max(held), note=f"of {len(data) // GROUPS} payments"),
    ]


def online(scorer: FraudScorer, data: Transactions, name: str) -> list[Row]:
    """Milliseconds of one payment by `OnlineScorer`, on one core."""
    late = np.arange(len(data)) >= len(data) - ONLINE
    schema, frame = data.schema, data.frame[late]
    columns = {schema.entity: frame["entity"], schema.time: frame["time"], schema.amount: frame["amount"]}
    columns |= {c: frame[c] for c in (*schema.categorical, *schema.numeric)}
    payments = [
        dict(zip(columns, values, strict=True)) for values in zip(*(c.tolist() for c in columns.values()), strict=True)
    ]
    wall, cpu = np.zeros(ONLINE), np.zeros(ONLINE)
    with one_thread():
        cards = OnlineScorer.from_history(scorer, data.where(~late))
        for i, payment in enumerate(payments):
            busy, start = time.process_time(), time.perf_counter()
            cards.score(payment)
            wall[i], cpu[i] = time.perf_counter() - start, time.process_time() - busy
    rows = []
    for what, taken in (("ms a payment", wall), ("processor ms a payment", cpu)):
        for share, mark in ((50, ""), (99, "goal ≤ 10 ms")):
            note = f"{ONLINE - WARM} payments; {mark}" if mark else f"{ONLINE - WARM} payments"
            rows.append(row(name, "online score", "ours", f"{what}, p{share}", float(np.percentile(taken[WARM:] * 1e3, share)), note=note))  # fmt: skip
    return rows


def training(encoder: TransactionEncoder, data: Transactions, name: str, out: Path) -> list[Row]:
    """Events that a step of training reads a core-second, beside pytorch-lifestream's CoLES where it is installed.

    The side `lean` embeds no number: what the sines of numbers cost, which pytorch-lifestream reads as they are.
    """
    out.mkdir(parents=True, exist_ok=True)
    few = encoder.encode(data.where(data.card < TRAINED_CARDS)).histories.ragged
    place = str(write(out / "histories.npz", few, encoder.codec_.fields))
    names = peers.beside(["ours", "lean", "masked"], PEERS)
    sides, last = peers.compare("finance.peers", names, 7, data=place, dim=64, batch=64, steps=6, longest=77)
    said = {"ours": "simclr on slices, GRU of 64", "lean": "simclr on slices, GRU of 64, categories alone", "masked": "masked fields, Transformer of 64", "ptls": "pytorch-lifestream's CoLES, GRU of 64"}  # fmt: skip
    rows = [
        row(name, said[side], "peer" if side == "ptls" else "ours", "events trained a core-second",
            peers.median(sides[side].each("cpu")),
            note=f"{last[side]['weights']} parameters, {last[side]['memory']:.0f} MB above the start")
        for side in names
    ]  # fmt: skip
    if "ptls" in names:
        for side, goal in (("ours", 2.0), ("lean", None)):
            ratio = peers.faster(sides, "ptls", "cpu", side)
            rows.append(
                row(name, said[side], "ours", "ratio: events trained, to pytorch-lifestream's", ratio, goal=goal)
            )
    return rows


def over(values: list[float]) -> Estimate:
    """The median, and the range."""
    return Estimate(float(np.median(values)), min(values), max(values))
