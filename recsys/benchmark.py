"""The benchmark: Amazon sequences as prepared for S3-Rec, leave one out, all items ranked, history excluded.

tacit-recsys bench                      all tests, 3 seeds, 10 minutes of pretraining each
tacit-recsys bench --only smoke         60 to 90 seconds, exit code 1 where something is wrong
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from core.bench import Bench, Row, row
from core.config import to_dict
from core.datasets import sha256
from core.errors import UserError
from core.statistics import Estimate
from recsys import methods_bench
from recsys.data import Loaded, load
from recsys.estimators import SessionRecommender
from recsys.evaluation import from_scratch, over_draws, paired, sparser, tuned_floors
from recsys.presets import PRESETS, recipe
from recsys.ranking import MAIN, METRICS, Ranking, rank_all
from recsys.split import leave_one_out

GOALS = {"beauty": 0.0531, "sports": 0.0323, "toys": 0.0580}  # ndcg@10, ours: the best that is published
# hr@10, ndcg@10 as printed in the picture `all_rank.PNG` of github.com/RUCAIBox/CIKM2020-S3Rec and in the README of
# github.com/salesforce/ICLRec; same files, same protocol. SASRec+SS: README of github.com/blondered/transformer_benchmark.
PUBLISHED: dict[str, dict[str, tuple[float, float]]] = {
    "beauty": {
        "SASRec (S3-Rec table)": (0.0605, 0.0318),
        "BERT4Rec (S3-Rec table)": (0.0347, 0.0170),
        "S3-Rec": (0.0647, 0.0327),
        "ICLRec": (0.0744, 0.0403),
        "SASRec+SS": (0.0921, 0.0531),
    },
    "sports": {
        "SASRec (S3-Rec table)": (0.0350, 0.0192),
        "BERT4Rec (S3-Rec table)": (0.0191, 0.0099),
        "S3-Rec": (0.0385, 0.0204),
        "ICLRec": (0.0437, 0.0238),
        "SASRec+SS": (0.0569, 0.0314),
    },
    "toys": {
        "SASRec (S3-Rec table)": (0.0675, 0.0374),
        "BERT4Rec (S3-Rec table)": (0.0203, 0.0099),
        "S3-Rec": (0.0700, 0.0376),
        "ICLRec": (0.0834, 0.0480),
        "SASRec+SS": (0.0970, 0.0580),
    },
}
FRACTIONS = (0.1, 0.3)


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def bench(out: Path, only: str, budget: float | None, seeds: int, device: str) -> Path:
    """Run the tests whose (test, seed) is not there yet; returns `results.json`.

    Raises:
        UserError: an unknown test.
    """
    minutes = budget or 10.0
    if only == "methods" or only.startswith("methods-"):
        chosen = [only.removeprefix("methods-")] if only != "methods" else []
        return methods_bench.run(out, budget, seeds, methods=chosen, say=say)
    recipes = {name: to_dict(recipe(name)) for name in PRESETS}
    record = Bench(out, {"minutes": minutes, "device": device, "recipes": recipes}, say)
    tests: dict[str, Callable[[int], list[Row]]] = {
        "beauty": lambda seed: quality("beauty", "next", minutes, seed, device, out),
        "sports": lambda seed: quality("sports", "next", minutes, seed, device, out),
        "toys": lambda seed: quality("toys", "next", minutes, seed, device, out),
        "bert4rec": lambda seed: quality("beauty", "bert4rec", minutes, seed, device, out, floors=False),
        "users": lambda seed: fewer_users("beauty", minutes, seed, device, out),
    }
    if only and only not in tests:
        raise UserError(
            f"no test '{only}'", where="--only", mend=f"choose from {', '.join([*tests, 'methods', 'smoke'])}"
        )
    for test in [only] if only else tests:
        for seed in range(seeds):
            record.run(test, seed, lambda test=test, seed=seed: tests[test](seed))  # type: ignore[misc]
            record.write()
    if not only:
        methods_bench.run(out, budget, seeds, say=say)
    return record.write()


def trained(
    data: str, loaded: Loaded, method: str, minutes: float, seed: int, device: str, out: Path
) -> SessionRecommender:
    """A recommender that never saw the last two events of a user; read back where an earlier test trained the same."""
    folder, digest = out / "runs" / f"{data}-{method}-{seed}", sha256(loaded.file)
    model = SessionRecommender(method, minutes=minutes, seed=seed, device=device, hold_out=2)
    if (folder / "config.json").exists():
        found = SessionRecommender.load(folder)
        if found.recipe_ == model.recipe() and found.data_ == digest:
            found.device = device
            return found
    model.fit_sequences(loaded.sequences, folder, say, digest).save(folder)
    return model


def quality(
    data: str, method: str, minutes: float, seed: int, device: str, out: Path, floors: bool = True
) -> list[Row]:
    """All metrics of one trained model, the tuned floors, the untrained encoder, and the published figures."""
    loaded = load(data)
    split = leave_one_out(loaded.sequences)
    model = trained(data, loaded, method, minutes, seed, device, out)
    ours = rank_all(model, split.test)
    rows = _rows(data, method, "ours", ours, goal=GOALS.get(data) if method == "next" else None)
    if not floors:
        return rows
    simple = {name: rank_all(floor, split.test) for name, floor in tuned_floors(split).items()}
    simple["untrained"] = rank_all(model.untrained(), split.test)
    for name, ranking in simple.items():
        rows += _rows(data, name, "floor", ranking)
    best = max(simple, key=lambda name: simple[name].per_user(MAIN).mean())
    rows.append(row(data, f"{method} minus {best}", "ours", f"{MAIN} difference", paired(ours, simple[best])))
    rows.append(row(data, f"{method} minus untrained", "ours", f"{MAIN} difference", paired(ours, simple["untrained"])))
    for name, figures in PUBLISHED[data].items():
        rows += [
            row(data, name, "published", metric, value) for metric, value in zip(("hr@10", MAIN), figures, strict=True)
        ]
    return rows


def fewer_users(data: str, minutes: float, seed: int, device: str, out: Path) -> list[Row]:
    """One draw of users: the encoder and the floors trained on a tenth and three tenths of them, and on all."""
    loaded = load(data)
    split = leave_one_out(loaded.sequences)
    model = trained(data, loaded, "next", minutes, seed, device, out)
    floors = tuned_floors(split)
    whole = rank_all(model, split.test)
    rows = _rows(data, "next, 100% of users", "ours", whole)
    for fraction in FRACTIONS:
        part = sparser(split, fraction, seed)
        scratch = rank_all(from_scratch(model, part, fraction, seed, say), split.test)
        rows += _rows(data, f"next, {fraction:.0%} of users", "ours", scratch)
        difference = over_draws((whole.per_user(MAIN) - scratch.per_user(MAIN))[None], seed)
        rows.append(row(data, f"next, 100% minus {fraction:.0%} of users", "ours", f"{MAIN} difference", difference))
        for name, floor in floors.items():
            ranking = rank_all(replace(floor).fit(part), split.test)
            rows += _rows(data, f"{name}, {fraction:.0%} of users", "floor", ranking)
    return rows


def smoke(device: str = "cpu", steps: int = 500) -> int:
    """Beauty end to end in about a minute: 0 where the figures are sane, else 1 and what is not.

    Steps rather than minutes, so that a busy machine takes longer but does not fail.
    """
    from tempfile import TemporaryDirectory

    started = time.monotonic()
    loaded = load("beauty")
    split = leave_one_out(loaded.sequences)
    model = SessionRecommender(steps=steps, device=device, hold_out=2, changes=("train.lr=0.004", "model.dropout=0.3"))
    model.fit_sequences(loaded.sequences, note=say, data=sha256(loaded.file))
    with TemporaryDirectory() as folder:
        model.save(Path(folder) / "run")
        again = SessionRecommender.load(Path(folder) / "run")
    asked = split.test.sample(4000, 0)
    simple = {name: rank_all(floor, asked) for name, floor in tuned_floors(split, questions=500).items()}
    simple["untrained"] = rank_all(model.untrained(), asked)
    found = {name: float(ranking.per_user(MAIN).mean()) for name, ranking in simple.items()}
    ours = float(rank_all(again, asked).per_user(MAIN).mean())
    say(
        f"{MAIN} of {len(asked)} users: ours {ours:.4f}, "
        + ", ".join(f"{name} {value:.4f}" for name, value in found.items())
    )
    few = again.recommend_sequences(asked.history.select(np.arange(3)), k=5)
    wrong = [
        line
        for fine, line in (
            (ours > found["untrained"] + 0.01, "the trained encoder is no better than the untrained one"),
            (ours > 2 * found["popularity"], "the trained encoder is no better than popularity"),
            (
                found["item_knn"] > 0.03 and found["session_knn"] > 0.03,
                "a floor fell below what it reaches on this data",
            ),
            (len(few) == 15 and bool((few["note"] == "").all()), "recommendations are missing"),
        )
        if not fine
    ]
    for line in wrong:
        say(f"smoke: {line}")
    say(f"smoke: {'failed' if wrong else 'fine'} in {time.monotonic() - started:.0f} s")
    return 1 if wrong else 0


def _rows(data: str, method: str, role: str, ranking: Ranking, goal: float | None = None) -> list[Row]:
    metrics = ranking.metrics()
    coverage = Estimate(ranking.coverage(), float("nan"), float("nan"))
    rows = [row(data, method, role, name, metrics[name], goal=goal if name == MAIN else None) for name in METRICS[:3]]
    return [*rows, row(data, method, role, "coverage@10", coverage)]
