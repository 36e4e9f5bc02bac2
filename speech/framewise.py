"""Features frame by frame: one row a token of the encoder, with its place in time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from core.errors import UserError
from core.files import whole
from core.tokens import to_device
from speech.data import Recordings
from speech.estimators import AudioEncoder, Fronted


@torch.no_grad()
def frames_of(encoder: AudioEncoder, recordings: Recordings) -> Iterator[NDArray[np.float32]]:
    """Hidden states (T, D) of each recording, in order. Of recordings beyond the recipe's longest the last part is heard.

    A token stands for an equal share of what was heard: convolutional nets stretch every recording to one length.
    """
    fronted = Fronted(encoder.encoder_, encoder.recipe_).to(encoder.device).eval()
    for batch in encoder.in_order(recordings, 64):
        tokens = fronted(to_device(batch, torch.device(encoder.device)))
        valid = tokens.valid().cpu().numpy()
        for state, real in zip(tokens.x.float().cpu().numpy(), valid, strict=True):
            yield state[real]


def write_frames(encoder: AudioEncoder, recordings: Recordings, names: list[str], out: Path) -> tuple[int, int]:
    """Write `file, frame, start, end, f0…` as parquet, a group of rows a recording; returns rows and features.

    Raises:
        UserError: another ending than .parquet.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if out.suffix != ".parquet":
        raise UserError("frames are written as parquet", where=out, mend="end the name in .parquet")
    rows, width, most = 0, 0, encoder.longest()
    with whole(out, "the features") as temporary:
        writer = None
        for name, signal, start, seconds, hidden in zip(
            names, recordings.signals, recordings.start, recordings.seconds, frames_of(encoder, recordings), strict=True
        ):
            length = float(seconds) * min(len(signal), most) / len(signal)
            edges = start + np.linspace(seconds - length, seconds, len(hidden) + 1)
            columns = {
                "file": [name] * len(hidden), "frame": np.arange(len(hidden)), "start": edges[:-1].round(4),
                "end": edges[1:].round(4), **{f"f{i}": hidden[:, i] for i in range(hidden.shape[1])},
            }  # fmt: skip
            table = pa.table(columns)
            writer = writer or pq.ParquetWriter(temporary, table.schema)
            writer.write_table(table)
            rows, width = rows + len(hidden), hidden.shape[1]
        if writer is not None:
            writer.close()
    return rows, width
