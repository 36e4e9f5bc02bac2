"""Quality on three real sets: frozen and fine-tuned features beside their floors, on the recordings of whoever is held out.

The training side alone chooses the pretext and the learning rates; budgets are steps, so that a busy machine changes nothing. What every
arm said is kept beside the parts, so that a stopped bench goes on within a test.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.bench import Row, row
from core.device import one_thread
from core.errors import UserError
from core.files import whole
from core.probes import label_subset
from core.statistics import Estimate
from core.training import TrainConfig
from speech.baselines import floor_features
from speech.classifier import AudioClassifier
from speech.data import Recordings, together
from speech.estimators import AudioEncoder
from speech.evaluation import equal_steps
from speech.outcome import PRETRAINED, RANDOM, SCRATCH, TUNED, floor_name, interval
from speech.presets import Recipe, recipe
from speech.probes import heard, probe_groups
from speech.protocol import Split, speaker_folds, split
from speech.terms import Candidate, Terms
from speech.tuning import chosen_rate, shortened

BY_SPEAKER = "frozen, each speaker's own mean and spread taken out"
Say = Callable[[str], None]


def holds(recordings: Recordings) -> list[Split]:
    """Every test set with its training side: the set's own split where its speakers are apart, with what it calls val on the training side; else folds."""
    first = split(recordings)
    if first.fold is None:
        return [replace(first, train=~first.test)]
    return [split(recordings, fold) for fold in range(int(speaker_folds(recordings).max()) + 1)]


def inner(recordings: Recordings) -> list[tuple[NDArray[np.bool_], dict[int, NDArray[np.bool_]]]]:
    """Trainings that serve the choice: the rows that are seen, and for each fold the rows that are asked.

    Folds go in pairs: what has seen neither is asked one to choose for the other, so that a fold's choice knows nothing of its own test.
    """
    found = holds(recordings)
    if len(found) == 1:
        part = recordings.split
        if not (part == "val").any():
            raise UserError("nothing to choose on", where="split", mend="name some rows val")
        return [(part == "train", {0: part == "val"})]
    if len(found) < 4:
        raise UserError(f"{len(found)} folds are too few to choose inside", where="speaker", mend="give four or more")
    pairs = [(a, (a + 1) % len(found)) for a in range(0, len(found), 2)]
    return [(found[a].train & found[b].train, {a: found[b].test, b: found[a].test}) for a, b in pairs]


@dataclass
class Reading:
    """A set as one candidate hears it, with what pretraining hears as well."""

    recordings: Recordings
    pool: list[Recordings]

    @cached_property
    def floors(self) -> dict[str, NDArray]:
        return floor_features(self.recordings.signals)


