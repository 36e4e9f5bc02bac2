"""Every recipe trains, is saved, and gives features; pretexts touch no padding."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from core.errors import UserError
from core.optim import depths_of
from core.training import TrainConfig
from core.units import clustered
from speech.encoders import EncoderConfig, build_encoder
from speech.estimators import AudioEncoder
from speech.hubert import mfcc
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
    elif name == "hubert":
        objective, changed = replace(objective, units=8), replace(changed, pretext=replace(chosen.pretext, layer=1))
    return replace(changed, objective=objective)


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_trains_is_saved_and_gives_the_same_features(name, spoken, recordings, waves, tmp_path) -> None:
    recordings = waves if recipe(name).encoder.kind == "wave" else recordings
    if recipe(name).mel != recipe("simclr").mel:
        recordings = AudioEncoder(name).read(spoken)
    encoder = AudioEncoder(small(name)).fit(recordings, note=lambda line: None)
    features = encoder.transform(recordings)
    assert features.shape == (len(recordings), encoder.encoder_.dim)
    assert np.isfinite(features).all() and features.std() > 1e-3
    encoder.save(tmp_path / "run")
    np.testing.assert_allclose(
        AudioEncoder.load(tmp_path / "run").transform(recordings), features, rtol=1e-4, atol=1e-5
    )


@pytest.fixture(scope="module")
def waves(spoken):
    return AudioEncoder("wav2vec2").read(spoken)


def test_a_killed_hubert_goes_on_in_either_iteration(recordings, tmp_path, monkeypatch) -> None:
    """The run that was stopped between its iterations, or within the second, ends with the weights of one that was not."""
    settings = replace(small("hubert"), train=TrainConfig(steps=4, log_every=1))
    few = recordings.select(np.arange(40))
    whole = AudioEncoder(settings).fit(few, note=lambda line: None)
    assert whole.steps_done() == 4
    learn, calls = AudioEncoder.learn, []

    def stops(self, train, batches, out, note) -> None:
        calls.append(train.steps)
        if len(calls) == 2:
            raise KeyboardInterrupt
        learn(self, train, batches, out, note)

    monkeypatch.setattr(AudioEncoder, "learn", stops)
    with pytest.raises(KeyboardInterrupt):
        AudioEncoder(settings).fit(few, out=tmp_path / "run", note=lambda line: None)
    assert calls == [2, 2]
    told: list[str] = []
    again = AudioEncoder(settings).fit(few, out=tmp_path / "run", note=told.append)
    assert any("resuming at step 2 of 2" in line for line in told)
    for a, b in zip(whole.encoder_.parameters(), again.encoder_.parameters(), strict=True):
        assert torch.equal(a, b)
    again.save(tmp_path / "run")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_units_of_mfcc_tell_planted_vowels_apart() -> None:
    """Two spectral shapes at any gain are two units."""
    rng = np.random.default_rng(0)
    shape = rng.normal(size=(2, 40)).astype(np.float32) * 3
    kind = rng.integers(0, 2, 300).repeat(5)
    mel = shape[kind] + 0.2 * rng.normal(size=(1500, 40)).astype(np.float32)
    [found] = clustered([mfcc(mel.astype(np.float32))[:, :13]], 2, 0)
    assert max((found == kind).mean(), (found != kind).mean()) > 0.99


def test_hidden_units_are_those_of_the_frames_in_the_middle_of_a_token() -> None:
    given, settings = batch(), recipe("hubert")
    given["unit"] = torch.arange(60).expand(3, -1).clone()
    made = settings.pretext.bound(settings)(given, torch.Generator().manual_seed(0))
    assert made.target["unit"][0].tolist() == list(range(2, 60, 4))
    assert made.target["unit"][1].tolist() == [
        *range(2, 40, 4),
        40,
        -100,
        -100,
        -100,
        -100,
    ]  # of the last one frame is real
    with pytest.raises(UserError, match="no units"):
        settings.pretext.bound(settings)(batch(), torch.Generator())


def test_a_log_mel_encoder_refuses_waves_in_one_line(recordings, waves) -> None:
    with pytest.raises(UserError, match="another encoder"):
        AudioEncoder(small("wav2vec2")).fit(recordings)
    with pytest.raises(UserError, match="another encoder"):
        AudioEncoder(small("bestrq")).fit(waves)


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


def test_the_layer_that_makes_features_learns_faster_than_the_convolutions_before_it() -> None:
    """Where rates fall with depth: what is nearest to the task moves most."""
    net = torch.nn.ModuleDict({"encoder": build_encoder(EncoderConfig(kind="convnet", width=4, features=8), 16)})
    depths = depths_of(net)
    assert depths["encoder.stages.0.0.weight"] < depths["encoder.stages.2.0.weight"] < depths["encoder.fold.0.weight"]
