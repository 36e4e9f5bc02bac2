"""Synthetic spoken words: what is said is planted in formant tracks, who says it in pitch, vocal tract, pace and room.

A word is a track of formants with noisy consonants (after Klatt 1980, as a sum of harmonics under resonator curves, which
needs no loop over samples). A speaker scales the frequencies (vocal tract), sets the pitch, the pace, the tilt and the room. The word is
thus the same shape in time and frequency for all, and a linear model on raw log-mel must learn it from few voices.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from core.errors import UserError

# Formants in Hz of American English vowels, men (Peterson & Barney 1952), and of the sonorants between them.
VOWELS: dict[str, tuple[float, float, float]] = {
    "iy": (270, 2290, 3010), "ih": (390, 1990, 2550), "eh": (530, 1840, 2480), "ae": (660, 1720, 2410),
    "aa": (730, 1090, 2440), "ao": (570, 840, 2410), "uh": (440, 1020, 2240), "uw": (300, 870, 2240),
    "ah": (640, 1190, 2390), "er": (490, 1350, 1690), "n": (280, 1700, 2600), "w": (290, 610, 2150), "r": (310, 1060, 1380),
}  # fmt: skip
# Noise of consonants: centre in Hz, level against the vowels, share of a usual phone's length.
NOISES: dict[str, tuple[float, float, float]] = {
    "s": (3500, 0.30, 1.0), "z": (3300, 0.20, 0.8), "f": (2400, 0.10, 0.8), "th": (2000, 0.10, 0.7),
    "t": (3000, 0.40, 0.3), "k": (1700, 0.40, 0.35), "v": (1300, 0.08, 0.5),
}  # fmt: skip
WORDS: tuple[tuple[str, ...], ...] = (
    ("z", "ih", "r", "uw"), ("w", "ah", "n"), ("t", "uw", "uw"), ("th", "r", "iy"), ("f", "ao", "r"),
    ("f", "ah", "ih", "v"), ("s", "ih", "k", "s"), ("s", "eh", "v", "eh", "n"), ("eh", "ih", "t"), ("n", "ah", "ih", "n"),
)  # fmt: skip


@dataclass(frozen=True)
class Voice:
    """A speaker: `pitch` in Hz, `tract` multiplies formants, `pace` multiplies speed, `tilt` in dB per octave, `noise` in dB."""

    pitch: float
    tract: float
    pace: float
    tilt: float
    noise: float
    room: tuple[float, ...]  # a smooth spectral curve, as cosine weights in dB


@dataclass(frozen=True)
class SynthConfig:
    """How much to generate: `size` recordings by `speakers` voices, of whom the last third is the test split."""

    size: int = 600
    speakers: int = 9
    words: int = 10
    rate: int = 8000
    seed: int = 0

    def __post_init__(self) -> None:
        if self.size < 1 or self.speakers < 2 or not 2 <= self.words <= len(WORDS) or self.rate < 4000 or self.seed < 0:
            raise UserError(
                "not something that can be generated",
                where=self,
                mend="size ≥ 1, speakers ≥ 2, words 2-10, rate ≥ 4000, seed ≥ 0",
            )


def voice(seed: int, number: int) -> Voice:
    """Speaker `number`. Pitch and tract go together loosely, as in people."""
    generator = np.random.default_rng([seed, 1, number])
    size = generator.uniform(-1, 1)
    return Voice(
        pitch=float(150 * 2 ** (0.75 * size + generator.normal(0, 0.12))),
        tract=float(np.exp(0.25 * size + generator.normal(0, 0.06))),
        pace=float(np.exp(generator.uniform(-0.35, 0.35))),
        tilt=float(generator.uniform(-9, -2)),
        noise=float(generator.uniform(-40, -8)),
        room=tuple(float(w) for w in generator.normal(0, 8, 4)),
    )


def utter(word: int, who: Voice, rate: int, generator: np.random.Generator) -> NDArray[np.float32]:
    """One utterance of a word, samples (N,) of peak 0.5; each is a little different."""
    phones = WORDS[word]
    tract = who.tract * np.exp(generator.normal(0, 0.02))
    lengths = np.array([NOISES[p][2] if p in NOISES else 1.0 for p in phones])
    lengths = lengths * 0.11 / who.pace * np.exp(generator.normal(0, 0.3, len(phones)))  # seconds
    edges = np.concatenate([[0.0], np.cumsum(lengths)])
    count = int(edges[-1] * rate)
    time = np.arange(count) / rate
    voiced = [i for i, p in enumerate(phones) if p not in NOISES]
    centres = (edges[:-1] + edges[1:])[voiced] / 2
    targets = (
        np.array([VOWELS[phones[i]] for i in voiced]) * tract * np.exp(generator.normal(0, 0.06, (len(voiced), 3)))
    )
    tracks = np.stack(
        [np.interp(time, centres, targets[:, k]) for k in range(3)]
    )  # (3, N): straight glides between targets
    glottis = sum((_bump(time, edges[i], edges[i + 1], 0.012) for i in voiced), np.zeros(count))
    pitch = who.pitch * np.exp(generator.normal(0, 0.04)) * (1.1 - 0.25 * time / time[-1])  # falls, as statements do
    wave = _harmonics(tracks, pitch, who, rate, generator) * np.minimum(glottis, 1.0)
    for i, phone in enumerate(phones):
        if phone in NOISES:
            centre, level, _ = NOISES[phone]
            band = _band_noise(count, centre * tract, rate, generator)
            wave = wave + 3 * level * band * _bump(time, edges[i], edges[i + 1], 0.008)
    wave = _shape(wave, who.room, rate)
    wave = wave / np.abs(wave).max() * 0.5
    return (wave + 0.5 * 10 ** (who.noise / 20) * generator.normal(0, 0.3, count)).clip(-1, 1).astype(np.float32)


def _harmonics(
    tracks: NDArray, pitch: NDArray, who: Voice, rate: int, generator: np.random.Generator
) -> NDArray[np.float64]:
    """A glottal pulse train through three resonators, as the sum of its harmonics."""
    phase = 2 * np.pi * np.cumsum(pitch) / rate
    number = np.arange(1, int(rate / 2 / pitch.min()) + 1)[:, None]
    frequency = number * pitch[None]  # (K, N)
    level = 10 ** (who.tilt * np.log2(number) / 20) * (frequency < rate / 2)
    gain = np.zeros_like(frequency)
    for formant, width, weight in zip(tracks, (80.0, 110.0, 160.0), (1.0, 0.6, 0.35), strict=True):
        gain += weight / (1 + ((frequency - formant) / width) ** 2)
    start = generator.uniform(0, 2 * np.pi, number.shape)
    return ((level * (gain + 0.01)) * np.sin(number * phase[None] + start)).sum(0)


def _bump(time: NDArray, start: float, end: float, edge: float) -> NDArray:
    """A smooth gate that is 1 between start and end."""
    return np.clip((time - start) / edge + 0.5, 0, 1) * np.clip((end - time) / edge + 0.5, 0, 1)


def _band_noise(count: int, centre: float, rate: int, generator: np.random.Generator) -> NDArray:
    spectrum = np.fft.rfft(generator.normal(size=count))
    frequency = np.fft.rfftfreq(count, 1 / rate)
    centre = min(centre, 0.47 * rate)
    noise = np.fft.irfft(spectrum * np.exp(-0.5 * ((frequency - centre) / (0.2 * centre)) ** 2), count)
    return noise / (noise.std() + 1e-9)


def _shape(wave: NDArray, room: tuple[float, ...], rate: int) -> NDArray:
    spectrum = np.fft.rfft(wave)
    place = np.linspace(0, 1, len(spectrum))
    curve = sum(weight * np.cos(np.pi * (k + 1) * place) for k, weight in enumerate(room))
    return np.fft.irfft(spectrum * 10 ** (curve / 20), len(wave))


def recordings(config: SynthConfig) -> list[tuple[str, int, int, str]]:
    """(file, word, speaker, split) of every recording; all voices say all words equally often."""
    test = config.speakers - max(1, config.speakers // 3)
    rows = []
    for number in range(config.size):
        speaker = number % config.speakers
        word = number // config.speakers % config.words
        rows.append((f"{word}_{speaker:02d}_{number:06d}.wav", word, speaker, "test" if speaker >= test else "train"))
    return rows


def generate(out: str | Path, config: SynthConfig | None = None) -> Path:
    """Write `out/*.wav` (16 bit) and `out/metadata.csv` (file, label, speaker, split), as `speech.data.read` reads them.

    Recording i depends on the seed and i alone, so that a larger set begins with the smaller one.

    Raises:
        UserError: `out` holds something already.
    """
    import soundfile as sf

    config = config or SynthConfig()
    folder = Path(out)
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise UserError("the folder holds something already", where=out, mend="give a new or empty folder")
    folder.mkdir(parents=True, exist_ok=True)
    voices = [voice(config.seed, number) for number in range(config.speakers)]
    with (folder / "metadata.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "label", "speaker", "split"])
        for number, (name, word, speaker, split) in enumerate(recordings(config)):
            generator = np.random.default_rng([config.seed, 2, number])
            sf.write(folder / name, utter(word, voices[speaker], config.rate, generator), config.rate, subtype="PCM_16")
            writer.writerow([name, f"word{word}", f"voice{speaker:02d}", split])
    return folder
