"""Sides of the comparison of training speed: `python -m core.peers recsys.peers SIDE SETTINGS`, see recsys.speed.

Settings: data (what `write` wrote), loss (sampled or full softmax), dim, heads, negatives, chunk (of our full softmax), batch
(sequences a step, of RecBole prefixes), length (items of a sequence), dropout, seconds (processor time of a round, a step at least). What is counted are real interactions: distinct
(user, position) targets whose guess was corrected. Padding is none, and neither is an item that is only read.

With `questions` (what `write_questions` wrote), a round ends with what the side's validation ndcg is by then, which is not timed; ours then takes
its preset's learning rate, dropout and temperature, as the peers take their own rate.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from core.batches import Ragged, SequenceBatches
from core.codec import FIRST, Categories
from core.heads import TiedHead
from core.optim import optimizer_for
from core.peers.rounds import Rounds, endless, peak, processor_seconds
from core.train_config import TrainConfig
from recsys.encoders import ModelConfig, build_encoder, build_heads
from recsys.methods import build, pretext_of
from recsys.presets import recipe
from recsys.ranking import MAIN, rank_all
from recsys.sequences import Sequences
from recsys.split import Examples

PEERS = {"rectools": "RecTools", "recbole": "RecBole"}
CLIP = 1.0  # of the gradients' norm, ours; the peers clip none


def write(path: Path, train: Sequences) -> Path:
    """Training sequences that every side reads."""
    np.savez(path, items=train.items, offsets=train.offsets, size=np.array(train.catalogue.size))
    return path


def read(path: str) -> tuple[Ragged, int]:
    """Sequences of 2 items or more, and the number of ids, reserved ones counted."""
    with np.load(path, allow_pickle=False) as file:
        ragged, size = Ragged({"item": file["items"]}, file["offsets"]), int(file["size"])
    return ragged.select(np.flatnonzero(ragged.lengths >= 2)), size


def write_questions(path: Path, asked: Examples) -> Path:
    """Histories and the item that came after each, over the training data's ids."""
    np.savez(path, items=asked.history.items, offsets=asked.history.offsets, target=asked.target)
    return path


def read_questions(path: str, size: int) -> Examples:
    """What `write_questions` wrote, over a catalogue of so many ids."""
    names = Categories(tuple(str(i) for i in range(size - FIRST)))
    with np.load(path, allow_pickle=False) as file:
        keys = np.arange(len(file["target"])).astype(str).astype(object)
        return Examples.of(Sequences(keys, file["items"], file["offsets"], names), file["target"])


@dataclass
class Taught:
    """One side, ready to train: `step` takes one and says how many targets it taught; `answer` gives the scores (N, size) of all ids
    for histories; `weights` says how many there are."""

    step: Callable[[], int]
    answer: Callable[[Ragged], NDArray[np.float32]]
    weights: int

    def scores(self, history: Sequences) -> NDArray[np.float32]:
        """(N, items), as recsys.ranking asks for them."""
        return self.answer(history.ragged())[:, FIRST:]


def run(side: str, settings: dict[str, Any], rounds: Rounds) -> None:
    ragged, size = read(settings["data"])
    taught = {"ours": ours, "rectools": rectools, "recbole": recbole}[side](ragged, size, settings)
    asked = read_questions(settings["questions"], size) if "questions" in settings else None

    while rounds.go():
        until, count = processor_seconds() + settings["seconds"], taught.step()
        while processor_seconds() < until:
            count += taught.step()
        rounds.done(count, partial(_quality, taught, asked))
    rounds.finish(weights=taught.weights, peak=peak())


def _quality(taught: Taught, asked: Examples | None) -> dict[str, float]:
    return {} if asked is None else {"ndcg": float(rank_all(taught, asked).per_user(MAIN).mean())}


