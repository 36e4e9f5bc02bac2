"""Sounds of a report: found again in the data, cut, written as small WAV files, drawn as log-mel.

A page holds MOST_SOUNDS and three more at most, each of MOST_SECONDS at RATE Hz and 16 bits: 128 kB, as text a third more. So all
of them together stay below 4 MB.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from core.evaluation import Clip
from core.quarantine import Quarantine
from core.report import figure, svg
from speech.audio import ReadConfig, Wave, digest_of
from speech.data import waves
from speech.features import MelConfig, log_mel

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_SOUNDS = 20
MOST_SECONDS = 4.0
RATE = 16_000
TICKS = (250, 500, 1000, 2000, 4000, 8000)  # Hz


def find(data: str | Path, digests: Sequence[str], config: ReadConfig) -> dict[str, Wave]:
    """The waves of those digests, by digest; it reads no further than to the last of them. Of what is gone there is none."""
    wanted, found = set(digests), dict[str, Wave]()
    if not wanted:
        return found
    with closing(waves(data, config, Quarantine(), {})) as all_of_them:  # type: ignore[type-var]
        for _, wave, _ in all_of_them:
            if wave.digest in wanted:
                found[wave.digest] = wave
                if len(found) == len(wanted):
                    break
    return found


def cut(wave: Wave, seconds: float = MOST_SECONDS) -> Wave:
    """The last `seconds` of a wave: what an encoder hears of one that is too long for it."""
    most = round(min(seconds, MOST_SECONDS) * wave.rate)
    samples = wave.samples[-most:]
    return wave if len(samples) == len(wave.samples) else Wave(samples, wave.rate, digest_of(samples, wave.rate))


def wav(wave: Wave) -> bytes:
    """A WAV file of 16 bits, mono, at the wave's own rate or, where that is higher, at RATE. Samples of 16 bits come back as they were."""
    import soundfile as sf

    samples, rate = wave.samples, wave.rate
    if rate > RATE:
        import torch
        from torchaudio.functional import resample

        samples, rate = resample(torch.from_numpy(samples), rate, RATE).numpy(), RATE
    whole = np.clip(np.rint(samples.astype(np.float64) * 32768), -32768, 32767).astype(np.int16)
    file = io.BytesIO()
    sf.write(file, whole, rate, format="WAV", subtype="PCM_16")
    return file.getvalue()


def clip(caption: str, mel: NDArray, config: MelConfig, wave: Wave | None, drawing: Any = None) -> Clip:
    """A sound, if there is one, with its log-mel (T, F), or with another drawing."""
    if drawing is None:
        drawing, axes = figure(3.1, 1.5)
        draw(axes, mel, config)
    return Clip(caption, svg(drawing), b"" if wave is None else wav(wave))


def heard(signal: NDArray, config: MelConfig, seconds: float = MOST_SECONDS) -> NDArray[np.float32]:
    """Log-mel (T, F) of the last `seconds` of a signal as recordings keep it: log-mel already, or samples at the config's rate."""
    most = min(seconds, MOST_SECONDS)
    if signal.ndim == 2:
        return signal[-max(1, round(most / config.hop)) :]
    return log_mel(config)(Wave(signal[-max(1, round(most * config.rate)) :], config.rate, ""))


def draw(axes: Axes, mel: NDArray, config: MelConfig, hidden: Sequence[tuple[float, float]] = ()) -> None:
    """Log-mel (T, F) over seconds and kHz; what is hidden, in seconds, lies under white."""
    seconds = len(mel) * config.hop
    axes.imshow(
        mel.T, origin="lower", aspect="auto", cmap="magma", interpolation="none", extent=(0, seconds, 0, mel.shape[1])
    )
    ticks = [hertz for hertz in TICKS if config.low < hertz < 0.95 * config.rate / 2]
    axes.set_yticks(place(np.array(ticks), config), [f"{hertz / 1000:g}" for hertz in ticks], fontsize=6)
    axes.tick_params(labelsize=6, length=2)
    axes.set_ylabel("kHz", fontsize=6)
    for start, end in hidden:
        axes.axvspan(start, end, facecolor="white", edgecolor="#4059ad", alpha=0.8, linewidth=0.8)
    axes.set_xlim(0, seconds)


def place(hertz: NDArray, config: MelConfig) -> NDArray[np.float64]:
    """Where on the axis of bands a frequency lies, of filters spread evenly on the mel scale (HTK's)."""
    low, high, at = (2595 * np.log10(1 + np.asarray(f, np.float64) / 700) for f in (config.low, config.rate / 2, hertz))
    return (at - low) / (high - low) * config.bands


def runs(mask: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """(first, behind the last) of each run of True in (T,)."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]


def told(clips: Sequence[Clip]) -> str:
    """How much the sounds add to the page, in words; empty where there are none."""
    sizes = [len(one.wav) for one in clips if one.wav]
    if not sizes:
        return ""
    return (
        f"{len(sizes)} sounds are in this page, {sum(sizes) * 4 / 3 / 1000:,.0f} kB of it, of {MOST_SECONDS:g} s at most each: give it to "
        "nobody who may not hear the recordings."
    )
