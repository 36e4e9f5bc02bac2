"""The benchmark of speech: FSDD, each speaker held out in turn, with the pretext chosen on the training speakers alone.

`smoke` holds out two speakers for a minute, with checks on sanity; `fsdd-floors` the simple methods; `fsdd-choice` the candidates' figures on inner folds;
`fsdd` the whole protocol. A fold that was measured is kept beside the parts, so that a stopped bench goes on within a test.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.bench import Bench, Row, row
from core.errors import UserError
from core.statistics import Estimate
from speech import methods_bench, speed
from speech.baselines import floor_features
from speech.data import Recordings
from speech.estimators import AudioEncoder
from speech.evaluation import (
    PRETRAINED,
    RANDOM,
    SCRATCH,
    TUNED,
    EvalConfig,
    Outcome,
    difference,
    equal_steps,
    floor_name,
    interval,
    join,
    measure,
    metric_name,
)  # fmt: skip
from speech.presets import CANDIDATES, RECIPES, Recipe
from speech.probes import heard, probe_groups
from speech.protocol import Split, speaker_folds, split

DATA = "fsdd"
GOAL = 0.75
OURS = "linear probe on the chosen pretext"
TESTS = ("fsdd-floors", "fsdd-choice", "fsdd")
Say = Callable[[str], None]


@dataclass(frozen=True)
class BenchConfig:
    """How much is spent.

    Attributes:
        minutes: of pretraining, each fold; choice_minutes: of each pretraining that only serves the choice.
        seeds: runs of the whole protocol.
        scratch_steps: of each training from scratch with all labels; None lets it read as many spectrograms as the pretraining.
        fine_tune: also train the pretrained encoder on, for as long as one training from scratch.
        draws: of few labels, in each seed and fold.
    """

    minutes: float = 1.0
    seeds: int = 3
    choice_minutes: float = 0.5
    scratch_steps: int | None = None
    fine_tune: bool = True
    draws: int = 1


def candidates() -> dict[str, Recipe]:
    """The pretexts that the choice is between; each fold takes the best on its own training speakers."""
    return {name: RECIPES[name]() for name in CANDIDATES}


def bench(only: str | None, minutes: float | None, config: BenchConfig, out: Path, say: Say) -> int:
    """Run one test or all; returns the exit code, 1 where `smoke` finds something amiss.

    Args:
        minutes: in the place of the configuration's.

    Raises:
        UserError: an unknown test.
    """
    config = config if minutes is None else replace(config, minutes=minutes)
    if only not in (None, "smoke", "speed", "methods", *TESTS) and not str(only).startswith("methods-"):
        known = ", ".join([*TESTS, "speed", "methods", "smoke"])
        raise UserError(f"no test '{only}'", where="--only", mend=f"choose from {known}")
    if config.minutes <= 0 or config.seeds < 1:
        raise UserError("nothing to run", where="bench", mend="give minutes above 0 and seeds of 1 or more")
    if only == "smoke":
        return smoke(say)
    if only == "speed":
        record = Bench(out, {"contests": repr(speed.CONTESTS)}, say)
        record.run(only, 0, lambda: speed.speed(say, speed.CONTESTS))
        say(f"results: {record.write()}")
        return 0
    recipes = hashlib.sha256(repr(candidates()).encode()).hexdigest()[:12]  # parts made by other recipes are made again
    spent = {key: value for key, value in asdict(config).items() if key != "seeds"}
    record = Bench(out, spent | {"recipes": recipes}, say)
    recordings = AudioEncoder("simclr").read(DATA)
    say(recordings.summary())
    if only is None or only.startswith("methods"):
        chosen = [] if only in (None, "methods") else [str(only).removeprefix("methods-")]
        methods_bench.run(recordings, out, minutes, config.seeds, chosen, say)
        if only is not None:
            return 0
    for test in (only,) if only else TESTS:
        if test == "fsdd-floors":
            record.run(test, 0, lambda: floors(recordings))
        elif test == "fsdd-choice":
            record.run(test, 0, lambda: choice_rows(choose(recordings, config, out, say)))
        else:
            for seed in range(config.seeds):
                record.run(test, seed, partial(whole, recordings, config, seed, out, say))
    say(f"results: {record.write()}")
    return 0


def floors(recordings: Recordings) -> list[Row]:
    """Log-mel statistics and logistic regression, every speaker held out in turn."""
    folds, truth, groups = speaker_folds(recordings), recordings.label.astype(str), probe_groups(recordings)
    rows = []
    for name, features in floor_features(recordings.signals).items():
        hits = np.zeros(len(recordings))
        for fold in range(folds.max() + 1):
            test = folds == fold
            hits[test] = heard(features, truth, ~test, test, groups) == truth[test]
        found = interval(hits, recordings.speaker.astype(str))
        rows.append(row(DATA, name, "floor", "accuracy", found, note=_by_speaker(hits, recordings)))
    return rows


def _by_speaker(hits: NDArray, recordings: Recordings) -> str:
    """Accuracy of each held-out speaker, in the order of the folds."""
    folds = speaker_folds(recordings)
    return "by fold " + " ".join(f"{hits[folds == fold].mean():.3f}" for fold in range(folds.max() + 1))


def choose(recordings: Recordings, config: BenchConfig, out: Path, say: Say) -> dict[str, Any]:
    """Every candidate's accuracy on inner folds, and each outer fold's choice.

    An encoder that has not seen speakers a and b, nor the probe their labels, is tested on b to choose for fold a and on a
    to choose for fold b. Pairs of neighbours in a ring give each fold two such figures, on speakers that are not its own.
    """
    folds = speaker_folds(recordings)
    count = int(folds.max()) + 1
    if count < 4:
        raise UserError(f"{count} folds are too few to choose inside", where=DATA, mend="give at least four speakers")
    figures: dict[str, dict[str, float]] = {}
    for name, candidate in candidates().items():
        figures[name] = {}
        for a, b in [(i, (i + 1) % count) for i in range(count)]:
            path = out / "folds" / f"choice-{_slug(name)}-{a}-{b}.json"
            settings = {"minutes": config.choice_minutes, "recipe": repr(candidate)}
            made = _kept(path, settings, partial(_inner, recordings, folds, candidate, (a, b), config))
            figures[name].update({f"{a}<-{b}": made["on_b"], f"{b}<-{a}": made["on_a"]})
            say(f"choice: {name}, without folds {a} and {b}: {made['on_a']:.3f} {made['on_b']:.3f}")
    chosen: list[str] = []
    inner: dict[str, list[float]] = {name: [] for name in figures}
    for fold in range(count):
        own = {
            name: float(np.mean([v for k, v in f.items() if k.startswith(f"{fold}<-")])) for name, f in figures.items()
        }
        for name, value in own.items():
            inner[name].append(value)
        chosen.append(max(own, key=lambda name: own[name]))
    return {"inner": inner, "chosen": chosen}


def _inner(
    recordings: Recordings, folds: NDArray, candidate: Recipe, pair: tuple[int, int], config: BenchConfig
) -> dict[str, float]:
    """Accuracy on either speaker of the pair, of an encoder and a probe that have seen neither."""
    train = ~np.isin(folds, pair)
    encoder = AudioEncoder(candidate, minutes=config.choice_minutes, seed=0).fit(
        recordings.select(train), note=lambda line: None
    )
    truth, tested = recordings.label.astype(str), folds[~train]
    said = heard(encoder.transform(recordings), truth, train, ~train, probe_groups(recordings))
    hits = said == truth[~train]
    return {key: float(hits[tested == fold].mean()) for key, fold in zip(("on_a", "on_b"), pair, strict=True)}


def choice_rows(choice: dict[str, Any]) -> list[Row]:
    """Inner figures as result rows: a mean over outer folds, never of a held-out speaker's own."""
    nan = float("nan")
    return [
        row(DATA, name, "ours", "accuracy on inner folds", Estimate(float(np.mean(values)), nan, nan),
            note="by outer fold " + " ".join(f"{v:.3f}" for v in values) + f"; chosen in {choice['chosen'].count(name)} folds")
        for name, values in choice["inner"].items()
    ]  # fmt: skip


