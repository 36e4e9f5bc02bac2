"""Generated mixtures of speech, music and noise: for trying `tag` and `finetune` with nothing at hand. What works on them is not shown
to work on recordings.

Speech is speech.synthetic's words by one voice; music chords of decaying harmonics on a beat; noise of a random colour, at times
with hum or gusts. Each scene has its own voice, key, timbre and colour; the last third of the scenes is the test split.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from core.config import within
from core.errors import UserError
from core.files import whole_folder
from speech.synthetic import WORDS, utter, voice

KINDS = ("speech", "music", "noise")


@dataclass(frozen=True)
class MixConfig:
    """How much: `size` mixtures of `seconds` in `scenes`. In half of them a second kind lies 6 to 20 dB below the first."""

    size: int = 600
    scenes: int = 9
    seconds: float = 2.0
    rate: int = 8000
    seed: int = 0

    def __post_init__(self) -> None:
        within(self, size=(1, 1e7), scenes=(2, 1e6), seconds=(0.5, 600), rate=(4000, 96000), seed=(0, 2**32 - 1))


def sound(kind: str, scene: int, config: MixConfig, generator: np.random.Generator) -> NDArray[np.float64]:
    """Samples (N,) of one kind, of root mean square 1."""
    count = round(config.seconds * config.rate)
    make = {"speech": _speech, "music": _music, "noise": _noise}[kind]
    wave = make(count, scene, config, generator)
    wave = wave - wave.mean()
    return wave / (np.sqrt(np.mean(wave**2)) + 1e-12)


def _speech(count: int, scene: int, config: MixConfig, generator: np.random.Generator) -> NDArray[np.float64]:
    who, parts, total = voice(config.seed, scene), list[NDArray](), 0
    while total < count:
        parts.append(utter(int(generator.integers(len(WORDS))), who, config.rate, generator))
        parts.append(np.zeros(int(generator.uniform(0.05, 0.3) * config.rate)))
        total += len(parts[-2]) + len(parts[-1])
    return np.concatenate(parts)[:count].astype(np.float64)


def _music(count: int, scene: int, config: MixConfig, generator: np.random.Generator) -> NDArray[np.float64]:
    own = np.random.default_rng([config.seed, 3, scene])
    key, beat = 110 * 2 ** own.uniform(0, 1.5), own.uniform(0.2, 0.5)
    overtones = own.uniform(0.2, 1, 8) / np.arange(1, 9) ** own.uniform(0.5, 2)
    decay = own.uniform(0.15, 0.8)
    wave = np.zeros(count)
    for start in np.arange(0, count / config.rate, beat):
        root = generator.choice([0, 5, 7, 9])
        at = int(start * config.rate)
        time = np.arange(count - at) / config.rate
        for step in (0, generator.choice([3, 4]), 7):
            for number, level in enumerate(overtones, 1):
                pitch = number * key * 2 ** ((root + step) / 12)
                if pitch < config.rate / 2:
                    wave[at:] += level * np.sin(2 * np.pi * pitch * time) * np.exp(-time / decay)
    return wave


def _noise(count: int, scene: int, config: MixConfig, generator: np.random.Generator) -> NDArray[np.float64]:
    own = np.random.default_rng([config.seed, 4, scene])
    slope, hum, gusts = own.uniform(0, 2), own.random() < 0.4, own.random() < 0.4
    frequency = np.fft.rfftfreq(count, 1 / config.rate)
    spectrum = np.fft.rfft(generator.normal(size=count)) / np.maximum(frequency, 20) ** (slope / 2)
    wave = np.fft.irfft(spectrum, count)
    wave /= wave.std()
    time = np.arange(count) / config.rate
    if gusts:
        wave = wave * (1.2 + np.sin(2 * np.pi * own.uniform(0.3, 3) * time + generator.uniform(0, 6.28)))
    return wave + (0.7 * np.sin(2 * np.pi * 50 * time) if hum else 0)


def mixture(number: int, config: MixConfig) -> tuple[NDArray[np.float32], str, int]:
    """(samples of peak 0.5, label, scene) of mixture `number`, which depends on the seed and its number alone."""
    generator = np.random.default_rng([config.seed, 5, number])
    scene, first = number % config.scenes, number // config.scenes % len(KINDS)
    wave = sound(KINDS[first], scene, config, generator)
    if generator.random() < 0.5:
        second = KINDS[(first + generator.integers(1, len(KINDS))) % len(KINDS)]
        wave = wave + 10 ** (-generator.uniform(6, 20) / 20) * sound(second, scene, config, generator)
    return (0.5 * wave / np.abs(wave).max()).astype(np.float32), KINDS[first], scene


def generate_mixtures(out: str | Path, config: MixConfig | None = None) -> Path:
    """Write `out/*.wav` (16 bit) and `out/metadata.csv` (file, label, speaker: the scene, split).

    Raises:
        UserError: `out` holds something already.
    """
    import soundfile as sf

    config, out = config or MixConfig(), Path(out)
    if out.is_file() or (out.is_dir() and any(out.iterdir())):
        raise UserError("the folder holds something already", where=out, mend="give a new or empty folder")
    test = config.scenes - max(1, config.scenes // 3)
    with (
        whole_folder(out, "the mixtures") as folder,
        (folder / "metadata.csv").open("w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(["file", "label", "speaker", "split"])
        for number in range(config.size):
            wave, label, scene = mixture(number, config)
            name = f"{number:06d}.wav"
            sf.write(folder / name, wave, config.rate, subtype="PCM_16")
            writer.writerow([name, label, f"scene{scene:02d}", "test" if scene >= test else "train"])
    return out
