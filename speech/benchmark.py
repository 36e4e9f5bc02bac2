"""The benchmark of speech: which tests there are, and what each of them runs.

`smoke` holds out two speakers for a minute, with checks on sanity; the tests of quality are speech.sets_bench's, `speakers` is
speech.speakers_bench's, `methods` speech.methods_bench's, `speed` speech.speed's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from core.bench import Bench, Row
from core.config import to_dict
from core.errors import UserError
from speech import methods_bench, speed
from speech.data import Recordings
from speech.estimators import AudioEncoder
from speech.outcome import PRETRAINED, RANDOM
from speech.presets import Recipe, recipe
from speech.probes import heard
from speech.protocol import speaker_folds
from speech.sets_bench import Ground, frozen, gain, ten_percent, tuned
from speech.speakers_bench import speakers
from speech.terms import SETS, Terms

DATA = "fsdd"  # of smoke, methods and speakers
TESTS = (*SETS, "gain", "speakers", *(f"{name}-tuned" for name in SETS), "ten-percent")  # what costs most comes last
Say = Callable[[str], None]
Read = Callable[[str, Recipe], Recordings]


def read(data: str, settings: Recipe) -> Recordings:
    """A set's recordings as the recipe's encoder reads them."""
    return AudioEncoder(settings).read(data)


@dataclass(frozen=True)
class BenchConfig:
    """How much is spent.

    Attributes:
        seeds: runs of the whole protocol.
        sets: the terms of each test on a set.
        voices: steps of the training for speakers.
    """

    seeds: int = 3
    sets: dict[str, Terms] = field(default_factory=lambda: dict(SETS))
    voices: int = 300


def bench(
    only: str | None, minutes: float | None, config: BenchConfig, out: Path, say: Say, reads: Read = read
) -> int:  # fmt: skip
    """Run one test or all; returns the exit code, 1 where `smoke` finds something amiss.

    Args:
        minutes: of each training of `methods`, in the place of its steps.

    Raises:
        UserError: an unknown test.
    """
    if only not in (None, "smoke", "speed", "methods", *TESTS) and not str(only).startswith("methods-"):
        known = ", ".join([*TESTS, "speed", "methods", "smoke"])
        raise UserError(f"no test '{only}'", where="--only", mend=f"choose from {known}")
    if config.seeds < 1 or (minutes is not None and minutes <= 0):
        raise UserError("nothing to run", where="bench", mend="give minutes above 0 and seeds of 1 or more")
    if only == "smoke":
        return smoke(say)
    if only == "speed":
        record = Bench(out, {"contests": repr(speed.CONTESTS)}, say)
        record.run(only, 0, lambda: speed.speed(say, speed.CONTESTS))
        say(f"results: {record.write()}")
        return 0
    if only is None or only.startswith("methods"):
        chosen = [] if only in (None, "methods") else [str(only).removeprefix("methods-")]
        methods_bench.run(reads(DATA, recipe("simclr")), out, minutes, config.seeds, chosen, say)
        if only is not None:
            return 0
    for seed in range(config.seeds):
        grounds = {name: Ground(terms, seed, out, say, reads) for name, terms in config.sets.items()}
        for test in (only,) if only else TESTS:
            for part, settings, work in _parts(test, grounds, config, seed, say, reads):
                Bench(out, settings, say).run(part, seed, work)
    say(f"results: {Bench(out, {}, say).write()}")
    return 0


def _parts(
    test: str, grounds: dict[str, Ground], config: BenchConfig, seed: int, say: Say, reads: Read
) -> list[tuple[str, dict[str, Any], Callable[[], list[Row]]]]:
    """The parts of the record that a test is made of: their names, what their figures depend on, and how they are measured."""
    if test == "speakers":
        settings = recipe("voices")
        settings = replace(settings, train=replace(settings.train, steps=config.voices, precision="bf16"))

        def voices() -> list[Row]:
            return speakers(DATA, reads("arabic-digits", settings), reads(DATA, settings), settings, seed, say)

        return [(test, {"recipe": to_dict(settings)}, voices)]
    ask = {"gain": gain, "ten-percent": ten_percent}.get(test)
    if ask is not None:  # the same is asked of every set
        return [(f"{test}-{g.terms.data}", _terms(g.terms), partial(ask, g)) for g in grounds.values()]
    ground = grounds[test.removesuffix("-tuned")]
    return [(test, _terms(ground.terms), partial(frozen if test in grounds else tuned, ground))]


def _terms(terms: Terms) -> dict[str, Any]:
    """What the figures of a set depend on; parts made under other settings are made again."""
    return {"terms": asdict(terms), "recipes": {name: to_dict(recipe(name)) for name in terms.candidates}}


def smoke(say: Say, chosen: Recipe | None = None, steps: int = 60) -> int:
    """Two held-out speakers of the real data in about a minute; 1 where training does not beat the same net untrained."""
    recordings = AudioEncoder("simclr").read(DATA)
    say(recordings.summary())
    test = np.isin(speaker_folds(recordings), (0, 3))
    encoder = AudioEncoder(chosen or "simclr", steps=steps, seed=0).fit(recordings.select(~test), note=say)
    truth, few = recordings.label.astype(str), np.flatnonzero(~test)[::5]
    accuracy = {}
    for name, model in ((PRETRAINED, encoder), (RANDOM, encoder.untrained(0))):
        said = heard(model.transform(recordings), truth, few, test, None, (1e-2,))
        accuracy[name] = float((said == truth[test]).mean())
        say(f"{name}: accuracy {accuracy[name]:.3f} on two held-out speakers, {len(few)} labels")
    wrong = []
    if accuracy[PRETRAINED] < accuracy[RANDOM] + 0.02:
        wrong.append("pretraining does not beat the same net untrained")
    if accuracy[PRETRAINED] < 0.4:
        wrong.append("pretrained features are near chance")
    for line in wrong:
        say(f"smoke: {line}")
    return 1 if wrong else 0
