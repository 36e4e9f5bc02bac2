"""The protocol of speech: held-out speakers, few and all labels, floors beside every figure, three answers with intervals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from core.config import within
from core.errors import UserError
from core.evaluation import Answer, Evaluation, answer, labels_saved
from core.layers import stacked
from core.probes import label_subset
from core.statistics import Estimate
from speech.baselines import floor_features
from speech.classifier import LABELLED_BATCH, AudioClassifier
from speech.clips import MOST_SOUNDS
from speech.data import Recordings
from speech.estimators import AudioEncoder
from speech.features import as_mel
from speech.outcome import PRETRAINED, RANDOM, SCRATCH, TUNED, Outcome, clusters, floor_name, interval, metric_name
from speech.probes import probe_groups, shares
from speech.protocol import Split, split
from speech.sections import of_the_arms, of_the_run
from speech.tuning import LEAST_STEPS

Say = Callable[[str], None]
LAYERED = {
    "last": "",
    "layers": "; features are a weighted sum of all layers, its weights learned from the same labels",
}


@dataclass(frozen=True)
class EvalConfig:
    """How much is measured.

    Attributes:
        fractions: of the labels, rising; the first makes the main figure, since few labels are what pretraining is for.
        draws: of few labels, of random encoders and of trainings from scratch.
        scratch_steps: of each training from scratch with all labels, fewer with fewer labels (by the root of the fraction);
            None gives all of them together half the spectrograms that pretraining has read, and each 60 steps at least. Steps and not
            time, so that a busy machine does not starve the arm that pretraining is compared with.
        fine_tune: also train the pretrained encoder on the labels, for as long as one training from scratch.
        probe: of the pretrained and the untrained encoder: the last layer, or a weighted sum of all layers (Transformers alone).
        sounds: recordings that the report plays, at most, of the worst errors; three more show the pretext. 0 for none.
    """

    fractions: tuple[float, ...] = (0.1, 1.0)
    draws: int = 3
    scratch_steps: int | None = None
    fine_tune: bool = False
    seed: int = 0
    probe: Literal["last", "layers"] = "last"
    sounds: int = 6

    def __post_init__(self) -> None:
        within(self, sounds=(0, MOST_SOUNDS))
        if (
            self.draws < 1
            or not self.fractions
            or self.fractions[-1] != 1.0
            or sorted(self.fractions) != list(self.fractions)
        ):
            raise UserError("not a protocol", where=self, mend="draws ≥ 1, rising fractions that end with 1.0")
        if self.scratch_steps is not None and self.scratch_steps < 1:
            raise UserError(f"{self.scratch_steps} steps from scratch", where="--scratch-steps", mend="give 1 or more")


def measure(
    encoder: AudioEncoder, recordings: Recordings, split: Split, config: EvalConfig, say: Say = print
) -> Outcome:
    """Predictions of every arm for the held-out recordings.

    Raises:
        UserError: no labels on one side, one class only, or test recordings that pretraining has seen.
    """
    audit(encoder, recordings, split)
    labelled = recordings.label != ""
    train, test = np.flatnonzero(split.train & labelled), np.flatnonzero(split.test & labelled)
    if len(train) == 0 or len(test) == 0:
        side = "training" if len(train) == 0 else "test"
        raise UserError(
            f"no labelled recording on the {side} side",
            where="label",
            mend="evaluation needs some labels on both sides",
        )
    truth = recordings.label.astype(str)
    if len(np.unique(truth[train])) < 2:
        raise UserError("the labels hold one class only", where="label", mend="label at least two classes")
    outcome = Outcome(truth[test], recordings.speaker[test].astype(str), rows=test)
    outcome.facts["test recordings of classes never seen in training"] = int(
        (~np.isin(truth[test], truth[train])).sum()
    )
    groups = probe_groups(recordings)
    draws = {
        f: [_draw(truth, train, f, config.seed + d) for d in range(config.draws if f < 1 else 1)]
        for f in config.fractions
    }
    outcome.labels = {fraction: len(rows[0]) for fraction, rows in draws.items()}

    def add(arm: str, features_of: Callable[[int], NDArray], each: bool) -> None:
        """Probe features of each draw (`each`: they differ between draws, also where the labels do not)."""
        made = [features_of(d) for d in range(config.draws if each else 1)]
        for fraction in config.fractions:
            own = draws[fraction]
            count = max(len(made), len(own))
            found = [shares(made[d % len(made)], truth, own[d % len(own)], test, groups) for d in range(count)]
            outcome.said.setdefault(arm, {})[fraction] = np.stack([c[share.argmax(1)] for c, share in found])
            if arm == PRETRAINED and fraction == 1:
                outcome.sure = found[0][1].max(1)
        say(f"{arm}: " + ", ".join(f"{100 * f:g} % labels {outcome.hits(arm, f).mean():.3f}" for f in config.fractions))

    def features(one: AudioEncoder) -> NDArray:
        return stacked(one.transform_layers(recordings)) if config.probe == "layers" else one.transform(recordings)

    add(PRETRAINED, partial(_same, features(encoder)), False)
    add(RANDOM, lambda d: features(encoder.untrained(config.seed + d)), True)
    for name, floor in floor_features(as_mel(recordings.signals, encoder.recipe_.mel)).items():
        add(name, partial(_same, floor), False)
    _supervised(encoder, recordings, test, draws, truth, config, outcome, say)
    return outcome


def equal_steps(encoder: AudioEncoder) -> int:
    """Supervised steps that read as many spectrograms as the pretraining did: its views of a batch ÷ a labelled batch."""
    settings = encoder.recipe_
    views = 2 if settings.stretched else 1
    return round(encoder.steps_done() * views * settings.batch_size / min(settings.batch_size, LABELLED_BATCH))


def _same(features: NDArray, draw: int) -> NDArray:
    """Features that are the same for every draw."""
    return features


def _draw(truth: NDArray, train: NDArray, fraction: float, seed: int) -> NDArray:
    return train if fraction == 1 else train[label_subset(truth[train], fraction, seed)]


def _supervised(
    encoder: AudioEncoder, recordings: Recordings, test: NDArray, draws: dict[float, list[NDArray]], truth: NDArray,
    config: EvalConfig, outcome: Outcome, say: Say,
) -> None:  # fmt: skip
    """The same architecture trained on labels alone, with the pretext's own views; and the pretrained one trained on."""
    spent = encoder.seconds()
    weight = {fraction: fraction**0.5 for fraction in config.fractions}
    longest = config.scratch_steps or equal_steps(encoder) / 2 / (config.draws * sum(weight.values()))
    least = 1 if config.scratch_steps else LEAST_STEPS
    steps = {fraction: max(round(longest * w), least) for fraction, w in weight.items()}
    outcome.facts["pretraining"] = f"{encoder.steps_done()} steps of 2 × {encoder.recipe_.batch_size} in {spent:.0f} s"
    outcome.facts["each training from scratch"] = ", ".join(f"{n} steps with {100 * f:g} %" for f, n in steps.items())
    arms = {SCRATCH: "scratch"} | ({TUNED: "all"} if config.fine_tune else {})
    target = recordings.select(test)
    for arm, tune in arms.items():
        for fraction in config.fractions:
            said = []
            for d in range(config.draws):
                rows = draws[fraction][d % len(draws[fraction])]
                train = replace(
                    encoder.recipe_.train, steps=steps[fraction], minutes=None, seed=config.seed + d, log_every=10**9
                )
                model = AudioClassifier(encoder, tune=tune, train=train).fit(
                    recordings.select(rows), note=lambda line: None
                )
                said.append(model.predict(target))
            outcome.said.setdefault(arm, {})[fraction] = np.stack(said)
        say(f"{arm}: " + ", ".join(f"{100 * f:g} % labels {outcome.hits(arm, f).mean():.3f}" for f in config.fractions))


