from __future__ import annotations

import json

import numpy as np
import torch

from finance.data import Transactions
from finance.histories import EventCodec, Hashed, Windows


def test_histories_are_in_time_order_and_hold_every_row_once(log):
    histories = EventCodec.fit(log).encode(log)
    assert sorted(histories.rows) == list(range(len(log)))
    for start, end in zip(histories.ragged.offsets, histories.ragged.offsets[1:], strict=False):
        rows = histories.rows[start:end]
        assert (np.diff(rows) > 0).all() and len(set(log.card[rows])) == 1


def test_values_come_back_to_their_rows(log):
    histories = EventCodec.fit(log).encode(log)
    there_and_back = histories.to_table(histories.from_table(log.amount))
    assert np.array_equal(there_and_back, log.amount)


def test_a_codec_survives_json(log):
    codec = EventCodec.fit(log, max_categories=10, buckets=16)
    again = EventCodec.from_json(json.loads(json.dumps(codec.json())))
    assert again.fields == codec.fields
    a, b = codec.encode(log).ragged.fields, again.encode(log).ragged.fields
    assert all(np.array_equal(a[key], b[key], equal_nan=True) for key in a)


def test_many_values_are_hashed_and_few_keep_a_vocabulary(log):
    codec = EventCodec.fit(log, max_categories=10, buckets=16)
    assert codec.columns["category0"] == Hashed(16)
    assert set(codec.columns["category1"].values) == {"online", "shop"}
    assert "t000" not in json.dumps(codec.json())  # no terminal's name is stored


def test_hashed_values_do_not_depend_on_the_number_type_and_missing_has_its_own_id():
    column = Hashed(50)
    assert column.encode([3, 4]).tolist() == column.encode([3.0, 4.0]).tolist() == column.encode(["3", "4"]).tolist()
    assert column.encode([3.0, np.nan])[1] == 0
    assert column.encode([None, None]).tolist() == [0, 0]


def test_unknown_categories_are_encoded_not_refused(log):
    codec = EventCodec.fit(log)
    odd = Transactions(log.frame.assign(channel="telephone"), log.schema)
    assert (codec.encode(odd).ragged.fields["category1"] == 1).all()


def test_every_wanted_event_is_scored_once_and_no_window_reaches_past_its_chunk(log):
    ragged = EventCodec.fit(log).encode(log).ragged
    wanted = np.random.default_rng(0).random(len(log)) < 0.3
    windows = Windows.over(ragged, wanted, context=24, stride=8)
    count = np.zeros(len(log), int)
    for start, length, scored in zip(windows.start, windows.length, windows.scored, strict=True):
        assert length <= 24 and 1 <= scored <= 8
        count[start + length - scored : start + length] += 1
        card = np.searchsorted(ragged.offsets, [start, start + length - 1], side="right")
        assert card[0] == card[1]
    assert (count[wanted] == 1).all() and count.max() == 1


def test_batches_hold_each_window_once_and_pad_no_past(log):
    ragged = EventCodec.fit(log).encode(log).ragged
    windows = Windows.over(ragged, np.random.default_rng(1).random(len(log)) < 0.3, 24, 8)
    seen = []
    for at, begin in windows.batches(16):
        assert 0 < len(at) <= 16
        assert (windows.length[at] - windows.scored[at] == begin).all()
        seen += at.tolist()
    assert sorted(seen) == list(range(len(windows)))
    assert Windows.over(ragged, np.zeros(len(log), bool), 24, 8).batches(16) == []


def test_a_batch_of_windows_is_padded_on_the_right(log):
    ragged = EventCodec.fit(log).encode(log).ragged
    windows = Windows.over(ragged, np.ones(len(log), bool), 24, 8)
    batch, event = windows.batch(ragged, np.arange(5))
    assert batch["pad"].shape == event.shape
    assert torch.equal(batch["pad"], torch.from_numpy(event < 0))
    assert np.array_equal(batch["amount"].numpy()[event >= 0], ragged.fields["amount"][event[event >= 0]])
