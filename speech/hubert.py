"""HuBERT's two iterations in one training (Hsu et al. 2021): units of MFCC, then units of a layer of what those trained.

Units are kept by recording, one for each frame of its log-mel, so that a window that is cut from a recording cuts its units alike.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from core.artifacts import working_folder
from core.device import one_thread
from core.distributed import rank
from core.encoders import TokenEncoder
from core.errors import UserError
from core.methods import HubertConfig
from core.tokens import to_device
from core.train_config import TrainConfig
from core.units import aligned, clustered
from speech.tasks import Units, read_as_it_is

if TYPE_CHECKING:
    from speech.data import Recordings
    from speech.estimators import AudioEncoder

COEFFICIENTS = 13
Note = Callable[[str], None]


def mfcc(mel: NDArray) -> NDArray[np.float32]:
    """Log-mel (T, F) to (T, 39): 13 cosine coefficients and their first and second differences, each with mean 0 over the recording."""
    from torchaudio.functional import compute_deltas, create_dct

    with torch.no_grad():
        still = torch.from_numpy(mel) @ create_dct(min(COEFFICIENTS, mel.shape[1]), mel.shape[1], "ortho")
        still = (still - still.mean(0)).T  # a recording's mean is its room and its voice
        moving = compute_deltas(still)
        return torch.cat([still, moving, compute_deltas(moving)]).T.numpy()


def pretrained_twice(
    estimator: AudioEncoder, recordings: Recordings, task: Units, out: str | Path | None, note: Note | None
) -> None:
    """Train `estimator` on units of MFCC, then from fresh weights on units of the first network's layer.

    With `out` an interrupted run goes on where it stopped, in either iteration: the first keeps its state beside, in `OUT-first`.
    """
    settings, seed = estimator.recipe_, estimator.recipe_.train.seed
    if not isinstance(settings.objective, HubertConfig):
        raise UserError("units are for hubert to tell", where="pretext", mend="use hubert's objective")
    units = settings.objective.units
    if settings.encoder.kind != "transformer" or task.layer > settings.encoder.depth:
        raise UserError(
            f"units of layer {task.layer} of a {settings.encoder.kind} of depth {settings.encoder.depth}", where="pretext.layer",
            mend="use a transformer at least as deep",
        )  # fmt: skip
    first, second = _parted(settings.train, task.first)
    beside = None if out is None else Path(out).with_name(Path(out).name + "-first")
    with one_thread():
        found = clustered([mfcc(mel) for mel in recordings.signals], units, seed)
    estimator.learn(first, estimator.batches(recordings, units=found), beside, note)
    done = estimator.history_
    with one_thread():
        states = layer_states(estimator, recordings, task.layer)
        rate = settings.encoder.token
        coarse = clustered(states, units, seed)
    found = [aligned(unit, 1, rate, len(mel)) for unit, mel in zip(coarse, recordings.signals, strict=True)]
    estimator.learn(second, estimator.batches(recordings, units=found), out, note)
    if beside is not None and rank() == 0:
        shutil.rmtree(working_folder(beside), ignore_errors=True)
    history = estimator.history_
    estimator.history_ = replace(
        history, steps=history.steps + done.steps, seconds=history.seconds + done.seconds, losses=done.losses + history.losses
    )  # fmt: skip


def layer_states(estimator: AudioEncoder, recordings: Recordings, layer: int) -> list[NDArray[np.float32]]:
    """States (T', D) of every token of each recording, of all its frames, after block `layer` (from 1)."""
    encoder = estimator.encoder_
    assert isinstance(encoder, TokenEncoder)
    device, found = next(encoder.parameters()).device, []
    encoder.eval()
    with torch.no_grad():
        for raw in estimator.in_order(recordings, 64, cut=False):
            batch = read_as_it_is(estimator.recipe_, to_device(raw, device))
            tokens = encoder.stem(batch)
            states = encoder.trunk.layers(tokens)[layer - 1].float().cpu().numpy()
            found += [state[real] for state, real in zip(states, tokens.valid().cpu().numpy(), strict=True)]
    return found


def _parted(train: TrainConfig, share: float) -> tuple[TrainConfig, TrainConfig]:
    """The training of each iteration: together they have the steps, or the minutes, of the whole."""
    if train.minutes is not None:
        return replace(train, minutes=train.minutes * share), replace(train, minutes=train.minutes * (1 - share))
    assert train.steps is not None
    steps = min(max(1, round(train.steps * share)), max(1, train.steps - 1))
    return replace(train, steps=steps), replace(train, steps=max(1, train.steps - steps))