def evaluate(
    encoder: AudioEncoder, recordings: Recordings, config: EvalConfig | None = None, say: Say = print,
    data: str | Path | None = None,
) -> Evaluation:  # fmt: skip
    """Measure a pretrained encoder on the recordings that it was kept from: every arm, every floor, three answers.

    Args:
        data: what `recordings` were read from: with it the report plays some of them.
    """
    config = config or EvalConfig()
    held = split(recordings, encoder.fold_)
    outcome = measure(encoder, recordings, held, config, say)
    protocol = {
        "split": held.words, "training recordings": int(held.train.sum()), "seed": config.seed, "method": encoder.recipe_.method,
        "data (sha256)": {name: digest[:16] for name, digest in recordings.source.items()},
        "set aside": recordings.quarantine.counts() or "nothing", "leak audit": "no test recording was seen in pretraining",
        "probe": "logistic regression on standardised frozen features, C chosen inside the labels" + LAYERED[config.probe],
    }  # fmt: skip
    found = conclude(outcome, config, protocol, f"Labels of recordings, told by {encoder.recipe_.method}: {held.words}")
    say("layers, codes and sounds for the report")
    found.sections += of_the_run(encoder, recordings, held, outcome, data, config.sounds, config.seed)
    return found


def audit(encoder: AudioEncoder, recordings: Recordings, split: Split) -> None:
    """Fail where a recording is on both sides, or pretraining saw one of the test recordings.

    Raises:
        UserError: with the count.
    """
    if (split.train & split.test).any():
        raise UserError("recordings stand on both sides of the split", where="split", mend="give each one part")
    leaked = int((encoder.saw(recordings) & split.test).sum())
    if leaked:
        raise UserError(
            f"pretraining saw {leaked} of {int(split.test.sum())} test recordings", where="--run",
            mend="pretrain with the same data and --fold, so that the same recordings are held out",
        )  # fmt: skip


