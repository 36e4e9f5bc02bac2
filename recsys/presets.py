"""Named recipes. Each is a function that returns one frozen dataclass; `--set key=value` changes any part of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from core import methods as m
from core.batches import Crop
from core.errors import UserError
from core.training import TrainConfig
from recsys.encoders import ModelConfig
from recsys.methods import Auxiliary, Extra, Objective, Task
from recsys.pretext import MaskedItems, NextItem, ReorderedItems, SequenceViews, SwappedItems

FEWEST = 500  # steps of a run whose budget is passes over few sequences


@dataclass(frozen=True)
class Recipe:
    """All that a run depends on, but for the data.

    Attributes:
        objective: the method's own settings.
        pretext: what it learns from.
        model: shape of the encoder.
        train: schedule.
        epochs: passes over the sequences, at least `FEWEST` steps, in the place of the schedule's minutes where the user gives no budget;
            0: those minutes.
        batch_size: sequences a step.
        crop: of a sequence longer than the model reads, its last events or, each time anew, a window at a random place: then all of
            long histories is learned from, not their ends alone.
        auxiliary: what the encoder learns beside `pretext`, by weights.
    """

    objective: Objective = field(default_factory=m.AutoregressiveConfig)
    pretext: Task = field(default_factory=NextItem)
    model: ModelConfig = field(default_factory=ModelConfig)
    train: TrainConfig = field(
        default_factory=lambda: TrainConfig(minutes=10.0, lr=2e-3, weight_decay=0.0, warmup=0.02)
    )
    epochs: float = 0.0
    batch_size: int = 128
    crop: Crop = "last"
    auxiliary: Auxiliary = field(default_factory=Auxiliary)


def sasrec() -> Recipe:
    """Next item, causal Transformer of one block, sampled softmax: SASRec (Kang & McAuley 2018) with the loss of later work.

    Vectors are compared by cosine, and the weights averaged. Item vectors start from what stands near the items in the training sequences
    (`recsys.cooccurrence`): six passes then reach more than twelve did from random ones, after which those learnt users by heart; so the
    budget is passes, not minutes. More than six from such a start were not tried.
    `tacit-recsys pretrain --data beauty --out runs/beauty` (2 minutes of a core), then
    `tacit-recsys evaluate --run runs/beauty --data beauty --out reports/beauty`; docs/results/recsys.json has its figures, floors and
    the published ones beside.
    Expected of next's features, of untrained ones in brackets: beauty accuracy .407 (.326) by kNN, .434 (.322) by a
    linear probe, after 1.0 minutes (docs/methods.md).
    """
    base = Recipe()
    model = replace(base.model, dim=128, dropout=0.4, temperature=0.07, start="cooccurrence")
    train = replace(base.train, lr=3e-3, average=0.995)
    return replace(base, model=model, train=train, epochs=6)


def bert4rec() -> Recipe:
    """Masked items, Transformer of two blocks that sees both sides: BERT4Rec (Sun et al. 2019) with a sampled softmax.

    `tacit-recsys pretrain --data beauty --method bert4rec --out runs/bert4rec`, 10 minutes on two cores. Masking gives a target to a
    third of the events alone, so it learns more slowly than guessing each next item; docs/results/recsys.json has its figures.
    Expected of bert4rec's features, of untrained ones in brackets: beauty accuracy .367 (.329) by kNN, .379 (.327) by a
    linear probe, after 1.3 minutes (docs/methods.md).
    """
    return _both_sides(m.MaskedConfig(), MaskedItems(), pool="last")


def _both_sides(
    objective: Any, pretext: Any, pool: Any = "mean", dropout: float = 0.2, batch_size: int = 128
) -> Recipe:
    """A recipe on a Transformer of two blocks that sees both sides."""
    base = Recipe()
    dropout = base.model.dropout if pool == "last" else dropout
    model = replace(base.model, depth=2, causal=False, pool=pool, dropout=dropout)
    return replace(base, objective=objective, pretext=pretext, model=model, batch_size=batch_size)


def cl4srec() -> Recipe:
    """Two changed views of a sequence attract (CL4SRec, Xie et al. 2022, with its contrastive part alone); embeddings, no item scores.

    `tacit-recsys pretrain --data beauty --method cl4srec --out runs/cl4srec --minutes 5`.
    Expected of cl4srec's features, of untrained ones in brackets: beauty accuracy .419 (.344) by kNN, .412 (.333) by a
    linear probe, after 2.1 minutes (docs/methods.md).
    """
    return _both_sides(m.SimCLRConfig(temperature=0.2), SequenceViews(), batch_size=256)


def moco() -> Recipe:
    """CL4SRec's views against a queue of past sequences (MoCo, He et al. 2019); embeddings, no item scores.

    `tacit-recsys pretrain --data beauty --method moco --out runs/moco --minutes 5`.
    Expected of moco's features, of untrained ones in brackets: beauty accuracy .383 (.344) by kNN, .368 (.333) by a
    linear probe, after 3.1 minutes (docs/methods.md).
    """
    return _both_sides(m.MoCoConfig(), SequenceViews(), batch_size=256)


def byol() -> Recipe:
    """One view predicts a slow copy's features of the other (BYOL, Grill et al. 2020); embeddings, no item scores.

    `tacit-recsys pretrain --data beauty --method byol --out runs/byol --minutes 5`.
    Expected of byol's features, of untrained ones in brackets: beauty accuracy .372 (.344) by kNN, .368 (.333) by a
    linear probe, after 1.8 minutes (docs/methods.md).
    """
    return _both_sides(m.BYOLConfig(), SequenceViews(), batch_size=256)


def vicreg() -> Recipe:
    """Views agree, features vary and differ (VICReg, Bardes et al. 2021); embeddings, no item scores.

    `tacit-recsys pretrain --data beauty --method vicreg --out runs/vicreg --minutes 5`.
    Expected of vicreg's features, of untrained ones in brackets: beauty accuracy .424 (.344) by kNN, .425 (.333) by a
    linear probe, after 1.9 minutes (docs/methods.md).
    """
    return _both_sides(m.VICRegConfig(), SequenceViews(), batch_size=256)


def data2vec() -> Recipe:
    """A slow copy's features at hidden items (data2vec, Baevski et al. 2022); embeddings, no item scores.

    `tacit-recsys pretrain --data beauty --method data2vec --out runs/data2vec --minutes 5`.
    Expected of data2vec's features, of untrained ones in brackets: beauty accuracy .359 (.344) by kNN, .363 (.330) by a
    linear probe, after 1.4 minutes (docs/methods.md).
    """
    return _both_sides(m.Data2VecConfig(top=2, norm="layer"), MaskedItems(ratio=0.4, last=0.0))


def denoise() -> Recipe:
    """Clean items from a sequence of which a quarter was swapped (Vincent et al. 2008); embeddings, no item scores.

    `tacit-recsys pretrain --data beauty --method denoise --out runs/denoise --minutes 5`.
    Expected of denoise's features, of untrained ones in brackets: beauty accuracy .391 (.344) by kNN, .379 (.333) by a
    linear probe, after 2.4 minutes (docs/methods.md).
    """
    return _both_sides(m.DenoiseConfig(), SwappedItems(task="mend"))


def replaced() -> Recipe:
    """Which items were swapped with another sequence's (ELECTRA, Clark et al. 2020); embeddings, no item scores.

    `tacit-recsys pretrain --data beauty --method replaced --out runs/replaced --minutes 5`.
    Expected of replaced's features, of untrained ones in brackets: beauty accuracy .392 (.344) by kNN, .396 (.333) by a
    linear probe, after 4.0 minutes (docs/methods.md).
    """
    return _both_sides(m.PuzzleConfig(), SwappedItems())


def order() -> Recipe:
    """Which order the segments of a sequence are in; embeddings, no item scores.

    `tacit-recsys pretrain --data beauty --method order --out runs/order --minutes 5`.
    Expected of order's features, of untrained ones in brackets: beauty accuracy .340 (.344) by kNN, .328 (.329) by a
    linear probe, after 1.1 minutes (docs/methods.md).
    """
    return _both_sides(m.PuzzleConfig(), ReorderedItems())


def cpc() -> Recipe:
    """Which of many items comes one to three steps later (CPC, van den Oord et al. 2018); embeddings, no item scores.

    `tacit-recsys pretrain --data beauty --method cpc --out runs/cpc --minutes 5`.
    Expected of cpc's features, of untrained ones in brackets: beauty accuracy .419 (.347) by kNN, .411 (.332) by a
    linear probe, after 1.0 minutes (docs/methods.md).
    """
    base = Recipe()
    return replace(base, objective=m.CPCConfig(steps=3), model=replace(base.model, dropout=0.2, pool="mean"))


def gsasrec() -> Recipe:
    """Next item by generalised binary cross-entropy in the place of the softmax (gSASRec, Petrov & Macdonald 2023).

    `tacit-recsys pretrain --data beauty --method gsasrec --out runs/gsasrec`, 10 minutes on two cores.
    Expected of gsasrec's features, of untrained ones in brackets: not yet measured (docs/methods.md).
    """
    base = Recipe()
    return replace(base, model=replace(base.model, loss="gbce"))


def gru4rec() -> Recipe:
    """Next item by gated recurrent units of one layer (GRU4Rec, Hidasi et al. 2016), with the sampled softmax of later work.

    Dropout is on the item vectors: one layer has none between layers.
    `tacit-recsys pretrain --data beauty --method gru4rec --out runs/gru4rec`, 10 minutes on two cores.
    Expected of gru4rec's features, of untrained ones in brackets: not yet measured (docs/methods.md).
    """
    base = Recipe()
    return replace(base, model=replace(base.model, trunk="gru", item_dropout=0.5))


def _beside(**weights: float) -> Recipe:
    """Next item, with auxiliaries of these weights."""
    base = sasrec()
    parts: dict[str, Extra] = {name: replace(getattr(base.auxiliary, name), weight=w) for name, w in weights.items()}
    return replace(base, auxiliary=replace(base.auxiliary, **parts))


def next_cl4srec() -> Recipe:
    """Next item, and cropped, masked and reordered views that attract: CL4SRec (Xie et al. 2022) whole; `cl4srec` is its contrast alone.

    `tacit-recsys pretrain --data beauty --method next+cl4srec --out runs/next-cl4srec`, 10 minutes on two cores.
    Expected of next+cl4srec's features, of untrained ones in brackets: not yet measured (docs/methods.md).
    """
    return _beside(views=0.1)


def duorec() -> Recipe:
    """Next item, and a sequence attracts its dropout view and one that goes on with the same item (DuoRec, Qiu et al. 2022).

    `tacit-recsys pretrain --data beauty --method duorec --out runs/duorec`, 10 minutes on two cores.
    Expected of duorec's features, of untrained ones in brackets: not yet measured (docs/methods.md).
    """
    return _beside(same_target=0.1)


def next_replaced() -> Recipe:
    """Next item, and which items were swapped with another sequence's (ELECTRA, Clark et al. 2020).

    `tacit-recsys pretrain --data beauty --method next+replaced --out runs/next-replaced`, 10 minutes on two cores.
    Expected of next+replaced's features, of untrained ones in brackets: not yet measured (docs/methods.md).
    """
    return _beside(replaced=0.1)


def next_order() -> Recipe:
    """Next item, and which order the segments of a sequence are in.

    `tacit-recsys pretrain --data beauty --method next+order --out runs/next-order`, 10 minutes on two cores.
    Expected of next+order's features, of untrained ones in brackets: not yet measured (docs/methods.md).
    """
    return _beside(order=0.1)


def next_attributes() -> Recipe:
    """Next item, and each item's vector tells its attributes (S3-Rec, Zhou et al. 2020), which come with the data.

    `SessionRecommender("next+attributes", attributes=table).fit(clicks)`, the table with columns item_id and attributes.
    Expected of next+attributes's features, of untrained ones in brackets: not yet measured (docs/methods.md).
    """
    return _beside(attributes=0.1)


PRESETS: dict[str, Callable[[], Recipe]] = {
    "next": sasrec, "bert4rec": bert4rec, "cl4srec": cl4srec, "moco": moco, "byol": byol, "vicreg": vicreg, "data2vec": data2vec,
    "denoise": denoise, "replaced": replaced, "order": order, "cpc": cpc,
    "gsasrec": gsasrec, "gru4rec": gru4rec, "next+cl4srec": next_cl4srec, "duorec": duorec, "next+replaced": next_replaced,
    "next+order": next_order, "next+attributes": next_attributes,
}  # fmt: skip


def recipe(method: str) -> Recipe:
    """The recipe called `method`; `UserError` where there is none."""
    if method not in PRESETS:
        raise UserError(f"no method '{method}'", where="--method", mend=f"choose from {', '.join(PRESETS)}")
    return PRESETS[method]()
