"""Encoders: extra padding changes nothing, the future stays unseen, shapes that cannot be are refused."""

from __future__ import annotations

import pytest
import torch

from core.encoders import (
    Field,
    FieldStem,
    FrameStem,
    ItemStem,
    PatchStem,
    TokenEncoder,
    Transformer,
    TransformerConfig,
    parameters,
    resnet,
    small_convnet,
)
from core.errors import UserError

FIELDS = (Field("category", "categorical", 12), Field("amount", "numeric"))


def trunk(causal: bool = False, position: str = "sinusoidal") -> Transformer:
    return Transformer(TransformerConfig(dim=16, depth=2, heads=2, causal=causal, position=position, max_length=64))


def event_batch(lengths: tuple[int, ...], time: int) -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(3)
    pad = torch.arange(time)[None] >= torch.tensor(lengths)[:, None]
    category = torch.randint(3, 12, (len(lengths), 40), generator=draw)[:, :time].masked_fill(pad, 0)
    amount = torch.randn((len(lengths), 40), generator=draw)[:, :time].masked_fill(pad, 0.0)
    return {"category": category, "amount": amount, "item": category, "pad": pad}


def mel_batch(lengths: tuple[int, ...], time: int) -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(4)
    pad = torch.arange(time)[None] >= torch.tensor(lengths)[:, None]
    mel = torch.randn((len(lengths), 90, 20), generator=draw)[:, :time]
    return {"mel": mel, "pad": pad}


ENCODERS = {
    "fields, bidirectional": (
        lambda: TokenEncoder(FieldStem(FIELDS, 16), trunk(), "mean_max"),
        event_batch,
        (9, 14),
        30,
    ),
    "fields, causal": (lambda: TokenEncoder(FieldStem(FIELDS, 16), trunk(True), "last"), event_batch, (9, 14), 30),
    "items": (lambda: TokenEncoder(ItemStem(12, 16), trunk(True, "learned"), "last"), event_batch, (9, 14), 30),
    "frames": (lambda: TokenEncoder(FrameStem(20, 16, 4), trunk()), mel_batch, (31, 50), 83),
    "convolutions on frames": (lambda: small_convnet(1, 8, "mel", "mean_max", "channel"), mel_batch, (31, 50), 83),
}


@pytest.mark.parametrize("name", ENCODERS)
def test_extra_padding_changes_no_embedding(name: str) -> None:
    make, batch, lengths, long = ENCODERS[name]
    torch.manual_seed(0)
    encoder = make().eval()
    short = encoder.embed(batch(lengths, max(lengths)))
    padded = encoder.embed(batch(lengths, long))
    assert short.std() > 1e-3
    torch.testing.assert_close(short, padded, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ENCODERS)
def test_a_row_does_not_depend_on_its_neighbours(name: str) -> None:
    make, batch, lengths, _ = ENCODERS[name]
    torch.manual_seed(0)
    encoder = make().eval()
    both = batch(lengths, max(lengths))
    alone = {key: value[:1] for key, value in both.items()}
    torch.testing.assert_close(encoder.embed(both)[:1], encoder.embed(alone), rtol=1e-4, atol=1e-5)


def test_a_causal_trunk_sees_no_later_event() -> None:
    torch.manual_seed(0)
    encoder = TokenEncoder(FieldStem(FIELDS, 16), trunk(causal=True)).eval()
    batch = event_batch((20, 20), 20)
    before = encoder(batch).x
    batch["amount"][:, 12:] += 5.0
    after = encoder(batch).x
    torch.testing.assert_close(before[:, :12], after[:, :12])
    assert (before[:, 12:] - after[:, 12:]).abs().max() > 1e-2


def test_a_masked_field_hides_its_value_and_no_other() -> None:
    torch.manual_seed(0)
    stem = FieldStem(FIELDS, 16)
    batch = event_batch((8,), 8)
    mask = {"amount": torch.zeros(1, 8, dtype=torch.bool).index_fill(1, torch.tensor([2]), True)}
    first = stem(batch, mask).x
    changed = {**batch, "amount": batch["amount"].clone().index_fill(1, torch.tensor([2]), 9.0)}
    torch.testing.assert_close(first, stem(changed, mask).x)
    assert (first - stem(changed).x)[:, 2].abs().max() > 1e-3


def test_missing_unknown_and_masked_numbers_and_categories_differ() -> None:
    torch.manual_seed(0)
    stem = FieldStem(FIELDS, 16)
    category = torch.tensor([[0, 1, 2, 3]])
    x = stem({"category": category, "amount": torch.zeros(1, 4)}).x[0]
    assert torch.pdist(x).min() > 1e-3
    values = torch.tensor([[0.0, float("nan")]])
    y = stem({"category": torch.full((1, 2), 3), "amount": values}).x[0]
    assert torch.isfinite(y).all() and (y[0] - y[1]).abs().max() > 1e-3


def test_a_row_of_padding_alone_stays_finite() -> None:
    encoder = TokenEncoder(FieldStem(FIELDS, 16), trunk()).eval()
    batch = event_batch((0, 5), 5)
    assert torch.isfinite(encoder.embed(batch)).all()


def test_patches_must_divide_the_image() -> None:
    with pytest.raises(UserError, match="do not divide"):
        PatchStem(1, 5, 16)({"image": torch.zeros(2, 1, 28, 28)})
    assert PatchStem(1, 7, 16)({"image": torch.zeros(2, 1, 28, 28)}).grid == (4, 4)


def test_heads_that_do_not_divide_the_width_are_refused() -> None:
    with pytest.raises(UserError, match="not a multiple"):
        TransformerConfig(dim=30, heads=4)


def test_a_sequence_longer_than_the_learned_places_is_refused() -> None:
    with pytest.raises(UserError, match="max_length"):
        TokenEncoder(ItemStem(12, 16), trunk(position="learned")).embed({"item": torch.ones(1, 65, dtype=torch.long)})


def test_convolutional_encoders_give_stage_maps_and_refuse_padding_that_would_leak() -> None:
    net = small_convnet(1, 32)
    assert 200_000 <= parameters(net) <= 500_000
    image = {"image": torch.randn(4, 1, 28, 28)}
    assert [tuple(m.shape[1:]) for m in net.layers(image)] == [(32, 14, 14), (64, 7, 7), (128, 4, 4), (128, 2, 2)]
    assert net.embed(image).shape == (4, net.dim)
    with pytest.raises(UserError, match="padding leak"):
        small_convnet(1, 8, "mel").embed(mel_batch((31, 50), 50))


def test_resnet_is_torchvisions() -> None:
    import torchvision

    ours = resnet("resnet18", channels=3).eval()
    theirs = torchvision.models.resnet18(weights=None)
    assert parameters(ours) == parameters(theirs) - parameters(theirs.fc)
    image = torch.randn(2, 3, 64, 64)
    theirs.fc = torch.nn.Identity()
    names = dict(zip(theirs.state_dict(), ours.state_dict(), strict=True))
    theirs.load_state_dict({a: ours.state_dict()[b] for a, b in names.items()})
    torch.testing.assert_close(ours.embed({"image": image}), theirs.eval()(image))
