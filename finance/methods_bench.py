"""Does every method learn from card histories? Each trained briefly on one core, and examined beside its untrained network.

The exam: from the state after a payment, tell payments with leaked card details (scenario 3) or of an absurd amount (scenario 1) from
genuine ones. The probes learn from the weeks before the test week and are asked about the test week; so do the methods, without labels.
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
from finance.presets import METHODS, Recipe, recipe_for
from finance.study import Study

STEPS = 500  # about a minute of one core, each method and seed; steps, so that a busy machine changes nothing
LONGER = {"cpc": 1000}  # at 500 the linear probe's interval still held 0
KINDS = (1, 3)  # scenarios that leave a trace in the card's own history
DAYS = 45  # before the test week, in which the probes' frauds lie
GENUINE = 6000  # payments, before the test week and in it


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
    fraud = np.isin(data.scenario, KINDS)
    chosen = fraud & before
    for period in (before & ~test, test):
        chosen[draw.permutation(np.flatnonzero(period & (data.scenario == 0)))[:GENUINE]] = True
    at = np.flatnonzero(chosen)
    exam = Exam(fraud[at].astype(np.int64), ~test[at], test[at], "auroc", data.card[at])
    with one_thread():
        encoder = TransactionEncoder(recipe).fit(data, until=study.split.test, note=lambda line: None)
        trained = encoder.transform(data, chosen)[at]
        untrained = encoder.untrained(seed).transform(data, chosen)[at]
    note = f"{encoder.history_.steps} steps; {int(exam.label[exam.test].sum())} frauds in the test week"
    return examine(data.name, recipe.method, trained, untrained, exam, seed=seed, note=note)
