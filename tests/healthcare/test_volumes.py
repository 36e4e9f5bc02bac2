"""Large volumes are opened where they lie, cut into cubes that a seed decides, and set aside for a reason."""

from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

from core.errors import UserError
from healthcare import ImageEncoder
from healthcare.cli import main
from healthcare.data import Reading
from healthcare.presets import preset
from healthcare.readers import Limits
from healthcare.volume_speed import MEMORY_GOAL, SIDE, large_volume, measured
from healthcare.volumes import CubeBatches, open_volumes


def counted(side: int = 20) -> np.ndarray:
    """A volume whose values tell their place."""
    z, y, x = np.mgrid[0:side, 0:side, 0:side]
    return (z * 10_000 + y * 100 + x).astype(np.float32)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "data"
    (root / "deep").mkdir(parents=True)
    np.save(root / "a.npy", counted())
    nibabel.save(nibabel.Nifti1Image(counted(24), np.eye(4)), root / "deep" / "b.nii")  # type: ignore[attr-defined]
    nibabel.save(nibabel.Nifti1Image(counted(18), np.eye(4)), root / "deep" / "c.nii.gz")  # type: ignore[attr-defined]
    return root


def test_volumes_of_three_formats_are_opened_in_order(folder: Path) -> None:
    found = open_volumes(folder, 16)
    assert found.where.tolist() == ["a.npy", "deep/b.nii", "deep/c.nii.gz"] and len(found) == 3
    assert [volume.shape[0] for volume in found.volumes] == [20, 24, 18]
    assert isinstance(found.volumes[0].source, np.memmap)
    volume = found.volumes[1]
    expected = np.clip((counted(24)[3:11, 5:13, 7:15] - volume.low) / (volume.high - volume.low), 0, 1)
    np.testing.assert_allclose(volume.cube((3, 5, 7), 8), expected, atol=1e-6)
    alone = open_volumes(folder / "a.npy", 16)
    assert alone.where.tolist() == ["a.npy"]


def test_a_grid_covers_the_whole_volume(folder: Path) -> None:
    volumes = open_volumes(folder / "a.npy", 8)
    cubes = list(volumes.grid(0, 8))
    assert len(cubes) == 27 and all(cube.shape == (8, 8, 8) for cube in cubes)
    volume = volumes.volumes[0]
    whole = volume.cube((0, 0, 0), 20)
    assert set(np.concatenate([cube.ravel() for cube in cubes]).tolist()) == set(whole.ravel().tolist())


def test_cubes_are_a_function_of_seed_epoch_and_row(folder: Path) -> None:
    volumes = open_volumes(folder, 8)
    first, again, other = (CubeBatches(volumes, 8, cubes=4, batch_size=6, seed=seed) for seed in (0, 0, 1))
    assert first.rows == 12 and len(first) == 2
    batch = first.batch(3, 1)
    assert batch["image"].shape == (6, 1, 8, 8, 8)
    assert torch.equal(batch["image"], again.batch(3, 1)["image"])
    assert not torch.equal(batch["image"], other.batch(3, 1)["image"])
    assert not torch.equal(first.at(np.arange(3))["image"], first._cut(np.arange(3), 1)["image"])  # a later epoch's
    assert sorted(torch.cat([b["index"] for b in first.ordered()]).tolist()) == list(range(12))
    epoch = torch.cat([first.batch(5, number)["index"] for number in range(2)])
    assert sorted(epoch.tolist()) == list(range(12))


def test_air_is_not_learned_from(tmp_path: Path) -> None:
    volume = np.zeros((40, 40, 40), np.int16)
    volume[:24, :24, :24] = np.random.default_rng(0).integers(0, 1000, (24, 24, 24))
    np.save(tmp_path / "a.npy", volume)
    cubes = CubeBatches(open_volumes(tmp_path, 8), 8, cubes=60, batch_size=60).at(np.arange(60))["image"]
    drawn_blindly = (24 / 32) ** 3  # share of places that would show anything
    assert (cubes.flatten(1).std(1) > 0.02).float().mean() > max(0.95, drawn_blindly)


