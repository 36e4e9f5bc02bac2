"""The parts of the report that are special to recordings: every arm, speakers, confusions, errors with sound, layers and codes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from core.evaluation import Section
from core.report import figure, svg
from core.statistics import mean_interval
from speech.clips import clip, cut, find, heard, told
from speech.codebooks import codebook_section
from speech.data import Recordings
from speech.layerwise import layer_section
from speech.outcome import PRETRAINED, Outcome, clusters, floor_name, interval
from speech.pictures import SHOWN, chosen, pretext_section
from speech.protocol import Split

if TYPE_CHECKING:
    from speech.audio import Wave
    from speech.estimators import AudioEncoder

MOST_CLASSES = 40  # of a confusion matrix that is drawn
NUMBERED = 14  # classes up to which its cells hold their numbers
LONGEST_NAME = 18


def of_the_arms(outcome: Outcome, fractions: tuple[float, ...]) -> list[Section]:
    """Accuracy of every arm with both intervals, by speaker (numbered, not named), and the confusions."""
    clustered = clusters(outcome.speaker) is not None
    rows: list[tuple[object, ...]] = []
    for arm in outcome.arms():
        for fraction in fractions:
            hits = outcome.hits(arm, fraction)
            row = (floor_name(arm), f"{100 * fraction:g} %", str(interval(hits, outcome.speaker)))
            rows.append((*row, str(mean_interval(hits))) if clustered else row)
    words = "The second interval draws recordings and not speakers: it says nothing of new voices."
    if not clustered:
        words = (
            "Intervals draw recordings, since fewer than three speakers are held out: they say nothing of other voices."
        )
    columns = ("arm", "labels", "accuracy", *(("over recordings",) if clustered else ()))
    found = [Section("Every arm", words, columns, tuple(rows))]
    speakers = sorted(set(outcome.speaker) - {""})
    if len(speakers) > 1:
        by = [
            (f"speaker {i + 1}", int((outcome.speaker == s).sum()), *(f"{outcome.hits(arm, 1.0)[outcome.speaker == s].mean():.3f}" for arm in outcome.arms()))
            for i, s in enumerate(speakers[:40])
        ]  # fmt: skip
        found.append(
            Section(
                "By held-out speaker, all labels", "", ("", "recordings", *map(floor_name, outcome.arms())), tuple(by)
            )
        )
    return [*found, confusion_section(outcome)]


def of_the_run(
    encoder: AudioEncoder, recordings: Recordings, held: Split, outcome: Outcome, data: str | Path | None, sounds: int, seed: int
) -> list[Section]:  # fmt: skip
    """Errors with sound, layer by layer, what the pretext shows, codes in use.

    Args:
        data: what the recordings were read from; None where nothing is to be played.
        sounds: errors that are played, at most.
    """
    wrong = worst(outcome)[: max(1, sounds)]
    rows = np.flatnonzero(held.train)
    shown = recordings.select(rows[chosen(recordings.select(rows), seed)])
    digests = [*recordings.digest[outcome.rows[wrong]], *shown.digest[:SHOWN]]
    played = find(data, digests, encoder.recipe_.read) if data is not None and sounds else {}
    labelled = np.flatnonzero(held.train & (recordings.label != ""))
    books = codebook_section(encoder.recipe_.method, encoder.books(), encoder.counted())
    return [
        errors_section(encoder, recordings, outcome, played, max(1, sounds)),
        layer_section(encoder, recordings, labelled, outcome.rows, seed),
        pretext_section(encoder, shown, played, seed),
        *([books] if books is not None else []),
    ]


def worst(outcome: Outcome) -> np.ndarray:
    """Places (among the test recordings) of what the pretrained arm got wrong with all labels, the surest first."""
    wrong = np.flatnonzero(outcome.said[PRETRAINED][1.0][0] != outcome.truth)
    return wrong[np.argsort(-outcome.sure[wrong], kind="stable")]


def errors_section(
    encoder: AudioEncoder, recordings: Recordings, outcome: Outcome, sounds: Mapping[str, Wave], most: int
) -> Section:
    """The test recordings whose wrong answer was surest, with their sound where there is one."""
    wrong, settings = worst(outcome), encoder.recipe_
    if not len(wrong):
        return Section("Worst errors", "No test recording was heard wrongly by the frozen features with all labels.")
    said, seconds, clips = outcome.said[PRETRAINED][1.0][0], settings.max_frames * settings.mel.hop, []
    for at in wrong[:most]:
        row = outcome.rows[at]
        wave = sounds.get(recordings.digest[row])
        caption = f"{outcome.truth[at]}, heard as {said[at]} ({outcome.sure[at]:.2f})"
        mel = heard(recordings.signals[row], settings.mel, seconds)
        clips.append(clip(caption, mel, settings.mel, cut(wave, seconds) if wave else None))
    text = (
        f"{len(clips)} of {len(wrong)} test recordings that the frozen features with all labels heard wrongly, the surest first: the label, "
        f"what was heard and its probability. Listen whether the label is right. {told(clips)}"
    )
    return Section("Worst errors", text.strip(), clips=tuple(clips))


def confusion_section(outcome: Outcome, most: int = 8) -> Section:
    """The confusion matrix of the pretrained arm with all labels, as a picture, and the most frequent confusions as a table."""
    said, truth = outcome.said[PRETRAINED][1.0][0].astype(str), outcome.truth.astype(str)
    wrong = said != truth
    pairs = Counter(zip(truth[wrong].tolist(), said[wrong].tolist(), strict=True)).most_common(most)
    classes = np.unique(np.concatenate([truth, said]))
    text = "Of the frozen features with all labels: the label down, what was heard across, shares of each label's recordings."
    if len(classes) > MOST_CLASSES:
        text = f"Of the frozen features with all labels; a matrix of {len(classes)} classes would not be legible."
    table = np.zeros((len(classes), len(classes)), int)
    np.add.at(table, (np.searchsorted(classes, truth), np.searchsorted(classes, said)), 1)
    drawn = _matrix(table, classes.tolist()) if len(classes) <= MOST_CLASSES else ""
    rows = tuple((str(label), str(other), count) for (label, other), count in pairs)
    return Section("Confusions", text, ("said", "heard as", "times"), rows, drawn)


def _matrix(table: np.ndarray, classes: list[str]) -> str:
    """Shares of each row as a picture, and the counts in its cells where there is room."""
    size = min(7.0, 1.6 + 0.36 * len(classes))
    drawing, axes = figure(size, size - 0.4)
    share = table / np.maximum(table.sum(1, keepdims=True), 1)
    axes.imshow(share, cmap="Greens", vmin=0, vmax=1, interpolation="none")
    # a label is a text of its own, no formula: `$` stays what it is
    names = [name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…" for name in classes]
    small = 8 if len(classes) <= NUMBERED else 5
    axes.set_xticks(range(len(names)), names, rotation=60, ha="right", fontsize=small, parse_math=False)
    axes.set_yticks(range(len(names)), names, fontsize=small, parse_math=False)
    for row, column in np.argwhere(table > 0) if len(classes) <= NUMBERED else ():
        colour = "white" if share[row, column] > 0.5 else "black"
        axes.text(column, row, str(table[row, column]), ha="center", va="center", fontsize=7, color=colour)
    axes.set_ylabel("said")
    axes.set_xlabel("heard as")
    return svg(drawing)
