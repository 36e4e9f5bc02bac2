"""Does every method learn from card histories? Each trained briefly on one core, and examined beside its untrained network.

The exam: from the state after a payment, tell payments with leaked card details (scenario 3) or of an absurd amount (scenario 1) from
genuine ones, with few labels. Methods learn, without labels, from the days before the test weeks; the probes from some frauds among
them. With all 1,498 frauds of six weeks a linear probe of the untrained network finds as many as one of the trained (masked, seed 1:
auroc +.000 [-.003, .003]; with 50 of them +.012 [.005, .022]): what pretraining saves here is labels, so that they are what is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from core.bench import FAILED, Bench, Row
from core.config import to_dict
from core.device import one_thread
from core.proof import Exam, examine
from finance.estimators import TransactionEncoder
from finance.evaluation import Study
from finance.presets import METHODS, Recipe, recipe_for

STEPS = 500  # about a minute of one core, each method and seed; steps, so that a busy machine changes nothing
LONGER = {"cpc": 1000}  # at 500 the linear probe's interval still held 0
KINDS = (1, 3)  # scenarios that leave a trace in the card's own history
DAYS = 45  # before the test weeks, in which the probes' frauds lie
FRAUDS = 50  # that the probes learn from,
PER_FRAUD = 20  # with this many genuine payments each
GENUINE = 12_000  # payments of the test weeks that are asked about


def run(
    study: Study, out: Path, minutes: float | None, seeds: int, methods: Sequence[str], say: Callable[[str], None]
) -> int:
    """Every method and seed, one part of the record each; returns the exit code, 1 where a figure is missing.

    Args:
        minutes: of training, in the place of `STEPS` and `LONGER`.
        methods: all of them where none is named.

    Raises:
        UserError: an unknown method.
    """
    failed = False
    for seed in range(seeds):
        for name in methods or METHODS:
            recipe = recipe_for(name)
            steps = None if minutes else LONGER.get(name, STEPS)
            recipe = replace(recipe, train=replace(recipe.train, seed=seed, minutes=minutes or None, steps=steps))
            settings = to_dict(recipe)
            settings["train"].pop("seed")
            record = Bench(out, {"recipe": settings}, say)
            made = record.run(f"methods-{name}-{study.data.name}", seed, partial(proof, study, recipe))
            failed |= any(r["metric"] == FAILED for r in made)
    say(f"results: {Bench(out, {}, say).write()}")
    return int(failed)


def proof(study: Study, recipe: Recipe) -> list[Row]:
    """Train before the test week, then examine."""
    data, seed = study.data, recipe.train.seed
    draw = np.random.default_rng(seed)
    test, before = data.day >= study.split.test, data.day >= study.split.test - DAYS
    fraud, genuine = np.isin(data.scenario, KINDS), data.scenario == 0
    chosen = fraud & test
    for rows, count in (
        (genuine & test, GENUINE),
        (fraud & before & ~test, FRAUDS),
        (genuine & before & ~test, FRAUDS * PER_FRAUD),
    ):
        chosen[draw.permutation(np.flatnonzero(rows))[:count]] = True
    at = np.flatnonzero(chosen)
    exam = Exam(fraud[at].astype(np.int64), ~test[at], test[at], "auroc", data.card[at])
    with one_thread():
        encoder = TransactionEncoder(recipe).fit(data, until=study.split.test, note=lambda line: None)
        trained = encoder.transform(data, chosen)[at]
        untrained = encoder.untrained(seed).transform(data, chosen)[at]
    asked = int(exam.label[exam.test].sum())
    note = f"{encoder.history_.steps} steps; probes learn from {FRAUDS} frauds, {asked} in the {study.split.test_days} test days"
    return examine(data.name, recipe.method, trained, untrained, exam, seed=seed, note=note)
