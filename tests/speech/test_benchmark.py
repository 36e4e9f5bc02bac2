"""The benchmark on generated voices: choices are made inside, parts are kept, every row says what it is."""

import json
from dataclasses import replace

import numpy as np
import pytest

from speech import benchmark, probes, sets_bench, speakers_bench
from speech.benchmark import BenchConfig, bench
from speech.classifier import AudioClassifier
from speech.data import together
from speech.estimators import AudioEncoder
from speech.outcome import PRETRAINED, RANDOM, SCRATCH, TUNED
from speech.sets_bench import Ground
from speech.terms import Candidate, Terms


def silent(line):
    return None


@pytest.fixture(scope="module")
def four(tmp_path_factory):
    """A folder of 80 recordings by four voices."""
    from speech.synthetic import SynthConfig, generate

    return generate(tmp_path_factory.mktemp("four") / "data", SynthConfig(size=80, speakers=4, seed=4))


@pytest.fixture(scope="module")
def recordings(four):
    """The same as log-mel, without the split that they came with."""
    found = AudioEncoder("simclr").read(four)
    return replace(found, split=np.full(len(found), "", dtype=object))


@pytest.fixture(scope="module")
def others(recordings):
    """The same voices with a split of their own: two train, one val, one test."""
    speaker = np.unique(recordings.speaker.astype(str), return_inverse=True)[1]
    return replace(recordings, split=np.array(["train", "train", "val", "test"], dtype=object)[speaker])


@pytest.fixture
def quick(small, monkeypatch):
    """Two small candidates and one probe cost; a set of four folds and one with its own split, of a few steps each."""
    made = {"first": small, "second": replace(small, batch_size=24), "voices": small, "simclr": small}
    monkeypatch.setattr(sets_bench, "recipe", lambda name: made[name])
    monkeypatch.setattr(benchmark, "recipe", lambda name: made[name])
    monkeypatch.setattr(probes, "COSTS", (1e-2,))
    few = Terms("four", ("first", "second"), pool=("others",), steps=3, choice=2, tune=2, rates=(1e-3,), goal=0.9)
    sets = {"folds": few, "own": replace(few, data="others", candidates=("first",), pool=())}
    return BenchConfig(seeds=1, sets=sets, voices=3)


@pytest.fixture
def reads(recordings, others):
    return lambda data, settings: recordings if data in ("four", benchmark.DATA) else others


def test_neither_the_choice_nor_the_encoder_of_a_fold_has_heard_its_speaker(quick, recordings, tmp_path, monkeypatch):
    seen = []
    real = AudioEncoder.fit

    def watched(self, X, *args, **kwargs):
        seen.append(set(X.speaker))
        return real(self, X, *args, **kwargs)

    monkeypatch.setattr(AudioEncoder, "fit", watched)
    ground = Ground(replace(quick.sets["folds"], pool=()), 0, tmp_path, silent, lambda data, settings: recordings)
    assert len(ground.chosen) == 4 and set(ground.chosen) <= {Candidate("first", False), Candidate("second", False)}
    own = [set(recordings.speaker[held.test]) for held in ground.holds]
    assert len(seen) == 4, "two pairs for each candidate"
    for number, (a, b) in enumerate([(0, 1), (2, 3)] * 2):
        assert len(seen[number]) == 2 and not seen[number] & (own[a] | own[b])
    ground.encoder(2)
    assert seen[4] == set(recordings.speaker) - own[2]


def test_the_choice_of_a_fold_asks_its_partners_recordings_alone(recordings):
    found = sets_bench.holds(recordings)
    for seen, asked in sets_bench.inner(recordings):
        for fold, rows in asked.items():
            assert not (rows & found[fold].test).any() and not (rows & seen).any() and rows.any()
    assert {fold for _, asked in sets_bench.inner(recordings) for fold in asked} == {0, 1, 2, 3}


def test_a_set_with_its_own_split_chooses_on_val_and_then_learns_from_it(others):
    [held] = sets_bench.holds(others)
    assert (held.test == (others.split == "test")).all() and (held.train == ~held.test).all()
    [(seen, asked)] = sets_bench.inner(others)
    assert (seen == (others.split == "train")).all() and (asked[0] == (others.split == "val")).all()


