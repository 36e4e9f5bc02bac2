"""Speaker verification by layer: which of a net's layers tell two voices apart, beside the statistics of log-mel.

The six speakers of FSDD are strangers to a net that has learned from another set, without labels; which layer is asked, that set's own
speakers say.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from core.bench import Row, row
from core.device import one_thread
from core.statistics import Estimate, bootstrap
from core.verification import eer, trials
from speech.baselines import floor_features
from speech.data import Recordings
from speech.estimators import AudioEncoder
from speech.fronted import Fronted
from speech.presets import Recipe
from speech.verification import scores

PAIRS = 5000  # of each kind
Say = Callable[[str], None]


@torch.no_grad()
def layer_features(encoder: AudioEncoder, recordings: Recordings) -> dict[str, NDArray[np.float32]]:
    """Of every layer, mean and deviation over time (N, 2·C·F) of its maps (B, C, T, F) or states (B, T, C), and the embedding."""
    fronted = Fronted(encoder.encoder_, encoder.recipe_).eval()
    found: dict[str, list[NDArray]] = {}
    for batch in encoder.in_order(recordings):
        for number, layer in enumerate(fronted.layers(batch), 1):
            states = layer.movedim(2, 1).flatten(2) if layer.dim() == 4 else layer  # (B, T, C)
            both = torch.cat([states.mean(1), states.std(1)], 1)
            found.setdefault(f"layer {number}, mean and deviation", []).append(both.float().numpy())
    found["embedding"] = [encoder.transform(recordings)]
    return {name: np.concatenate(parts) for name, parts in found.items()}


def speakers(data: str, unlabelled: Recordings, asked: Recordings, settings: Recipe, seed: int, say: Say) -> list[Row]:
    """Equal error rates of every layer, trained and untrained, and of log-mel, on the same pairs; whole speakers are drawn for intervals.

    Args:
        unlabelled: what pretraining hears; its speakers' names serve the choice of the layer alone.
        asked: whose voices are told apart; none of them is among `unlabelled`.
    """
    with one_thread():
        encoder = AudioEncoder(replace(settings, train=replace(settings.train, seed=seed))).fit(
            unlabelled, note=lambda line: None
        )
    own = layer_features(encoder, unlabelled)
    inside = _trials(unlabelled, seed)
    known = {name: eer(inside[2], scores(features, inside[0], inside[1])) for name, features in own.items()}
    main = min(known, key=lambda name: known[name])
    left, right, same = _trials(asked, seed)
    groups = asked.speaker[left].astype(str)

    def measured(score: NDArray) -> Estimate:
        return bootstrap(eer, same, score, groups, draws=200, seed=seed)

    floors = {name: scores(features, left, right) for name, features in floor_features(asked.signals).items()}
    least = min(floors, key=lambda name: eer(same, floors[name]))
    ours = {name: scores(f, left, right) for name, f in layer_features(encoder, asked).items()}
    bare = {name: scores(f, left, right) for name, f in layer_features(encoder.untrained(seed), asked).items()}
    note = (
        f"the layer that is best on the {len(set(unlabelled.speaker))} speakers of pretraining; {encoder.steps_done()} steps on "
        f"{len(unlabelled)} recordings; {len(same)} pairs of {len(set(asked.speaker))} strangers"
    )
    inner = {name: f"{value:.3f} on the speakers of pretraining" for name, value in known.items()}
    goal = eer(same, floors[least])
    chosen = f"{settings.method}, the layer chosen inside"
    rows = [row(data, chosen, "ours", "eer", measured(ours[main]), goal=goal, note=f"{main}: {note}")]
    rows += [
        row(data, f"{settings.method}, {name}", "ours", "eer", measured(score), note=inner[name])
        for name, score in ours.items()
    ]
    rows += [row(data, f"untrained, {name}", "floor", "eer", measured(score)) for name, score in bare.items()]
    rows += [row(data, name, "floor", "eer", measured(score)) for name, score in floors.items()]
    less = difference(same, floors[least], ours[main], groups, seed)
    words = f"the floor's eer minus ours; the floor: {least}"
    rows.append(row(data, chosen, "ours", "gain eer", less, goal=0.0, note=words))
    say(f"speakers, seed {seed}: " + ", ".join(f"{n} {eer(same, s):.3f}" for n, s in (ours | floors).items()))
    return rows


def _trials(recordings: Recordings, seed: int) -> tuple[NDArray, NDArray, NDArray[np.bool_]]:
    """Pairs of recordings of one speaker and of two."""
    return trials(recordings.speaker.astype(str), PAIRS, np.random.default_rng(seed))


def difference(same: NDArray, floor: NDArray, ours: NDArray, groups: NDArray, seed: int) -> Estimate:
    """The floor's equal error rate minus ours, on the same resampled speakers."""
    rows = np.arange(len(same))

    def metric(target: NDArray, at: NDArray) -> float:
        return eer(target, floor[at]) - eer(target, ours[at])

    return bootstrap(metric, same, rows, groups, draws=200, seed=seed)
