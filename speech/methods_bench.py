"""Does every method learn from recordings? Each trained briefly on one core, and examined beside its untrained network.

The exam: digits of a speaker whom neither pretraining nor the probes have heard; the seed says who.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from core.bench import Bench, Row
from core.config import to_dict
from core.device import one_thread
from core.proof import Exam, examine
from speech.data import Recordings
from speech.estimators import AudioEncoder
from speech.presets import RECIPES, Recipe, recipe
from speech.protocol import speaker_folds, split

DATA = "fsdd"
OTHERS = ("simclr-strong", "sounds", "voices")  # simclr on other views
STEPS = 400  # about a minute of one core, each method and seed; steps, so that a busy machine changes nothing


def run(
    recordings: Recordings,
    out: Path,
    minutes: float | None,
    seeds: int,
    methods: Sequence[str],
    say: Callable[[str], None],
) -> None:
    """Every method and seed, one part of the record each.

    Args:
        minutes: of training, in the place of `STEPS`.
        methods: all of them where none is named.

    Raises:
        UserError: an unknown method.
    """
    for seed in range(seeds):
        for name in methods or [name for name in RECIPES if name not in OTHERS]:
            settings = recipe(name)
            budget = {"minutes": minutes, "steps": None} if minutes else {"minutes": None, "steps": STEPS}
            settings = replace(settings, train=replace(settings.train, **budget))
            record = Bench(out, {"recipe": to_dict(settings)}, say)
            record.run(f"methods-{name}-{DATA}", seed, partial(proof, settings, recordings, seed))
    say(f"results: {Bench(out, {}, say).write()}")


def proof(settings: Recipe, recordings: Recordings, seed: int) -> list[Row]:
    """Train on all speakers but one, then examine on that one."""
    if settings.encoder.kind == "wave":  # `recordings` are log-mel
        recordings = AudioEncoder(settings).read(DATA)
    folds = int(speaker_folds(recordings).max()) + 1
    held = split(recordings, seed % folds)
    speaker = recordings.speaker.astype(str)
    exam = Exam(recordings.label.astype(str), held.train, held.test, "accuracy", speaker)
    with one_thread():
        encoder = AudioEncoder(settings, seed=seed).fit(recordings.select(held.train), note=lambda line: None)
        trained, untrained = encoder.transform(recordings), encoder.untrained(seed).transform(recordings)
    # one speaker is one cluster: the interval within a seed is over recordings, that between speakers comes with the seeds
    exam = replace(exam, groups=np.where(held.test, np.arange(len(speaker)).astype(str), speaker))
    note = f"{encoder.steps_done()} steps; held-out speaker {seed % folds + 1} of {folds}"
    return examine(DATA, settings.method, trained, untrained, exam, seed=seed, note=note)