def hostile(root: Path) -> dict[str, str]:
    """Bad files, and the reason that each must be given."""
    good = counted()
    np.save(root / "good.npy", good)
    np.save(root / "flat.npy", np.full((20, 20, 20), 7.0))
    holed = good.copy()
    holed[13, 4, 5] = np.nan
    np.save(root / "nan.npy", holed)
    np.save(root / "four.npy", good[None])
    np.save(root / "small.npy", good[:, :12])
    np.save(root / "words.npy", np.full((20, 20, 20), "x"))
    np.save(root / "objects.npy", np.full((20, 20, 20), None, dtype=object), allow_pickle=True)
    (root / "cut.npy").write_bytes((root / "good.npy").read_bytes()[:5000])
    (root / "empty.nii").write_bytes(b"")
    (root / "noise.nii.gz").write_bytes(gzip.compress(b"nothing of the kind" * 40))
    np.save(root / "large.npy", np.zeros((90, 90, 90)))
    outside = root.parent / "outside.npy"
    np.save(outside, good)
    (root / "link.npy").symlink_to(outside)
    return {
        "flat.npy": "constant", "nan.npy": "not finite", "four.npy": "not a 3-D volume", "small.npy": "smaller than a cube",
        "words.npy": "not an image", "objects.npy": "unreadable", "cut.npy": "unreadable", "empty.nii": "unreadable",
        "noise.nii.gz": "unreadable", "large.npy": "too large", "link.npy": "outside the data folder",
    }  # fmt: skip


def test_every_bad_volume_is_set_aside_with_its_reason(tmp_path: Path) -> None:
    root = tmp_path / "data"
    root.mkdir()
    expected = hostile(root)
    found = open_volumes(root, 16, Limits(bytes=1_000_000))
    assert found.where.tolist() == ["good.npy"]
    given = {where: reason for where, reason, _ in found.quarantine.records}
    assert given == expected


def test_nothing_usable_stops_with_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no volume there"):
        open_volumes(tmp_path, 16)
    with pytest.raises(UserError, match="no volume there"):
        open_volumes(tmp_path / "missing.nii", 16)
    np.save(tmp_path / "flat.npy", np.zeros((20, 20, 20)))
    with pytest.raises(UserError, match="no usable volume"):
        open_volumes(tmp_path, 16)


def test_an_encoder_learns_from_cubes_and_embeds_whole_volumes(folder: Path, tmp_path: Path) -> None:
    recipe = replace(preset("simclr", steps=2), reading=Reading(size=16), patches=8, batch=8)
    recipe = replace(recipe, encoder=replace(recipe.encoder, width=8))
    volumes = open_volumes(folder, 16)
    encoder = ImageEncoder(recipe).fit(volumes, note=lambda line: None)
    features = encoder.transform(volumes)
    assert features.shape == (3, encoder.encoder_.dim) and np.isfinite(features).all()
    loaded = ImageEncoder.load(encoder.save(tmp_path / "run"))
    np.testing.assert_array_equal(loaded.transform(volumes), features)
    with pytest.raises(UserError, match="same images every epoch"):
        ImageEncoder(replace(preset("deepcluster", steps=2), reading=Reading(size=16), patches=8)).fit(volumes)
    with pytest.raises(UserError, match="name no patients"):
        ImageEncoder(replace(preset("micle", steps=2), reading=Reading(size=16), patches=8)).fit(volumes)


def test_the_commands_take_volumes_as_they_lie(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import pandas as pd

    run, table = tmp_path / "run", tmp_path / "table.parquet"
    settings = ["patches=8", "reading.size=16", "batch=8", "encoder.width=8"]
    with pytest.raises(SystemExit) as ended:
        main(["pretrain", "--data", str(folder), "--out", str(run), "--steps", "2", "--set", *settings])
    assert not ended.value.code
    assert "8 cubes an epoch of 3 volumes" in "".join(capsys.readouterr())
    with pytest.raises(SystemExit) as ended:
        main(["embed", "--run", str(run), "--data", str(folder), "--out", str(table)])
    assert not ended.value.code
    assert pd.read_parquet(table)["where"].tolist() == ["a.npy", "deep/b.nii", "deep/c.nii.gz"]


@pytest.mark.slow
def test_a_volume_of_256_voxels_a_side_is_pretrained_on_in_four_gigabytes(tmp_path: Path) -> None:
    data = large_volume(tmp_path / "large.npy", SIDE)
    for method in ("simclr", "mae", "restore"):
        _, peak = measured(data, tmp_path / method, method, steps=10)
        assert peak < MEMORY_GOAL
