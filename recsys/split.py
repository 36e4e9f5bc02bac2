"""What is trained on and what is asked: one shape for users' last items and for later sessions."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from core.codec import FIRST, Categories
from core.errors import UserError
from recsys.sequences import Sequences


@dataclass(frozen=True)
class Examples:
    """M questions: which item comes after this history?

    Attributes:
        history: M sequences.
        target: (M,) ids of the items that came.
        group: (M,) number of the user or session that each belongs to: what intervals resample.
    """

    history: Sequences
    target: NDArray[np.int64]
    group: NDArray[np.int64]

    @classmethod
    def of(cls, history: Sequences, target: NDArray[np.int64]) -> Examples:
        """One question for each sequence."""
        return cls(history, target, np.arange(len(target)))

    def __len__(self) -> int:
        return len(self.target)

    @property
    def known(self) -> NDArray[np.bool_]:
        """(M,) whether the answer is in the catalogue."""
        return self.target >= FIRST

    def select(self, rows: NDArray) -> Examples:
        """The questions `rows`, in that order."""
        return Examples(self.history.select(rows), self.target[rows], self.group[rows])

    def over(self, catalogue: Categories) -> Examples:
        """The same questions over another catalogue."""
        return Examples(self.history.over(catalogue), self.history.ids(catalogue)[self.target], self.group)

    def sample(self, most: int, seed: int) -> Examples:
        """At most `most` of those whose answer is in the catalogue, drawn evenly, in their order."""
        rows = np.flatnonzero(self.known)
        drawn = np.random.default_rng(seed).permutation(rows)[:most] if len(rows) > most else rows
        return self.select(np.sort(drawn))


@dataclass(frozen=True)
class Split:
    """Sequences to train on, and questions that nothing was trained on.

    Attributes:
        name: in words, for the protocol.
        train: what may be learned from.
        validation: what settings are chosen by.
        test: what the figures are of.
        repeats: whether an item of the history may be the answer; if not, it is not ranked.
        unit: what `train` holds one sequence of.
        held_out: last events of each sequence of the data's file that `train` lacks.
        earlier: what is learned from while settings are chosen, where the validation's sessions are a part of `train`.
    """

    name: str
    train: Sequences
    validation: Examples
    test: Examples
    repeats: bool = False
    unit: str = "users"
    held_out: int = 2
    earlier: Sequences | None = None

    @property
    def tuning(self) -> Sequences:
        """What may be learned from while settings are chosen by the validation questions."""
        return self.train if self.earlier is None else self.earlier

    def over(self, catalogue: Categories) -> Split:
        """The same split over another catalogue, such as a run's; items that it does not hold become unknown."""
        return replace(
            self, train=self.train.over(catalogue), validation=self.validation.over(catalogue), test=self.test.over(catalogue),
            earlier=None if self.earlier is None else self.earlier.over(catalogue),
        )  # fmt: skip

    def rankable(self) -> tuple[Split, int]:
        """The split without the test questions whose answer is not in the catalogue, and how many those were."""
        known = self.test.known
        if not known.any():
            raise UserError(
                "no test item is in the run's catalogue", where="--data", mend="evaluate on data of the same catalogue"
            )
        return replace(self, test=self.test.select(np.flatnonzero(known))), int((~known).sum())


def leave_one_out(sequences: Sequences) -> Split:
    """Each user's last event is the test's answer, the one before it the validation's, the rest is for training.

    Users with fewer than 3 events stay in training whole and are asked nothing: they have no item to spare. The protocol of
    SASRec (Kang & McAuley 2018) and of most published tables. It looks into the future: one user's training events are later
    than another's test event.

    Raises:
        UserError: fewer than 2 users have 3 events.
    """
    rows = np.flatnonzero(sequences.lengths >= 3)
    if len(rows) < 2:
        raise UserError(
            f"{len(rows)} sequences have 3 or more events", where="leave-one-out",
            mend="give longer sequences: one item is kept for validation, one for the test",
        )  # fmt: skip
    starts, ends = sequences.offsets[:-1], sequences.offsets[1:]

    def asked(back: int) -> Examples:
        history = sequences.window(starts[rows], ends[rows] - back, sequences.keys[rows])
        return Examples.of(history, sequences.items[ends[rows] - back])

    return Split(
        name="leave one out: last item test, the one before validation, the rest training; all items ranked, the user's history excluded",
        train=without_last(sequences, 2),
        validation=asked(2),
        test=asked(1),
    )


def later_sessions(train: Sequences, validation: Sequences, test: Sequences) -> Split:
    """Sessions of later times are asked after each of their items but the first; items of the history may come again.

    The protocol of GRU4Rec (Hidasi et al. 2016). What `recsys prepare` writes by default.

    Raises:
        UserError: a part asks nothing.
    """
    chosen_by, asked = prefixes(validation), prefixes(test)
    for name, part in (("validation", chosen_by), ("test", asked)):
        if len(part) < 2:
            raise UserError(
                f"the {name} sessions ask {len(part)} questions", where=name, mend="give sessions of 2 events or more"
            )
    return Split(
        name="later sessions: each asked after every item but its last; all items ranked, repeats allowed",
        train=train, repeats=True, unit="sessions", held_out=0, validation=chosen_by, test=asked,
    )  # fmt: skip


def prefixes(sequences: Sequences) -> Examples:
    """Every event but a sequence's first, as the answer to the events before it in that sequence."""
    place = np.arange(len(sequences.items)) - np.repeat(sequences.offsets[:-1], sequences.lengths)
    at = np.flatnonzero(place > 0)
    rows = sequences.rows()[at]
    history = sequences.window(sequences.offsets[rows], at, sequences.keys[rows])
    return Examples(history, sequences.items[at], rows)


def without_last(sequences: Sequences, count: int) -> Sequences:
    """Sequences without their last `count` events, as leave-one-out trains: those of fewer than 3 events stay whole."""
    if count not in (0, 2):
        raise UserError(
            f"--hold-out is {count}", where="pretrain", mend="use 2 (validation and test item) or 0 (production)"
        )
    spare = np.where(sequences.lengths >= 3, count, 0)
    return sequences.window(sequences.offsets[:-1], sequences.offsets[1:] - spare)
