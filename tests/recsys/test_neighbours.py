"""Session kNN and STAN, each beside a plain loop over past sessions as its paper has it."""

from __future__ import annotations

import numpy as np
import pytest

from core.codec import Categories
from recsys.neighbours import STAN, SessionKNN, recency
from recsys.sequences import Sequences

ITEMS = 12


def sequences(*lists: list[int], items: int = ITEMS) -> Sequences:
    """Sequences of items 0, 1, …, of which those below `items` are known."""
    return Sequences.of(lists, Categories(tuple(map(str, range(items)))))


def drawn(seed: int, count: int = 40, items: int = ITEMS) -> list[list[int]]:
    """Random sessions with repeats."""
    generator = np.random.default_rng(seed)
    return [[int(i) for i in generator.integers(0, items, generator.integers(1, 9))] for _ in range(count)]


def weights_of(history: list[int], half_life: float) -> dict[int, float]:
    """Each item's weight by its last place from the end."""
    return {item: 0.5 ** ((len(history) - 1 - place) / half_life) for place, item in enumerate(history)}


def rarity(lists: list[list[int]], power: float) -> dict[int, float]:
    held = [sum(item in one for one in lists) for item in range(ITEMS)]
    return {item: max(np.log(len(lists) / max(n, 1)), 1e-3) ** power for item, n in enumerate(held)}


def slow_vsknn(
    lists: list[list[int]], history: list[int], k: int, half_life: float, idf: float, sample: int
) -> list[float]:
    weight, rare = weights_of(history, half_life), rarity(lists, idf)
    met = [n for n, one in enumerate(lists) if set(one) & set(history)]
    met = met[-sample:] if sample else met
    like = {n: sum(weight[i] for i in set(lists[n]) if i in weight) / len(set(lists[n])) ** 0.5 for n in met}
    near = sorted(like, key=lambda n: (-np.float32(like[n]), n))[:k]
    scores = [0.0] * ITEMS
    for n in near:
        for item in set(lists[n]):
            scores[item] += like[n] * rare[item]
    return scores


def slow_stan(lists: list[list[int]], history: list[int], model: STAN) -> list[float]:
    weight, rare = weights_of(history, model.half_life), rarity(lists, model.idf)
    like, met = {}, {}
    for n, one in enumerate(lists):
        place = {item: p for p, item in enumerate(one)}  # the last place of each
        shared = [item for item in place if item in weight]
        if shared:
            age = (len(lists) - 1 - n) / (model.age * len(lists))
            like[n] = sum(weight[i] for i in shared) ** model.power * 0.5**age / len(place) ** model.length
            met[n] = place[max(shared, key=lambda item: weight[item])]
    near = sorted(like, key=lambda n: -like[n])[: model.neighbours]
    scores = [0.0] * ITEMS
    for n in near:
        place = {item: p for p, item in enumerate(lists[n])}
        for item, p in place.items():
            value = like[n] * 0.5 ** (abs(p - met[n]) / model.reach) * rare[item]
            value *= model.before if p < met[n] else 1.0
            scores[item] += value * (model.again if item in weight else 1.0)
    return scores


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    ("k", "half_life", "idf", "sample"), [(5, 1.0, 1.0, 0), (100, 3.0, 0.0, 0), (100, 2.0, 0.5, 10)]
)
def test_session_knn_equals_a_loop(seed, k, half_life, idf, sample):
    lists, histories = drawn(seed), drawn(seed + 100, 8)
    model = SessionKNN(k, half_life, idf, sample).fit(sequences(*lists))
    found = model.scores(sequences(*histories))
    for row, history in zip(found, histories, strict=True):
        assert row == pytest.approx(slow_vsknn(lists, history, k, half_life, idf, sample), rel=1e-4, abs=1e-6)


SETTINGS = [
    STAN(neighbours=100),
    STAN(neighbours=6, half_life=1.0, age=0.3, reach=1.5),
    STAN(neighbours=9, half_life=0.5, age=0.2, length=0.0, idf=1.0, again=0.3),
    STAN(neighbours=100, age=1.0, power=2.0, before=0.4, reach=2.0, idf=0.5, again=2.0),
    STAN(neighbours=7, age=0.5, before=0.0),
]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("model", SETTINGS, ids=range(len(SETTINGS)))
def test_stan_equals_a_loop(seed, model):
    lists, histories = drawn(seed), [*drawn(seed + 100, 8), [3, 3], [0]]
    found = model.fit(sequences(*lists)).scores(sequences(*histories))
    for row, history in zip(found, histories, strict=True):
        assert row == pytest.approx(slow_stan(lists, history, model), rel=1e-4, abs=1e-6)


def test_stan_prefers_what_stood_near_and_what_is_new():
    train = sequences([1, 2, 3, 0, 4], [0, 5], [0, 6])
    near = STAN(reach=0.5).fit(train).scores(sequences([0]))[0]
    assert near[4] == near[3] > near[2] > near[1] > 0
    new = STAN(age=0.1).fit(train).scores(sequences([0]))[0]
    assert new[6] > new[5] > new[4]


def test_session_knn_by_hand():
    """History [0, 1], half-life 1: item 1 weighs 1, item 0 one half. Sessions [0,1] 1.5/√2, [0,1,2] 1.5/√3, [0,2] .5/√2."""
    train, history = sequences([0, 1], [0, 1, 2], [2, 3], [0, 2], items=5), sequences([0, 1], items=5)
    scores = SessionKNN(neighbours=10, half_life=1.0, idf=0.0).fit(train).scores(history)[0]
    a, b, c = 1.5 / np.sqrt(2), 1.5 / np.sqrt(3), 0.5 / np.sqrt(2)
    assert scores == pytest.approx([a + b + c, a + b, b + c, 0.0, 0.0])
    nearest = SessionKNN(neighbours=1, half_life=1.0, idf=0.0).fit(train).scores(history)[0]
    assert nearest == pytest.approx([a, a, 0.0, 0.0, 0.0])


def test_recency_halves():
    assert recency(sequences([0, 1, 2], [3]), 1.0).tolist() == [0.25, 0.5, 1.0, 1.0]


def test_the_oldest_of_very_many_sessions_still_votes():
    train = sequences([0, 1], *[[2, 3]] * 3000, items=5)
    scores = STAN(age=0.001).fit(train).scores(sequences([0], items=5))[0]
    assert scores[1] > 0 and not scores[2:].any()
