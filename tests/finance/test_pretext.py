from __future__ import annotations

import pytest
import torch

from core.batches import SequenceBatches
from core.errors import UserError
from finance.histories import EventCodec
from finance.pretext import Masks, NextEvent, Segments, Slices, Swaps


def batch_of(log):
    codec = EventCodec.fit(log)
    return codec, SequenceBatches(codec.encode(log).ragged, 8, 0, max_length=40).batch(0, 0)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_amounts_are_hidden_at_the_end_of_a_history_and_nowhere_else(log):
    codec, batch = batch_of(log)
    hidden = Masks(longest=10).bound(codec.fields)(batch, seeded()).mask["amount"]
    length = (~batch["pad"]).sum(1)
    count = hidden.sum(1)
    assert (
        (count >= torch.minimum(length - 1, torch.tensor(1))).all() and (count <= 10).all() and count.float().std() > 0
    )
    place = torch.arange(hidden.shape[1])[None]
    assert torch.equal(hidden, (place >= (length - count)[:, None]) & (place < length[:, None]))


def test_padding_is_never_hidden_and_missing_values_are_no_target(log):
    codec, batch = batch_of(log)
    made = Masks().bound(codec.fields)(batch, seeded())
    assert not any((mask & batch["pad"]).any() for mask in made.mask.values())
    first = batch["gap"].isnan() & ~batch["pad"]
    assert first.any() and made.target["gap"][first].isnan().all()
    assert (made.target["hour"][batch["pad"]] == -100).all()


def test_equal_generators_give_equal_masks(log):
    codec, batch = batch_of(log)
    make = Masks().bound(codec.fields)
    a, b, c = make(batch, seeded()), make(batch, seeded()), make(batch, seeded(1))
    assert all(torch.equal(a.mask[k], b.mask[k]) for k in a.mask)
    assert not all(torch.equal(a.mask[k], c.mask[k]) for k in a.mask)


def test_slices_are_runs_of_the_history_they_come_from(log):
    _, batch = batch_of(log)
    views = Slices(shortest=5, share=0.5).bound(())(batch, seeded()).views
    assert len(views) == 2 and not torch.equal(views[0]["amount"], views[1]["amount"])
    for view in views:
        for row in range(len(view["pad"])):
            cut = view["amount"][row][~view["pad"][row]]
            whole = batch["amount"][row][~batch["pad"][row]]
            runs = whole.unfold(0, len(cut), 1)
            assert (runs == cut).all(1).any()
            assert min(5, len(whole)) <= len(cut) <= max(5, len(whole) // 2)


def test_next_event_keeps_the_batch(log):
    _, batch = batch_of(log)
    made = NextEvent(horizon=3).bound(())(batch, seeded())
    assert made.horizon == 3 and made.batch is batch


def test_swapped_values_are_those_labelled_and_padding_is_not(log):
    codec, batch = batch_of(log)
    made = Swaps(ratio=0.3).bound(codec.fields)(batch, seeded())
    for field in codec.fields:
        before, after, label = batch[field.name], made.batch[field.name], made.label[field.name]
        assert torch.equal(label == 1, (before != after) & ~before.isnan())
        assert (label[batch["pad"]] == -100).all() and (label == 1).any()
    mended = Swaps(ratio=0.3, task="mend").bound(codec.fields)(batch, seeded())
    assert torch.equal(mended.batch["hour"], made.batch["hour"]) and mended.clean is batch


def test_reordered_segments_keep_the_events(log):
    codec, batch = batch_of(log)
    made = Segments(count=3).bound(codec.fields)(batch, seeded())
    assert torch.equal(made.batch["hour"].sort(1).values, batch["hour"].sort(1).values)
    assert ((made.label >= 0) & (made.label < 6)).all() and len(made.label.unique()) > 1
    assert torch.equal(made.batch["pad"], batch["pad"])


def test_settings_that_cannot_be_are_one_line():
    with pytest.raises(UserError, match="ratio is 0"):
        Swaps(ratio=0.0)
    with pytest.raises(UserError, match="9 segments"):
        Segments(count=9)


def test_ten_in_a_hundred_are_left_as_they_are(log):
    codec, batch = batch_of(log)
    made = Masks(replace=True).bound(codec.fields)(batch, seeded())
    asked, hidden = made.asked("amount"), made.mask["amount"]
    assert not (hidden & ~asked).any() and 0 < (asked & ~hidden).sum() < asked.sum() / 2
    assert (made.batch["amount"][~asked] == batch["amount"][~asked]).all()


def test_whole_events_and_whole_columns_are_hidden_as_often_as_told(log):
    codec, batch = batch_of(log)
    none = {"longest": 1, "others_longest": 1, "ratio": 1e-9}  # the least that these hide: one place a window each
    pad, length = batch["pad"], (~batch["pad"]).sum(1)
    events = Masks(events=0.3, **none).bound(codec.fields)(batch, seeded()).mask
    together = torch.stack(list(events.values())).all(0)
    assert ((together.sum(1) - (length * 0.3).round()).abs() <= 1).all()
    columns = Masks(columns=0.25, **none).bound(codec.fields)(batch, seeded()).mask
    whole = {name: (mask | pad).all(1) for name, mask in columns.items()}
    assert all(int(rows.sum()) == round(0.25 * len(pad)) for rows in whole.values())
    assert not all(torch.equal(whole["hour"], rows) for rows in whole.values())
    assert not any((mask & pad).any() for made in (events, columns) for mask in made.values())


def test_masks_without_events_and_columns_draw_what_they_drew_before(log):
    codec, batch = batch_of(log)
    plain, more = (Masks(events=e, columns=e).bound(codec.fields)(batch, seeded()) for e in (0.0, 0.2))
    assert all((more.mask[name] | ~mask).all() for name, mask in plain.mask.items())
    with pytest.raises(UserError, match="events is 1"):
        Masks(events=1.0)
