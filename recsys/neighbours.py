"""Neighbourhoods: items near those of the history, and past sessions near this one. Sparse products, no loop over users or items."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from core.codec import FIRST
from core.errors import UserError
from recsys.sequences import Sequences
from recsys.votes import Votes, rows_of, top_k

FAR = 14.0  # half-lives after which a weight counts as nothing: below 1e-4


def recency(history: Sequences, half_life: float) -> NDArray[np.float32]:
    """Weight (total,) of each event: 1 for the last of its sequence, halved every `half_life` places before."""
    from_end = history.offsets[1:][history.rows()] - 1 - np.arange(len(history.items))
    return np.exp2(-from_end / half_life).astype(np.float32)


def rarity(sessions: sparse.csr_matrix, power: float) -> NDArray[np.float32]:
    """(items,) log(sessions / sessions with the item) to a power; of an item that is in all of them, next to nothing."""
    holding = np.maximum(np.asarray(sessions.sum(0)).ravel(), 1.0)
    return (np.log(max(sessions.shape[0], 2) / holding).clip(min=1e-3) ** power).astype(np.float32)


@dataclass
class ItemKNN(Votes):
    """Items close to those of the history, by cosine of the users who had both (Sarwar et al. 2001; Deshpande & Karypis 2004).

    Attributes:
        neighbours: kept per item.
        shrink: users added to each cosine's denominator, so that chance meetings of rare items count less.
        half_life: places back in the history at which an item counts half.
    """

    neighbours: int = 200
    shrink: float = 0.0
    half_life: float = 3.0
    similarity: sparse.csr_matrix = field(init=False, repr=False)

    def fit(self, train: Sequences) -> ItemKNN:
        users = train.matrix()
        together = (users.T @ users).tocoo()
        norm = np.sqrt(np.maximum(together.diagonal(), 1.0))
        cosine = together.data / (norm[together.row] * norm[together.col] + self.shrink)
        apart = together.row != together.col
        found = sparse.csr_matrix((cosine[apart], (together.row[apart], together.col[apart])), shape=together.shape)
        self.similarity = top_k(found.astype(np.float32), self.neighbours)
        return self

    def votes(self, history: Sequences) -> sparse.csr_matrix:
        return history.matrix(recency(history, self.half_life)) @ self.similarity


@dataclass
class SessionKNN(Votes):
    """Items of the sessions most like this one, recent events counting more (VSKNN, Ludewig & Jannach 2018).

    A past session's likeness is the sum of the weights of the events it shares, over the root of its length; its vote
    for an item is worth more the rarer the item is (idf).

    Attributes:
        neighbours: past sessions that vote.
        half_life: places back in the history at which an event counts half.
        idf: power of log(sessions / sessions with the item).
        sample: of the past sessions that share an item, only so many are compared: those that stand last in training. 0: all.
    """

    neighbours: int = 500
    half_life: float = 3.0
    idf: float = 0.5
    sample: int = 0
    sessions: sparse.csr_matrix = field(init=False, repr=False)
    ballots: sparse.csr_matrix = field(init=False, repr=False)

    def fit(self, train: Sequences) -> SessionKNN:
        sessions = train.matrix()
        length = np.sqrt(np.maximum(np.asarray(sessions.sum(1)).ravel(), 1.0))
        self.ballots = sparse.csr_matrix(sessions @ sparse.diags(rarity(sessions, self.idf))).astype(np.float32)
        # (items, sessions): ready for products
        self.sessions = sparse.csr_matrix((sparse.diags(1 / length) @ sessions).T).astype(np.float32)
        return self

    def votes(self, history: Sequences) -> sparse.csr_matrix:
        likeness = history.matrix(recency(history, self.half_life)) @ self.sessions  # (N, sessions)
        if self.sample:
            likeness = latest(likeness, self.sample)
        return top_k(likeness, self.neighbours) @ self.ballots


def latest(likeness: sparse.csr_matrix, count: int) -> sparse.csr_matrix:
    """Of each row the `count` entries with the largest columns: the newest sessions."""
    likeness.sort_indices()
    ends = likeness.indptr[1:][rows_of(likeness)]
    keep = np.arange(len(likeness.data)) >= ends - count
    kept = np.concatenate([[0], np.cumsum(keep)])[likeness.indptr]
    return sparse.csr_matrix((likeness.data[keep], likeness.indices[keep], kept), shape=likeness.shape)


@dataclass
class STAN(Votes):
    """Session kNN that knows order and age (Sequence and Time Aware Neighborhood, Garg et al. 2019), with three decays.

    A past session's likeness is the sum of the weights of the items it shares, over a power of its length. Weights fall with the
    place from the end of this session; likeness falls with the age of the past session, counted in training sessions by their
    order; and a neighbour's vote for an item falls with the places between that item and the shared item, namely the one
    that is newest in this session. Garg et al. write decays as exp(-d / λ); here a half-life is given, λ = half-life / ln 2.
    Of an item that comes more than once in a session, its last place counts.

    Attributes:
        neighbours: past sessions that vote.
        half_life: places back in the history at which an event counts half (λ1).
        age: share of the training sessions, the newest first, after which a past session counts half (λ2).
        reach: places from the shared item at which a neighbour's item counts half (λ3); votes of less than 2^-14 are left out.
        length: power of a past session's number of items by which its likeness is divided; 0.5 is the cosine, as in the paper.
        power: of the summed weights of the shared items; 1 as in the paper, above it sessions that share much gain.
        idf: power of log(sessions / sessions with the item) in the votes (as VSTAN, Ludewig et al. 2021, has it).
        before: how much an item counts that stands before the shared one in the past session; 1 as in the paper.
        again: how much votes for items of the history itself count; 1 as in the paper.
    """

    neighbours: int = 500
    half_life: float = 3.0
    age: float = float("inf")
    reach: float = float("inf")
    length: float = 0.5
    power: float = 1.0
    idf: float = 0.0
    before: float = 1.0
    again: float = 1.0
    # (items, events): which events are of an item; an event is an item of a session
    index: sparse.csr_matrix = field(init=False, repr=False)
    session: NDArray[np.int64] = field(init=False, repr=False)  # (events,)
    weight: NDArray[np.float32] = field(init=False, repr=False)  # (sessions,): age and length
    ballots: sparse.csr_matrix = field(init=False, repr=False)  # (voters, items): what is voted by a session met there
    voter: NDArray[np.int64] = field(init=False, repr=False)  # (events,) the row of `ballots`

    def __post_init__(self) -> None:
        for name in ("neighbours", "half_life", "age", "reach"):
            if not getattr(self, name) > 0:
                raise UserError(f"{name} is {getattr(self, name)}", where="stan", mend="give a number above 0")

    def fit(self, train: Sequences) -> STAN:
        item, self.session, place = distinct(train)
        events, sessions = len(item), train.matrix()
        ones = np.ones(events, dtype=np.float32)
        self.index = sparse.csr_matrix((ones, (item, np.arange(events))), shape=(train.n_items, events))
        lengths = np.bincount(self.session, minlength=len(train))
        age = (len(train) - 1 - np.arange(len(train))) / max(self.age * len(train), 1e-9)
        decay = np.exp2(-np.minimum(age, 100.0))  # a floor, so that the oldest still vote where no newer one does
        self.weight = (decay / np.maximum(lengths, 1) ** self.length).astype(np.float32)
        worth = rarity(sessions, self.idf)
        if (
            np.isinf(self.reach) and self.before == 1.0
        ):  # places do not matter: a row for each session serves its events
            self.voter, self.ballots = self.session, sparse.csr_matrix(sessions @ sparse.diags(worth))
        else:
            self.voter, self.ballots = np.arange(events), self._by_place(item, place, lengths, worth)
        return self

    def _by_place(
        self, item: NDArray, place: NDArray, lengths: NDArray, worth: NDArray[np.float32]
    ) -> sparse.csr_matrix:
        """(events, items): the decay by distance times `worth`, of all items within reach of each event in its session."""
        ends = np.cumsum(lengths)
        first, last = (ends - lengths)[self.session], ends[self.session]  # (events,) its session's events
        window = len(item) if np.isinf(self.reach) else int(np.ceil(FAR * self.reach))
        at = np.arange(len(item))
        low, high = np.maximum(first, at - window), np.minimum(last, at + window + 1)
        counts = high - low
        rows = np.concatenate([[0], np.cumsum(counts)])
        other = np.arange(rows[-1]) - np.repeat(rows[:-1] - low, counts)  # (pairs,) the event that is voted for
        apart = place[other] - np.repeat(place, counts)
        value = np.exp2(-np.abs(apart) / self.reach) * np.where(apart < 0, self.before, 1.0)
        value = value.astype(np.float32) * worth[item[other]]
        return sparse.csr_matrix((value, item[other], rows), shape=(len(item), len(worth)))

    def votes(self, history: Sequences) -> sparse.csr_matrix:
        given = history.matrix(recency(history, self.half_life))
        shared = given @ self.index  # (N, events): weight of each past event whose item this session shares
        shared.sort_indices()
        if not len(shared.data):
            return sparse.csr_matrix((len(history), history.n_items), dtype=np.float32)
        rows, session = rows_of(shared), self.session[shared.indices]
        new = np.ones(len(rows), dtype=bool)  # events of one session stand together
        new[1:] = (np.diff(rows) != 0) | (np.diff(session) != 0)
        starts, group = np.flatnonzero(new), np.cumsum(new) - 1
        likeness = np.add.reduceat(shared.data, starts) ** np.float32(self.power) * self.weight[session[starts]]
        newest = shared.data == np.maximum.reduceat(shared.data, starts)[group]
        met = np.maximum.reduceat(np.where(newest, shared.indices, -1), starts)  # the event of the newest shared item
        counts = np.bincount(rows[starts], minlength=len(history))
        near = sparse.csr_matrix((likeness, met, np.concatenate([[0], np.cumsum(counts)])), shape=shared.shape)
        near = top_k(near, self.neighbours)
        shape = (len(history), self.ballots.shape[0])
        votes = sparse.csr_matrix((near.data, self.voter[near.indices], near.indptr), shape=shape) @ self.ballots
        if self.again != 1.0:
            mine = given.copy()
            mine.data[:] = self.again - 1.0
            votes = votes + votes.multiply(mine)
        return sparse.csr_matrix(votes)


def distinct(train: Sequences) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Column, sequence and place of each sequence's known items, each item once, at its last place; three (events,)."""
    known = np.flatnonzero(train.items >= FIRST)
    rows, columns = train.rows()[known], train.items[known] - FIRST
    backwards = (rows * train.n_items + columns)[::-1]
    _, found = np.unique(backwards, return_index=True)  # the first from the end
    kept = np.sort(len(known) - 1 - found)
    return columns[kept], rows[kept], known[kept] - train.offsets[rows[kept]]
