"""How much sound a batch holds: windows of recordings, and how many of them at a time, in frames of log-mel or samples of the waveform."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from core.distributed import world

if TYPE_CHECKING:
    from speech.presets import Recipe


def rate(settings: Recipe) -> float:
    """Places of the encoder's input a second."""
    return settings.mel.rate if settings.encoder.kind == "wave" else 1 / settings.mel.hop


def longest(settings: Recipe) -> int:
    """Places that a recording is cut to where it is embedded."""
    return settings.max_frames * (round(settings.mel.hop * settings.mel.rate) if settings.encoder.kind == "wave" else 1)


def bound(settings: Recipe) -> int | None:
    """Places of a batch of `max_seconds`, padding included; None where the recipe does not bound it."""
    return None if settings.max_seconds is None else round(settings.max_seconds * rate(settings))


def least() -> int:
    """Recordings that a batch holds at least: two, and one for each process."""
    return max(2, world())


def window(settings: Recipe) -> int:
    """Places of a recording that training hears at most: so many that any batch can hold `least` of them (core.batches)."""
    most = bound(settings)
    return longest(settings) if most is None else min(longest(settings), most // (2 * least() - 1))


def told(settings: Recipe, lengths: Sequence[int]) -> str | None:
    """The line that says how many of the recordings, of so many places each, are not heard whole; None where no bound is set or all are."""
    longer = sum(n > window(settings) for n in lengths)
    if settings.max_seconds is None or not longer:
        return None
    seconds = window(settings) / rate(settings)
    return (
        f"{longer} of {len(lengths)} recordings are longer than {seconds:.3g} s and heard in windows of that length, at random places "
        f"(max_seconds={settings.max_seconds:g}, max_frames={settings.max_frames})"
    )