@dataclass
class Ground:
    """One set, one seed: encoders and what their arms said, made once and kept in `out`.

    Args:
        read: gives a set's recordings by name, prepared for a recipe.
    """

    terms: Terms
    seed: int
    out: Path
    say: Say
    read: Callable[[str, Recipe], Recordings]

    def recipe(self, candidate: Candidate, steps: int) -> Recipe:
        """A candidate of so many steps; half precision, which halves the time where the processor knows it."""
        chosen = replace(recipe(candidate.name), trim=candidate.trim)
        if self.terms.width is not None:
            chosen = replace(chosen, encoder=replace(chosen.encoder, width=self.terms.width))
        return replace(chosen, train=replace(chosen.train, steps=steps, minutes=None, precision="bf16"))

    @cached_property
    def candidates(self) -> list[Candidate]:
        return [Candidate(name, trim) for name in self.terms.candidates for trim in self.terms.trims]

    @cached_property
    def readings(self) -> dict[bool, Reading]:
        """The same recordings with their quiet ends and without, as far as the terms ask for both."""
        found = {}
        for trim in self.terms.trims:
            first = replace(recipe(self.terms.candidates[0]), trim=trim)
            found[trim] = Reading(self.read(self.terms.data, first), [self.read(n, first) for n in self.terms.pool])
        return found

    @cached_property
    def recordings(self) -> Recordings:
        """What does not depend on how they are heard: labels, speakers, splits."""
        return self.readings[self.terms.trims[0]].recordings

    def heard_by(self, encoder: AudioEncoder) -> Recordings:
        return self.readings[encoder.recipe_.trim].recordings

    def heard_in(self, fold: int) -> Reading:
        """The set as the fold's choice hears it: its floors hear the same."""
        return self.readings[self.chosen[fold].trim]

    @cached_property
    def holds(self) -> list[Split]:
        return holds(self.recordings)

    @cached_property
    def truth(self) -> NDArray:
        return self.recordings.label.astype(str)

    @cached_property
    def chosen(self) -> list[Candidate]:
        """Each fold's pretext: the best of its training side."""
        return [max(by, key=lambda one: by[one]) for by in self.inner]

    @cached_property
    def inner(self) -> list[dict[Candidate, float]]:
        """Accuracy of every candidate inside each fold's training side; by one seed, since a choice is made once."""
        every = self.candidates
        figures: list[dict[Candidate, list[float]]] = [{one: [] for one in every} for _ in self.holds]
        if len(every) == 1:
            return [{every[0]: float("nan")} for _ in self.holds]
        for one in every:
            settings = self.recipe(one, self.terms.choice)
            for number, (seen, asked) in enumerate(inner(self.recordings)):
                work = partial(self._inner, settings, seen, asked)
                made = self.kept(f"choice-{one}-{number}", repr(settings), work, seed=0)
                self.say(f"{self.terms.data}, inside: {one} {made}")
                for fold, value in made.items():
                    figures[int(fold)][one].append(value)
        return [{one: float(np.mean(values)) for one, values in by.items()} for by in figures]

    def _inner(self, settings: Recipe, seen: NDArray, asked: dict[int, NDArray]) -> dict[str, float]:
        encoder = self._pretrained(settings, seen, 0)
        features, groups = encoder.transform(self.heard_by(encoder)), probe_groups(self.recordings)
        return {
            str(fold): float((heard(features, self.truth, seen, rows, groups) == self.truth[rows]).mean())
            for fold, rows in asked.items()
        }

    def _pretrained(self, settings: Recipe, seen: NDArray, seed: int, out: Path | None = None) -> AudioEncoder:
        heard_as = self.readings[settings.trim]
        data = together([heard_as.recordings.select(seen), *heard_as.pool])
        with one_thread():
            return AudioEncoder(settings, seed=seed).fit(data, out=out, note=lambda line: None)

    def encoder(self, fold: int) -> AudioEncoder:
        """The encoder that has not seen the fold, read back where it was made before."""
        settings = self.recipe(self.chosen[fold], self.terms.steps)
        key = hashlib.sha256(repr((settings, self.terms.pool)).encode()).hexdigest()[:10]
        path = self.out / "runs" / f"{self.terms.data}-{self.seed}-{fold}-{key}"
        if (path / "config.json").exists():
            return AudioEncoder.load(path)
        encoder = self._pretrained(settings, self.holds[fold].train, self.seed, path)
        encoder.save(path)
        return encoder

    def said(self, arm: str, fraction: float = 1.0) -> NDArray:
        """Labels that an arm gives the test recordings of every fold, in the order of `rows`."""
        return np.concatenate([self._said(arm, fraction, fold) for fold in range(len(self.holds))])

    @cached_property
    def rows(self) -> NDArray[np.int64]:
        """Numbers of the test recordings of every fold, one fold after the other."""
        return np.concatenate([np.flatnonzero(held.test) for held in self.holds])

    def hits(self, arm: str, fraction: float = 1.0) -> NDArray[np.float64]:
        return (self.said(arm, fraction) == self.truth[self.rows]).astype(float)

    def interval(self, values: NDArray) -> Estimate:
        """Mean of values, one a test recording: whole speakers are drawn where there are some."""
        return interval(values, self.recordings.speaker[self.rows].astype(str))

    def facts(self, arm: str, fraction: float) -> list[dict[str, Any]]:
        """What is known beside the labels: steps, rate and seconds of each fold."""
        return [self._arm(arm, fraction, fold)["facts"] for fold in range(len(self.holds))]

    def _said(self, arm: str, fraction: float, fold: int) -> NDArray:
        return np.unique(self.truth)[np.array(self._arm(arm, fraction, fold)["said"])]

    def _arm(self, arm: str, fraction: float, fold: int) -> dict[str, Any]:
        """What an arm said of a fold, as numbers of labels, and its facts."""
        bare = replace(self.terms, goal=None, tuned_goal=None, few_goal=0.0)  # what is hoped for changes nothing
        settings = repr((self.recipe(self.chosen[fold], self.terms.steps), bare))
        work = partial(self._tell, arm, fraction, fold)
        return self.kept(f"{arm}-{100 * fraction:g}-{fold}", settings, work)

    def _tell(self, arm: str, fraction: float, fold: int) -> dict[str, Any]:
        train, test = np.flatnonzero(self.holds[fold].train), np.flatnonzero(self.holds[fold].test)
        if fraction < 1:
            train = train[label_subset(self.truth[train], fraction, self.seed)]
        facts: dict[str, Any] = {}
        if arm in (TUNED, SCRATCH):
            said, facts = self._supervised(arm, fold, train, test)
        else:
            said = heard(self._features(arm, fold), self.truth, train, test, probe_groups(self.recordings))
        self.say(f"{self.terms.data}, seed {self.seed}, fold {fold}, {100 * fraction:g} % labels, {arm}: "
                 f"{(said == self.truth[test]).mean():.3f} {facts or ''}")  # fmt: skip
        return {"said": np.searchsorted(np.unique(self.truth), said).tolist(), "facts": facts}

    def _features(self, arm: str, fold: int) -> NDArray:
        reading = self.heard_in(fold)
        if arm in reading.floors:
            return reading.floors[arm]
        encoder = self.encoder(fold)
        if arm == RANDOM:
            return encoder.untrained(self.seed).transform(reading.recordings)
        found = encoder.transform(reading.recordings)
        return by_group(found, self.recordings.speaker) if arm == BY_SPEAKER else found

    @cached_property
    def floors(self) -> tuple[str, ...]:
        """What they are called."""
        return tuple(self.heard_in(0).floors)

    def _supervised(self, arm: str, fold: int, train: NDArray, test: NDArray) -> tuple[NDArray, dict[str, Any]]:
        """Fine-tuning, or training from scratch for as many spectrograms as pretraining and fine-tuning have read."""
        encoder = self.encoder(fold)
        steps = self.terms.tune + (equal_steps(encoder) if arm == SCRATCH else 0)
        started, held = time.process_time(), np.flatnonzero(self.holds[fold].train)
        if arm == TUNED and len(train) < len(held):
            model, rate = self._few(encoder, held, train, self._training(encoder, steps))
            spent = 0.0
        else:
            rate = self._rate(arm, encoder, train, shortened(self._training(encoder, steps)))
            spent = time.process_time() - started
            model = self._trained(arm, encoder, train, replace(self._training(encoder, steps), lr=rate))
        seconds = time.process_time() - started - spent
        said = model.predict(self.heard_by(encoder).select(test))
        return said, {"steps": steps, "rate": rate, "seconds": round(seconds, 1), "seconds of tuning": round(spent, 1)}

    def _training(self, encoder: AudioEncoder, steps: int) -> TrainConfig:
        return replace(
            encoder.recipe_.train, steps=steps, minutes=None, average=self.terms.average, seed=self.seed, log_every=10**9,
            monitor_every=0,
        )  # fmt: skip

    def _few(
        self, encoder: AudioEncoder, held: NDArray, labelled: NDArray, train: TrainConfig
    ) -> tuple[AudioClassifier, float]:
        """As an analyst with few labels fine-tunes: the recordings `held` of the training side, of which some are labelled."""
        label = np.where(np.isin(held, labelled), self.truth[held], "")
        with one_thread():
            model = AudioClassifier(encoder, tune="few", train=train, rates=(0.0, *self.terms.rates)).fit(
                self.heard_by(encoder).select(held), label, note=lambda line: None
            )
        return model, model.rate_

    def _rate(self, arm: str, encoder: AudioEncoder, train: NDArray, short: TrainConfig) -> float:
        """The learning rate with which a short training best tells a part of the labels, other speakers where there are any."""
        groups = probe_groups(self.recordings)

        def tell(rate: float, own: NDArray, asked: NDArray) -> NDArray[np.float64]:
            model = self._trained(arm, encoder, train[own], replace(short, lr=rate))
            return model.predict_proba(self.heard_by(encoder).select(train[asked]))

        return chosen_rate(
            self.terms.rates, self.truth[train], None if groups is None else groups[train], self.seed, tell
        )

    def _trained(self, arm: str, encoder: AudioEncoder, rows: NDArray, train: TrainConfig) -> AudioClassifier:
        with one_thread():
            return AudioClassifier(encoder, tune="scratch" if arm == SCRATCH else "all", train=train).fit(
                self.heard_by(encoder).select(rows), note=lambda line: None
            )

    def kept(self, name: str, settings: str, work: Callable[[], dict[str, Any]], seed: int | None = None) -> dict:
        """What `work` gave under these settings before, else what it gives now."""
        slug = "".join(c if c.isalnum() or c == "-" else "_" for c in name)
        path = self.out / "folds" / f"{self.terms.data}-{self.seed if seed is None else seed}-{slug}.json"
        if path.exists():
            known = json.loads(path.read_text(encoding="utf-8"))
            if known["settings"] == settings:
                return known["found"]
        found = work()
        with whole(path, "what the bench found") as temporary:
            temporary.write_text(json.dumps({"settings": settings, "found": found}) + "\n", encoding="utf-8")
        return found


