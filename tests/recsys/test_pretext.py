"""Pretexts of sequences: padding stays, each sample has its own draw, and every preset trains and gives features."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from core.codec import FIRST, MASKED
from core.errors import UserError
from recsys import SessionRecommender
from recsys.data import from_frame
from recsys.methods import RANKING
from recsys.presets import PRESETS
from recsys.pretext import ReorderedItems, SameTarget, SequenceViews, SwappedItems
from recsys.sequences import Sequences
from recsys.synthetic import World, generate

TABLE = generate(World(users=150, intents=3, stages=4, items=3), 0)
ATTRIBUTES = pd.DataFrame({"item_id": TABLE["item_id"].unique()}).assign(
    attributes=lambda t: [[f"p{i % 4}"] for i in t.index]
)


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
    model = SessionRecommender(name, steps=2, changes=changes, attributes=ATTRIBUTES).fit(TABLE)
    model.save(tmp_path / "run")
    again = SessionRecommender.load(tmp_path / "run")
    features = model.transform(TABLE).to_numpy()
    assert np.isfinite(features).all() and features.std() > 0
    np.testing.assert_allclose(again.transform(TABLE).to_numpy(), features, rtol=1e-5)
    if isinstance(PRESETS[name]().objective, RANKING):
        assert len(again.recommend(TABLE.head(20), k=3))
    else:
        with pytest.raises(UserError, match="embeddings, no item scores"):
            again.recommend(TABLE.head(20))


def beginnings(index: list[int], seed: int, sequences: Sequences, length: int = 50):
    pad = torch.zeros(len(index), 1, dtype=torch.bool)
    pretext = SameTarget(length=length).bound(sequences.ragged())
    return pretext({"index": torch.tensor(index), "pad": pad}, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("seed", range(4))
def test_a_beginning_and_its_partner_go_on_with_the_same_item(seed: int) -> None:
    sequences = from_frame(TABLE).sequences
    rows = np.flatnonzero(sequences.lengths >= 2)[:60]
    made, again = (beginnings(rows.tolist(), seed, sequences) for _ in range(2))
    assert all(torch.equal(a["item"], b["item"]) for a, b in zip(made.views, again.views, strict=True))
    lists = [sequences.items[a:b].tolist() for a, b in zip(sequences.offsets[:-1], sequences.offsets[1:], strict=True)]
    own, again, other = made.views
    assert made.n_global == 3 and own is again
    moved = 0
    for i, row in enumerate(rows):
        target = int(made.alike[i])
        mine = own["item"][i][~own["pad"][i]].tolist()
        theirs = other["item"][i][~other["pad"][i]].tolist()
        assert lists[row][: len(mine) + 1] == [*mine, target] and mine
        assert any(one[: len(theirs) + 1] == [*theirs, target] for one in lists) and theirs
        moved += mine != theirs
    assert moved > 40
    for view in made.views:
        assert (view["item"][view["pad"]] == 0).all() and (view["pad"][:, 1:] >= view["pad"][:, :-1]).all()


def test_every_beginning_takes_part_and_partners_are_drawn_evenly() -> None:
    sequences = Sequences.of([["a", "x"], ["b", "x"], ["c", "x"], ["d", "e", "f", "g"], ["x", "h"]])
    ids = {name: i + FIRST for i, name in enumerate(sequences.catalogue.values)}
    partners: dict[int, int] = {}
    lengths = set()
    for seed in range(120):
        made = beginnings([0, 3, 4], seed, sequences)
        other = int(made.views[2]["item"][0, 0])
        partners[other] = partners.get(other, 0) + 1
        lengths.add(int((~made.views[0]["pad"][1]).sum()))
        for row in (1, 2):  # no other sequence goes on with these
            own, _, other = (view["item"][row][~view["pad"][row]].tolist() for view in made.views)
            assert own == other
    assert set(partners) == {ids["b"], ids["c"]} and min(partners.values()) > 40  # never itself, nor a first item
    assert lengths == {1, 2, 3}


def test_only_the_latest_of_a_long_beginning_is_read() -> None:
    sequences = Sequences.of([[str(i) for i in range(30)], ["0", "1"]])
    widths = {beginnings([0], seed, sequences, length=4).views[0]["item"].shape[1] for seed in range(20)}
    assert max(widths) == 4


@pytest.mark.parametrize("main", ["next", "bert4rec", "cl4srec"])
def test_any_method_takes_auxiliaries_by_settings(main: str) -> None:
    weights = [f"auxiliary.{name}.weight=0.1" for name in ("views", "same_target", "replaced", "order", "attributes")]
    changes = ["batch_size=32", "auxiliary.views.pretext.crop=0.5", "auxiliary.order.pretext.segments=2", *weights]
    model = SessionRecommender(main, steps=2, changes=changes, attributes=ATTRIBUTES).fit(TABLE)
    assert model.recipe_.auxiliary.views.pretext == SequenceViews(crop=0.5)
    plain = SessionRecommender(main, steps=2, changes=["batch_size=32"]).fit(TABLE)
    shapes = [{name: p.shape for name, p in one.encoder_.named_parameters()} for one in (model, plain)]
    assert shapes[0] == shapes[1]
    assert not np.allclose(model.transform(TABLE), plain.transform(TABLE))


def test_weights_below_zero_and_unknown_auxiliaries_are_one_line() -> None:
    with pytest.raises(UserError, match="weight is -1"):
        SessionRecommender(steps=1, changes=["auxiliary.views.weight=-1"]).fit(TABLE)
    with pytest.raises(UserError, match=r"unknown setting 'auxiliary\.crop'"):
        SessionRecommender(steps=1, changes=["auxiliary.crop.weight=1"]).fit(TABLE)
