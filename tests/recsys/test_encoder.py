"""The encoder, its sampled head and its pretexts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from core.batches import SequenceBatches
from core.chunked import ChunkedHead
from core.codec import FIRST, MASKED
from core.encoders import GRU
from core.errors import UserError
from core.heads import GBCEHead, SampledHead, TiedHead
from core.methods import Autoregressive
from recsys.encoders import ModelConfig, build_encoder, build_heads, read
from recsys.pretext import MaskedItems, NextItem
from recsys.synthetic import World, generate

SMALL = ModelConfig(dim=16, heads=2, dropout=0.0, length=10, negatives=0)


def items(*rows: list[int]) -> dict[str, torch.Tensor]:
    width = max(map(len, rows))
    ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])
    return {"item": ids, "pad": ids == 0, "index": torch.arange(len(rows))}


def encoder(causal: bool = True):
    torch.manual_seed(0)
    return build_encoder(20, replace(SMALL, causal=causal)).eval()


@pytest.mark.parametrize(
    "changes",
    [{}, {"depth": 2}, {"causal": False}, {"pool": "mean"}, {"trunk": "gru"}],
    ids=lambda changes: str(changes),
)
def test_even_sequences_are_read_in_less_work_to_the_same_vector(changes: dict):
    torch.manual_seed(0)
    net = build_encoder(20, replace(SMALL, **changes)).eval()
    batch = items([3, 4, 5, 6], [7, 3, 9, 12])
    torch.testing.assert_close(read(net, batch, even=True), net.embed(batch))
    ragged = items([3, 4, 5, 6], [7, 3])
    torch.testing.assert_close(read(net, ragged, even=False), net.embed(ragged))


def test_a_later_item_changes_no_earlier_state():
    net = encoder()
    a, b = net(items([3, 4, 5, 6])).x, net(items([3, 4, 9, 9])).x
    assert torch.allclose(a[:, :2], b[:, :2], atol=1e-6)
    assert not torch.allclose(a[:, 2:], b[:, 2:], atol=1e-3)


def test_a_masked_encoder_does_see_later_items():
    net = encoder(causal=False)
    a, b = net(items([3, 4, 5, 6])).x, net(items([3, 4, 9, 9])).x
    assert not torch.allclose(a[:, :2], b[:, :2], atol=1e-3)


@pytest.mark.parametrize("causal", [True, False])
def test_padding_changes_nothing(causal):
    net = encoder(causal)
    alone, padded = net.embed(items([3, 4, 5])), net.embed(items([3, 4, 5], [3, 4, 5, 6, 7, 8, 9]))
    assert torch.allclose(alone[0], padded[0], atol=1e-6)


def test_order_matters():
    net = encoder()
    assert not torch.allclose(net.embed(items([3, 4, 5])), net.embed(items([4, 3, 5])), atol=1e-3)


def test_the_loss_looks_at_real_positions_alone():
    net = encoder()
    method = Autoregressive(net, build_heads(net, SMALL, np.ones(17, np.int64))).eval()
    generator = torch.Generator().manual_seed(0)
    batch = items([3, 4, 5])
    wide = {**items([3, 4, 5, 0, 0]), "index": torch.arange(1)}
    assert method(NextItem()(batch, generator), generator).loss.item() == pytest.approx(
        method(NextItem()(wide, generator), generator).loss.item(), abs=1e-6
    )


def test_log_probabilities_are_over_the_whole_catalogue():
    net = encoder()
    heads = build_heads(net, ModelConfig(dim=16, negatives=4), np.ones(17, np.int64))
    assert isinstance(heads["item"], SampledHead)
    found = heads["item"].log_probs(torch.randn(3, 16))
    assert torch.allclose(found.exp().sum(1), torch.ones(3), atol=1e-5)
    assert (found[:, :FIRST].exp() == 0).all()


def test_a_small_catalogue_is_scored_whole():
    assert type(build_heads(encoder(), ModelConfig(dim=16, negatives=512), np.ones(17, np.int64))["item"]) is TiedHead


def test_a_gru_sees_the_past_alone_and_its_order():
    net = build_encoder(20, replace(SMALL, trunk="gru")).eval()
    assert isinstance(net.trunk, GRU)
    a, b = net(items([3, 4, 5, 6])).x, net(items([3, 4, 9, 9])).x
    assert torch.allclose(a[:, :2], b[:, :2], atol=1e-6) and not torch.allclose(a[:, 2:], b[:, 2:], atol=1e-3)
    assert not torch.allclose(net.embed(items([3, 4, 5])), net.embed(items([4, 3, 5])), atol=1e-3)
    assert torch.allclose(net.embed(items([3, 4], [3, 4, 5, 6]))[0], net.embed(items([3, 4]))[0], atol=1e-6)


def test_a_gru_that_is_to_see_later_items_is_refused():
    with pytest.raises(UserError, match="a GRU sees no later item"):
        build_encoder(20, replace(SMALL, trunk="gru", causal=False))


def test_a_chunked_softmax_trains_as_the_whole_one_does():
    def states(chunk: int) -> list[torch.Tensor]:
        net = encoder()
        heads = build_heads(net, replace(SMALL, chunk=chunk), np.ones(17, np.int64))
        assert type(heads["item"]) is (ChunkedHead if chunk else TiedHead)
        method, optimizer = Autoregressive(net, heads), torch.optim.SGD(net.parameters(), lr=1.0)
        for _ in range(3):
            data = NextItem()(items([3, 4, 5, 6], [9, 8, 7]), torch.Generator())
            method(data, torch.Generator()).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        return [p.detach() for p in net.parameters()]

    for ours, theirs in zip(states(2), states(0), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("changes", [{"negatives": 4}, {"loss": "gbce"}])
def test_chunks_of_a_loss_that_has_none_are_refused(changes):
    with pytest.raises(UserError, match="full softmax"):
        build_heads(encoder(), replace(SMALL, chunk=8, **changes), np.ones(17, np.int64))


@pytest.mark.parametrize(("negatives", "used"), [(4, 4), (0, 16), (500, 16)])
def test_gbce_scores_the_whole_catalogue_too(negatives, used):
    net = encoder()
    head = build_heads(net, ModelConfig(dim=16, negatives=negatives, loss="gbce"), np.ones(17, np.int64))["item"]
    assert isinstance(head, GBCEHead) and head.negatives == used
    assert torch.allclose(head.log_probs(torch.randn(3, 16)).exp().sum(1), torch.ones(3), atol=1e-5)
    with pytest.raises(UserError, match="calibration is 2"):
        ModelConfig(calibration=2.0)


@pytest.mark.parametrize(("changes", "steps"), [({"loss": "gbce", "negatives": 16}, 160), ({"trunk": "gru"}, 60)])
def test_every_loss_and_trunk_learns_what_follows(changes, steps):
    from recsys.data import from_frame

    sequences = from_frame(generate(World(users=300, intents=3, stages=4, items=3), 0)).sequences
    config = replace(ModelConfig(dim=32, dropout=0.0, length=20), **changes)
    torch.manual_seed(0)
    net = build_encoder(sequences.catalogue.size, config)
    heads = build_heads(net, config, np.ones(sequences.n_items, np.int64))
    method, batches = (
        Autoregressive(net, heads),
        SequenceBatches(sequences.ragged(), 64, 0, 21, crop="last", min_length=2),
    )
    generator, best = torch.Generator().manual_seed(0), torch.optim.Adam(method.parameters(), 0.01)

    def surprise() -> float:
        batch = batches.at(np.flatnonzero(sequences.lengths >= 3)[:200])
        with torch.no_grad():
            x, target = net(batch).x[:, :-1], batch["item"][:, 1:]
            return float(-heads["item"].log_prob(x[target > 0], target[target > 0]).mean())

    for step in range(steps):
        loss = method(NextItem()(batches.batch(step // len(batches), step % len(batches)), generator), generator).loss
        best.zero_grad()
        loss.backward()
        best.step()
    share = np.bincount(sequences.items)[FIRST:] / len(sequences.items)
    assert surprise() < 0.75 * -(share * np.log(share)).sum()


def test_masked_items_hide_what_they_ask_for_and_never_padding():
    batch = items([3, 4, 5, 6, 7, 8], [3, 4])
    given = MaskedItems(ratio=0.5, last=0.0)(batch, torch.Generator().manual_seed(0))
    assert given.mask["item"].sum(1).tolist() == [3, 1]
    assert not (given.mask["item"] & batch["pad"]).any()
    at_end = MaskedItems(ratio=0.5, last=1.0)(batch, torch.Generator().manual_seed(0)).mask["item"]
    assert at_end.nonzero().tolist() == [[0, 5], [1, 1]]
    seen = encoder(causal=False).stem(batch, given.mask).x
    masked = encoder(causal=False).stem({**batch, "item": batch["item"].masked_fill(given.mask["item"], MASKED)}).x
    assert torch.equal(seen, masked)


def test_next_item_loss_falls_below_that_of_guessing_by_popularity():
    from recsys.data import from_frame

    sequences = from_frame(generate(World(users=300, intents=3, stages=4, items=3), 0)).sequences
    config = ModelConfig(dim=32, dropout=0.0, length=20)
    torch.manual_seed(0)
    net = build_encoder(sequences.catalogue.size, config)
    method = Autoregressive(net, build_heads(net, config, np.ones(sequences.n_items, np.int64)))
    batches = SequenceBatches(sequences.ragged(), 64, 0, 21, crop="last", min_length=2)
    generator, best = torch.Generator().manual_seed(0), torch.optim.Adam(method.parameters(), 0.01)
    for step in range(60):
        loss = method(NextItem()(batches.batch(step // len(batches), step % len(batches)), generator), generator).loss
        best.zero_grad()
        loss.backward()
        best.step()
    share = np.bincount(sequences.items)[FIRST:] / len(sequences.items)
    entropy = -(share * np.log(share)).sum()
    assert loss.item() < 0.75 * entropy
