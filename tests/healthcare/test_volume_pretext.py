"""What holds for pretexts of images holds for those of volumes; where crops lie; partners of the same patient."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from core.config import settings
from core.errors import UserError
from core.pretext import Pieces
from healthcare import ImageEncoder, Images
from healthcare.batches import PatientBatches
from healthcare.data import Reading
from healthcare.encoders import EncoderConfig, build_encoder
from healthcare.metrics import auroc
from healthcare.places import Places, window
from healthcare.presets import PRESETS, Recipe, preset
from healthcare.pretext import Coloured, Damaged, HiddenPatches, Noisy, Shuffled, Turned, detail
from healthcare.views import ImageViews, ViewConfig, augment, fixed_views, geometry

OFF = ViewConfig(
    area=1.0, stretch=1.0, rotate=0.0, flip=0.0, brightness=0.0, contrast=1.0, gamma=1.0, noise=0.0, blur=0.0, erase=0.0
)
LEVELS = {"area": 0.3, "rotate": 25.0, "brightness": 0.3, "contrast": 2.0, "gamma": 2.0, "noise": 0.1, "blur": 1.0, "erase": 1.0}  # fmt: skip


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def quiet(line: str) -> None:
    """Progress goes nowhere."""


@pytest.fixture
def volume() -> torch.Tensor:
    return torch.rand(10, 1, 12, 12, 12, generator=generator(7))


def tiny(name: str, steps: int = 2, size: int = 16) -> Recipe:
    recipe = replace(preset(name, steps=steps), batch=32, reading=Reading(size=size), crop=1.0)
    recipe = replace(recipe, encoder=replace(recipe.encoder, width=16, depth=min(recipe.encoder.depth, 2)))
    changes = ["objective.queue=64"] if name == "moco" else ["objective.clusters=8"] if name == "deepcluster" else []
    return settings(recipe, changes)


@pytest.mark.parametrize("name", [name for name in PRESETS if name != "colour"])
def test_a_preset_trains_on_volumes_and_its_features_outlive_a_save(name: str, volumes: Images, tmp_path: Path) -> None:
    encoder = ImageEncoder(tiny(name)).fit(volumes, note=quiet)
    features = encoder.transform(volumes)
    assert features.shape == (len(volumes), encoder.encoder_.dim) and np.isfinite(features).all()
    assert np.abs(features - encoder.untrained(0).transform(volumes)).max() > 1e-4
    loaded = ImageEncoder.load(encoder.save(tmp_path / "run"))
    np.testing.assert_array_equal(loaded.transform(volumes), features)


def test_equal_seeds_train_equal_networks_of_volumes(volumes: Images) -> None:
    first, again = (ImageEncoder(tiny("position")).fit(volumes, note=quiet).transform(volumes) for _ in range(2))
    np.testing.assert_array_equal(first, again)


def test_views_of_volumes_teach_what_an_untrained_network_does_not_tell(volumes: Images) -> None:
    """A golden run: a third of a minute's training finds the planted texture."""
    encoder = ImageEncoder(replace(tiny("simclr", steps=60), encoder=EncoderConfig(width=16))).fit(volumes, note=quiet)

    def score(features: np.ndarray) -> float:
        from core.probes import linear

        known = volumes.split == "train"
        shares = linear(features[known], volumes.label[known], features[~known], costs=(1e-2,))
        return auroc(volumes.label[~known], shares)

    assert score(encoder.transform(volumes)) > score(encoder.untrained(0).transform(volumes)) + 0.05


def test_an_encoder_of_volumes_is_exported_and_refuses_images(volumes: Images, images: Images, tmp_path: Path) -> None:
    encoder = ImageEncoder(tiny("simclr")).fit(volumes, note=quiet)
    program = torch.export.load(encoder.export(tmp_path / "encoder.pt2")).module()
    few = torch.from_numpy(volumes.pixels[:3])
    np.testing.assert_allclose(
        program(few).detach().numpy(), encoder.transform(volumes.select(np.arange(3))), atol=1e-5
    )
    flat = replace(images, pixels=images.pixels[:, :, :16, :16])
    with pytest.raises(UserError, match="data of 2 dimensions"):
        encoder.transform(flat)


