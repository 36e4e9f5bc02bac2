"""Puzzles have the answers that they say."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from core import puzzles
from core.errors import UserError


def planes(rows: int = 16, channels: int = 2, height: int = 28, width: int = 28) -> Tensor:
    """Images no two pixels of which are alike."""
    count = rows * channels * height * width
    return torch.randperm(count, generator=torch.Generator().manual_seed(1)).view(rows, channels, height, width) / count


def right_padded(lengths: list[int], time: int) -> Tensor:
    return torch.arange(time)[None] >= torch.tensor(lengths)[:, None]


def test_turning_back_gives_the_image(generator: torch.Generator) -> None:
    image = planes(64)
    turned, label = puzzles.rotate(image, generator)
    assert set(label.tolist()) == {0, 1, 2, 3}
    for before, after, k in zip(image, turned, label.tolist(), strict=True):
        assert torch.equal(torch.rot90(after, -k, (1, 2)), before)
    with pytest.raises(UserError, match="change their shape"):
        puzzles.rotate(image[..., :20], generator)


@pytest.mark.parametrize(("length", "count", "least"), [(4, 6, 3), (4, 24, 2), (9, 30, 7), (16, 50, 13)])
def test_permutations_are_few_far_apart_and_always_the_same(length: int, count: int, least: int) -> None:
    orders = puzzles.permutations(length, count)
    assert orders.shape == (count, length) and torch.equal(orders[0], torch.arange(length))
    assert torch.equal(orders.sort(1).values, torch.arange(length).expand(count, -1))
    apart = (orders[:, None] != orders[None]).sum(-1) + length * torch.eye(count, dtype=torch.long)
    assert int(apart.min()) >= least
    puzzles.permutations.cache_clear()
    assert torch.equal(orders, puzzles.permutations(length, count))
    with pytest.raises(UserError, match="orders of 3 pieces"):
        puzzles.permutations(3, 7)


@pytest.mark.parametrize(("side", "tiles"), [(28, 2), (27, 3), (28, 3), (29, 4)])
def test_without_a_gap_undoing_the_order_gives_the_tiles_back(
    side: int, tiles: int, generator: torch.Generator
) -> None:
    image, orders = planes(12, 2, side, side), puzzles.permutations(tiles**2, 10)
    mixed, label = puzzles.jigsaw(image, tiles, orders, generator, gap=0)
    assert mixed.shape == image.shape and len(set(label.tolist())) > 3
    cell = side // tiles
    start = (side - tiles * cell) // 2

    def cut(x: Tensor) -> Tensor:
        """(tiles², C, cell, cell)."""
        x = x[:, start : start + tiles * cell, start : start + tiles * cell]
        return x.unfold(1, cell, cell).unfold(2, cell, cell).flatten(1, 2).transpose(0, 1)

    for before, after, p in zip(image, mixed, label.tolist(), strict=True):
        undone = torch.empty_like(cut(after))
        undone[orders[p]] = cut(after)
        assert torch.equal(undone, cut(before))


def test_a_gap_keeps_edges_from_matching_and_moves_each_tile_by_itself(generator: torch.Generator) -> None:
    image = planes(100, 1, 28, 28)
    mixed, label = puzzles.jigsaw(image, 2, torch.arange(4)[None], generator, gap=3)
    assert (label == 0).all()
    mean = image.mean((1, 2, 3))
    offsets = []
    for before, after, grey in zip(image, mixed, mean, strict=True):
        tile = after[0, 1:12, 1:12]  # an 11-pixel tile stands one pixel from its cell's corner
        places = [(y, x) for y in range(4) for x in range(4) if torch.equal(before[0, y : y + 11, x : x + 11], tile)]
        assert len(places) == 1
        offsets.append(places[0])
        outside = torch.ones(28, 28, dtype=torch.bool)
        for y in (1, 15):
            for x in (1, 15):
                outside[y : y + 11, x : x + 11] = False
        torch.testing.assert_close(after[0, outside], grey.expand(int(outside.sum())))
    assert len(set(offsets)) == 16
    with pytest.raises(UserError, match="tiles with gaps"):
        puzzles.jigsaw(image, 7, puzzles.permutations(49, 2), generator, gap=4)


@pytest.mark.parametrize(("side", "tiles", "gap"), [(28, 2, 3), (29, 3, 2), (32, 4, None), (27, 3, 0)])
def test_the_cells_of_a_jigsaw_are_its_tiles_and_nothing_else(
    side: int, tiles: int, gap: int | None, generator: torch.Generator
) -> None:
    image = planes(8, 1, side, side)
    mixed, _ = puzzles.jigsaw(image, tiles, puzzles.permutations(tiles**2, 10), generator, gap=gap)
    found = puzzles.cells(mixed, tiles, gap)
    assert len(found) == tiles**2
    taken = torch.zeros(side, side, dtype=torch.bool)
    where = torch.arange(side * side).view(1, 1, side, side)
    for cell, place in zip(found, puzzles.cells(where, tiles, gap), strict=True):
        assert cell.shape == (8, 1, *place.shape[2:])
        assert not torch.isin(place, where[0, 0][taken]).any()  # cells do not overlap
        taken |= torch.isin(where[0, 0], place)
    grey = image.mean((1, 2, 3)).view(8, 1, 1, 1).expand_as(mixed)
    torch.testing.assert_close(mixed[..., ~taken], grey[..., ~taken])  # between them there is the mean alone


def test_a_spectrogram_has_a_jigsaw_too(generator: torch.Generator) -> None:
    spectrogram = planes(4, 1, 32, 20)[:, 0]
    mixed, _ = puzzles.jigsaw(spectrogram, 2, puzzles.permutations(4, 24), generator, gap=0)
    assert mixed.shape == spectrogram.shape
    assert torch.equal(mixed.flatten(1).sort(1).values, spectrogram.flatten(1).sort(1).values)


def cubes(rows: int = 40, side: int = 8) -> Tensor:
    """Volumes no two voxels of which are alike."""
    return torch.arange(rows * side**3, dtype=torch.float32).view(rows, 1, side, side, side)


def test_a_turned_cube_is_turned_about_the_axis_that_is_asked(generator: torch.Generator) -> None:
    volume = cubes(200, 5)
    turned, label = puzzles.turn(volume, generator)
    assert set(label.tolist()) == set(range(puzzles.TURNS))
    planes = {0: (2, 3), 1: (1, 3), 2: (1, 2)}
    for before, after, k in zip(volume, turned, label.tolist(), strict=True):
        axis, quarters = divmod(k - 1, 3)
        back = after if k == 0 else torch.rot90(after, -(quarters + 1), planes[axis])
        assert torch.equal(back, before)
    with pytest.raises(UserError, match="change their shape"):
        puzzles.turn(volume[..., :3], generator)


@pytest.mark.parametrize("gap", [0, 1])
def test_the_cubes_of_a_volume_are_those_of_its_order(gap: int, generator: torch.Generator) -> None:
    """Each cell has one value, so a piece says which cell it was cut from."""
    cell = torch.arange(8.0).view(2, 2, 2)
    for axis in range(3):
        cell = cell.repeat_interleave(4, axis)
    orders = puzzles.permutations(8, 24)
    mixed, label = puzzles.jigsaw(cell.expand(50, 1, 8, 8, 8), 2, orders, generator, gap, dims=3)
    pieces = puzzles.cells(mixed, 2, gap, dims=3)
    assert len(pieces) == 8 and len(label.unique()) > 10
    side = 4 - gap
    for place, piece in enumerate(pieces):
        assert piece.shape == (50, 1, side, side, side)
        assert (piece == orders[label][:, place].view(-1, 1, 1, 1, 1)).all()
    with pytest.raises(UserError, match="2×2×2 tiles"):
        puzzles.jigsaw(cubes(), 2, puzzles.permutations(4, 24), generator, dims=3)


@pytest.mark.parametrize("segments", [2, 3, 4])
def test_reordering_keeps_events_whole_and_padding_on_the_right(segments: int, generator: torch.Generator) -> None:
    lengths = [17, 2, 9, 4, 1, 16, 8, 3] * 40
    pad = right_padded(lengths, 17)
    place = torch.arange(17).expand(len(lengths), 17).masked_fill(pad, -1)
    batch = {"a": place, "b": place * 10.0, "time": place.clone(), "pad": pad, "index": torch.arange(len(lengths))}
    moved, label = puzzles.reorder(batch, pad, segments, generator, keep=("time",))
    assert torch.equal(moved["pad"], pad) and torch.equal(moved["index"], batch["index"])
    assert torch.equal(moved["time"], place)
    assert torch.equal(moved["b"], moved["a"] * 10.0)
    assert ((moved["a"] == -1) == pad).all()
    assert torch.equal(moved["a"].sort(1).values, place.sort(1).values)
    orders = puzzles.permutations(segments, math.factorial(segments))
    assert torch.equal(label == -100, torch.tensor(lengths) < segments)
    assert len(set(label.tolist()) - {-100}) == len(orders)
    for row, n, answer in zip(moved["a"], lengths, label.tolist(), strict=True):
        edges = [i * n // segments for i in range(segments + 1)]
        parts = [list(range(edges[i], edges[i + 1])) for i in range(segments)]
        order = range(segments) if answer == -100 else orders[answer].tolist()
        assert row[:n].tolist() == [event for i in order for event in parts[i]]


def test_whether_the_order_changed_is_asked_of_half_of_the_rows(generator: torch.Generator) -> None:
    pad = right_padded([12] * 400, 12)
    batch = {"item": torch.arange(12).expand(400, 12)}
    moved, label = puzzles.reorder(batch, pad, 3, generator, binary=True)
    changed = (moved["item"] != batch["item"]).any(1)
    assert torch.equal(changed.long(), label)
    assert 0.4 < label.float().mean() < 0.6


@pytest.mark.parametrize("kind", [torch.long, torch.float32])
def test_replaced_places_really_changed_and_are_as_many_as_asked(kind: torch.dtype, generator: torch.Generator) -> None:
    lengths = [20, 11, 5, 1] * 10
    pad = right_padded(lengths, 20)
    values = torch.randint(3, 8, pad.shape, generator=generator).to(kind).masked_fill(pad, 99)
    if kind.is_floating_point:
        values[0, 3] = float("nan")
    new, replaced = puzzles.replace(values, pad, 0.3, generator)
    known = ~pad & ~(values.isnan() if kind.is_floating_point else torch.zeros_like(pad))
    assert torch.equal(replaced, (new != values) & known)
    assert torch.equal(replaced.sum(1), (known.sum(1).double() * 0.3).round().long().clamp(min=1))
    assert set(new[known].tolist()) <= set(values[known].tolist())
    assert torch.equal(new[pad], values[pad])


def test_new_values_are_drawn_as_often_as_they_occur(generator: torch.Generator) -> None:
    values = torch.tensor([3] * 600 + [4] * 300 + [5] * 100).repeat(20).view(20, 1000)
    new, replaced = puzzles.replace(values, torch.zeros(20, 1000, dtype=torch.bool), 0.5, generator)
    of_threes = new[replaced & (values == 3)]
    assert abs(float((of_threes == 4).float().mean()) - 0.75) < 0.03 and (of_threes != 3).all()


def test_a_constant_column_has_nothing_to_replace_with(generator: torch.Generator) -> None:
    pad = right_padded([5, 0], 6)
    new, replaced = puzzles.replace(torch.full((2, 6), 7), pad, 0.5, generator)
    assert (new == 7).all() and not replaced.any()


def test_equal_seeds_draw_equal_puzzles_and_others_do_not() -> None:
    image = planes(8)

    def all_of_them(seed: int) -> list[Tensor]:
        g = torch.Generator().manual_seed(seed)
        tokens, pad = torch.arange(80).view(8, 10), torch.zeros(8, 10, dtype=torch.bool)
        return [
            *puzzles.rotate(image, g), *puzzles.jigsaw(image, 2, puzzles.permutations(4, 24), g),
            puzzles.reorder({"x": tokens}, pad, 3, g)[0]["x"], *puzzles.replace(tokens, pad, 0.3, g),
            *puzzles.turn(image.view(8, 2, 28, 28, 1).expand(-1, -1, -1, -1, 28), g),
            *puzzles.jigsaw(image.view(8, 2, 7, 16, 7), 2, puzzles.permutations(8, 24), g, dims=3),
        ]  # fmt: skip

    first, again, other = all_of_them(0), all_of_them(0), all_of_them(1)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(first, other, strict=True))
