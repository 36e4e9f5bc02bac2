"""Views change the voice and keep the rest; codes are those of the paper; padding is never seen."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from core.errors import UserError
from speech import augment
from speech.features import MelConfig, log_mel, normalise
from speech.pretext import LogMelViews, QuantisedFrames, QuantiserConfig, ViewConfig

MEL = MelConfig()
STILL = ViewConfig(
    crop=0,
    bend=0,
    tract=0,
    shift=0,
    blur=0,
    tilt=0,
    room=0,
    swell=0,
    mix=0,
    noise=0,
    grain=0,
    hide_time=0,
    hide_bands=0,
)


def batch(lengths=(20, 33, 45), extra=0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    time = max(lengths)
    mel = -10 * torch.rand(len(lengths), time, MEL.bands, generator=generator)
    pad = torch.arange(time)[None] >= torch.tensor(lengths)[:, None]
    mel = mel.masked_fill(pad[..., None], 0.0)
    if extra:
        mel = torch.nn.functional.pad(mel, (0, 0, 0, extra))
        pad = torch.nn.functional.pad(pad, (0, extra), value=True)
    return {"mel": mel, "pad": pad, "index": torch.arange(len(lengths))}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_a_view_of_a_part_is_a_stretch_at_its_own_pace():
    """On a ramp over time a view of a quarter is a straight piece of it, a quarter as high, and somewhere else each time."""
    ramp = torch.linspace(0, 1, 81)[None, :, None].expand(64, -1, MEL.bands).contiguous()
    views = LogMelViews(replace(STILL, frames=20, part=0.25), MEL, "none")
    view = views.view({"mel": ramp}, generator())
    rise = view[:, -1, 0] - view[:, 0, 0]
    torch.testing.assert_close(rise, torch.full((64,), 0.25), rtol=0, atol=1e-4)
    assert 0 <= view.min() < 0.05 and 0.95 < view.max() <= 1 and view[:, 0, 0].std() > 0.1
    assert replace(STILL, frames=20, part=0.25).whole == 80 and ViewConfig().whole == ViewConfig().frames
    with pytest.raises(UserError, match="of a recording"):
        ViewConfig(part=0.0)


def test_log_mel_is_zero_at_the_peak_and_ignores_gain():
    from speech.audio import Wave

    time = np.arange(4000) / 8000
    wave = np.sin(2 * np.pi * 500 * time).astype(np.float32)
    keep = log_mel(MEL)
    loud, quiet = keep(Wave(wave, 8000, "")), keep(Wave(wave * 0.01, 8000, ""))
    assert loud.shape[1] == MEL.bands and loud.max() == 0
    assert np.abs(loud - quiet).max() < 1e-2


def test_another_sample_rate_gives_nearly_the_same_log_mel():
    from speech.audio import Wave

    def at(rate):
        time = np.arange(int(0.5 * rate)) / rate
        return log_mel(MEL)(Wave(np.sin(2 * np.pi * 700 * time).astype(np.float32), rate, ""))

    assert np.abs(at(8000).mean(0) - at(44100).mean(0))[5:20].max() < 0.5


def test_a_still_view_is_the_recording_itself():
    data = batch()
    view = LogMelViews(STILL, MEL, "utterance").view(data, generator())
    plain = normalise(
        augment.fit_frames(data["mel"], data["pad"], STILL.frames, (MEL.low, MEL.rate / 2)), None, "utterance"
    )
    assert torch.allclose(view, plain, atol=1e-5)


@pytest.mark.parametrize(
    "name",
    [
        "crop",
        "bend",
        "tract",
        "shift",
        "blur",
        "tilt",
        "room",
        "swell",
        "mix",
        "noise",
        "grain",
        "hide_time",
        "hide_bands",
    ],
)
def test_each_setting_changes_the_view(name):
    from dataclasses import replace

    strength = {"mix": 1.0, "noise": 1.0, "crop": 0.3, "blur": 1.5}.get(name, 0.12)
    still = LogMelViews(STILL, MEL, "utterance").view(batch(), generator())
    moved = LogMelViews(replace(STILL, **{name: strength}), MEL, "utterance").view(batch(), generator())
    assert (still - moved).abs().max() > 1e-3


def test_views_differ_from_each_other_and_equal_seeds_are_equal():
    views = LogMelViews(ViewConfig(), MEL, "utterance")
    a, b = views(batch(), generator(1)).views
    c, _ = views(batch(), generator(1)).views
    assert torch.equal(a["mel"], c["mel"]) and not torch.allclose(a["mel"], b["mel"], atol=0.1)
    assert all(torch.isfinite(v["mel"]).all() for v in (a, b))


def test_padding_changes_no_view_and_no_code():
    views = LogMelViews(ViewConfig(), MEL, "utterance")
    a, b = views.view(batch(), generator()), views.view(batch(extra=17), generator())
    assert torch.allclose(a, b, atol=1e-3)
    codes = QuantisedFrames(QuantiserConfig(), 4, MEL.bands, "utterance")
    short, long = codes.codes(batch()), codes.codes(batch(extra=16))
    assert torch.equal(short, long[:, : short.shape[1]]) and (long[:, short.shape[1] :] == -100).all()


def test_the_vocal_tract_moves_a_peak_by_its_factor():
    """A peak at 1000 Hz read with factor f stands at 1000 / f Hz."""
    low, high = augment.band_edges(MEL.low, MEL.rate / 2)
    hertz = 700 * (10 ** (np.linspace(low, high, MEL.bands) / 2595) - 1)
    mel = torch.full((1, 10, MEL.bands), -10.0)
    mel[:, :, int(np.abs(hertz - 1000).argmin())] = 0.0
    for factor in (0.8, 1.25):
        moved = augment.fit_frames(mel, None, 10, (MEL.low, MEL.rate / 2), factor)
        peak = hertz[int(moved[0, 5].argmax())]
        assert abs(peak - 1000 / factor) < 70


def test_codes_are_the_nearest_codebook_vectors():
    """An independent reading of BEST-RQ: argmin of the distance between unit vectors, frame by frame."""
    config = QuantiserConfig(codes=32, width=8)
    quantiser = QuantisedFrames(config, 4, MEL.bands, "utterance")
    data = batch((20,))
    got = quantiser.codes(data)[0]
    mel = data["mel"][0].numpy()
    mel = (mel - mel.mean(0)) / np.sqrt(mel.var(0) + 1e-4)
    for token in range(5):
        v = mel[4 * token : 4 * token + 4].reshape(-1) @ quantiser.projection.numpy()
        distance = np.linalg.norm(quantiser.codebook.numpy() - v / np.linalg.norm(v), axis=1)
        assert int(got[token]) == int(distance.argmin())


def test_bestrq_masks_the_ratio_in_spans_and_targets_have_many_codes():
    config = QuantiserConfig(codes=64, mask_ratio=0.5, span=3)
    quantiser = QuantisedFrames(config, 4, MEL.bands, "utterance")
    data = batch((80, 40, 60))
    out = quantiser(data, generator())
    valid = out.target["code"] != -100
    assert torch.equal(out.mask.sum(1), (valid.sum(1) * 0.5).round().long()) and not (out.mask & ~valid).any()
    assert len(out.target["code"][valid].unique()) > 15


@pytest.mark.parametrize("bad", [{"frames": 2}, {"crop": 0.9}, {"tract": 2.0}, {"noise": -1.0}, {"hide_time": 1.0}])
def test_settings_out_of_range_are_one_clear_line(bad):
    with pytest.raises(UserError, match="out of range"):
        ViewConfig(**bad)
