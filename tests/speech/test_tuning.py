"""Few labels: the rate that tells labels held back is taken, 0 is the frozen encoder, what is fine-tuned starts from the probe."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from core.errors import UserError
from core.training import TrainConfig
from speech.classifier import AudioClassifier
from speech.readout import unit_head
from speech.tuning import chosen_rate, likelihood, shortened


def quiet(line):
    return None


def test_the_rate_that_tells_labels_held_back_is_taken_and_speakers_stay_whole():
    label, speaker = np.array(["a", "b"] * 20), np.repeat(np.arange(5), 8).astype(str)
    asked = []

    def tell(rate, own, held):
        assert not set(speaker[own]) & set(speaker[held])
        asked.append(rate)
        right = label[held] == "a" if rate == 0.1 else np.ones(len(held), bool)
        return np.where(right[:, None], [[0.9, 0.1]], [[0.1, 0.9]])

    assert chosen_rate((0.0, 0.1, 0.2), label, speaker, 0, tell) == 0.1
    assert asked == [0.0] * 5 + [0.1] * 5 + [0.2] * 5, "40 labels are few: all of them are asked"


def test_where_no_fold_can_be_made_the_first_rate_is_taken():
    assert chosen_rate((0.0, 0.1), np.array(["a", "b"]), None, 0, lambda *a: pytest.fail("nothing to ask")) == 0.0


def test_many_labels_are_asked_in_one_fold():
    asked = []

    def tell(rate, own, held):
        asked.append(len(held))
        return np.full((len(held), 2), 0.5)

    chosen_rate((0.0, 0.1), np.array(["a", "b"] * 200), None, 0, tell)
    assert asked == [80, 80]


def test_how_sure_a_net_is_changes_no_likelihood():
    share = np.random.default_rng(0).dirichlet(np.ones(4), 300)
    code = np.array([np.random.default_rng(i).choice(4, p=row) for i, row in enumerate(share)])
    sharp = share**4 / (share**4).sum(1, keepdims=True)
    assert likelihood(sharp, code) == pytest.approx(likelihood(share, code), abs=0.01)
    assert likelihood(share, code) > likelihood(np.full_like(share, 0.25), code)


def test_a_trial_is_an_eighth_of_the_training():
    assert shortened(TrainConfig(steps=4000)).steps == 500
    assert shortened(TrainConfig(steps=100)).steps == 60 and shortened(TrainConfig(steps=7)).steps == 7
    assert shortened(TrainConfig(minutes=4.0)).minutes == 0.5


def test_few_at_rate_0_leaves_the_encoder_and_reads_unit_features(fitted, recordings, tmp_path):
    model = AudioClassifier(fitted, tune="few", rates=(0.0,)).fit(recordings, note=quiet)
    assert model.rate_ == 0.0 and np.array_equal(model.transform(recordings), fitted.transform(recordings))
    unit = model.heads_.unit(torch.from_numpy(fitted.transform(recordings)))
    assert torch.allclose(unit.norm(dim=1), torch.ones(len(recordings)), atol=1e-4)
    assert (model.predict(recordings) == recordings.label).mean() > 0.5
    model.save(tmp_path / "few")
    again = AudioClassifier.load(tmp_path / "few")
    assert np.allclose(again.predict_proba(recordings), model.predict_proba(recordings), atol=1e-5)


def test_few_hears_recordings_without_a_label_too(fitted, recordings):
    label = np.where(np.arange(len(recordings)) % 3 == 0, recordings.label, "")
    model = AudioClassifier(fitted, tune="few", rates=(0.0,)).fit(recordings, label, note=quiet)
    every = fitted.transform(recordings)
    assert np.allclose(model.heads_.mean, every.mean(0), atol=1e-4)


def test_few_fine_tunes_from_the_head_of_the_frozen_encoder(fitted, recordings):
    train = TrainConfig(steps=1, lr=1e-3, warmup=0.0, log_every=100)
    model = AudioClassifier(fitted, tune="few", train=train, rates=(1e-9,)).fit(recordings, note=quiet)
    assert model.rate_ == 1e-9
    head = unit_head(fitted.transform(recordings), recordings.label.astype(str), fitted.transform(recordings))
    assert torch.allclose(model.heads_.linear.weight, head.linear.weight, atol=1e-4)
    weights = [m.encoder_.fold[0].weight for m in (model, fitted)]
    assert torch.allclose(*weights, atol=1e-4) and model.encoder_ is not fitted.encoder_
    moved = AudioClassifier(fitted, tune="few", train=train, rates=(1e-2,)).fit(recordings, note=quiet)
    assert not torch.allclose(moved.encoder_.fold[0].weight, weights[1], atol=1e-4)


def test_the_choice_is_made_between_frozen_and_tuned(fitted, recordings):
    train = TrainConfig(steps=2, lr=1e-3, log_every=100)
    model = AudioClassifier(fitted, tune="few", train=train, rates=(0.0, 1e-3)).fit(recordings, note=quiet)
    assert model.rate_ in (0.0, 1e-3) and model.describe()["rate"] == model.rate_


def test_two_classes_have_two_logits(fitted, recordings):
    two = recordings.select(np.isin(recordings.label, ("word0", "word1")))
    model = AudioClassifier(fitted, tune="few", rates=(0.0,)).fit(two, note=quiet)
    assert model.predict_proba(two).shape == (len(two), 2)
    assert (model.predict(two) == two.label).mean() > 0.7


def test_rates_that_are_none_or_below_0_are_refused(fitted, recordings):
    for rates in ((), (-1.0, 1e-3)):
        with pytest.raises(UserError, match="rates"):
            AudioClassifier(fitted, tune="few", rates=rates).fit(replace(recordings), note=quiet)
