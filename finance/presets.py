"""Named recipes: functions that return one frozen, nested dataclass. Every setting is reached by `--set key=value`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from core import methods as m
from core.config import SIZE, within
from core.errors import UserError
from core.training import TrainConfig
from finance.encoders import Shape
from finance.methods import Objective, Task
from finance.pretext import Masks, NextEvent, Segments, Slices, Swaps
from finance.schema import View
from finance.scoring import Score


@dataclass(frozen=True)
class Fields:
    """How columns become fields: see finance.histories.EventCodec.fit."""

    max_categories: int = 500
    buckets: int = 256
    min_count: int = 5
    words: int = 8
    vocabulary: int = 1000

    def __post_init__(self) -> None:
        within(self, words=(0, 64), vocabulary=SIZE)


@dataclass(frozen=True)
class Recipe:
    """All settings of a pretraining run.

    Attributes:
        method: the preset's name; `masked` and `masked_events` can score.
        objective: the method's own settings.
        pretext: what it learns from.
        view: whose histories: cards', or counterparties' (such as terminals), where the card is a field of each event.
        batch_size: windows a step.
        shortest: cards with fewer events teach nothing.
        other_weight: weight of every field's loss but the amount's.
    """

    method: str = "masked"
    objective: Objective = field(default_factory=m.MaskedConfig)
    pretext: Task = field(default_factory=Masks)
    view: View = "card"
    shape: Shape = field(default_factory=Shape)
    fields: Fields = field(default_factory=Fields)
    score: Score = field(default_factory=Score)
    batch_size: int = 32
    shortest: int = 5
    other_weight: float = 0.3
    train: TrainConfig = field(default_factory=lambda: TrainConfig(minutes=10.0, lr=2e-3))


def masked() -> Recipe:
    """Masked fields, the default.

    `tacit-finance pretrain --data fdh_simulated --out RUN --minutes 8`, then `evaluate --run RUN --data fdh_simulated --out DIR`.
    Expected: auroc of leaked cards (scenario 3) .99 without labels on the published test week; 1.5 minutes on one core are
    enough for that. Scoring that week takes about 10 seconds of one core.
    Expected of masked's features, of untrained ones in brackets: fdh_simulated auroc .950 (.883) by kNN, .946 (.942) by
    a linear probe, after 2.5 minutes (docs/methods.md).
    """
    return Recipe()


def masked_events() -> Recipe:
    """Masked fields, and beside them whole events and whole columns of a window (PRAGMA, 2026, hides a tenth of each); can score.

    `tacit-finance pretrain --data fdh_simulated --method masked_events --out RUN --minutes 8`.
    Expected of masked_events's features, of untrained ones in brackets: fdh_simulated auroc .947 (.864) by kNN, .947
    (.935) by a linear probe, after 3.8 minutes (docs/methods.md).
    """
    return Recipe("masked_events", m.MaskedConfig(), Masks(events=0.1, columns=0.1))


def next_event() -> Recipe:
    """The next event's fields from the history (GPT); gives embeddings, no score.

    `tacit-finance pretrain --data fdh_simulated --method next --out RUN --minutes 5`.
    Expected of next's features, of untrained ones in brackets: fdh_simulated auroc .933 (.883) by kNN, .944 (.942) by a
    linear probe, after 1.3 minutes (docs/methods.md).
    """
    return Recipe("next", m.AutoregressiveConfig(), NextEvent())


def _slices(method: str, objective: Any) -> Recipe:
    """A recipe on two slices of each card's history."""
    return Recipe(method, objective, Slices(), batch_size=64, shortest=20)


def simclr() -> Recipe:
    """Two slices of a card's history attract (CoLES, Babaev et al. 2022, with SimCLR's loss); gives embeddings, no score.

    `tacit-finance pretrain --data fdh_simulated --method simclr --out RUN --minutes 5`.
    Expected of simclr's features, of untrained ones in brackets: fdh_simulated auroc .966 (.864) by kNN, .955 (.935) by
    a linear probe, after 1.9 minutes (docs/methods.md).
    """
    return _slices("simclr", m.SimCLRConfig())


def swav() -> Recipe:
    """Slices of a card choose the same of some prototypes (SwAV, Caron et al. 2020): peer groups; gives embeddings, no score.

    `tacit-finance pretrain --data fdh_simulated --method swav --out RUN --minutes 5`, then `embed --run RUN --data … --per card`,
    whose column `group` says which prototype a card is nearest to.
    Expected of swav's features, of untrained ones in brackets: fdh_simulated auroc .964 (.864) by kNN, .955 (.935) by a
    linear probe, after 2.9 minutes (docs/methods.md).
    """
    return _slices("swav", m.SwAVConfig(prototypes=16))


def coles() -> Recipe:
    """Two slices of a card's history attract, the nearest of other cards' repel (CoLES, Babaev et al. 2022); gives embeddings, no score.

    `tacit-finance pretrain --data fdh_simulated --method coles --out RUN --minutes 5`.
    Expected of coles's features, of untrained ones in brackets: fdh_simulated auroc .926 (.864) by kNN, .941 (.935) by
    a linear probe, after 5.0 minutes (docs/methods.md).
    """
    return _slices("coles", m.CoLESConfig())