def whole(recordings: Recordings, config: BenchConfig, seed: int, out: Path, say: Say) -> list[Row]:
    """All folds of one seed with the pretext that each fold's training speakers chose."""
    choice = choose(recordings, config, out, say)
    count = int(speaker_folds(recordings).max()) + 1
    outcomes, details = [], []
    for fold in range(count):
        name = choice["chosen"][fold]
        settings = {"config": repr(replace(config, seeds=1)), "recipe": repr(candidates()[name])}
        path = out / "folds" / f"fsdd-{seed}-{fold}.json"
        kept = _kept(path, settings, partial(_fold, recordings, config, seed, fold, candidates()[name], say))
        outcomes.append(_outcome(kept, recordings, split(recordings, fold)))
        details.append(name)
        say(f"seed {seed}, fold {fold}, {name}: {outcomes[-1].hits(PRETRAINED, 1.0).mean():.3f}")
    return outcome_rows(join(outcomes), "chosen inside: " + ", ".join(details))


def _fold(
    recordings: Recordings, config: BenchConfig, seed: int, fold: int, chosen: Recipe, say: Say
) -> dict[str, Any]:
    """Pretrain without the fold's speaker and measure every arm on it; what each arm said, as numbers of labels."""
    held = split(recordings, fold)
    encoder = AudioEncoder(chosen, minutes=config.minutes, seed=seed).fit(
        recordings.select(held.train), fold=fold, note=lambda line: None
    )
    scratch = config.scratch_steps or equal_steps(encoder)
    protocol = EvalConfig(draws=config.draws, scratch_steps=scratch, fine_tune=config.fine_tune, seed=1000 * seed)
    outcome = measure(encoder, recordings, held, protocol, say)
    classes = np.unique(recordings.label.astype(str))
    said = {
        arm: {str(f): np.searchsorted(classes, rows).tolist() for f, rows in by.items()}
        for arm, by in outcome.said.items()
    }
    return {"said": said, "labels": {str(f): n for f, n in outcome.labels.items()}, "facts": outcome.facts}


