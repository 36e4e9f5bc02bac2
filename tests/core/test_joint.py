"""Several objectives on one encoder: the weighted sum of what each would say alone, and one encoder for all."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from method_cases import (
    CASES,
    ROWS,
    drawn,
    event_joint,
    fields,
    fresh,
    image_joint,
    joined,
    shifted,
    swapped,
    token_joint,
)

from core.batches import ArrayBatches
from core.encoders import parameters
from core.errors import UserError
from core.methods import Autoregressive, Joint, Part, SimCLR, TokenLabels
from core.pretext import Joined, Pseudo, Shifted, Together
from core.training import TrainConfig, train


def test_the_loss_and_its_gradient_are_the_weighted_sums_of_the_parts() -> None:
    method, data = fresh("joint, events").eval(), CASES["joint, events"].data()
    out = method(data, drawn())
    total = sum(method.weights[name] * part(data.parts[name], drawn()).loss for name, part in method.methods.items())
    torch.testing.assert_close(out.loss, total)
    weight = method.encoder.trunk.blocks[0].qkv.weight
    (ours,), (theirs,) = (torch.autograd.grad(loss, weight) for loss in (out.loss, total))
    torch.testing.assert_close(ours, theirs)
    assert {"loss_next", "loss_views", "loss_replaced", "accuracy_replaced"} <= out.logs.keys()
    assert out.logs["loss_views"] == pytest.approx(method.parts["views"](data.parts["views"], drawn()).loss.item())


def test_a_weight_of_zero_takes_no_part() -> None:
    data = CASES["joint, events"].data()
    method = fresh("joint, events").eval()
    method.weights = {"next": 1.0, "views": 0.0, "replaced": 0.0}
    alone = method.parts["next"](data.parts["next"], drawn()).loss
    torch.testing.assert_close(method(data, drawn()).loss, alone)


def test_one_encoder_is_counted_once_and_all_parts_hold_it() -> None:
    for make in (event_joint, token_joint, image_joint):
        method = make()
        own = {id(p) for p in method.encoder.parameters()}
        listed = [id(p) for p in method.parameters()]
        assert len(listed) == len(set(listed)) and own <= set(listed)
        assert all(part.encoder is method.encoder for part in method.methods.values())
    method = token_joint()
    heads = parameters(method.parts["labels"].heads)
    assert parameters(method) == parameters(method.encoder) + heads  # the tied head has none of its own


def test_what_it_says_of_itself_joins_what_the_parts_say() -> None:
    assert event_joint().batch_statistics and not token_joint().batch_statistics
    assert event_joint().may_collapse
    encoder = fields()
    assert not Joint({"a": Part(TokenLabels(encoder))}).may_collapse
    assert event_joint().heads is not None and image_joint().heads is None


def test_teachers_move_and_clusters_are_found_through_it_in_one_pass() -> None:
    method, passes = fresh("joint, images"), []

    def embed_all() -> torch.Tensor:
        passes.append(1)
        return torch.randn(ROWS, method.encoder.dim, generator=drawn(3))

    before = {n: p.clone() for n, p in method.named_parameters() if not p.requires_grad}
    with torch.no_grad():
        for p in method.encoder.parameters():
            p += 1.0
    method.after_step(0.5)
    assert all(not torch.equal(before[n], p) for n, p in method.named_parameters() if n in before and "encoder" in n)
    clusters = method.parts["clusters"]
    clusters.clustered.fill_(-1)
    method.start_epoch(0, embed_all, drawn())
    assert int(clusters.clustered) == 0 and passes == [1]


def test_parts_with_encoders_of_their_own_and_foreign_names_are_refused() -> None:
    one, other = fields(True), fields(True)
    with pytest.raises(UserError, match="need one encoder"):
        Joint({"a": Part(Autoregressive(one, one.stem.heads())), "b": Part(SimCLR(other))})
    with pytest.raises(UserError, match="need one encoder"):
        Joint({})
    with pytest.raises(UserError, match="weight is -1"):
        Part(SimCLR(one), -1.0)
    with pytest.raises(UserError, match=r"pretexts \['next'\] for the objectives \['labels', 'next'\]"):
        token_joint()(Joined({"next": shifted()}), drawn())


def test_pretexts_together_see_the_same_batch_and_draw_their_own() -> None:
    seen = []

    def noise(batch, generator):
        seen.append(torch.rand(3, generator=generator))
        return Pseudo(batch, torch.zeros(ROWS, dtype=torch.long))

    batch = shifted().batch
    made = Together({"a": noise, "b": noise, "next": lambda b, g: Shifted(b)})(batch, drawn())
    assert list(made.parts) == ["a", "b", "next"] and made.parts["next"].batch is batch
    assert not torch.equal(seen[0], seen[1])


def test_a_run_with_other_weights_does_not_go_on(tmp_path: Path) -> None:
    data = joined(next=shifted, views=CASES["simclr, grouped events"].data, replaced=swapped)()
    batches = ArrayBatches({"row": torch.arange(ROWS).numpy()}, ROWS)
    config = TrainConfig(steps=2, monitor_every=0)
    train(event_joint(), batches, lambda b, g: data, config, tmp_path, note=lambda line: None)
    other = event_joint()
    other.config.weights["views"] = 0.9
    with pytest.raises(UserError, match="other settings is there: objective"):
        train(other, batches, lambda b, g: data, config, tmp_path, note=lambda line: None)
