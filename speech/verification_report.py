"""The page of `verify`: error rates beside the floors, the scores of both kinds of pairs, and the worst pairs with sound."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from core.evaluation import Clip, Section
from core.report import COLOURS, figure, page, svg
from speech.clips import clip, cut, find, heard, told
from speech.data import Recordings
from speech.outcome import PRETRAINED
from speech.verification import Verification

if TYPE_CHECKING:
    from speech.audio import Wave
    from speech.estimators import AudioEncoder

LEAD = (
    "Are two recordings by one speaker? The equal error rate is where as many pairs of one speaker are turned away as pairs of two are "
    "let through: 0 is perfect, 0.5 is chance, lower is better. No speaker is named."
)


def verification_page(
    encoder: AudioEncoder, recordings: Recordings, found: Verification, data: str | Path | None, pairs: int = 2
) -> str:
    """The page as HTML text; `pairs` of each kind are played where `data`, what the recordings were read from, is given."""
    kinds = worst(found, pairs)
    rows = np.unique(np.concatenate([np.empty(0, np.int64), *(np.r_[found.left[at], found.right[at]] for at in kinds)]))
    sounds = find(data, list(recordings.digest[rows.astype(np.int64)]), encoder.recipe_.read) if data and pairs else {}
    sections = [_rates(found), _scores(found)]
    for title, at in zip(("One speaker, told to be two", "Two speakers, told to be one"), kinds, strict=True):
        if len(at):
            sections.append(_pairs(title, encoder, recordings, found, at, sounds))
    return page(f"Same speaker or not, told by {encoder.recipe_.method}", f"{LEAD} Here: {found.words}.", sections)


def worst(found: Verification, most: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Trials of one speaker with the lowest scores, and of two speakers with the highest."""
    order = np.argsort(found.score, kind="stable")
    return order[found.same[order]][:most], order[::-1][~found.same[order[::-1]]][:most]


def _rates(found: Verification) -> Section:
    rows = tuple((("ours: " if name == PRETRAINED else "") + name, str(value)) for name, value in found.eer.items())
    count = int(found.same.sum())
    text = f"{count:,} pairs of one speaker and {len(found.same) - count:,} of two, of {found.speakers} speakers; 95 % intervals."
    if found.speakers < 3:
        text += " They draw pairs, since there are fewer than three speakers: they say nothing of other voices."
    return Section("Equal error rate", text, ("features", "error rate"), rows)


def _scores(found: Verification) -> Section:
    drawing, axes = figure(5.5, 2.4)
    edges = np.linspace(float(found.score.min()), float(found.score.max()) + 1e-9, 41)
    for name, kind, colour in (("one speaker", found.same, COLOURS[0]), ("two speakers", ~found.same, COLOURS[1])):
        axes.hist(found.score[kind], edges, density=True, color=colour, alpha=0.55, label=name)
    axes.set_xlabel("cosine of the features")
    axes.set_yticks([])
    axes.legend(frameon=False, fontsize=8)
    return Section("Scores", "Where the two kinds lie apart, one threshold parts them.", svg=svg(drawing))


def _pairs(
    title: str, encoder: AudioEncoder, recordings: Recordings, found: Verification, at: NDArray[np.int64], sounds: Mapping[str, Wave]
) -> Section:  # fmt: skip
    settings, clips = encoder.recipe_, list[Clip]()
    seconds = settings.max_frames * settings.mel.hop
    for number, trial in enumerate(at):
        for side, row in zip("ab", (found.left[trial], found.right[trial]), strict=True):
            wave = sounds.get(recordings.digest[row])
            caption = f"pair {number + 1}{side}, score {found.score[trial]:.2f}"
            mel = heard(recordings.signals[row], settings.mel, seconds)
            clips.append(clip(caption, mel, settings.mel, cut(wave, seconds) if wave else None))
    return Section(title, told(clips), clips=tuple(clips))