def test_all_tests_run_and_a_second_call_only_reads_what_was_kept(quick, reads, tmp_path, monkeypatch):
    examined: list[tuple] = []
    monkeypatch.setattr(benchmark.methods_bench, "run", lambda *given: examined.append(given[4]))
    monkeypatch.setattr(
        benchmark, "TESTS", ("folds", "own", "folds-tuned", "own-tuned", "gain", "ten-percent", "speakers")
    )
    assert bench(None, None, quick, tmp_path, silent, reads) == 0 and examined == [[]]
    first = json.loads((tmp_path / "results.json").read_text())
    monkeypatch.setattr(AudioEncoder, "fit", lambda *a, **k: pytest.fail("trained again"))
    assert bench(None, None, quick, tmp_path, silent, reads) == 0
    assert json.loads((tmp_path / "results.json").read_text()) == first
    parts = [f"{test}-{data}" for test in ("gain", "ten-percent") for data in ("four", "others")]
    assert {r["test"] for r in first} == {"folds", "own", "folds-tuned", "own-tuned", "speakers", *parts}
    assert {r["role"] for r in first} == {"ours", "floor"}
    assert "voice0" not in json.dumps(first) and all(r["value"] is not None for r in first)

    def of(test, **kind):
        return [r for r in first if r["test"] == test and all(r[k] == v for k, v in kind.items())]

    [main] = of("folds", data="four", metric="accuracy", role="ours", goal=0.9)
    assert main["low"] <= main["value"] <= main["high"] and "by fold" in main["note"]
    [more] = of("gain-four")
    floors = of("folds", data="four", metric="accuracy", role="floor")
    best = max(r["value"] for r in floors)
    assert more["value"] == pytest.approx(main["value"] - best) and more["goal"] == 0
    [tuned] = of("ten-percent-four", metric="accuracy@10%", method="fine-tuned")
    [scratch] = of("ten-percent-four", metric="accuracy@10%", role="floor")
    [more] = of("ten-percent-four", metric="gain accuracy@10%", method="fine-tuned minus scratch")
    assert more["value"] == pytest.approx(tuned["value"] - scratch["value"]) and more["goal"] == 0.08
    assert "2 steps" in tuned["note"] and f"{2 + 3 * 2} steps" in scratch["note"], (
        "3 steps of 2 views beside those of tuning"
    )
    [voice] = [r for r in of("speakers", metric="eer") if r["goal"] is not None]
    assert voice["goal"] == min(r["value"] for r in of("speakers", metric="eer") if r["method"].startswith("log-mel"))


def test_a_fold_that_was_measured_is_not_measured_again(quick, reads, tmp_path, monkeypatch):
    terms = replace(quick.sets["own"], pool=())
    ground = Ground(terms, 0, tmp_path, silent, reads)
    said = ground.said(TUNED, 0.1)
    assert len(said) == len(ground.rows) and set(said) <= set(ground.truth)
    monkeypatch.setattr(AudioEncoder, "fit", lambda *a, **k: pytest.fail("trained again"))
    again = Ground(terms, 0, tmp_path, silent, reads)
    assert (again.said(TUNED, 0.1) == said).all()
    assert again.said(PRETRAINED).shape == again.said(RANDOM).shape == said.shape, "from the encoder that was kept"


def test_the_rate_is_chosen_without_the_test_recordings(quick, reads, tmp_path, monkeypatch):
    ground = Ground(replace(quick.sets["own"], rates=(1e-3, 1e-2)), 0, tmp_path, silent, reads)
    asked, real = [], Ground._trained

    def watched(self, arm, encoder, rows, train):
        asked.append((train.lr, train.steps, set(rows)))
        return real(self, arm, encoder, rows, train)

    monkeypatch.setattr(Ground, "_trained", watched)
    ground.said(SCRATCH)
    train, trials, (rate, steps, rows) = set(np.flatnonzero(ground.holds[0].train)), asked[:-1], asked[-1]
    assert {one for one, *_ in trials} == {1e-3, 1e-2} and rate in (1e-3, 1e-2)
    assert rows == train and all(seen < train for _, _, seen in trials)
    assert steps == 2 + 3 * 2 and trials[0][1] == steps, "too short to be tuned on an eighth"


