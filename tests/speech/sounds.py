"""Small recordings as bytes, for tests."""

import io

import numpy as np
import soundfile as sf

RATE = 8000


def tone(seconds=0.3, frequency=440.0, channels=1, rate=RATE):
    time = np.arange(int(seconds * rate)) / rate
    wave = (0.3 * np.sin(2 * np.pi * frequency * time)).astype(np.float32)
    return wave if channels == 1 else np.stack([wave] * channels, axis=1)


def encoded(wave, form="WAV", subtype="PCM_16", rate=RATE):
    buffer = io.BytesIO()
    sf.write(buffer, wave, rate, format=form, subtype=subtype)
    return buffer.getvalue()
