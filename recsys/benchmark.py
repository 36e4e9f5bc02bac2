"""The benchmark: Amazon sequences as prepared for S3-Rec, leave one out, all items ranked, history excluded.

tacit-recsys bench                      all tests, 3 seeds, so many steps as `STEPS` says
tacit-recsys bench --only smoke         60 to 90 seconds, exit code 1 where something is wrong
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from core.bench import Bench, Row, row
from core.cli import say
from core.config import to_dict
from core.datasets import sha256
from core.errors import UserError
from core.statistics import Estimate
from recsys import claims, methods_bench, session_bench, speed
from recsys.data import Loaded, load
from recsys.estimators import SessionRecommender
from recsys.evaluation import from_scratch, gained, over_draws, paired, sparser, tuned_floors
from recsys.hybrid import chosen
from recsys.pace import pace
from recsys.prepare_speed import prepare_speed
from recsys.presets import PRESETS, recipe
from recsys.protocol import training_file
from recsys.ranking import MAIN, METRICS, Ranking, rank_all
from recsys.sequences import Sequences
from recsys.split import leave_one_out

AMAZON = ("beauty", "sports", "toys")
# the best that is published
GOALS: dict[str, dict[str, float]] = {
    "beauty": {MAIN: 0.0531, "hr@10": 0.0921}, "sports": {MAIN: 0.0323, "hr@10": 0.0569}, "toys": {MAIN: 0.0580, "hr@10": 0.0970},
    "movielens_1m_sasrec": {MAIN: 0.1857, "hr@10": 0.3159},
}  # fmt: skip
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
    "movielens_1m_sasrec": {
        "SASRec (Klenitskiy & Vasilev)": (0.2500, 0.1341),
        "BERT4Rec (Klenitskiy & Vasilev)": (0.2843, 0.1537),
        "SASRec+ 3000 (Klenitskiy & Vasilev)": (0.3159, 0.1857),
        "gSASRec": (0.3003, 0.1726),
        "HSTU-large": (0.3294, 0.1893),
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
ONCE = ("prepare", "latency", "catalogue", "training", "pace")  # speed, the same for every seed
# steps of training, by data and method
STEPS = {
    ("beauty", "next"): 1050, ("sports", "next"): 1670, ("toys", "next"): 910, ("movielens_1m_sasrec", "next"): 11000,
    ("diginetica", "next"): 2600, ("tmall", "next"): 800, ("retailrocket", "next"): 1500, ("nowplaying", "next"): 1500,
    ("beauty", "bert4rec"): 6000,
}  # fmt: skip
SHAPES = {
    **dict.fromkeys(session_bench.CHOSEN, session_bench.SHAPE),
    # histories are long and items few: all items are scored, and windows at random places read what lies before the last 200 events
    "movielens_1m_sasrec": (
        "model.length=200",
        "model.depth=2",
        "model.dim=64",
        "model.dropout=0.2",
        "model.negatives=0",
        "model.chunk=64",
        "batch_size=32",
        "crop=random",
    ),
}
# tasks beside the next item, and how many times as long a step takes as without
DEARER = {"next+attributes": 1.2, "next+cl4srec": 1.35, "next+replaced": 1.2, "duorec": 2.3}


@dataclass(frozen=True)
class Budget:
    """How long a benchmark's models train: so many steps, which a busy machine does not change, or minutes where those are given.

    Attributes:
        minutes: of training; None takes the steps of `STEPS`.
        device: cpu, cuda, ….
        out: the benchmark's folder, where trained models are kept for tests that share them.
    """

    minutes: float | None
    device: str
    out: Path

    def model(
        self, data: str, method: str, seed: int, hold_out: int = 2, attributes: pd.DataFrame | None = None
    ) -> SessionRecommender:
        """An untrained recommender of this budget."""
        alone = STEPS.get((data, method), STEPS[data, "next"])
        steps = None if self.minutes else round(alone / DEARER.get(method, 1.0))
        return SessionRecommender(
            method, self.minutes, steps, seed, self.device, hold_out, SHAPES.get(data, ()), attributes=attributes
        )  # fmt: skip

    def fitted(self, data: str, loaded: Loaded, method: str, seed: int) -> SessionRecommender:
        """A recommender trained on all but each user's last two events."""
        told = methods_bench.attributes(loaded) if "attributes" in method else None
        model = self.model(data, method, seed, attributes=told)
        return self.trained(f"{data}-{method}", model, loaded.sequences, sha256(loaded.file))

    def trained(self, name: str, model: SessionRecommender, sequences: Sequences, digest: str) -> SessionRecommender:
        """The model trained on the sequences; read back where an earlier test trained the same."""
        folder = self.out / "runs" / f"{name}-{model.seed}"
        if (folder / "config.json").exists():
            found = SessionRecommender.load(folder)
            if found.recipe_ == model.recipe() and found.data_ == digest:
                found.device = self.device
                return found
        model.fit_sequences(sequences, folder, say, digest).save(folder)
        return model


