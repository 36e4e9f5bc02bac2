"""Pretexts of sequences: padding stays, each sample has its own draw, and every preset trains and gives features."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from core.codec import FIRST, MASKED
from core.errors import UserError
from recsys import SessionRecommender
from recsys.presets import PRESETS
from recsys.pretext import ReorderedItems, SequenceViews, SwappedItems
from recsys.synthetic import World, generate

TABLE = generate(World(users=150, intents=3, stages=4, items=3), 0)


def batch(time: int = 9) -> dict[str, torch.Tensor]:
    length = torch.tensor([9, 5, 1, 7])
    pad = torch.arange(time)[None] >= length[:, None]
    item = torch.arange(4 * time).view(4, time) + FIRST
    return {"item": item.masked_fill(pad, 0), "pad": pad, "index": torch.arange(4)}


@pytest.mark.parametrize("seed", range(5))
def test_views_hold_items_of_their_own_sequence_and_padding_stays_right(seed: int) -> None:
    given = batch()
    for view in SequenceViews()(given, torch.Generator().manual_seed(seed)).views:
        item, pad = view["item"], view["pad"]
        assert (item[pad] == 0).all() and (~pad).any(1).all() and (pad[:, 1:] >= pad[:, :-1]).all()
        for row in range(4):
            own = set(given["item"][row][~given["pad"][row]].tolist()) | {MASKED}
            assert set(item[row][~pad[row]].tolist()) <= own


def test_all_three_changes_occur_and_views_differ() -> None:
    wide = {k: v.repeat_interleave(40, 0)[:40] for k, v in batch().items()}
    view = SequenceViews().view(wide, torch.Generator().manual_seed(0))
    item, before = view["item"], wide["item"]
    masked = (item == MASKED).any(1)
    cropped = view["pad"].sum(1) > wide["pad"].sum(1)
    shuffled = ~masked & ~cropped & (item != before).any(1)
    assert masked.any() and cropped.any() and shuffled.any()
    assert (item[shuffled].sort(1).values == before[shuffled].sort(1).values).all()


def test_swapped_items_are_labelled_and_padding_is_not() -> None:
    given = batch()
    made = SwappedItems(ratio=0.4)(given, torch.Generator().manual_seed(0))
    changed = made.batch["item"] != given["item"]
    assert torch.equal(made.label == 1, changed) and torch.equal(made.label == -100, given["pad"])
    mended = SwappedItems(ratio=0.4, task="mend")(given, torch.Generator().manual_seed(0))
    assert torch.equal(mended.clean["item"], given["item"]) and torch.equal(mended.batch["item"], made.batch["item"])


def test_settings_that_cannot_be_are_one_line() -> None:
    with pytest.raises(UserError, match="ratio is 1"):
        SwappedItems(ratio=1.0)
    with pytest.raises(UserError, match="5 segments"):
        ReorderedItems(segments=5)
    with pytest.raises(UserError, match="crop is 0"):
        SequenceViews(crop=0.0)


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_trains_is_saved_and_gives_the_same_features(name: str, tmp_path) -> None:
    changes = ["batch_size=32"] + (["objective.queue=64"] if name == "moco" else [])
    model = SessionRecommender(name, steps=2, changes=changes).fit(TABLE)
    model.save(tmp_path / "run")
    again = SessionRecommender.load(tmp_path / "run")
    features = model.transform(TABLE).to_numpy()
    assert np.isfinite(features).all() and features.std() > 0
    np.testing.assert_allclose(again.transform(TABLE).to_numpy(), features, rtol=1e-5)
    if name in ("next", "bert4rec"):
        assert len(again.recommend(TABLE.head(20), k=3))
    else:
        with pytest.raises(UserError, match="embeddings, no item scores"):
            again.recommend(TABLE.head(20))
