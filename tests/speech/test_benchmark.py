"""The benchmark on generated voices: choices are made inside, parts are kept, every row says what it is."""

import json

import numpy as np
import pytest

from speech import benchmark, probes
from speech.benchmark import BenchConfig, bench
from speech.estimators import AudioEncoder

QUICK = BenchConfig(minutes=0.0005, seeds=1, choice_minutes=0.0005, scratch_steps=5)


def silent(line):
    return None


@pytest.fixture(scope="module")
def four(tmp_path_factory):
    """A folder of 80 recordings by four voices."""
    from speech.synthetic import SynthConfig, generate

    return generate(tmp_path_factory.mktemp("four") / "data", SynthConfig(size=80, speakers=4, seed=4))


@pytest.fixture(scope="module")
def recordings(four):
    return AudioEncoder("simclr").read(four)


@pytest.fixture
def on_four(four, small, monkeypatch):
    """The benchmark with our own voices, two small candidates and one probe cost."""
    from dataclasses import replace

    monkeypatch.setattr(benchmark, "DATA", str(four))
    monkeypatch.setattr(benchmark, "candidates", lambda: {"first": small, "second": replace(small, batch_size=24)})
    monkeypatch.setattr(probes, "COSTS", (1e-2,))


def test_the_choice_of_a_fold_never_looks_at_its_own_speaker(recordings, on_four, tmp_path, monkeypatch):
    from speech.protocol import speaker_folds

    folds, seen = speaker_folds(recordings), []
    real = AudioEncoder.fit

    def watched(self, X, *args, **kwargs):
        seen.append(set(X.speaker))
        return real(self, X, *args, **kwargs)

    monkeypatch.setattr(AudioEncoder, "fit", watched)
    choice = benchmark.choose(recordings, QUICK, tmp_path, silent)
    speakers = {fold: set(recordings.speaker[folds == fold]) for fold in range(4)}
    assert len(choice["chosen"]) == 4 and set(choice["chosen"]) <= {"first", "second"}
    assert len(seen) == 8 and all(len(found) == 2 for found in seen), "four pairs for each candidate, two voices each"
    for number, (a, b) in enumerate([(i, (i + 1) % 4) for i in range(4)] * 2):
        assert not seen[number] & (speakers[a] | speakers[b])


def test_all_tests_run_and_a_second_call_only_reads_what_was_kept(on_four, small, tmp_path, monkeypatch):
    monkeypatch.setattr(benchmark, "candidates", lambda: {"only": small})
    examined: list[tuple] = []
    monkeypatch.setattr(benchmark.methods_bench, "run", lambda *given: examined.append(given[4]))
    assert bench(None, None, QUICK, tmp_path, silent) == 0 and examined == [[]]
    first = json.loads((tmp_path / "results.json").read_text())
    monkeypatch.setattr(AudioEncoder, "fit", lambda *a, **k: pytest.fail("trained again"))
    assert bench(None, None, QUICK, tmp_path, silent) == 0
    assert json.loads((tmp_path / "results.json").read_text()) == first
    ours = [r for r in first if r["method"] == benchmark.OURS and r["metric"] == "accuracy"]
    assert len(ours) == 1 and ours[0]["goal"] == 0.75 and ours[0]["low"] <= ours[0]["value"] <= ours[0]["high"]
    assert {r["role"] for r in first} == {"ours", "floor"} and {r["test"] for r in first} == set(benchmark.TESTS)
    assert "voice0" not in json.dumps(first)


def test_the_record_of_the_folds_gives_back_what_each_arm_said(recordings, small, on_four):
    from speech.protocol import split

    held = split(recordings, 2)
    unseen = np.flatnonzero(held.test)
    kept = benchmark._fold(recordings, QUICK, 0, 2, small, silent)
    outcome = benchmark._outcome(json.loads(json.dumps(kept)), recordings, held)
    assert (outcome.truth == recordings.label[unseen]).all() and len(set(outcome.speaker)) == 1
    for by_fraction in outcome.said.values():
        assert all(
            said.shape[1] == len(unseen) and set(said.ravel()) <= set(recordings.label) for said in by_fraction.values()
        )


def test_smoke_fails_where_training_did_nothing(on_four, small):
    lines = []
    assert benchmark.smoke(lines.append, small, steps=1) == 1
    assert any("does not beat" in line or "near chance" in line for line in lines)