def _outcome(kept: dict[str, Any], recordings: Recordings, held: Split) -> Outcome:
    classes = np.unique(recordings.label.astype(str))
    test = held.test & (recordings.label != "")
    said = {arm: {float(f): classes[np.array(rows)] for f, rows in by.items()} for arm, by in kept["said"].items()}
    labels = {float(f): n for f, n in kept["labels"].items()}
    return Outcome(
        recordings.label[test].astype(str), recordings.speaker[test].astype(str), said, labels, kept["facts"]
    )


def outcome_rows(outcome: Outcome, note: str) -> list[Row]:
    """Accuracy of every arm and the paired differences, drawn by speaker; the note holds the figures by fold."""
    rows = []
    for arm in outcome.arms():
        role = "ours" if arm in (PRETRAINED, TUNED) else "floor"
        name = OURS if arm == PRETRAINED else floor_name(arm)
        for fraction in outcome.said[arm]:
            hits = outcome.hits(arm, fraction)
            by = " ".join(f"{hits[outcome.speaker == s].mean():.3f}" for s in sorted(set(outcome.speaker)))
            over = interval(hits, np.array([""] * len(hits)))
            words = f"by speaker {by}; over recordings {over}" + (
                f"; {note}" if arm == PRETRAINED and fraction == 1 else ""
            )
            metric = metric_name(fraction)
            goal = GOAL if arm == PRETRAINED and fraction == 1 else None
            rows.append(row(DATA, name, role, metric, interval(hits, outcome.speaker), goal=goal, note=words))
    if TUNED in outcome.arms():
        for fraction in outcome.labels:
            found = interval(outcome.hits(TUNED, fraction) - outcome.hits(SCRATCH, fraction), outcome.speaker)
            metric = f"difference: pretraining, {metric_name(fraction)}"
            rows.append(row(DATA, "fine-tuned", "ours", metric, found, note="against from scratch, equally long"))
    for question in ("pretraining", "best_tool"):
        for fraction in outcome.labels:
            best, found = difference(outcome, question, fraction)
            metric = f"difference: {question}, {metric_name(fraction)}"
            rows.append(row(DATA, OURS, "ours", metric, found, note=f"against {floor_name(best)}"))
    return rows


def _kept(path: Path, settings: dict[str, Any], work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What `work` gave under these settings before, else what it gives now."""
    if path.exists():
        known = json.loads(path.read_text(encoding="utf-8"))
        if known["settings"] == settings:
            return known["found"]
    found = work()
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps({"settings": settings, "found": found}) + "\n", encoding="utf-8")
    temporary.replace(path)
    return found


def _slug(name: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in name)


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