def metrics(outcome: Outcome, arm: str, fractions: tuple[float, ...]) -> dict[str, Estimate]:
    """Accuracy at each fraction of the labels, and `macro_f1` with all of them."""
    found = {metric_name(f): interval(outcome.hits(arm, f), outcome.speaker) for f in fractions}
    return found | {"macro_f1": _macro_f1(outcome, arm)}


def _macro_f1(outcome: Outcome, arm: str) -> Estimate:
    from sklearn.metrics import f1_score

    from core.statistics import bootstrap

    said = outcome.said[arm][1.0][0]
    return bootstrap(
        lambda t, s: f1_score(t, s, average="macro", zero_division=0),
        outcome.truth,
        said,
        clusters(outcome.speaker),
        draws=200,
    )


def conclude(outcome: Outcome, config: EvalConfig, protocol: dict[str, Any], task: str) -> Evaluation:
    """The evaluation: figures, floors and the three answers, of one fold or of several joined."""
    fractions = config.fractions
    floors = {
        floor_name(arm): metrics(outcome, arm, fractions) for arm in outcome.arms() if arm not in (PRETRAINED, TUNED)
    }
    curve = [
        {"fraction": f, "labels": outcome.labels[f], "arm": arm, "seed": d, "metric": "accuracy", "value": float((row == outcome.truth).mean())}
        for arm, by_fraction in outcome.said.items()
        for f, rows in by_fraction.items()
        for d, row in enumerate(rows)
    ]  # fmt: skip
    speakers = len(set(outcome.speaker) - {""})
    protocol = protocol | {
        "test recordings": len(outcome.truth), "test speakers": speakers,
        "labels": {f"{100 * f:g} %": n for f, n in outcome.labels.items()}, "draws of labels": config.draws, **outcome.facts,
        "intervals": "95 %, bootstrap of " + (f"whole speakers ({speakers} only: read them as wide)" if speakers >= 3 else "recordings"),
    }  # fmt: skip
    return Evaluation(
        task=task, protocol=protocol, main=metric_name(fractions[0]), metrics=metrics(outcome, PRETRAINED, fractions), floors=floors,
        answers=answers(outcome, fractions, curve), label_curve=curve, sections=of_the_arms(outcome, fractions),
        curve_intervals=_intervals(outcome, fractions), main_words=_in_words(fractions[0]),
    )  # fmt: skip


def _in_words(fraction: float) -> str:
    labels = "all training labels" if fraction == 1 else f"{100 * fraction:g} % of the training labels"
    return f"the share of held-out recordings whose label is told right with {labels}"


def _intervals(outcome: Outcome, fractions: tuple[float, ...]) -> list[dict[str, Any]]:
    """Accuracy of each arm over its draws at each amount of labels, with its interval over speakers."""
    rows = []
    for arm in outcome.arms():
        for fraction in fractions:
            found = interval(outcome.hits(arm, fraction), outcome.speaker)
            rows.append({"labels": outcome.labels[fraction], "arm": arm, **found.json()})
    return rows


def difference(outcome: Outcome, question: str, fraction: float) -> tuple[str, Estimate]:
    """The best rival and accuracy of the linear probe on pretrained features minus its own, paired by recording.

    Rivals in `pretraining`: the same net at random and from scratch. In `best_tool`: those and the simple floors. The rival is the best on
    the test recordings themselves, which favours it.
    """
    own = (PRETRAINED, TUNED) if question == "best_tool" else (PRETRAINED, TUNED, *simple(outcome))
    best = max((arm for arm in outcome.arms() if arm not in own), key=lambda arm: outcome.hits(arm, fraction).mean())
    return best, interval(outcome.hits(PRETRAINED, fraction) - outcome.hits(best, fraction), outcome.speaker)


def simple(outcome: Outcome) -> list[str]:
    """The arms without a net."""
    return [arm for arm in outcome.arms() if arm not in (PRETRAINED, RANDOM, SCRATCH, TUNED)]


def answers(outcome: Outcome, fractions: tuple[float, ...], curve: list[dict[str, Any]]) -> dict[str, Answer]:
    """Did pretraining help, is it the best tool (both with the fewest labels; the detail has all), how many labels it saves."""

    def compared(question: str) -> Answer:
        parts = {fraction: difference(outcome, question, fraction) for fraction in fractions}
        words = "; ".join(
            f"with {100 * f:g} % labels {e.value:+.3f} [{e.low:+.3f}, {e.high:+.3f}] against {floor_name(best)}"
            for f, (best, e) in parts.items()
        )
        return answer(parts[fractions[0]][1], f"accuracy of a linear probe on frozen features, {words}")

    return {
        "pretraining": compared("pretraining"), "best_tool": compared("best_tool"),
        "labels_saved": labels_saved(curve, "accuracy", PRETRAINED, SCRATCH),
    }  # fmt: skip
