"""Where item vectors start: near what stands near them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from core.codec import FIRST, Categories
from recsys import SessionRecommender
from recsys.cooccurrence import association, meetings, start_items, start_near, vectors
from recsys.ranking import rank_all
from recsys.sequences import Sequences
from recsys.split import leave_one_out
from recsys.synthetic import World, generate

GROUPS = [["a", "b", "c"], ["c", "a", "b"], ["b", "c", "a"], ["x", "y", "z"], ["z", "x", "y"], ["y", "z", "x"]]
CATALOGUE = Categories(("a", "b", "c", "x", "y", "z", "alone"))


def groups() -> Sequences:
    return Sequences.of([*GROUPS, ["alone"]], CATALOGUE)


def test_meetings_count_near_ones_more_and_both_ways():
    met = meetings(Sequences.of([["a", "b", "c"], ["a", "a"]], CATALOGUE)).toarray()
    assert np.array_equal(met, met.T) and not met.diagonal().any()
    assert met[0, 1] == met[1, 2] == 1 and 0 < met[0, 2] < 1 and not met[0, 3:].any()


def test_two_sequences_next_to_each_other_do_not_meet():
    assert not meetings(Sequences.of([["a"], ["b"]], CATALOGUE)).nnz


def test_items_of_one_group_are_alike_and_one_that_met_nothing_has_no_vector():
    found = vectors(groups(), 4)
    likeness = found @ found.T
    assert np.allclose(np.linalg.norm(found[:6], axis=1), 1, atol=1e-5) and not found[6].any()
    assert likeness[0, 1] > 0.9 and abs(likeness[0, 3]) < 0.1
    assert (association(groups()).data > 0).all()


@pytest.mark.parametrize("dim", [1, 6, 50])
def test_any_width_is_served_and_equal_sequences_give_equal_vectors(dim):
    found = vectors(groups(), dim)
    assert found.shape == (7, dim) and np.isfinite(found).all()
    assert np.array_equal(found, vectors(groups(), dim))


def test_sequences_in_which_nothing_meets_leave_all_at_zero():
    assert not vectors(Sequences.of([["a"], ["b"]], CATALOGUE), 3).any()


def test_only_items_with_a_vector_and_no_reserved_id_start_from_it():
    torch.manual_seed(0)
    table = nn.Embedding(FIRST + 7, 4)
    before = table.weight.detach().clone()
    start_items(table, vectors(groups(), 4))
    after = table.weight.detach()
    assert torch.equal(after[:FIRST], before[:FIRST]) and torch.equal(after[-1], before[-1])
    assert torch.cosine_similarity(after[FIRST], after[FIRST + 1], dim=0) > 0.8


def test_what_it_starts_from_is_already_a_model():
    table = generate(World(users=150, intents=3, stages=4, items=3), 0)
    worth = {}
    for start in ("random", "cooccurrence"):
        model = SessionRecommender(steps=1, hold_out=2, changes=(f"model.start={start}",)).fit(table)
        asked = leave_one_out(model.sequences(table)).validation
        worth[start] = rank_all(model, asked).per_user("ndcg@10").mean()
    assert worth["cooccurrence"] > 1.3 * worth["random"]


def test_a_catalogue_too_large_for_it_starts_at_random_and_that_is_said(monkeypatch):
    monkeypatch.setattr("recsys.cooccurrence.MOST", 5)
    said: list[str] = []
    found, drawn = (
        SessionRecommender(steps=1, changes=(f"model.start={start}",)).fit_sequences(groups(), note=said.append)
        for start in ("cooccurrence", "random")
    )
    assert np.array_equal(found.item_vectors(), drawn.item_vectors())
    assert sum("start at random" in line for line in said) == 1


CHANGES = ("model.start=cooccurrence", "train.save_every_minutes=1e-9")


def test_a_run_that_goes_on_reads_its_weights_and_makes_no_start(tmp_path, monkeypatch):
    def torn(line: str) -> None:
        raise ConnectionError(line)  # at the last step, after the one before was saved

    whole = SessionRecommender(steps=3, changes=CHANGES).fit_sequences(groups())
    with pytest.raises(ConnectionError, match="step 3/3"):
        SessionRecommender(steps=3, changes=CHANGES).fit_sequences(groups(), tmp_path / "run", torn)
    monkeypatch.setattr("recsys.cooccurrence.vectors", None)
    lines: list[str] = []
    again = SessionRecommender(steps=3, changes=CHANGES).fit_sequences(groups(), tmp_path / "run", lines.append)
    assert lines[0] == "resuming at step 2 of 3" and np.array_equal(again.item_vectors(), whole.item_vectors())


def test_of_several_processes_the_first_one_makes_the_start(monkeypatch):
    encoders = [SessionRecommender(steps=1).fit_sequences(groups(), note=lambda line: None).encoder_ for _ in range(2)]
    sent: list[torch.Tensor] = []
    monkeypatch.setattr("recsys.cooccurrence.broadcast", lambda x: sent.append(x) or x)
    start_near(encoders[0], groups(), None)
    monkeypatch.setattr("recsys.cooccurrence.rank", lambda: 1)
    monkeypatch.setattr("recsys.cooccurrence.vectors", None)
    monkeypatch.setattr("recsys.cooccurrence.broadcast", lambda x: sent[0])
    start_near(encoders[1], groups(), None)
    one, other = (encoder.stem.embedding.weight for encoder in encoders)
    assert torch.equal(one, other)