def by_group(features: NDArray, group: NDArray) -> NDArray:
    """Features (N, D) with zero mean and unit spread in each group (N,)."""
    found = features.copy()
    for one in set(group):
        own = group == one
        found[own] = (found[own] - found[own].mean(0)) / (found[own].std(0) + 1e-3)
    return found


def frozen(ground: Ground) -> list[Row]:
    """Accuracy of a linear probe with all labels on frozen features, trained, untrained and log-mel's; what the choice was made from."""
    terms = ground.terms
    note = f"{terms.steps} steps of pretraining a fold; chosen inside: {'; '.join(map(str, ground.chosen))}"
    found = [_accuracy(ground, PRETRAINED, "frozen, linear probe", "ours", terms.data, terms.goal, note)]
    if probe_groups(ground.recordings) is not None:
        words = "needs other recordings of each speaker, unlabelled, those of the test too"
        found.append(_accuracy(ground, BY_SPEAKER, BY_SPEAKER, "ours", terms.data, None, words))
    return (
        found
        + [_accuracy(ground, arm, floor_name(arm), "floor", terms.data) for arm in (RANDOM, *ground.floors)]
        + choice(ground)
    )


def tuned(ground: Ground) -> list[Row]:
    """Accuracy with all labels where all weights are trained: on from pretraining, and from scratch for as long in all."""
    terms, data = ground.terms, f"{ground.terms.data}, all weights"
    return [
        _accuracy(ground, TUNED, "fine-tuned", "ours", data, terms.tuned_goal, _trainings(ground, TUNED, 1.0)),
        _accuracy(ground, SCRATCH, floor_name(SCRATCH), "floor", data, None, _trainings(ground, SCRATCH, 1.0)),
    ]


