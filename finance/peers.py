"""Sides of the comparison of training speed: `python -m core.peers finance.peers SIDE SETTINGS`, see finance.speed.

Settings: data (what `write` wrote), dim, batch (cards a step), steps (a round), longest (events of a slice).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from core.batches import Ragged, SequenceBatches
from core.encoders import GRU, Field, FieldStem, GRUConfig, TokenEncoder, Transformer, TransformerConfig, parameters
from core.methods import MaskedPrediction, SimCLR
from core.optim import optimizer_for
from core.peers.rounds import Rounds, endless
from core.pretext import Views
from core.train_config import TrainConfig
from finance.pretext import Masks, Slices

PEERS = {"ptls": "pytorch-lifestream"}
SHORTEST = 20  # events of a card
SLICE = 10  # events of the shortest slice


def write(path: Path, ragged: Ragged, fields: tuple[Field, ...]) -> Path:
    """Histories that every side reads."""
    about = json.dumps([(f.name, f.kind, f.size) for f in fields])
    arrays: dict[str, Any] = {"offsets": ragged.offsets, "about": np.array(about), **ragged.fields}
    np.savez(path, **arrays)
    return path


def read(path: str) -> tuple[Ragged, tuple[Field, ...]]:
    with np.load(path, allow_pickle=False) as file:
        fields = tuple(Field(*f) for f in json.loads(str(file["about"])))
        ragged = Ragged({f.name: file[f.name] for f in fields}, file["offsets"])
    return ragged.select(np.flatnonzero(ragged.lengths >= SHORTEST)), fields


def run(side: str, settings: dict[str, Any], rounds: Rounds) -> None:
    ragged, fields = read(settings["data"])
    if side == "ptls":
        step, weights = ptls(ragged, fields, settings)
    else:
        step, weights = ours(side, ragged, fields, settings)
    while rounds.go():
        rounds.done(sum(step() for _ in range(settings["steps"])))
    rounds.finish(weights=weights)


def ours(side: str, ragged: Ragged, fields: tuple[Field, ...], s: dict[str, Any]) -> tuple[Callable[[], int], int]:
    """A step that says how many events the network read, and the encoder's parameters. CoLES' slices by `SimCLR` and a GRU, the same on
    the categories alone (side `lean`), or masked fields with the preset's Transformer (side `masked`)."""
    if side == "lean":
        fields = tuple(f for f in fields if f.kind == "categorical")
    stem, batches = FieldStem(fields, s["dim"]), SequenceBatches(ragged, s["batch"], max_length=128)
    if side == "masked":
        config = TransformerConfig(s["dim"], heads=4, mlp=2.0, causal=True, position="none")
        encoder = TokenEncoder(stem, Transformer(config), pool="last")
        method: torch.nn.Module = MaskedPrediction(encoder, stem.heads(trim=0.02))
        pretext = Masks().bound(fields)
    else:
        encoder = TokenEncoder(stem, GRU(GRUConfig(s["dim"])), pool="last")
        method, pretext = SimCLR(encoder), Slices(shortest=SLICE, share=s["longest"] / 128).bound(fields)
    optimizer, generator, taken = optimizer_for(method, TrainConfig(steps=1)), torch.Generator().manual_seed(0), 0

    def step() -> int:
        nonlocal taken
        batch = batches.batch(*divmod(taken, len(batches)))
        taken += 1
        made = pretext(batch, generator)
        method(made, generator).loss.backward()
        torch.nn.utils.clip_grad_norm_(method.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        read = made.views if isinstance(made, Views) else [batch]
        return sum(int((~view["pad"]).sum()) for view in read)

    return step, parameters(encoder)


def ptls(ragged: Ragged, fields: tuple[Field, ...], s: dict[str, Any]) -> tuple[Callable[[], int], int]:
    """The same with pytorch-lifestream's CoLES."""
    module, loader = lifestream(lifestream_data(ragged, fields), fields, s)
    step = lifestream_steps(module, loader)
    return step, parameters(module.seq_encoder)


def lifestream_data(ragged: Ragged, fields: tuple[Field, ...]) -> list[dict[str, torch.Tensor]]:
    """Each card's last 128 events, as pytorch-lifestream reads them."""
    data = []
    for a, b in zip(ragged.offsets[:-1], ragged.offsets[1:], strict=True):
        card = {f.name: torch.from_numpy(np.nan_to_num(ragged.fields[f.name][max(a, b - 128) : b])) for f in fields}
        data.append({**card, "event_time": torch.arange(len(card[fields[0].name]))})
    return data


def lifestream(
    data: list[dict[str, torch.Tensor]], fields: tuple[Field, ...], s: dict[str, Any]
) -> tuple[Any, torch.utils.data.DataLoader]:
    """pytorch-lifestream's CoLES and its batches: data set, splitter, encoder, loss and pair selector as in its documentation.

    Settings, beside those of this module: slices of a card (2 where not said), seed.
    """
    from ptls.frames.coles import ColesDataset, CoLESModule
    from ptls.frames.coles.split_strategy import SampleSlices
    from ptls.nn import RnnSeqEncoder, TrxEncoder

    width = s["dim"] // 4
    trx = TrxEncoder(
        embeddings={f.name: {"in": f.size, "out": width} for f in fields if f.kind == "categorical"},
        numeric_values={f.name: "identity" for f in fields if f.kind == "numeric"}, linear_projection_size=s["dim"],
    )  # fmt: skip
    encoder = RnnSeqEncoder(trx_encoder=trx, hidden_size=s["dim"], type="gru")
    np.random.seed(s.get("seed", 0))
    splitter = SampleSlices(split_count=s.get("slices", 2), cnt_min=SLICE, cnt_max=s["longest"])
    loader = torch.utils.data.DataLoader(
        ColesDataset(data, splitter), s["batch"], shuffle=True, drop_last=True, collate_fn=ColesDataset.collate_fn
    )
    return CoLESModule(seq_encoder=encoder), loader


def lifestream_steps(module: Any, loader: torch.utils.data.DataLoader, rate: float = 1e-3) -> Callable[[], int]:
    """A step that says how many events the network read, in a bare loop, which spares it its trainer's overhead."""
    optimizer = torch.optim.Adam(module.parameters(), lr=rate)
    batches = endless(loader)

    def step() -> int:
        batch = next(batches)
        embedding, target = module.shared_step(*batch)
        module._loss(embedding, target).backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return int(batch[0].seq_lens.sum())

    return step