@pytest.mark.parametrize("kind", ["small", "vit", "resnet18"])
def test_every_network_has_one_for_volumes(kind: str) -> None:
    encoder = build_encoder(EncoderConfig(kind=kind, width=16, patch=8), 2, 16, dims=3).eval()  # type: ignore[arg-type]
    volume = torch.rand(2, 2, 16, 16, 16)
    tokens = encoder({"image": volume})
    assert (
        tokens.grid is not None and len(tokens.grid) == 3 and encoder.embed({"image": volume}).shape == (2, encoder.dim)
    )
    with pytest.raises(UserError, match="U-Net"):
        build_encoder(EncoderConfig(kind="unet"), 1, 16, dims=3)


def test_everything_off_changes_no_volume(volume: torch.Tensor) -> None:
    torch.testing.assert_close(augment(volume, OFF, generator()), volume, atol=1e-5, rtol=1e-4)
    flipped = geometry(volume, replace(OFF, flip=1.0), generator())
    torch.testing.assert_close(flipped, volume.flip(4), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", LEVELS)
def test_every_part_changes_each_volume_by_itself(name: str, volume: torch.Tensor) -> None:
    same = volume[:1].expand(10, -1, -1, -1, -1)
    out = augment(same, replace(OFF, **{name: LEVELS[name]}), generator())
    assert out.shape == same.shape and out.min() >= 0 and out.max() <= 1
    assert len({round(view.square().mean().item(), 6) for view in out}) > 7


def test_a_volume_turns_about_every_axis_and_keeps_its_values(volume: torch.Tensor) -> None:
    """A bright rod along one axis leaves it, to both of the other ones."""
    rod = torch.zeros(60, 1, 15, 15, 15)
    rod[:, :, :, 7, 7] = 1
    turned = geometry(rod, replace(OFF, rotate=30.0), generator())
    end = turned[:, 0, 1].flatten(1).argmax(1)
    rows, columns = end // 15 - 7, end % 15 - 7
    assert rows.abs().float().mean() > 0.7 and columns.abs().float().mean() > 0.7
    torch.testing.assert_close(turned[:, 0, 7, 7, 7], torch.ones(60), atol=1e-4, rtol=0)


def test_fixed_views_of_a_volume_come_from_four_corners() -> None:
    ramp = torch.linspace(0, 1, 16)[None, None, :, None, None].expand(2, 1, 16, 16, 16)
    views = fixed_views(ramp, 0.5)
    assert len(views) == 5 and torch.equal(views[0], ramp)
    means = sorted(view.mean().item() for view in views[1:])
    assert means == pytest.approx([0.25, 0.25, 0.75, 0.75], abs=0.02)


def test_small_crops_of_volumes_are_small_cubes(volume: torch.Tensor) -> None:
    pretext = ImageViews(local=2, local_side=0.5)
    made = pretext({"image": volume}, generator())
    assert [tuple(view["image"].shape[2:]) for view in made.views] == [(12,) * 3] * 2 + [(6,) * 3] * 2
    assert pretext.passes(3) == pytest.approx(2.25) and pretext.passes() == pytest.approx(2.5)


@pytest.mark.parametrize("shape", ["random", "block"])
def test_patches_of_volumes_are_hidden_at_the_exact_ratio(shape: str, volume: torch.Tensor) -> None:
    task = HiddenPatches(view=OFF, ratio=0.75, shape=shape)  # type: ignore[arg-type]
    made = task.bound(EncoderConfig(kind="vit", patch=3))({"image": volume}, generator())  # type: ignore[union-attr]
    assert made.mask.shape == (10, 64) and (made.mask.sum(1) == 48).all() and len(made.mask.unique(dim=0)) > 3  # type: ignore[union-attr]


@pytest.mark.parametrize("task", [Damaged(view=OFF, window=0), Noisy(view=OFF, window=0)])
def test_damage_is_done_to_what_is_seen_of_a_volume_alone(task: Damaged | Noisy, volume: torch.Tensor) -> None:
    made, again = task({"image": volume}, generator(3)), task({"image": volume}, generator(3))
    torch.testing.assert_close(made.clean["image"], volume, atol=1e-5, rtol=1e-4)
    assert ((made.batch["image"] - volume).abs().mean((1, 2, 3, 4)) > 0.01).all()
    assert torch.equal(made.batch["image"], again.batch["image"])
    near = detail(0.3 * volume + 0.2, 5)[:, :, 4:9, 4:9, 4:9]
    assert near.mean().abs() < 0.1 and 0.7 < near.std() < 1.3


def test_puzzles_of_volumes_have_their_own_number_of_answers(volume: torch.Tensor) -> None:
    assert Turned().classes(3) == (("rotation", 10),) and Turned().classes() == (("rotation", 4),)
    assert Shuffled().pieces(3) == 8 and Shuffled().pieces() == 4
    made = Shuffled(view=OFF)({"image": volume}, generator())
    assert isinstance(made, Pieces) and len(made.pieces) == 8 and made.pieces[0]["image"].shape == (10, 1, 5, 5, 5)


@pytest.mark.parametrize("dims", [2, 3])
def test_a_crop_says_truly_how_much_each_base_covers(dims: int) -> None:
    """Of an image that counts its pixels along each axis, the mean of a crop tells where it was cut."""
    side, task = 16, Places(view=OFF, tiles=2, crops=5)
    line = (torch.arange(side) + 0.5) / side
    for axis in range(dims):
        image = line.view([side if other == axis else 1 for other in range(dims)]).expand([side] * dims)
        made = task({"image": image.expand(7, 1, *[side] * dims)}, generator())
        assert len(made.bases) == 2**dims and made.overlap.shape == (7, 5, 2**dims)
        torch.testing.assert_close(made.overlap.sum(-1), torch.ones(7, 5))
        base = torch.stack([b["image"].flatten(1).mean(1) for b in made.bases], 1)  # (7, n): .25 or .75
        crop = torch.stack([c["image"].flatten(1).mean(1) for c in made.crops], 1)  # (7, crops)
        told = torch.einsum("bcn,bn->bc", made.overlap, base)
        torch.testing.assert_close(crop, told, atol=0.02, rtol=0)
    again = task({"image": image.expand(7, 1, *[side] * dims)}, generator())
    assert torch.equal(again.overlap, made.overlap) and task.passes(dims) == 1 + 5 / 2**dims


def test_a_window_is_the_square_around_its_centre() -> None:
    image = torch.arange(64.0).view(1, 1, 8, 8)
    torch.testing.assert_close(window(image, torch.tensor([[0.5, -0.5]]), 0.5, 4), image[:, :, 4:, :4])


def test_the_colours_of_an_image_are_asked_and_its_grey_values_shown() -> None:
    image = torch.rand(4, 3, 12, 12, generator=generator(7))
    made = Coloured(view=OFF, scale=2.0)({"image": image}, generator())
    grey = made.batch["image"]
    assert torch.equal(grey[:, 0], grey[:, 2])
    torch.testing.assert_close(made.clean["image"] / 2 + grey, image, atol=1e-5, rtol=1e-4)
    with pytest.raises(UserError, match="no colours to lose"):
        Coloured()({"image": image[:, :1]}, generator())


def test_a_partner_is_another_image_of_the_patient(images: Images) -> None:
    pixels = np.arange(9, dtype=np.float32)[:, None, None, None]
    patient = np.array([5, 3, 5, 8, 3, 5, 3, 7, 3])
    batches = PatientBatches({"image": pixels, "patient": patient}, 9, seed=1)
    seen: dict[int, set[int]] = {row: set() for row in range(9)}
    for epoch in range(40):
        batch = batches.batch(epoch, 0)
        again = batches.batch(epoch, 0)
        assert torch.equal(batch["partner"], again["partner"])
        for row, other in zip(batch["index"].tolist(), batch["partner"].flatten().long().tolist(), strict=True):
            seen[row].add(other)
    for row, others in seen.items():
        same = set(np.flatnonzero(patient == patient[row]).tolist()) - {row}
        assert others == (same or {row})


def test_views_of_one_patient_are_of_two_images(images: Images) -> None:
    batch = {"image": torch.zeros(6, 1, 8, 8), "partner": torch.ones(6, 1, 8, 8), "patient": torch.arange(6) // 2}
    made = ImageViews(view=OFF, same_patient=True)(batch, generator())
    assert (made.views[0]["image"] == 0).all() and (made.views[1]["image"] > 0.99).all()
    assert made.group is not None and made.group.tolist() == [0, 0, 1, 1, 2, 2]
    for unnamed in (replace(images, named_patients=False), np.zeros((40, 28, 28), np.uint8)):
        with pytest.raises(UserError, match="name no patients"):
            ImageEncoder(tiny("micle", size=28)).fit(unnamed, note=quiet)
