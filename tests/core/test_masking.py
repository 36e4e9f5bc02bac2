"""Masks never touch padding, and their ratios are met exactly."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import UserError
from core.masking import block_mask, random_mask, span_mask, suffix_mask

lengths = st.lists(st.integers(0, 40), min_size=1, max_size=6)


def padding(valid: list[int], time: int = 40) -> torch.Tensor:
    return torch.arange(time)[None] >= torch.tensor(valid)[:, None]


@settings(max_examples=60, deadline=None)
@given(lengths, st.floats(0.05, 0.95), st.integers(1, 12), st.integers(0, 1000))
def test_ratios_are_exact_and_padding_is_never_masked(valid: list[int], ratio: float, span: int, seed: int) -> None:
    pad = padding(valid)
    for mask in (
        random_mask(pad, ratio, torch.Generator().manual_seed(seed)),
        span_mask(pad, ratio, span, torch.Generator().manual_seed(seed)),
    ):
        assert not (mask & pad).any()
        wanted = [min(n, max(1, round(n * ratio))) for n in valid]
        # torch and Python both round halves to even, but the product is taken in different precision
        assert all(
            abs(int(got) - want) <= (abs(n * ratio % 1 - 0.5) < 1e-4)
            for got, want, n in zip(mask.sum(1), wanted, valid, strict=True)
        )


def test_spans_are_runs() -> None:
    mask = span_mask(torch.zeros(200, 100, dtype=torch.bool), 0.3, 10, torch.Generator().manual_seed(0))
    starts = (mask[:, 1:] & ~mask[:, :-1]).sum(1).float().mean()
    single = random_mask(torch.zeros(200, 100, dtype=torch.bool), 0.3, torch.Generator().manual_seed(0))
    assert starts < 5 < 15 < (single[:, 1:] & ~single[:, :-1]).sum(1).float().mean()


def test_blocks_are_compact_and_exact() -> None:
    mask = block_mask((10, 10), 0.25, torch.Generator().manual_seed(0), 50)
    assert (mask.sum(1) == 25).all()
    grid = mask.view(50, 10, 10)
    height = grid.any(2).sum(1)
    width = grid.any(1).sum(1)
    assert (height * width).float().mean() < 40  # scattered places would span nearly all 100


def test_suffixes_end_at_the_last_event_and_keep_one() -> None:
    valid = [1, 3, 20]
    mask = suffix_mask(padding(valid), 5, 8, torch.Generator().manual_seed(0))
    assert mask.sum(1).tolist()[:2] == [0, 2]
    assert 5 <= int(mask[2].sum()) <= 8 and mask[2, 19] and not mask[2, 20:].any()


def test_equal_generators_give_equal_masks() -> None:
    pad = padding([30, 12])
    a, b = (span_mask(pad, 0.4, 5, torch.Generator().manual_seed(7)) for _ in range(2))
    assert torch.equal(a, b)


@pytest.mark.parametrize("ratio", [0.0, 1.0, -0.2, float("nan")])
def test_impossible_ratios_are_refused(ratio: float) -> None:
    with pytest.raises(UserError, match="mask ratio"):
        random_mask(padding([5]), ratio, torch.Generator())
