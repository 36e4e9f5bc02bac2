"""Labels over long files, window by window; a file is read in blocks, so that memory does not grow with its length."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from core.config import within
from core.datasets import locate
from core.errors import UserError
from core.quarantine import Quarantine
from speech.activity import sounding
from speech.audio import ReadConfig, Rejected, Wave, blocks_of, opened
from speech.classifier import AudioClassifier
from speech.data import Recordings
from speech.estimators import heard_as
from speech.sources import contained, layout

LONGEST = 24 * 3600.0  # seconds of one file
BATCH = 32  # windows that the classifier hears together
COLUMNS = ("file", "start", "end", "label", "probability")


@dataclass(frozen=True)
class TagConfig:
    """How a file is heard.

    Attributes:
        window, hop: seconds. A window stands for the `hop` seconds in its middle; the first and last of a file also for its ends.
        least: probability below which a window gets no label.
        merge: neighbours of one label become one row, its probability their mean.
    """

    window: float = 1.0
    hop: float = 0.5
    least: float = 0.0
    merge: bool = True

    def __post_init__(self) -> None:
        within(self, window=(0.05, 600), hop=(0.01, 600), least=(0, 1))
        if self.hop > self.window:
            raise UserError("windows leave sound out", where="hop", mend="give a hop of at most the window")


def tag(classifier: AudioClassifier, data: str | Path, config: TagConfig, quarantine: Quarantine) -> pd.DataFrame:
    """`file, start, end, label, probability` of a file or of every file of a folder; silent stretches have no label.

    A file that turns out bad on the way gives no row, and goes to quarantine.

    Raises:
        UserError: nothing there, not files, or no usable file.
    """
    found = layout(locate(data))
    if found.tar is not None:
        raise UserError("a tar is not tagged", where=data, mend="give a file, or a folder of files")
    reading = replace(classifier.recipe_.read, max_seconds=LONGEST)
    parts = []
    for path in found.files:
        name = path.relative_to(found.root).as_posix()
        try:
            if not path.is_file() or not contained(path, found.root):
                raise Rejected("not a regular file of the folder")
            parts.append(pd.DataFrame(list(_rows(classifier, name, path, config, reading)), columns=list(COLUMNS)))
        except Rejected as rejected:
            quarantine.add(name, rejected.reason, rejected.detail)
        except OSError as error:
            quarantine.add(name, "unreadable", type(error).__name__)
    if not parts:
        reason = quarantine.summary() if len(quarantine) else "no wav, flac, ogg or mp3 file found"
        raise UserError(f"no usable recording: {reason}", where=data, mend="run `check` for the reason of each file")
    return pd.concat(parts, ignore_index=True)


def _rows(
    classifier: AudioClassifier, name: str, path: Path, config: TagConfig, reading: ReadConfig
) -> Iterator[tuple[str, float, float, str, float]]:
    open_row: list[Any] | None = None  # start, end, label, probabilities
    for start, end, label, probability in _heard(classifier, path, config, reading):
        if open_row is not None and config.merge and open_row[2] == label:
            open_row[1] = end
            open_row[3].append(probability)
            continue
        if open_row is not None:
            yield _row(name, open_row)
        open_row = [start, end, label, [probability]]
    if open_row is not None:
        yield _row(name, open_row)


def _row(name: str, row: list[Any]) -> tuple[str, float, float, str, float]:
    return name, round(row[0], 3), round(row[1], 3), row[2], round(float(np.mean(row[3])), 4)


def _heard(
    classifier: AudioClassifier, path: Path, config: TagConfig, reading: ReadConfig
) -> Iterator[tuple[float, float, str, float]]:
    """(start, end, label, probability) of each window of a file; "" and 0 where it is silent."""
    keep, margin = heard_as(classifier.recipe_), (config.window - config.hop) / 2
    trim, least = classifier.recipe_.trimming, reading.min_seconds
    with opened(path, reading) as file:
        rate, total = int(file.samplerate), file.frames / file.samplerate
        if total < reading.min_seconds:
            raise Rejected("too short", f"{total:.3f} s")
        windows = _windows(blocks_of(file, reading), round(config.window * rate), round(config.hop * rate))
        for batch in _batched(windows, BATCH):
            loud = [
                i for i, (_, samples) in enumerate(batch) if np.abs(samples - samples.mean()).max() >= reading.min_peak
            ]
            label, probability = [""] * len(batch), [0.0] * len(batch)
            if loud:
                waves = [Wave(batch[i][1], rate, "") for i in loud]
                signals = [keep(wave if trim is None else sounding(wave, trim, least)[1]) for wave in waves]
                share = classifier.predict_proba(_unnamed(signals))
                for i, row in zip(loud, share, strict=True):
                    if row.max() >= config.least:
                        label[i], probability[i] = str(classifier.classes_[row.argmax()]), float(row.max())
            for (first, samples), words, value in zip(batch, label, probability, strict=True):
                start = first / rate
                last = start + len(samples) / rate >= total - 1e-9
                yield (start + margin if first else 0.0), (total if last else start + margin + config.hop), words, value


def _windows(blocks: Iterator[NDArray], size: int, hop: int) -> Iterator[tuple[int, NDArray]]:
    """(first sample, samples) of each window; the last reaches to the end and is no shorter than a hop, or the only one."""
    held, first = np.empty(0, np.float32), 0
    for block in blocks:
        held = np.concatenate([held, block])
        while len(held) >= size + hop:  # so that what is left behind the last window is never next to nothing
            yield first, held[:size].copy()  # a view would keep the whole block
            held, first = held[hop:], first + hop
    if len(held):
        yield first, held


def _batched(windows: Iterator[tuple[int, NDArray]], size: int) -> Iterator[list[tuple[int, NDArray]]]:
    batch: list[tuple[int, NDArray]] = []
    for window in windows:
        batch.append(window)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _unnamed(signals: list[NDArray]) -> Recordings:
    """Signals as recordings of which nothing is known."""
    nothing = np.full(len(signals), "", dtype=object)
    return Recordings(nothing, signals, np.zeros(len(signals)), nothing, nothing, nothing, nothing)
