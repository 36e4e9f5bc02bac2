"""Every recipe trains, is saved, and gives features; pretexts touch no padding."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from core.errors import UserError
from core.training import TrainConfig
from speech.encoders import EncoderConfig
from speech.estimators import AudioEncoder
from speech.presets import RECIPES, recipe
from speech.tasks import Damaged, HiddenFrames, Reordered


def small(name: str):
    """The recipe with a small net and short training."""
    chosen = recipe(name)
    net = replace(chosen.encoder, width=8, features=16, dim=16, depth=1, heads=2)
    changed = replace(chosen, encoder=net, batch_size=16, train=TrainConfig(steps=2))
    objective = chosen.objective
    if name == "moco":
        objective = replace(objective, queue=64)
    elif name == "deepcluster":
        objective = replace(objective, clusters=4)
    return replace(changed, objective=objective)


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_trains_is_saved_and_gives_the_same_features(name, recordings, tmp_path) -> None:
    encoder = AudioEncoder(small(name)).fit(recordings, note=lambda line: None)
    features = encoder.transform(recordings)
    assert features.shape == (len(recordings), encoder.encoder_.dim)
    assert np.isfinite(features).all() and features.std() > 1e-3
    encoder.save(tmp_path / "run")
    np.testing.assert_allclose(
        AudioEncoder.load(tmp_path / "run").transform(recordings), features, rtol=1e-4, atol=1e-5
    )


def batch() -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    pad = torch.arange(60)[None] >= torch.tensor([60, 41, 13])[:, None]
    mel = torch.randn(3, 60, 40, generator=draw).masked_fill(pad[..., None], 0.0)
    return {"mel": mel, "pad": pad, "index": torch.arange(3)}


@pytest.mark.parametrize("name", ["mae", "data2vec"])
def test_hidden_frames_are_real_ones(name) -> None:
    given, settings = batch(), recipe(name)
    made = settings.pretext.bound(settings)(given, torch.Generator().manual_seed(0))
    pad = given["pad"][:, :: settings.encoder.stride]
    assert not (made.mask & pad).any() and made.mask.any(1).all()


def test_segments_move_and_padding_stays() -> None:
    given, settings = batch(), recipe("order")
    made = Reordered().bound(settings)(given, torch.Generator().manual_seed(0))
    assert torch.equal(made.batch["pad"], given["pad"]) and (made.batch["mel"][given["pad"]] == 0).all()
    torch.testing.assert_close(
        made.batch["mel"].sum(1), settings.pretext.bound(settings)(given, torch.Generator()).batch["mel"].sum(1)
    )


def test_local_views_are_shorter() -> None:
    settings = recipe("swav")
    views = settings.pretext.bound(settings)(batch(), torch.Generator().manual_seed(0)).views
    assert [view["mel"].shape[1] for view in views] == [32, 32, 16, 16]


def test_damage_leaves_the_clean_one_clean() -> None:
    settings = recipe("denoise")
    made = Damaged().bound(settings)(batch(), torch.Generator().manual_seed(0))
    assert made.clean["mel"].shape == made.batch["mel"].shape
    assert (made.clean["mel"] - made.batch["mel"]).abs().mean() > 0.1


def test_settings_that_do_not_fit_together_are_one_line() -> None:
    with pytest.raises(UserError, match="hides tokens"):
        replace(recipe("mae"), encoder=EncoderConfig(kind="convnet"))
    with pytest.raises(UserError, match="ratio is 1"):
        HiddenFrames(ratio=1.0)
