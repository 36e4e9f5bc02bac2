"""What a pretext makes of recordings, drawn: the views, what is hidden, what is damaged or put in another order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from core.evaluation import Section
from core.pretext import Corrupted, Masked, Pseudo, Shifted, Views
from core.tokens import Batch
from speech.clips import MOST_SECONDS, clip, cut, draw, heard, runs, told
from speech.data import Recordings
from speech.features import MelConfig
from speech.tasks import Units

if TYPE_CHECKING:
    from speech.audio import Wave
    from speech.estimators import AudioEncoder

SHOWN, BESIDE = 3, 16  # recordings drawn, and in the batch: views mix others of it in
WORDS: Mapping[type, str] = {
    Views: "The net never hears a recording as it is: it hears the views under it, drawn anew each time, and learns that they are of one.",
    Masked: "White is what the net does not hear: it learns to tell from the rest what stood there.",
    Corrupted: "The net hears the lower picture and learns to restore the one above it.",
    Pseudo: "The net hears the lower picture, whose parts were put in another order, and learns to tell which order that is.",
    Shifted: "From what came up to a place, the net learns to tell what comes a little later among what comes elsewhere.",
}

CLUSTERED = "The net hears the views under each recording, drawn anew each time, and learns to tell the cluster that the recording fell in."


def chosen(recordings: Recordings, seed: int) -> NDArray[np.int64]:
    """BESIDE rows, the first SHOWN of which are drawn: of the training side, so that the page tells nothing of the test."""
    return np.random.default_rng(seed).permutation(len(recordings))[:BESIDE]


def pretext_section(
    encoder: AudioEncoder, recordings: Recordings, sounds: Mapping[str, Wave], seed: int = 0
) -> Section:
    """The pretext's own work on a few recordings, which stand in the order of `chosen`."""
    settings = encoder.recipe_
    seconds = settings.max_frames * settings.mel.hop
    made, batch = _made(encoder, recordings, seed)
    clips = []
    for row in range(min(SHOWN, len(recordings))):
        drawing = _drawn(made, batch, row, recordings.signals[row], encoder)
        wave = sounds.get(recordings.digest[row])
        label = recordings.label[row]
        caption = f"recording {row + 1}" + (f", {label}" if label else "")
        clips.append(
            clip(caption, recordings.signals[row], settings.mel, cut(wave, seconds) if wave else None, drawing)
        )
    words = CLUSTERED if settings.method == "deepcluster" else WORDS.get(type(made), "")
    text = words + " Labels are for the captions alone."
    return Section("What it learned from", f"{text} {told(clips)}".strip(), clips=tuple(clips))


def _made(encoder: AudioEncoder, recordings: Recordings, seed: int) -> tuple[Any, Batch]:
    settings = encoder.recipe_
    rows = recordings if len(recordings) > 1 else recordings.select(np.array([0, 0]))  # batches hold two or more
    # which units they are is not drawn, but the pretext of hubert wants some
    units = [np.zeros(len(x), np.int64) for x in rows.signals] if isinstance(settings.pretext, Units) else None
    batch = encoder.batches(rows, units=units).at(np.arange(len(rows)))
    return settings.pretext.bound(settings)(batch, Generator().manual_seed(seed)), batch


def _drawn(made: Any, batch: Batch, row: int, signal: NDArray, encoder: AudioEncoder) -> Any:
    """A matplotlib figure of one recording, as it is and as the net hears it."""
    mel, settings = encoder.recipe_.mel, encoder.recipe_
    if isinstance(made, Masked):
        return _hidden(made, batch, row, encoder)
    if isinstance(made, Views):
        rows = [(f"view {number + 1}", _real(view, row)) for number, view in enumerate(made.views)]
    elif isinstance(made, Corrupted):
        rows = [("to be restored", _real(made.clean, row)), ("heard", _real(made.batch, row))]
    elif isinstance(made, Pseudo):
        rows = [("heard", _real(made.batch, row))]
    else:
        rows = []
    first = [] if isinstance(made, Corrupted) else [("as it is", heard(signal, mel, settings.max_frames * mel.hop))]
    return _stack([*first, *rows], mel)


def _hidden(made: Masked, batch: Batch, row: int, encoder: AudioEncoder) -> Any:
    settings, mask = encoder.recipe_, made.mask
    assert isinstance(mask, Tensor)
    wave = settings.encoder.kind == "wave"
    place = settings.encoder.token * (1 / settings.mel.rate if wave else settings.mel.hop)  # seconds of a token
    sound = batch["wave" if wave else "mel"][row].cpu().numpy()
    if "pad" in batch:
        sound = sound[~batch["pad"][row].cpu().numpy()]
    shown = heard(sound, settings.mel, settings.max_frames * settings.mel.hop)
    behind = max(0.0, (len(sound) / settings.mel.rate if wave else len(sound) * settings.mel.hop) - MOST_SECONDS)
    spans = [(a * place - behind, b * place - behind) for a, b in runs(mask[row].cpu().numpy())]
    return _stack([("", shown)], settings.mel, spans)


def _real(batch: Batch, row: int) -> NDArray[np.float32]:
    mel = batch["mel"][row].float()
    return (mel[~batch["pad"][row]] if "pad" in batch else mel).cpu().numpy()


@torch.no_grad()
def _stack(rows: list[tuple[str, NDArray]], mel: MelConfig, hidden: list[tuple[float, float]] | None = None) -> Any:
    """Log-mels one under the other. Views have no seconds: they are stretched to one length."""
    from matplotlib.figure import Figure

    drawing = Figure(figsize=(3.1, 0.35 + 1.15 * len(rows)), layout="constrained")
    cells = np.atleast_1d(drawing.subplots(len(rows), 1))
    for number, (cell, (title, picture)) in enumerate(zip(cells, rows, strict=True)):
        draw(cell, picture, mel, hidden or ())
        if number:
            cell.set_xticks([])
        if title:
            cell.set_title(title, fontsize=7, loc="left", pad=2)
    if len(rows) == 1 or hidden is not None:
        cells[0].set_xlabel("s", fontsize=6)
    return drawing