def bench(out: Path, only: str, budget: float | None, seeds: int, device: str) -> Path:
    """Run the tests whose (test, seed) is not there yet; returns `results.json`.

    Raises:
        UserError: an unknown test.
    """
    if only == "methods" or only.startswith("methods-"):
        chosen = [only.removeprefix("methods-")] if only != "methods" else []
        return methods_bench.run(out, budget, seeds, methods=chosen, say=say)
    given = Budget(budget, device, out)
    tests = tests_of(given)
    if only and only not in tests:
        raise UserError(
            f"no test '{only}'", where="--only", mend=f"choose from {', '.join([*tests, 'methods', 'smoke'])}"
        )
    recipes = {name: to_dict(recipe(name)) for name in PRESETS}
    record = Bench(out, {"minutes": budget, "device": device, "recipes": recipes}, say)
    for test in [only] if only else tests:
        for seed in range(1 if test in ONCE else seeds):
            record.run(test, seed, partial(tests[test], seed))
            record.write()
    if not only:
        methods_bench.run(out, budget, seeds, say=say)
    return record.write()


def tests_of(given: Budget) -> dict[str, Callable[[int], list[Row]]]:
    """Every test by its name: rows of a seed."""
    quick = 600  # steps of the questions beside quality
    return {
        **{data: partial(quality, data, "next", given) for data in PUBLISHED},
        **{f"{data}-attributes": partial(with_attributes, data, given) for data in AMAZON},
        **{f"{data}-hybrid": partial(with_neighbours, data, given) for data in GOALS},
        "bert4rec": partial(quality, "beauty", "bert4rec", given, floors=False),
        "users": partial(fewer_users, "beauty", given),
        **{data: partial(sessions, data, given) for data in session_bench.CHOSEN},
        **{f"ssl-gain-{data}": partial(ssl_gain, data, given) for data in AMAZON},
        "few-sessions": lambda seed: claims.few_sessions(
            "movielens_100k", claims.movielens("movielens_100k"), quick, seed, given.device, say
        ),
        "few-sessions-generated": lambda seed: claims.few_sessions(
            "generated", claims.generated(seed), quick, seed, given.device, say
        ),
        "attributes": partial(attributes, given),
        "injected": lambda seed: claims.injected("beauty", STEPS["beauty", "next"], seed, given.device),
        "prepare": lambda seed: prepare_speed(given.out),
        "latency": lambda seed: speed.latency(),
        "catalogue": lambda seed: speed.catalogue(given.out),
        "training": lambda seed: speed.training(given.out),
        "pace": lambda seed: pace(given.out),
    }


def sessions(data: str, given: Budget, seed: int) -> list[Row]:
    """See `session_bench`."""
    model = given.model(data, "next", seed, hold_out=0)
    digest = sha256(training_file(data))
    return session_bench.session_quality(data, lambda train: given.trained(f"{data}-next", model, train, digest))


def attributes(given: Budget, seed: int) -> list[Row]:
    """See `claims.who`: whole sequences, read by the model of the test `movielens_1m_sasrec`."""
    loaded = load("movielens_1m_sasrec")
    return claims.who(given.fitted("movielens_1m_sasrec", loaded, "next", seed), loaded, seed)


def ssl_gain(data: str, given: Budget, seed: int) -> list[Row]:
    """Next item with an auxiliary task against next item alone, at equal minutes of training: the best by the validation items.

    Where no minutes are given, the models with a task train as many steps as take about as long (`DEARER`).
    """
    loaded = load(data)
    split = leave_one_out(loaded.sequences)
    chosen_by = split.validation.sample(8000, seed)
    found = {method: given.fitted(data, loaded, method, seed) for method in ("next", *DEARER)}
    worth = {method: rank_all(model, chosen_by) for method, model in found.items()}
    best = max(DEARER, key=lambda method: worth[method].per_user(MAIN).mean())
    rows = [row(data, method, "ours", f"{MAIN} of validation", r.interval(MAIN, seed)) for method, r in worth.items()]
    alone, with_task = rank_all(found["next"], split.test), rank_all(found[best], split.test)
    rows += [row(data, m, "ours", MAIN, r.interval(MAIN, seed)) for m, r in (("next", alone), (best, with_task))]
    note = f"{best}, {found[best].minutes_spent():.1f} minutes; next {found['next'].minutes_spent():.1f}"
    rows.append(_gain(data, best, with_task, alone, note))
    return rows


