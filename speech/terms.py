"""How the benchmark measures a set: between which recipes its training side chooses, for how long they train, and what is hoped for."""

from __future__ import annotations

from dataclasses import dataclass

from speech.presets import SOUNDS, WORDS


@dataclass(frozen=True)
class Candidate:
    """A recipe's name, and whether quiet ends are cut off."""

    name: str
    trim: bool

    def __str__(self) -> str:
        return f"{self.name}, trimmed" if self.trim else self.name


@dataclass(frozen=True)
class Terms:
    """How a set is measured.

    Attributes:
        candidates: recipes between which each fold's training side chooses; trims: whether quiet ends are cut off, likewise.
        width: of the convolutional net, for which the budget has room; None for the recipe's own.
        pool: other sets whose recordings pretraining hears as well, unlabelled.
        steps: of pretraining; choice: of one that only serves the choice; tune: of fine-tuning.
        average: what the running mean of the weights keeps in every supervised training, see core.training.TrainConfig; 0: none is taken.
        rates: of learning, between which the training side chooses for every supervised training.
        goal, tuned_goal: of the frozen probe and of fine-tuning with all labels; few_goal: of fine-tuning minus scratch with a tenth.
    """

    data: str
    candidates: tuple[str, ...]
    trims: tuple[bool, ...] = (False,)
    pool: tuple[str, ...] = ()
    width: int | None = None
    steps: int = 600
    choice: int = 400
    tune: int = 600
    average: float = 0.0
    rates: tuple[float, ...] = (1e-3, 4e-3)
    goal: float | None = None
    tuned_goal: float | None = None
    few_goal: float = 0.08


SETS = {
    # 600 steps of fine-tuning are too few: see docs/methods.md
    "fsdd-loso": Terms("fsdd", WORDS, pool=("arabic-digits",), tune=1800, average=0.998, goal=0.83, tuned_goal=0.90),
    "arabic-digits": Terms(
        "arabic-digits", ("simclr",), (False, True), ("fsdd",), goal=0.88
    ),  # deepcluster lost inside: .861 to .906
    "esc10": Terms("esc10", SOUNDS, steps=200, tune=100, goal=0.82),
}