def ours(ragged: Ragged, size: int, s: dict[str, Any]) -> Taught:
    """The preset `next` at the comparison's size."""
    preset = recipe("next")
    config = ModelConfig(
        dim=s["dim"], heads=s["heads"], dropout=s["dropout"], length=s["length"],
        negatives=s["negatives"] if s["loss"] == "sampled" else 0, chunk=0 if s["loss"] == "sampled" else s["chunk"],
    )  # fmt: skip
    train = TrainConfig(steps=1)
    if "questions" in s:
        config = replace(config, dropout=preset.model.dropout, temperature=preset.model.temperature)
        train = replace(train, lr=preset.train.lr, weight_decay=preset.train.weight_decay)
    encoder = build_encoder(size, config)
    counts = np.bincount(ragged.fields["item"], minlength=size)[FIRST:]
    heads = build_heads(encoder, config, counts)
    head = heads["item"]
    assert isinstance(head, TiedHead)
    method = build(preset.objective, preset.pretext, encoder, heads)
    pretext = pretext_of(preset.pretext, preset.auxiliary, ragged)
    batches = SequenceBatches(ragged, s["batch"], max_length=s["length"] + 1, crop="last", min_length=2)
    optimizer, generator, taken = optimizer_for(method, train), torch.Generator().manual_seed(0), 0

    def step() -> int:
        nonlocal taken
        method.train()
        batch = batches.batch(*divmod(taken, len(batches)))
        taken += 1
        method(pretext(batch, generator), generator).loss.backward()
        torch.nn.utils.clip_grad_norm_(method.parameters(), CLIP)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return int((~batch["pad"][:, 1:]).sum())

    @torch.no_grad()
    def answer(history: Ragged) -> NDArray[np.float32]:
        method.eval()
        hidden = encoder.embed(history.padded(np.arange(len(history)), s["length"]))
        return head.log_probs(hidden).numpy()

    return Taught(step, answer, sum(p.numel() for p in method.parameters()))


def rectools(ragged: Ragged, size: int, s: dict[str, Any]) -> Taught:
    """The same with RecTools' SASRec: its own loader, module, loss and optimizer, in a bare loop, which spares it its trainer's
    overhead. Its feed-forward layers are as wide as the trunk, ours four times as wide."""
    import pandas as pd
    from rectools import Columns
    from rectools.dataset import Dataset
    from rectools.models import SASRecModel

    users = np.repeat(np.arange(len(ragged)), ragged.lengths)
    table = pd.DataFrame(
        {
            Columns.User: users, Columns.Item: ragged.fields["item"], Columns.Weight: 1.0,
            Columns.Datetime: pd.Timestamp("2020-01-01") + pd.to_timedelta(_places(ragged), unit="s"),
        }
    )  # fmt: skip
    model = SASRecModel(
        n_blocks=1, n_heads=s["heads"], n_factors=s["dim"], dropout_rate=s["dropout"], session_max_len=s["length"],
        loss="sampled_softmax" if s["loss"] == "sampled" else "softmax", n_negatives=s["negatives"], batch_size=s["batch"],
    )  # fmt: skip
    # pandas 3 finds the distinct values of arrays, not of the tuple that RecTools has here
    model.data_preparator.item_extra_tokens = np.array(model.data_preparator.item_extra_tokens, dtype=object)
    model._build_model_from_dataset(Dataset.construct(table))
    module: Any = model.lightning_model
    module.log = lambda *_, **__: None  # its trainer's records
    module.on_train_start()
    optimizer = module.configure_optimizers()
    loader = model.data_preparator.get_dataloader_train()
    batches = endless(loader)

    prepared = model.data_preparator
    own = _renamed(size, prepared.get_known_item_ids(), prepared.get_known_items_sorted_internal_ids())

    def step() -> int:
        module.train()
        batch = next(batches)
        optimizer.zero_grad()
        module.training_step(batch, 0).backward()
        optimizer.step()
        return int((batch["y"] != 0).sum())

    @torch.no_grad()
    def answer(history: Ragged) -> NDArray[np.float32]:
        module.eval()
        # (N, length), padded on the left; the state at the last place is asked
        ids = _translated(history, own, s["length"], left=True)[0]
        net = module.torch_model
        items = net.item_model.get_all_embeddings()
        state = net.encode_sessions({"x": ids}, items)[:, -1, :]
        return _ours((state @ items.T).numpy(), own)

    return Taught(step, answer, sum(p.numel() for p in module.parameters()))


