"""Masks never touch padding, and their ratios are met exactly."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from core.codec import FIRST
from core.errors import UserError
from core.masking import bert, block_mask, eighty_ten_ten, random_mask, span_mask, suffix_mask

lengths = st.lists(st.integers(0, 40), min_size=1, max_size=6)


def padding(valid: list[int], time: int = 40) -> torch.Tensor:
    return torch.arange(time)[None] >= torch.tensor(valid)[:, None]


def runs(mask: torch.Tensor) -> torch.Tensor:
    """How many runs each row has."""
    return mask[:, :1].sum(1) + (mask[:, 1:] & ~mask[:, :-1]).sum(1)


@settings(max_examples=60, deadline=None)
@given(lengths, st.floats(0.05, 0.95), st.integers(1, 12), st.integers(0, 1000))
def test_ratios_are_exact_and_padding_is_never_masked(valid: list[int], ratio: float, span: int, seed: int) -> None:
    pad = padding(valid)
    for mask in (
        random_mask(pad, ratio, torch.Generator().manual_seed(seed)),
        span_mask(pad, ratio, span, torch.Generator().manual_seed(seed)),
        block_mask((8, 5), ratio, torch.Generator().manual_seed(seed), len(valid), pad),
        random_mask(pad.flip(1), ratio, torch.Generator().manual_seed(seed)).flip(1),  # padding on the left
    ):
        assert not (mask & pad).any()
        assert mask.sum(1).tolist() == [min(n, max(1, round(n * ratio))) for n in valid]


def test_spans_are_runs() -> None:
    mask = span_mask(torch.zeros(200, 100, dtype=torch.bool), 0.3, 10, torch.Generator().manual_seed(0))
    single = random_mask(torch.zeros(200, 100, dtype=torch.bool), 0.3, torch.Generator().manual_seed(0))
    assert runs(mask).float().mean() < 5 < 15 < runs(single).float().mean()


def test_a_span_that_is_cut_keeps_its_beginning() -> None:
    mask = span_mask(torch.zeros(500, 60, dtype=torch.bool), 0.1, 30, torch.Generator().manual_seed(0))
    # one span is enough for 6 places, unless it begins among the last five
    assert (runs(mask) == 1).float().mean() > 0.9
    first = mask.float().argmax(1).bincount(minlength=60)[:50]
    assert first.min() > 0  # and it begins anywhere


def test_blocks_are_compact_and_exact() -> None:
    mask = block_mask((10, 10), 0.25, torch.Generator().manual_seed(0), 50)
    assert (mask.sum(1) == 25).all()
    grid = mask.view(50, 10, 10)
    height = grid.any(2).sum(1)
    width = grid.any(1).sum(1)
    assert (height * width).float().mean() < 45  # scattered places would span nearly all 100
    assert (height.float() / width).log().std() > 0.3  # in many proportions


def test_blocks_fill_volumes_too_and_more_rows_than_patches() -> None:
    mask = block_mask((4, 6, 5), 0.2, torch.Generator().manual_seed(0), 300)
    assert (mask.sum(1) == 24).all()
    box = mask.view(300, 4, 6, 5)
    spanned = box.any(3).any(2).sum(1) * box.any(3).any(1).sum(1) * box.any(2).any(1).sum(1)
    assert spanned.float().mean() < 60
    assert mask.any(0).all()  # a block may lie anywhere


def test_suffixes_end_at_the_last_event_and_keep_one() -> None:
    valid = [1, 3, 20]
    mask = suffix_mask(padding(valid), 5, 8, torch.Generator().manual_seed(0))
    assert mask.sum(1).tolist()[:2] == [0, 2]
    assert 5 <= int(mask[2].sum()) <= 8 and mask[2, 19] and not mask[2, 20:].any()
    left = suffix_mask(padding(valid).flip(1), 5, 8, torch.Generator().manual_seed(0))
    assert torch.equal(left.sum(1), mask.sum(1)) and left[2, -5:].all()


def test_equal_generators_give_equal_masks() -> None:
    pad = padding([30, 12])
    a, b = (span_mask(pad, 0.4, 5, torch.Generator().manual_seed(7)) for _ in range(2))
    assert torch.equal(a, b)


@pytest.mark.parametrize("ratio", [0.0, 1.0, -0.2, float("nan")])
def test_impossible_ratios_are_refused(ratio: float) -> None:
    with pytest.raises(UserError, match="mask ratio"):
        random_mask(padding([5]), ratio, torch.Generator())


def test_impossible_lengths_are_refused() -> None:
    with pytest.raises(UserError, match="between 3 and 2"):
        suffix_mask(padding([5]), 3, 2, torch.Generator())
    with pytest.raises(UserError, match="span length 0"):
        span_mask(padding([5]), 0.2, 0, torch.Generator())


@settings(max_examples=60, deadline=None)
@given(lengths, st.integers(0, 1000))
def test_of_the_chosen_places_80_percent_are_hidden_and_10_replaced(valid: list[int], seed: int) -> None:
    chosen = ~padding(valid)
    hide, replace = eighty_ten_ten(chosen, torch.Generator().manual_seed(seed))
    n = int(chosen.sum())
    assert not (hide & replace).any() and not ((hide | replace) & ~chosen).any()
    assert int(hide.sum()) == round(0.8 * n) and int((hide | replace).sum()) == round(0.9 * n)


def bert_batch() -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(1)
    pad = padding([40, 25, 31])
    item = torch.randint(FIRST, 50, pad.shape, generator=draw).masked_fill(pad, 0)
    amount = torch.randn(pad.shape, generator=draw).masked_fill(pad, 0.0)
    item[0, 3], amount[1, 4] = 0, float("nan")
    return {"item": item, "amount": amount, "pad": pad}


def test_bert_predicts_all_chosen_places_and_hides_replaces_or_keeps_them() -> None:
    batch, generator = bert_batch(), torch.Generator().manual_seed(0)
    chosen = {"item": torch.ones(3, 40, dtype=torch.bool), "amount": random_mask(batch["pad"], 0.5, generator)}
    data = bert(batch, chosen, {"item": 50}, generator)
    assert isinstance(data.mask, dict) and isinstance(data.predict, dict)
    for name in chosen:
        hide, asked = data.mask[name], data.asked(name)
        assert torch.equal(asked, chosen[name] & ~batch["pad"])
        assert not (hide & ~asked).any() and int(hide.sum()) == round(0.8 * int(asked.sum()))
        changed = ~torch.isclose(data.batch[name].double(), batch[name].double(), equal_nan=True)
        assert not (changed & (hide | ~asked)).any()  # what is replaced is neither hidden nor unasked
        assert 0 < int(changed.sum()) <= round(0.9 * int(asked.sum())) - round(0.8 * int(asked.sum()))
    assert data.target["item"][0, 3] == -100 and torch.isnan(data.target["amount"][1, 4])
    assert torch.equal(data.target["item"].clamp(min=0), batch["item"])


def test_replacements_are_values_of_the_catalogue_and_of_other_places() -> None:
    batch = bert_batch()
    chosen = {name: ~batch["pad"] for name in ("item", "amount")}
    real = set(batch["amount"][~batch["pad"] & ~batch["amount"].isnan()].tolist())
    ids: set[int] = set()
    for seed in range(40):
        data = bert(batch, chosen, {"item": 50}, torch.Generator().manual_seed(seed))
        ids |= set(data.batch["item"][(data.batch["item"] != batch["item"])].tolist())
        amount = data.batch["amount"][~batch["pad"]]
        assert set(amount[~amount.isnan()].tolist()) <= real
        assert torch.equal(data.batch["item"][batch["pad"]], batch["item"][batch["pad"]])
    assert min(ids) == FIRST and max(ids) == 49 and len(ids) > 40


def test_an_empty_vocabulary_and_a_column_without_numbers_are_left_alone() -> None:
    batch = {"item": torch.ones(2, 30, dtype=torch.long), "amount": torch.full((2, 30), float("nan"))}
    chosen = {name: torch.ones(2, 30, dtype=torch.bool) for name in batch}
    data = bert(batch, chosen, {"item": FIRST}, torch.Generator().manual_seed(0))
    assert torch.equal(data.batch["item"], batch["item"]) and data.batch["amount"].isnan().all()
