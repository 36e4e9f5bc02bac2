"""Encoders: extra padding changes nothing, the future stays unseen, shapes that cannot be are refused."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F

from core.encoders import (
    GRU,
    Field,
    FieldStem,
    FrameStem,
    GRUConfig,
    ItemStem,
    PatchStem,
    TokenEncoder,
    Transformer,
    TransformerConfig,
    WaveformStem,
    parameters,
    pool_tokens,
    resnet,
    small_convnet,
)
from core.encoders.transformer import grid_sinusoids
from core.errors import UserError
from core.tokens import Tokens

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


def wave_batch(lengths: tuple[int, ...], time: int) -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(5)
    pad = torch.arange(time)[None] >= torch.tensor(lengths)[:, None]
    wave = torch.randn((len(lengths), 2000), generator=draw)[:, :time]  # not zero in padding: nothing may look there
    return {"wave": wave, "pad": pad}


def around() -> Transformer:
    return Transformer(TransformerConfig(dim=16, depth=2, heads=2, position="convolution", kernel=6, groups=4))


def gru(depth: int = 2) -> GRU:
    return GRU(GRUConfig(dim=16, depth=depth))


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
    "fields, recurrent": (lambda: TokenEncoder(FieldStem(FIELDS, 16), gru(), "last"), event_batch, (9, 14), 30),
    "patches of a spectrogram": (
        lambda: TokenEncoder(PatchStem(1, (4, 10), 16, "mel"), trunk(position="grid"), "mean_max"),
        mel_batch,
        (31, 50),
        83,
    ),
    "patches of a series": (
        lambda: TokenEncoder(PatchStem(20, (8,), 16, "mel"), trunk(position="learned")),
        mel_batch,
        (31, 50),
        83,
    ),
    "waveforms": (
        lambda: TokenEncoder(WaveformStem(16, 8, ((10, 5), (4, 2), (2, 2))), trunk()),
        wave_batch,
        (711, 960),
        1777,
    ),
    "waveforms, places by convolution": (
        lambda: TokenEncoder(WaveformStem(16, 8, ((10, 5), (4, 2), (2, 2))), around()),
        wave_batch,
        (711, 960),
        1777,
    ),
    "waveforms, recurrent": (
        lambda: TokenEncoder(WaveformStem(16, 8, ((10, 5), (4, 2), (2, 2))), gru(1), "max"),
        wave_batch,
        (711, 960),
        1777,
    ),
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


@pytest.mark.parametrize("position", ["none", "learned"])
@pytest.mark.parametrize("make", [lambda p: trunk(True, p), lambda p: trunk(False, p), lambda p: GRU(GRUConfig(16, 2))])
def test_the_tail_is_the_end_of_the_whole(make, position: str) -> None:
    torch.manual_seed(0)
    body = make(position).eval()
    pad = torch.arange(20)[None] >= torch.tensor([20, 13, 11])[:, None]
    tokens = Tokens(torch.randn(3, 20, 16), pad)
    whole = body(tokens).x
    for begin in (0, 10, 12, 19):
        real = ~pad[:, begin:]
        torch.testing.assert_close(body.tail(tokens, begin)[real], whole[:, begin:][real], atol=1e-5, rtol=1e-5)


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
    with pytest.raises(UserError, match="5×5 do not divide 'image' of 28×28"):
        PatchStem(1, 5, 16)({"image": torch.zeros(2, 1, 28, 28)})
    with pytest.raises(UserError, match="4×9 do not divide 'mel' of 30×20"):
        PatchStem(1, (4, 9), 16, "mel")({"mel": torch.zeros(2, 30, 20)})  # time may have any length, bands not
    with pytest.raises(UserError, match="with 3 channels"):
        PatchStem(3, 4, 16)({"image": torch.zeros(2, 1, 28, 28)})
    with pytest.raises(UserError, match="no patches of 2×2×2"):
        PatchStem(1, (2, 2, 2), 16)({"image": torch.zeros(2, 28, 28)})
    with pytest.raises(UserError, match="patches of 0×4"):
        PatchStem(1, (0, 4), 16)
    assert PatchStem(1, 7, 16)({"image": torch.zeros(2, 1, 28, 28)}).grid == (4, 4)


@pytest.mark.parametrize(
    ("shape", "patch", "grid"), [((3, 8, 12), (4, 2), (2, 6)), ((2, 4, 8, 6), (2, 4, 3), (2, 2, 2))]
)
def test_patches_are_projected_as_by_a_strided_convolution(shape, patch, grid) -> None:
    torch.manual_seed(0)
    channels, rank = shape[0], len(patch)
    stem, image = PatchStem(channels, patch, 16), torch.randn(5, *shape)
    tokens = stem({"image": image})
    weight = stem.project.weight.view(16, *patch, channels).movedim(-1, 1)
    convolve = F.conv2d if rank == 2 else F.conv3d
    there = convolve(image, weight, stem.project.bias, stride=patch)
    assert tokens.grid == grid and tokens.pad is None
    torch.testing.assert_close(tokens.x, there.flatten(2).transpose(1, 2), rtol=1e-4, atol=1e-5)


def test_patch_values_are_those_of_the_image() -> None:
    image = torch.arange(2 * 3 * 4 * 6.0).view(2, 3, 4, 6)
    values = PatchStem(3, (2, 3), 8).values({"image": image})
    assert values.shape == (2, 4, 18)
    torch.testing.assert_close(values[1, 3].view(2, 3, 3), image[1, :, 2:, 3:].movedim(0, -1))


def test_a_patch_of_padding_alone_is_padding_and_its_values_are_unknown() -> None:
    stem = PatchStem(20, (8,), 16, "mel")
    batch = mel_batch((17, 24), 30)
    count, pad = stem.layout(batch)
    assert count == 4 and pad is not None and pad.tolist() == [[False, False, False, True], [False, False, False, True]]
    values = stem.values(batch).view(2, 4, 8, 20)
    assert (~values[0, :, :, 0].isnan()).sum(1).tolist() == [8, 8, 1, 0]
    assert torch.equal(values[0, 2, 0], batch["mel"][0, 16])
    assert stem.layout({"mel": batch["mel"]}) == (4, None)
    short = {"mel": batch["mel"][:, :30]}
    assert (~stem.values(short).isnan()).view(2, 4, 8, 20)[:, 3, :, 0].sum(1).tolist() == [6, 6]


@pytest.mark.parametrize("stem", [PatchStem(1, (4, 20), 16, "mel"), FrameStem(20, 16, 4)], ids=["patches", "frames"])
def test_a_stem_of_values_hides_them_before_a_neighbour_looks(stem) -> None:
    batch = mel_batch((40, 40), 40)
    mask = torch.zeros(2, 10, dtype=torch.bool)
    mask[:, 3] = True
    changed = {**batch, "mel": batch["mel"].clone()}
    changed["mel"][:, 12:16] += 5.0
    torch.testing.assert_close(stem(batch, {"mel": mask}).x, stem(changed, {"mel": mask}).x)
    assert (stem(batch).x - stem(changed).x)[:, 3].abs().max() > 1e-2
    assert torch.equal(stem.values(batch)[:, 3], batch["mel"][:, 12:16].flatten(1))


def test_dropped_tokens_leave_the_positions_of_the_others() -> None:
    x = torch.randn(2, 12, 16)
    for position in ("learned", "sinusoidal", "grid"):
        net = Transformer(TransformerConfig(dim=16, depth=0, position=position, max_length=12))
        whole = net(Tokens(x, grid=(3, 4))).x
        kept = torch.tensor([[1, 5, 11], [0, 2, 7]])
        some = net(Tokens(x.gather(1, kept[..., None].expand(-1, -1, 16)), pos=kept, grid=(3, 4))).x
        torch.testing.assert_close(some, whole.gather(1, kept[..., None].expand(-1, -1, 16)))


def test_a_convolution_tells_places_of_whole_sequences_alone() -> None:
    x = torch.randn(1, 30, 16).expand(2, 30, 16).clone()
    x[1, :15] = x[0, 15:]  # the other half first: a convolution sees neighbours, so that only tokens near a seam change
    x[1, 15:] = x[0, :15]
    net = Transformer(TransformerConfig(dim=16, depth=0, position="convolution", kernel=5, groups=2))
    y = net(Tokens(x)).x
    torch.testing.assert_close(y[0, 17:28], y[1, 2:13])
    assert (y[0, 15:17] - y[1, :2]).abs().max() > 1e-3
    with pytest.raises(UserError, match="left out"):
        net(Tokens(x, pos=torch.arange(30).expand(2, 30)))
    for wrong in ({"groups": 3}, {"causal": True}):
        with pytest.raises(UserError, match="looks ahead"):
            TransformerConfig(**{"dim": 16, "position": "convolution", "groups": 4, **wrong})  # type: ignore[arg-type]


def test_positions_on_a_grid_tell_rows_from_columns_whatever_the_number_of_rows() -> None:
    three, five = (grid_sinusoids(torch.arange(rows * 4)[None], (rows, 4), 16)[0] for rows in (3, 5))
    assert torch.equal(three, five[:12]) and torch.pdist(three).min() > 1e-2
    rows, columns = three.view(3, 4, 2, 8).unbind(2)  # one half of the width is the row's, the other the column's
    assert torch.equal(rows, rows[:, :1].expand(3, 4, 8)) and torch.equal(columns, columns[:1].expand(3, 4, 8))
    assert grid_sinusoids(torch.arange(24)[None], (2, 3, 4), 17).shape == (1, 24, 17)
    with pytest.raises(UserError, match="max_length"):  # a few tokens of a grid that is too large
        learned = Transformer(TransformerConfig(dim=16, depth=0, max_length=8))
        learned(Tokens(torch.zeros(1, 2, 16), pos=torch.tensor([[0, 11]]), grid=(3, 4)))


def test_a_gru_is_torchs() -> None:
    torch.manual_seed(0)
    ours = gru(3)
    theirs = torch.nn.GRU(16, 16, 3, batch_first=True)
    theirs.load_state_dict(
        {f"{name[:-1]}{layer}": w for layer, cell in enumerate(ours.cells) for name, w in cell.state_dict().items()}
    )
    x = torch.randn(4, 9, 16)
    states = ours.layers(Tokens(x))
    torch.testing.assert_close(states[-1], theirs(x)[0])
    assert len(states) == 3 and torch.equal(ours(Tokens(x)).x, states[-1])


def test_a_gru_of_padded_rows_has_torchs_states_and_gradients() -> None:
    torch.manual_seed(0)
    ours, lengths = gru(2), [9, 1, 4, 9]
    theirs = torch.nn.GRU(16, 16, 2, batch_first=True)
    theirs.load_state_dict(
        {f"{name[:-1]}{layer}": w for layer, cell in enumerate(ours.cells) for name, w in cell.state_dict().items()}
    )
    pad = torch.arange(9)[None] >= torch.tensor(lengths)[:, None]
    x = torch.randn(4, 9, 16, requires_grad=True)
    weight = torch.randn(4, 9, 16).masked_fill(pad[..., None], 0)
    found = ours(Tokens(x, pad)).x
    (found * weight).sum().backward()
    mine, x.grad = x.grad, None
    expected = theirs(x)[0]
    (expected * weight).sum().backward()
    torch.testing.assert_close(found[~pad], expected[~pad])
    torch.testing.assert_close(mine, x.grad)
    for layer, cell in enumerate(ours.cells):
        for name, w in cell.named_parameters():
            torch.testing.assert_close(w.grad, theirs.get_parameter(f"{name[:-1]}{layer}").grad, atol=1e-5, rtol=1e-4)


def test_a_gru_sees_no_later_event_and_does_see_earlier_ones() -> None:
    torch.manual_seed(0)
    encoder = TokenEncoder(FieldStem(FIELDS, 16), gru()).eval()
    batch = event_batch((20, 20), 20)
    before = encoder(batch).x
    batch["amount"][:, 12] += 5.0
    after = encoder(batch).x
    torch.testing.assert_close(before[:, :12], after[:, :12])
    assert (before[:, 12:] - after[:, 12:]).abs().amax((0, 2)).min() > 1e-4


def test_waveforms_give_a_token_a_stride_and_do_not_mind_loudness() -> None:
    torch.manual_seed(0)
    stem = WaveformStem(16, 8)
    assert stem.stride == 320
    batch = wave_batch((1999, 640, 641), 2000)
    count, pad = stem.layout(batch)
    tokens = stem(batch)
    assert tokens.x.shape == (3, count, 16) and count == 7
    assert tokens.pad is not None and torch.equal(tokens.pad, pad) and (~pad).sum(1).tolist() == [7, 2, 3]
    loud = stem({**batch, "wave": batch["wave"] * 30 + 7}).x
    torch.testing.assert_close(tokens.x[~tokens.pad], loud[~tokens.pad], rtol=1e-3, atol=1e-3)
    silent = stem({"wave": torch.zeros(2, 700)})
    assert torch.isfinite(silent.x).all() and silent.pad is None
    with pytest.raises(UserError, match="leave samples out"):
        WaveformStem(16, 8, ((4, 5),))


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_a_mean_over_many_tokens_is_right_in_half_precision(kind: torch.dtype) -> None:
    x = torch.full((2, 4000, 3), 60.0, dtype=kind)  # the sum is beyond fp16, and far beyond the steps of bf16
    pad = torch.arange(4000)[None] >= torch.tensor([[4000], [3001]])
    mean = pool_tokens(Tokens(x, pad), "mean")
    assert mean.dtype == kind and (mean == 60).all()


@pytest.mark.parametrize("pool", ["mean", "last", "max", "mean_max"])
def test_pooling_leaves_padding_out_whatever_stands_there(pool) -> None:
    x = torch.randn(2, 6, 3)
    pad = torch.tensor([[False] * 4 + [True] * 2, [True] * 6])
    dirty = torch.where(pad[..., None], torch.tensor(float("nan")), x)
    out = pool_tokens(Tokens(dirty, pad), pool)
    torch.testing.assert_close(out[0], pool_tokens(Tokens(x[:1, :4]), pool)[0])
    assert (out[1] == 0).all()


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


@pytest.mark.parametrize("make", [lambda: small_convnet(3, 8), lambda: resnet("resnet18", 3, small=True)])
def test_convolutional_nets_are_channels_last_and_compute_the_same(make) -> None:
    torch.manual_seed(0)
    net, image = make().eval(), torch.randn(2, 3, 32, 32)
    last = net.layers({"image": image})[-1]
    assert last.is_contiguous(memory_format=torch.channels_last)
    first = copy.deepcopy(net).to(memory_format=torch.contiguous_format)
    torch.testing.assert_close(net.embed({"image": image}), first.embed({"image": image}), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("make", [lambda: small_convnet(1, 8), lambda: ENCODERS["items"][0]()])
def test_an_embedding_is_pooled_from_what_the_encoder_gives(make) -> None:
    """A hook on the encoder, such as compiling or a probe puts there, is seen by `embed` too."""
    encoder = make().eval()
    batch = {"image": torch.randn(2, 1, 28, 28)} | event_batch((9, 14), 14)
    batch = {"image": batch["image"]} if hasattr(encoder, "stages") else batch
    before = encoder.embed(batch)
    encoder.register_forward_hook(lambda module, arguments, tokens: tokens.with_x(tokens.x * 2))
    torch.testing.assert_close(encoder.embed(batch), before * 2)


def test_a_net_of_volumes_and_its_decoder_serve_cubes_of_any_side(generator: torch.Generator) -> None:
    from core.decoders import ConvDecoder, decoder_for

    net = small_convnet(2, 8, dims=3).eval()
    decoder = decoder_for(net, width=16)
    assert isinstance(decoder, ConvDecoder) and decoder.steps == 4
    for sides in ((16, 16, 16), (19, 20, 21)):
        volume = torch.rand(3, 2, *sides, generator=generator)
        tokens = net({"image": volume})
        grid = tuple(-(-side >> 4) for side in sides)
        assert tokens.grid == grid and tokens.x.shape == (3, grid[0] * grid[1] * grid[2], 32)
        assert decoder(tokens, {"image": volume}).shape == volume.shape
        assert decoder.layout({"image": volume})[0] == grid
        assert [len(layer.shape) for layer in net.layers({"image": volume})] == [5] * 4
    with pytest.raises(UserError, match="4 axes"):
        small_convnet(dims=4)