def quality(data: str, method: str, given: Budget, seed: int, floors: bool = True) -> list[Row]:
    """All metrics of one trained model, the tuned floors, the untrained encoder, and the published figures."""
    loaded = load(data)
    split = leave_one_out(loaded.sequences)
    model = given.fitted(data, loaded, method, seed)
    ours = rank_all(model, split.test)
    rows = _rows(data, method, "ours", ours, goals=GOALS[data] if method == "next" else None)
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


def with_attributes(data: str, given: Budget, seed: int) -> list[Row]:
    """Next item beside telling the items' attributes, against next item alone at equal cost: one of `ssl_gain`'s tasks, by itself."""
    loaded = load(data)
    split = leave_one_out(loaded.sequences)
    alone, told = (
        rank_all(given.fitted(data, loaded, method, seed), split.test) for method in ("next", "next+attributes")
    )
    return [
        *_rows(data, "next+attributes", "ours", told, goals=GOALS[data]),
        _gain(data, "next+attributes", told, alone),
    ]


def _gain(data: str, method: str, told: Ranking, alone: Ranking, note: str = "") -> Row:
    """What a task beside the next item gains, as a share of what next item alone reaches."""
    share = gained(told, alone)
    return row(data, f"{method} minus next alone", "ours", f"{MAIN} gain, as a share", share, goal=0.02, note=note)


def with_neighbours(data: str, given: Budget, seed: int) -> list[Row]:
    """The hybrid of the next-item model and tuned neighbours: which of them, and its weight, are chosen on the validation items."""
    loaded = load(data)
    split = leave_one_out(loaded.sequences)
    model = given.fitted(data, loaded, "next", seed)
    near = tuned_floors(split, only=("session_knn", "item_knn", "markov"))
    best, hybrid = chosen(model, near, split.validation.sample(4000, seed), repeats=split.repeats)
    note = f"weight {hybrid.weight:g} of the model, beside {best}"
    scorers = {"hybrid": hybrid, "next": model, **near}
    rankings = {name: rank_all(one, split.test) for name, one in scorers.items()}
    rows = [{**r, "note": note} for r in _rows(data, "hybrid", "ours", rankings["hybrid"], goals=GOALS[data])]
    for other in ("next", *near):
        gain = paired(rankings["hybrid"], rankings[other])
        rows.append(row(data, f"hybrid minus {other}", "ours", f"{MAIN} difference", gain, note=note))
    return rows


def fewer_users(data: str, given: Budget, seed: int) -> list[Row]:
    """One draw of users: the encoder and the floors trained on a tenth and three tenths of them, and on all."""
    loaded = load(data)
    split = leave_one_out(loaded.sequences)
    model = given.fitted(data, loaded, "next", seed)
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
    """Beauty end to end, and Tmall's neighbours, in about a minute: 0 where the figures are sane, else 1 and what is not.

    Steps rather than minutes, so that a busy machine takes longer but does not fail.
    """
    from tempfile import TemporaryDirectory

    started = time.monotonic()
    loaded = load("beauty")
    split = leave_one_out(loaded.sequences)
    model = SessionRecommender(
        steps=steps, device=device, hold_out=2, changes=("train.lr=0.004", "model.dropout=0.3", "model.dim=64")
    )
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
    neighbours = session_bench.quick_recall()
    say(f"tmall, neighbours: recall@20 {neighbours:.3f}")
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
            (neighbours > 0.45, "the neighbours fell below what they reach on tmall"),
            (len(few) == 15 and bool((few["note"] == "").all()), "recommendations are missing"),
        )
        if not fine
    ]
    for line in wrong:
        say(f"smoke: {line}")
    say(f"smoke: {'failed' if wrong else 'fine'} in {time.monotonic() - started:.0f} s")
    return 1 if wrong else 0


def _rows(data: str, method: str, role: str, ranking: Ranking, goals: Mapping[str, float] | None = None) -> list[Row]:
    metrics = ranking.metrics()
    coverage = Estimate(ranking.coverage(), float("nan"), float("nan"))
    rows = [row(data, method, role, name, metrics[name], goal=(goals or {}).get(name)) for name in METRICS[:3]]
    return [*rows, row(data, method, role, "coverage@10", coverage)]