def recbole(ragged: Ragged, size: int, s: dict[str, Any]) -> Taught:
    """The same with RecBole's SASRec: its own data set, loader, loss (full softmax, the only one it has beside BPR) and optimizer, in
    a bare loop. It makes a row of every prefix and trains the last place of each."""
    from recbole.config import Config
    from recbole.data import create_dataset
    from recbole.data.dataloader import TrainDataLoader
    from recbole.model.sequential_recommender import SASRec

    for name, now in (("float_", np.float64), ("complex_", np.complex128), ("unicode_", np.str_)):
        if not hasattr(np, name):
            setattr(np, name, now)  # which numpy 2 has no more, and RecBole asks for
    logging.disable(logging.INFO)
    with TemporaryDirectory() as folder:
        _atomic(Path(folder) / "log" / "log.inter", ragged)
        given = {
            "data_path": folder, "checkpoint_dir": folder, "use_gpu": False, "show_progress": False, "reproducibility": False,
            "load_col": {"inter": ["user_id", "item_id", "timestamp"]}, "MAX_ITEM_LIST_LENGTH": s["length"],
            "train_neg_sample_args": None, "train_batch_size": s["batch"], "loss_type": "CE", "hidden_size": s["dim"],
            "n_layers": 1, "n_heads": s["heads"], "inner_size": 4 * s["dim"], "hidden_dropout_prob": s["dropout"],
            "attn_dropout_prob": s["dropout"], "eval_args": {"split": {"RS": [1.0, 0.0, 0.0]}, "order": "TO", "group_by": "user"},
        }  # fmt: skip
        config = _config(Config, given)
        dataset = create_dataset(config)
        train = dataset.build()[0]
    loader = TrainDataLoader(config, train, None, shuffle=True)
    model = SASRec(config, train)
    optimizer = torch.optim.Adam(model.parameters(), lr=config["learning_rate"])
    batches = endless(loader)
    names = dataset.field2id_token["item_id"][1:]
    own = _renamed(size, names.astype(np.int64), np.arange(1, len(names) + 1))

    def step() -> int:
        model.train()
        batch = next(batches)
        optimizer.zero_grad()
        model.calculate_loss(batch).backward()
        optimizer.step()
        return len(batch)

    @torch.no_grad()
    def answer(history: Ragged) -> NDArray[np.float32]:
        model.eval()
        ids, lengths = _translated(history, own, s["length"], left=False)
        given = {model.ITEM_SEQ: ids, model.ITEM_SEQ_LEN: lengths}
        return _ours(model.full_sort_predict(given).numpy(), own)

    return Taught(step, answer, sum(p.numel() for p in model.parameters()))


def _renamed(size: int, ids: NDArray, theirs: NDArray) -> NDArray[np.int64]:
    """(size,) a peer's own number of each of our ids; 0, its padding, where it has none: an item that training lacks."""
    own = np.zeros(size, dtype=np.int64)
    own[np.asarray(ids, dtype=np.int64)] = theirs
    return own


def _translated(history: Ragged, own: NDArray[np.int64], length: int, left: bool) -> tuple[Tensor, Tensor]:
    """The last `length` items of each history that a peer knows, as its own numbers (N, length) padded with 0, and how many there are (N,)."""
    ids, lengths = np.zeros((len(history), length), dtype=np.int64), np.ones(len(history), dtype=np.int64)
    for row, (start, end) in enumerate(zip(history.offsets[:-1], history.offsets[1:], strict=True)):
        items = own[history.fields["item"][start:end]]
        items = items[items > 0][-length:]
        lengths[row] = max(1, len(items))
        if len(items):
            ids[row, slice(-len(items), None) if left else slice(len(items))] = items
    return torch.from_numpy(ids), torch.from_numpy(lengths)


def _ours(scores: NDArray[np.float32], own: NDArray[np.int64]) -> NDArray[np.float32]:
    """A peer's scores (N, its items) by our ids (N, size); what it does not know comes last."""
    found = scores[:, own]
    found[:, own == 0] = -1e9
    return found


def _config(make: Any, given: dict[str, Any]) -> Any:
    """RecBole's settings; it reads the command line of whoever calls it, which is not meant for it."""
    import sys

    before, sys.argv = sys.argv, sys.argv[:1]
    try:
        return make(model="SASRec", dataset="log", config_dict=given)
    finally:
        sys.argv = before


def _places(ragged: Ragged) -> Any:
    """(total,) place of each item in its sequence, from 0."""
    return np.arange(ragged.offsets[-1]) - np.repeat(ragged.offsets[:-1], ragged.lengths)


def _atomic(path: Path, ragged: Ragged) -> None:
    """The file that RecBole reads."""
    path.parent.mkdir(parents=True)
    users = np.repeat(np.arange(len(ragged)), ragged.lengths)
    rows = np.stack([users, ragged.fields["item"], _places(ragged)], 1)
    with path.open("w", encoding="utf-8") as file:
        file.write("user_id:token\titem_id:token\ttimestamp:float\n")
        np.savetxt(file, rows, fmt="%d", delimiter="\t")
