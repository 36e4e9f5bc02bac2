"""What each layer of a frozen encoder tells of the labels, trained and untrained, and what a weighted sum of them does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from core.encoders import TokenEncoder
from core.evaluation import Section
from core.layers import fit_layers, probabilities, stacked
from core.probes import label_subset
from core.report import COLOURS, figure, svg
from core.statistics import Estimate
from speech.data import Recordings
from speech.outcome import interval
from speech.probes import heard

if TYPE_CHECKING:
    from speech.estimators import AudioEncoder

MOST_ROWS = 2000  # recordings of each side: the features of all layers of all would fill the memory
COST = 1e-2  # one for all layers: they are compared with each other


def layer_section(
    encoder: AudioEncoder, recordings: Recordings, train: NDArray[np.int64], test: NDArray[np.int64], seed: int = 0
) -> Section:
    """Accuracy on the rows `test` of a probe on each layer that learned from the labels of the rows `train`."""
    label = recordings.label.astype(str)
    if len(train) > MOST_ROWS:
        train = train[label_subset(label[train], MOST_ROWS / len(train), seed)]
    if len(test) > MOST_ROWS:
        test = np.sort(np.random.default_rng(seed).permutation(test)[:MOST_ROWS])
    both = recordings.select(np.concatenate([train, test]))
    label, speaker = both.label.astype(str), recordings.speaker[test].astype(str)
    inside, outside = np.arange(len(train)), np.arange(len(train), len(both))

    def hits(features: NDArray) -> NDArray[np.float64]:
        return (heard(features, label, inside, outside, None, (COST,)) == label[outside]).astype(float)

    layers, untrained = encoder.transform_layers(both), encoder.untrained(seed).transform_layers(both)
    names = names_of(encoder, len(layers))
    ours, floor = ([interval(hits(x), speaker) for x in found] for found in (layers, untrained))
    rows: list[tuple[object, ...]] = [(name, str(a), str(b)) for name, a, b in zip(names, ours, floor, strict=True)]
    columns: tuple[str, ...] = ("layer", "accuracy", "untrained")
    text = (
        f"A linear probe on each layer, frozen: {len(train):,} training labels, {len(test):,} test recordings, one penalty for all. Which layer is best was seen on the "
        "test recordings, so its figure is no result."
    )
    if isinstance(encoder.encoder_, TokenEncoder):
        probe = fit_layers(stacked(layers)[inside], label[inside], COST)
        classes = np.unique(label[inside])
        said = classes[probabilities(probe, stacked(layers)[outside]).argmax(1)]
        whole = interval((said == label[outside]).astype(float), speaker)
        rows = [(*row, f"{weight:.2f}") for row, weight in zip(rows, probe.weights.tolist(), strict=True)]
        rows.append(("weighted sum", str(whole), "–", ""))
        columns = (*columns, "weight in the sum")
        text += " The weights of the sum are learned from training labels alone: `finetune --tune layers` makes a classifier of it."
    return Section("Layer by layer", text, columns, tuple(rows), _plot(names, ours, floor))


def names_of(encoder: AudioEncoder, count: int) -> list[str]:
    """What the layers are called."""
    if isinstance(encoder.encoder_, TokenEncoder):
        return ["stem", *(f"block {number}" for number in range(1, count))]
    last = "embedding" if encoder.recipe_.encoder.kind == "convnet" else f"stage {count}"
    return [*(f"stage {number}" for number in range(1, count)), last]


def _plot(names: list[str], ours: list[Estimate], floor: list[Estimate]) -> str:
    drawing, axes = figure(5.5, 2.4)
    for label, found, colour, style, shift in (
        ("pretrained", ours, COLOURS[0], "o-", -0.03),
        ("untrained", floor, "#888888", "s--", 0.03),
    ):
        places = np.arange(len(names)) + shift
        axes.plot(places, [e.value for e in found], style, color=colour, label=label, markersize=4)
        axes.vlines(places, [e.low for e in found], [e.high for e in found], color=colour, alpha=0.6)
    axes.set_xticks(range(len(names)), names)
    axes.set_ylabel("accuracy")
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return svg(drawing)