def test_a_fold_whose_choice_trims_has_encoder_and_floors_that_hear_trimmed_recordings(
    quick, recordings, tmp_path, monkeypatch
):
    """Trimming is one of the things the training side chooses; what it takes, everything that is compared hears."""
    shorter = replace(recordings, signals=[signal[8:] for signal in recordings.signals])
    terms = replace(quick.sets["folds"], candidates=("first",), trims=(False, True), pool=())
    ground = Ground(terms, 0, tmp_path, silent, lambda data, settings: shorter if settings.trim else recordings)
    trims = [Candidate("first", True), Candidate("first", False)]
    monkeypatch.setattr(ground, "inner", [{one: float(one.trim == (fold == 0)) for one in trims} for fold in range(4)])
    given, real = [], AudioEncoder.transform

    def watched(self, X):
        given.append((self.recipe_.trim, X.signals[0]))
        return real(self, X)

    monkeypatch.setattr(AudioEncoder, "transform", watched)
    ground.said(PRETRAINED)
    assert [trim for trim, _ in given] == [True, False, False, False]
    assert given[0][1] is shorter.signals[0] and given[1][1] is recordings.signals[0]
    floor = ground.heard_in(0).floors["log-mel mean and deviation"]
    assert not np.allclose(floor, ground.heard_in(1).floors["log-mel mean and deviation"])


def test_few_labels_are_given_with_the_other_training_recordings_and_no_more(quick, reads, tmp_path, monkeypatch):
    ground = Ground(quick.sets["own"], 0, tmp_path, silent, reads)
    given, real = [], AudioClassifier.fit

    def watched(self, X, y=None, **kwargs):
        given.append((self.tune, self.rates, set(X.digest), y))
        return real(self, X, y, **kwargs)

    monkeypatch.setattr(AudioClassifier, "fit", watched)
    ground.said(TUNED, 0.1)
    tune, rates, digests, label = given[0]
    assert tune == "few" and rates == (0.0, 1e-3)
    assert digests == set(ground.recordings.digest[ground.holds[0].train])
    assert 0 < (label != "").sum() < len(label) and ground.facts(TUNED, 0.1)[0]["rate"] in rates


def test_fine_tuning_and_scratch_both_keep_the_running_mean_of_the_weights(quick, reads, tmp_path, monkeypatch):
    ground = Ground(replace(quick.sets["own"], average=0.9), 0, tmp_path, silent, reads)
    given, real = [], AudioClassifier.fit

    def watched(self, X, y=None, **kwargs):
        given.append((self.tune, self.train.average))
        return real(self, X, y, **kwargs)

    monkeypatch.setattr(AudioClassifier, "fit", watched)
    ground.said(TUNED)
    ground.said(SCRATCH)
    assert set(given) == {("all", 0.9), ("scratch", 0.9)} and ground.encoder(0).recipe_.train.average == 0


def test_each_groups_own_mean_and_spread_are_taken_out():
    features = np.random.default_rng(0).normal([[0.0], [5.0], [0.0], [5.0]] * 10, [[1.0], [3.0], [1.0], [3.0]] * 10)
    features = np.hstack([features, 2 * features])
    found = sets_bench.by_group(features, np.array(["a", "b"] * 20, dtype=object))
    for start in (0, 1):
        np.testing.assert_allclose(found[start::2].mean(0), 0, atol=1e-6)
        np.testing.assert_allclose(found[start::2].std(0), 1, atol=5e-3)


def test_layers_that_hold_the_voice_tell_it(recordings, small):
    """A layer's statistics have a fixed width, and features that are the voice's number tell all pairs."""
    encoder = AudioEncoder(small, steps=2, seed=0).fit(recordings, note=silent)
    found = speakers_bench.layer_features(encoder, recordings)
    assert list(found) == [
        "layer 1, mean and deviation",
        "layer 2, mean and deviation",
        "layer 3, mean and deviation",
        "embedding",
    ]
    assert all(len(f) == len(recordings) and np.isfinite(f).all() for f in found.values())
    number = np.unique(recordings.speaker.astype(str), return_inverse=True)[1]
    from core.verification import eer, trials

    left, right, same = trials(number, 500, np.random.default_rng(0))
    assert eer(same, speakers_bench.scores(np.eye(4)[number], left, right)) == 0


def test_sets_side_by_side_keep_their_columns(recordings, others):
    both = together([recordings, others])
    assert len(both) == 160 and (both.split[80:] == others.split).all() and both.signals[80] is others.signals[0]


def test_smoke_fails_where_training_did_nothing(four, small, monkeypatch):
    monkeypatch.setattr(benchmark, "DATA", str(four))
    lines = []
    assert benchmark.smoke(lines.append, small, steps=1) == 1
    assert any("does not beat" in line or "near chance" in line for line in lines)