def moco() -> Recipe:
    """CoLES' slices against a queue of past slices (MoCo, He et al. 2019); gives embeddings, no score.

    `tacit-finance pretrain --data fdh_simulated --method moco --out RUN --minutes 5`.
    Expected of moco's features, of untrained ones in brackets: fdh_simulated auroc .964 (.864) by kNN, .955 (.935) by a
    linear probe, after 2.3 minutes (docs/methods.md).
    """
    return _slices("moco", m.MoCoConfig(queue=1024))


def byol() -> Recipe:
    """One slice predicts a slow copy's features of the other (BYOL, Grill et al. 2020); gives embeddings, no score.

    `tacit-finance pretrain --data fdh_simulated --method byol --out RUN --minutes 5`.
    Expected of byol's features, of untrained ones in brackets: fdh_simulated auroc .952 (.864) by kNN, .947 (.935) by a
    linear probe, after 4.2 minutes (docs/methods.md).
    """
    return _slices("byol", m.BYOLConfig())


def barlow() -> Recipe:
    """Features of two slices agree one to one (Barlow Twins, Zbontar et al. 2021); gives embeddings, no score.

    `tacit-finance pretrain --data fdh_simulated --method barlow --out RUN --minutes 5`.
    Expected of barlow's features, of untrained ones in brackets: fdh_simulated auroc .964 (.864) by kNN, .938 (.935) by
    a linear probe, after 11.2 minutes (docs/methods.md).
    """
    return _slices("barlow", m.BarlowConfig())


def vicreg() -> Recipe:
    """Slices agree, features vary and differ (VICReg, Bardes et al. 2021); gives embeddings, no score.

    `tacit-finance pretrain --data fdh_simulated --method vicreg --out RUN --minutes 5`.
    Expected of vicreg's features, of untrained ones in brackets: fdh_simulated auroc .955 (.864) by kNN, .954 (.935) by
    a linear probe, after 5.7 minutes (docs/methods.md).
    """
    return _slices("vicreg", m.VICRegConfig())


def data2vec() -> Recipe:
    """A slow copy's features where fields are hidden (data2vec, Baevski et al. 2022); gives embeddings, no score.

    `tacit-finance pretrain --data fdh_simulated --method data2vec --out RUN --minutes 5`.
    Expected of data2vec's features, of untrained ones in brackets: fdh_simulated auroc .888 (.864) by kNN, .940 (.935)
    by a linear probe, after 2.2 minutes (docs/methods.md).
    """
    return Recipe("data2vec", m.Data2VecConfig(top=2), Masks(longest=20))


def denoise() -> Recipe:
    """Clean fields from a history in which some were swapped (Vincent et al. 2008); gives embeddings, no score.

    `tacit-finance pretrain --data fdh_simulated --method denoise --out RUN --minutes 5`.
    Expected of denoise's features, of untrained ones in brackets: fdh_simulated auroc .934 (.883) by kNN, .948 (.942)
    by a linear probe, after 1.5 minutes (docs/methods.md).
    """
    return Recipe("denoise", m.DenoiseConfig(), Swaps(task="mend"))


def replaced() -> Recipe:
    """Which fields were swapped with another card's (ELECTRA, Clark et al. 2020); gives embeddings, no score.

    `tacit-finance pretrain --data fdh_simulated --method replaced --out RUN --minutes 5`.
    Expected of replaced's features, of untrained ones in brackets: fdh_simulated auroc .962 (.883) by kNN, .955 (.942)
    by a linear probe, after 0.9 minutes (docs/methods.md).
    """
    return Recipe("replaced", m.PuzzleConfig(), Swaps())


def order() -> Recipe:
    """Which order the segments of a history are in; gives embeddings, no score.

    `tacit-finance pretrain --data fdh_simulated --method order --out RUN --minutes 5`.
    Expected of order's features, of untrained ones in brackets: fdh_simulated auroc .837 (.864) by kNN, .900 (.935) by
    a linear probe, after 2.0 minutes (docs/methods.md).
    """
    return Recipe("order", m.PuzzleConfig(), Segments(), shortest=20)


def cpc() -> Recipe:
    """Which of many events comes one to four later (CPC, van den Oord et al. 2018); gives embeddings, no score.

    `tacit-finance pretrain --data fdh_simulated --method cpc --out RUN --minutes 5`.
    Expected of cpc's features, of untrained ones in brackets: fdh_simulated auroc .947 (.864) by kNN, .946 (.935) by a
    linear probe, after 16.6 minutes (docs/methods.md).
    """
    return Recipe("cpc", m.CPCConfig(), NextEvent())


METHODS: dict[str, Callable[[], Recipe]] = {
    "masked": masked, "masked_events": masked_events, "next": next_event, "simclr": simclr, "coles": coles, "moco": moco, "byol": byol,
    "barlow": barlow, "vicreg": vicreg, "swav": swav, "data2vec": data2vec, "denoise": denoise, "replaced": replaced, "order": order, "cpc": cpc,
}  # fmt: skip


def recipe_for(method: str) -> Recipe:
    """The recipe of that name; raises UserError, listing the names, where there is none."""
    if method not in METHODS:
        raise UserError(f"unknown method '{method}'", where="--method", mend=f"choose from {', '.join(METHODS)}")
    return METHODS[method]()
