"""Encoders and classifiers: equal seeds are equal, saving changes nothing, both methods learn."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from core.errors import UserError
from core.training import TrainConfig
from speech.classifier import AudioClassifier
from speech.encoders import EncoderConfig, build_encoder
from speech.estimators import AudioEncoder, Fronted
from speech.methods import pretext_for
from speech.presets import recipe


def quiet(line):
    return None


@pytest.fixture(scope="module")
def bestrq():
    return replace(recipe("bestrq"), encoder=EncoderConfig(kind="transformer", dim=16, depth=1, heads=2), batch_size=16)


def test_equal_seeds_give_equal_encoders_and_other_seeds_others(recordings, small):
    features = [
        AudioEncoder(small, steps=3, seed=s).fit(recordings, note=quiet).transform(recordings) for s in (1, 1, 2)
    ]
    assert np.array_equal(features[0], features[1]) and not np.allclose(features[0], features[2])


def test_saving_and_loading_changes_no_embedding(fitted, recordings, tmp_path):
    fitted.save(tmp_path / "run")
    again = AudioEncoder.load(tmp_path / "run")
    assert np.array_equal(again.transform(recordings), fitted.transform(recordings))
    assert again.steps_done() == 8 and again.saw(recordings).sum() == 80


def test_a_run_folder_names_no_recording_speaker_or_path(fitted, recordings, tmp_path):
    fitted.save(tmp_path / "run")
    text = "".join((tmp_path / "run" / name).read_text() for name in ("config.json", "card.md"))
    assert not any(name in text for name in [*recordings.names, *recordings.speaker, str(tmp_path)])


def test_one_recording_embeds_as_it_does_among_others(fitted, recordings):
    one = fitted.transform(recordings.select(np.array([5])))
    assert np.allclose(one[0], fitted.transform(recordings)[5], atol=1e-4)


def test_bestrq_learns_codes_that_are_hidden(recordings, bestrq):
    encoder = AudioEncoder(replace(bestrq, train=TrainConfig(steps=60, lr=3e-3, log_every=15)), seed=0).fit(
        recordings, note=quiet
    )
    losses = encoder.history_.losses
    assert losses[-1] < losses[0] - 0.2
    assert encoder.transform(recordings).shape == (120, 32)


def test_simclr_learns_and_reads_a_transformer_too(recordings, small):
    for kind in ("convnet", "transformer"):
        shape = EncoderConfig(kind=kind, width=4, features=16, segments=2, dim=16, depth=1, heads=2)
        settings = replace(small, encoder=shape, train=TrainConfig(steps=40, lr=3e-3, log_every=10))
        losses = AudioEncoder(settings, seed=0).fit(recordings, note=quiet).history_.losses
        assert losses[-1] < losses[0] - 0.1


def test_padding_changes_no_embedding(recordings, small, bestrq):
    for settings in (small, bestrq):
        torch.manual_seed(0)
        fronted = Fronted(pretext_for(settings, 10)[0].encoder, settings).eval()
        mel = torch.randn(3, 24, settings.mel.bands)
        pad = torch.arange(24)[None] >= torch.tensor([24, 12, 20])[:, None]
        batch = {"mel": mel.masked_fill(pad[..., None], 0.0), "pad": pad}
        longer = {
            "mel": torch.nn.functional.pad(batch["mel"], (0, 0, 0, 12)),
            "pad": torch.nn.functional.pad(pad, (0, 12), value=True),
        }
        with torch.no_grad():
            assert torch.allclose(fronted.embed(batch), fronted.embed(longer), atol=1e-4)


def test_a_convolutional_net_cannot_be_masked():
    with pytest.raises(UserError, match="bestrq hides tokens"):
        replace(recipe("bestrq"), encoder=EncoderConfig(kind="convnet"))


def test_the_saved_probe_says_what_scikit_learn_says(fitted, recordings, tmp_path):
    from core.probes import linear_model
    from speech.probes import COSTS, probe_groups

    classifier = AudioClassifier(fitted).fit(recordings)
    features = fitted.transform(recordings)
    expected = linear_model(features, recordings.label.astype(str), probe_groups(recordings), COSTS).predict_proba(
        features
    )
    classifier.save(tmp_path / "c")
    assert np.allclose(AudioClassifier.load(tmp_path / "c").predict_proba(recordings), expected, atol=1e-3)


def test_two_classes_work(fitted, recordings):
    two = recordings.select(np.isin(recordings.label, ["word1", "word3"]))
    classifier = AudioClassifier(fitted).fit(two)
    assert set(classifier.predict(two)) <= {"word1", "word3"} and classifier.predict_proba(two).shape[1] == 2


def test_training_from_scratch_learns_the_labels(fitted, recordings):
    model = AudioClassifier(fitted, tune="scratch", train=TrainConfig(steps=60, lr=5e-3)).fit(recordings, note=quiet)
    assert (model.predict(recordings) == recordings.label).mean() > 0.3


def test_one_class_too_few_recordings_and_unlabelled_data_are_one_clear_line(fitted, recordings, small):
    with pytest.raises(UserError, match="1 class"):
        AudioClassifier(fitted).fit(recordings.select(recordings.label == "word1"))
    with pytest.raises(UserError, match="0 class"):
        AudioClassifier(fitted).fit(replace(recordings, label=np.array([""] * 120, dtype=object)))
    with pytest.raises(UserError, match="1 usable row"):
        AudioEncoder(small, steps=1).fit(recordings.select(np.array([0])), note=quiet)


def test_fewer_recordings_than_a_batch_make_one_batch(recordings, small):
    few = recordings.select(np.arange(5))
    encoder = AudioEncoder(small, steps=2).fit(few, note=quiet)
    assert np.isfinite(encoder.transform(few)).all()


def test_an_encoder_run_is_no_classifier_and_the_other_way_round(fitted, recordings, tmp_path):
    fitted.save(tmp_path / "e")
    AudioClassifier(fitted).fit(recordings).save(tmp_path / "c")
    with pytest.raises(UserError, match="no classifier"):
        AudioClassifier.load(tmp_path / "e")
    with pytest.raises(UserError, match="holds a classifier"):
        AudioEncoder.load(tmp_path / "c")


def test_the_convnet_keeps_frequency_in_place():
    """Moving a pattern up by a third of the range changes its embedding more than a mean over the whole map would allow."""
    torch.manual_seed(0)
    net = build_encoder(EncoderConfig(width=8, features=32), 40).eval()
    low, high = torch.zeros(1, 32, 40), torch.zeros(1, 32, 40)
    low[:, 8:24, 8:12], high[:, 8:24, 24:28] = 3.0, 3.0
    with torch.no_grad():
        a, b = net.embed({"mel": low}), net.embed({"mel": high})
    assert (a - b).norm() > 0.1 * a.norm()


def test_the_largest_of_a_stretch_stands_beside_its_mean():
    """A sound of one moment is diluted by a longer silence in the mean, and not in the largest."""
    torch.manual_seed(0)
    net = build_encoder(EncoderConfig(width=8, features=16, segments=1, pool="mean_max"), 40).eval()
    short, long = torch.zeros(1, 64, 40), torch.zeros(1, 256, 40)
    short[:, 24:40, 10:20], long[:, 120:136, 10:20] = 3.0, 3.0
    with torch.no_grad():
        quiet, a, b = net.embed({"mel": torch.zeros(1, 64, 40)}), net.embed({"mel": short}), net.embed({"mel": long})
    assert a.shape == (1, net.dim) == (1, 32)
    mean, most = slice(0, 16), slice(16, 32)
    assert (b - a)[:, most].norm() < 0.1 * (a - quiet)[:, most].norm()
    assert (b - quiet)[:, mean].norm() < 0.5 * (a - quiet)[:, mean].norm()


def test_a_weighted_sum_of_layers_is_learned_saved_and_better_than_chance(recordings, bestrq, tmp_path):
    encoder = AudioEncoder(bestrq, steps=4, seed=0).fit(recordings, note=quiet)
    layers = encoder.transform_layers(recordings)
    assert len(layers) == 2 and np.array_equal(layers[-1], encoder.transform(recordings))
    train = np.arange(120) % 2 == 0  # each voice and word on both sides
    classifier = AudioClassifier(encoder, tune="layers").fit(recordings.select(train))
    held = recordings.select(~train)
    assert (classifier.predict(held) == held.label).mean() > 0.4  # ten words
    assert classifier.layer_weights_.shape == (2,) and np.isclose(classifier.layer_weights_.sum(), 1)
    classifier.save(tmp_path / "c")
    again = AudioClassifier.load(tmp_path / "c")
    assert np.allclose(again.predict_proba(held), classifier.predict_proba(held), atol=1e-6)
    one = classifier.predict_proba(held.select(np.array([3])))
    assert np.allclose(one[0], classifier.predict_proba(held)[3], atol=1e-4)


def test_a_convolutional_net_has_no_weighted_sum(fitted, recordings):
    with pytest.raises(UserError, match="no weighted sum"):
        AudioClassifier(fitted, tune="layers").fit(recordings)
    with pytest.raises(UserError, match="weighs no layers"):
        AudioClassifier(fitted).layer_weights_  # noqa: B018