def _accuracy(
    ground: Ground, arm: str, name: str, role: str, data: str, goal: float | None = None, note: str = ""
) -> Row:
    """An arm's accuracy with all labels; the note holds the figures by fold."""
    hits, fold = ground.hits(arm), np.concatenate([np.full(h.test.sum(), i) for i, h in enumerate(ground.holds)])
    by = " ".join(f"{hits[fold == i].mean():.3f}" for i in range(len(ground.holds)))
    words = f"by fold {by}" + (f"; {note}" if note else "")
    return row(data, name, role, "accuracy", ground.interval(hits), goal=goal, note=words)


def choice(ground: Ground) -> list[Row]:
    """Inner figures of every candidate: a mean over folds, never of a fold's own test."""
    if len(ground.candidates) == 1:
        return []
    return [
        row(ground.terms.data, str(one), "ours", "accuracy inside", float(np.mean([by[one] for by in ground.inner])),
            note=f"{ground.terms.choice} steps; chosen in {ground.chosen.count(one)} of {len(ground.chosen)} folds")
        for one in ground.candidates
    ]  # fmt: skip


def gain(ground: Ground) -> list[Row]:
    """Frozen features minus the better of log-mel and the untrained network, paired; the better on the test itself, which favours it."""
    rivals = (RANDOM, *ground.floors)
    best = max(rivals, key=lambda arm: ground.hits(arm).mean())
    found = ground.interval(ground.hits(PRETRAINED) - ground.hits(best))
    name = "frozen, linear probe, minus the better of log-mel and random init"
    note = f"the better: {floor_name(best)}"
    return [row(ground.terms.data, name, "ours", "gain accuracy", found, goal=0.0, note=note)]


def ten_percent(ground: Ground) -> list[Row]:
    """Fine-tuned and from scratch with a tenth of the labels, of equal length in all, each at a rate chosen inside them: 0 is one of fine-tuning's."""
    data, metric, fraction = ground.terms.data, "accuracy@10%", 0.1
    own, scratch = ground.hits(TUNED, fraction), ground.hits(SCRATCH, fraction)
    probed = ground.hits(PRETRAINED, fraction)
    words = "scratch reads as many spectrograms as pretraining and fine-tuning together"
    return [
        row(data, "fine-tuned minus scratch", "ours", f"gain {metric}", ground.interval(own - scratch), goal=ground.terms.few_goal, note=words),
        row(data, "fine-tuned", "ours", metric, ground.interval(own), note=_trainings(ground, TUNED, fraction)),
        row(data, "frozen, linear probe", "ours", metric, ground.interval(probed)),
        row(data, "frozen, linear probe, minus scratch", "ours", f"gain {metric}", ground.interval(probed - scratch)),
        row(data, floor_name(SCRATCH), "floor", metric, ground.interval(scratch), note=_trainings(ground, SCRATCH, fraction)),
    ]  # fmt: skip


def _trainings(ground: Ground, arm: str, fraction: float) -> str:
    facts = ground.facts(arm, fraction)
    rates = " ".join(f"{one['rate']:g}" for one in facts)
    seconds = np.mean([one["seconds"] for one in facts])
    choice = ", the choice of the rate among them" if arm == TUNED and fraction < 1 else ""
    return f"{facts[0]['steps']} steps, {seconds:.0f} s of a core a fold{choice}; rates by fold {rates}"
