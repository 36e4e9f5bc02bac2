"""The report of speech: players play what was recorded, sizes are bounded, names stay out, and odd data still gives a page."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import replace

import numpy as np
import pytest
import soundfile as sf

from core.evaluation import Clip, Section
from core.report import page
from speech import clips, pictures
from speech.audio import Wave
from speech.data import read
from speech.encoders import EncoderConfig
from speech.estimators import AudioEncoder
from speech.evaluation import EvalConfig, evaluate, measure
from speech.layerwise import layer_section
from speech.outcome import Outcome
from speech.pictures import pretext_section
from speech.presets import recipe
from speech.protocol import split
from speech.sections import confusion_section, errors_section, of_the_run, worst

QUICK = EvalConfig(draws=1, scratch_steps=3, sounds=2)


def quiet(line):
    return None


def played(text):
    """The sounds of a page: rate and 16-bit samples of each."""
    found = re.findall(r'<audio controls[^>]* src="data:audio/wav;base64,([^"]+)"', text)
    return [sf.read(io.BytesIO(base64.b64decode(one)), dtype="int16") for one in found]


@pytest.fixture(autouse=True)
def one_cost(monkeypatch):
    """The probe's own cross-validation is core's matter and slow."""
    from speech import probes

    monkeypatch.setattr(probes, "COSTS", (1e-2,))


@pytest.fixture(scope="module")
def report(fitted, spoken, recordings, tmp_path_factory):
    """(evaluation, text of its page) of recordings whose voices have telling names."""
    with pytest.MonkeyPatch.context() as patch:
        from speech import probes

        patch.setattr(probes, "COSTS", (1e-2,))
        found = evaluate(fitted, recordings, QUICK, quiet, spoken)
    return found, found.write(tmp_path_factory.mktemp("r")).read_text()


def test_the_page_plays_the_very_samples_that_were_recorded(report, spoken, recordings):
    known = {tuple(np.rint(signal * 32768).astype(int)) for signal in read(spoken).signals}
    sounds = played(report[1])
    assert len(sounds) == 2 + 3 and all(rate == 8000 and tuple(samples) in known for samples, rate in sounds)


def test_each_error_plays_its_own_recording(fitted, recordings, spoken):
    truth = recordings.label[:10].astype(str)
    outcome = Outcome(
        truth, recordings.speaker[:10].astype(str), {"pretrained": {1.0: np.full((1, 10), "word9")}}, rows=np.arange(10),
        sure=np.linspace(0.1, 1, 10),
    )  # fmt: skip
    first = worst(outcome)[0]
    found = clips.find(spoken, [recordings.digest[first]], fitted.recipe_.read)
    section = errors_section(fitted, recordings, outcome, found, 1)
    kept = next(
        signal
        for name, signal in zip(recordings.names, read(spoken).signals, strict=True)
        if name == recordings.names[first]
    )
    samples, _ = sf.read(io.BytesIO(section.clips[0].wav), dtype="int16")
    assert np.array_equal(samples, np.rint(kept * 32768)) and truth[first] in section.clips[0].caption


def test_the_page_needs_nothing_beside_it_and_names_nobody(report, recordings, spoken):
    text = report[1]
    asked = re.findall(r"""(?:src|href)\s*=\s*["']([^"']*)""", text) + re.findall(r"url\(([^)]*)\)", text)
    assert asked and all(address.startswith(("data:", "#")) for address in asked)
    assert "<script" not in text and "<link" not in text and "viewport" in text
    assert not any(name in text for name in [*recordings.names, *recordings.speaker, str(spoken)])


def test_its_size_is_told_and_bounded(report):
    found, text = report
    sounds = [one for section in found.sections for one in section.clips]
    assert "sounds are in this page" in text and len(text) < 1_000_000
    assert all(len(one.wav) <= clips.MOST_SECONDS * clips.RATE * 2 + 44 for one in sounds)
    long = clips.cut(Wave(np.linspace(-1, 1, 48_000 * 10, dtype=np.float32), 48_000, ""))
    samples, rate = sf.read(io.BytesIO(clips.wav(long)), dtype="int16")
    assert rate == clips.RATE and len(samples) == clips.MOST_SECONDS * clips.RATE and samples[-100] > 0.9 * 32767


def test_sounds_can_be_kept_out(fitted, recordings, spoken):
    outcome = Outcome(
        recordings.label[-4:].astype(str), recordings.speaker[-4:].astype(str), {"pretrained": {1.0: np.full((1, 4), "x")}},
        rows=np.arange(116, 120), sure=np.ones(4),
    )  # fmt: skip
    text = page("t", "l", of_the_run(fitted, recordings, split(recordings), outcome, spoken, 0, 0))
    assert not played(text) and "Worst errors" in text and "sounds are in this page" not in text


def test_labels_and_captions_are_escaped_and_are_no_formula():
    names = np.array(["<b>yes</b>", "$\\frac{no$"])
    outcome = Outcome(names, np.array(["", ""]), {"pretrained": {1.0: names[::-1][None]}})
    text = page("t", "l", [confusion_section(outcome), Section("s", clips=(Clip('"<i>x', "", b"RIFF"),))])
    assert "<b>yes" not in text and "<i>x" not in text and 'label=""' not in text
    assert "&lt;b&gt;yes&lt;/b&gt;" in text and "$\\frac{no$" in text


def test_the_curve_has_intervals_that_draw_whole_speakers(recordings, report):
    found, text = report
    row = next(
        r
        for r in found.curve_intervals
        if r["arm"] == "pretrained" and r["labels"] == max(x["labels"] for x in found.curve_intervals)
    )
    assert row["value"] == found.metrics["accuracy"].value and row["low"] <= row["value"] <= row["high"]
    assert "their 95 % intervals" in text
    sure = np.array([1.0] * 30 + [0.0] * 30)  # three speakers, right or wrong as a whole
    from speech.outcome import interval

    wide, narrow = (interval(sure, names) for names in (np.repeat(["a", "b", "c"], 20), np.full(60, "")))
    assert wide.high - wide.low > 0.6 > 0.3 > narrow.high - narrow.low


def test_a_probe_on_each_layer_is_better_than_chance_and_the_sum_is_there(recordings):
    settings = replace(
        recipe("bestrq"), encoder=EncoderConfig(kind="transformer", dim=16, depth=2, heads=2), batch_size=16
    )
    encoder = AudioEncoder(settings, steps=4, seed=0).fit(recordings, note=quiet)
    odd = np.arange(120) % 2 == 1
    section = layer_section(encoder, recordings, np.flatnonzero(~odd), np.flatnonzero(odd))
    assert [row[0] for row in section.rows] == ["stem", "block 1", "block 2", "weighted sum"]
    assert all(float(str(row[1]).split()[0]) > 0.3 for row in section.rows)  # of ten words
    assert abs(sum(float(str(row[3])) for row in section.rows[:-1]) - 1) < 0.02


METHODS = {
    "bestrq": "White is what", "wav2vec2": "White is what", "hubert": "White is what", "swav": "views", "order": "another order", "denoise": "restore",
    "cpc": "a little later", "deepcluster": "cluster",
}  # fmt: skip
CODES = {"bestrq": 1, "wav2vec2": 2, "hubert": 1, "swav": 1, "deepcluster": 1}


@pytest.mark.parametrize("method", METHODS)
def test_every_kind_of_pretext_is_drawn_and_codes_are_counted(method, spoken, tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "SHOWN", 1)
    settings = recipe(method)
    if settings.encoder.kind == "convnet":
        settings = replace(settings, encoder=EncoderConfig(width=4, features=16, segments=2))
    encoder = AudioEncoder(replace(settings, batch_size=16), steps=2, seed=0)
    recordings = encoder.read(spoken)
    encoder.fit(recordings, note=quiet)
    section = pretext_section(encoder, recordings.select(np.arange(5)), {}, 0)
    assert METHODS[method] in section.text and len(section.clips) == 1
    assert all("<image" in one.svg and not one.wav for one in section.clips)
    books = encoder.books()
    assert len(books) == CODES.get(method, 0)
    for book in books:
        assert 1 <= book["perplexity"] <= book["used"] + 0.01 <= book["codes"] + 0.01 and book["recordings"] == 120
    encoder.save(tmp_path / "run")
    assert AudioEncoder.load(tmp_path / "run").books() == books


def test_what_is_drawn_white_is_what_the_pretext_hides(recordings, monkeypatch):
    drawn = []
    monkeypatch.setattr(
        pictures, "draw", lambda axes, mel, config, hidden: drawn.append((len(mel) * config.hop, hidden))
    )
    monkeypatch.setattr(pictures, "SHOWN", 2)
    encoder = AudioEncoder("bestrq", steps=1, seed=0).fit(recordings.select(np.arange(64)), note=quiet)
    some = recordings.select(np.arange(4))
    pretext_section(encoder, some, {}, seed=7)
    made, _ = pictures._made(encoder, some, 7)
    for row, (seconds, hidden) in enumerate(drawn):
        assert seconds == pytest.approx(len(some.signals[row]) * 0.01)
        assert sum(b - a for a, b in hidden) == pytest.approx(float(made.mask[row].sum()) * 4 * 0.01)
        assert hidden and hidden[0][0] >= 0
    assert clips.runs(np.array([1, 1, 0, 0, 1], bool)) == [(0, 2), (4, 5)] and clips.runs(np.zeros(3, bool)) == []


def test_no_speakers_one_class_in_the_test_and_one_recording_still_give_a_page(fitted, recordings, spoken):
    nobody = replace(recordings, speaker=np.full(120, "", dtype=object), split=np.full(120, "", dtype=object))
    held = split(nobody)
    label = nobody.label.copy()
    label[held.test] = label[np.flatnonzero(held.test)[0]]
    one = replace(nobody, label=label)
    clean = AudioEncoder(replace(fitted.recipe_), steps=2, seed=0).fit(one.select(held.train), note=quiet)
    text = page("t", "l", evaluate(clean, one, QUICK, quiet, spoken).sections)
    assert "fewer than three speakers" in text and "Layer by layer" in text and "By held-out speaker" not in text
    alone = pretext_section(fitted, recordings.select(np.array([4])), {}, 0)
    assert len(alone.clips) == 1


def test_data_that_moved_on_gives_a_page_without_those_sounds(fitted, recordings, tmp_path, spoken):
    outcome = Outcome(
        recordings.label[:4].astype(str), recordings.speaker[:4].astype(str), {"pretrained": {1.0: np.full((1, 4), "x")}},
        rows=np.arange(4), sure=np.ones(4),
    )  # fmt: skip
    data = tmp_path / "other"
    data.mkdir()
    for path in sorted(spoken.glob("*.wav"))[-3:]:
        (data / path.name).write_bytes(path.read_bytes())
    sections = of_the_run(fitted, recordings, split(recordings), outcome, data, 4, 0)
    assert len(sections[0].clips) == 4 and not played(page("t", "l", sections[:1]))


def test_few_codes_in_use_are_told_with_the_cure():
    from speech.codebooks import codebook_section

    book = {"codes": 64, "used": 3, "perplexity": 2.1, "places": 1000, "recordings": 9}
    section = codebook_section("wav2vec2", [book, {**book, "perplexity": 60.0}])
    assert section is not None and "raise the weight of diversity" in section.text and len(section.rows) == 2
    assert "To try" not in codebook_section("wav2vec2", [{**book, "perplexity": 60.0}]).text
    assert codebook_section("simclr", []) is None and "made before" in codebook_section("swav", [], seen=False).text


def test_the_page_of_verify_plays_the_worst_pairs_and_names_nobody(fitted, recordings, spoken):
    from speech.verification import verify
    from speech.verification_report import verification_page, worst

    found = verify(fitted, recordings, most=60)
    missed, passed = worst(found, 2)
    assert found.same[missed].all() and found.score[missed[0]] == found.score[found.same].min()
    assert not found.same[passed].any() and found.score[passed[0]] == found.score[~found.same].max()
    text = verification_page(fitted, recordings, found, spoken, 1)
    wanted = [recordings.names[side[at[0]]] for at in (missed, passed) for side in (found.left, found.right)]
    kept = dict(zip(recordings.names, read(spoken).signals, strict=True))
    assert [s.tolist() for s, _ in played(text)] == [np.rint(kept[n] * 32768).astype(int).tolist() for n in wanted]
    assert not any(name in text for name in [*recordings.names, *recordings.speaker, str(spoken)])
    assert "ours: pretrained" in text and not played(verification_page(fitted, recordings, found, None, 1))


def test_evaluation_can_weigh_the_layers_and_says_so(recordings):
    settings = replace(
        recipe("bestrq"), encoder=EncoderConfig(kind="transformer", dim=16, depth=2, heads=2), batch_size=16
    )
    held = split(recordings)
    encoder = AudioEncoder(settings, steps=3, seed=0).fit(recordings.select(held.train), note=quiet)
    config = EvalConfig(fractions=(1.0,), draws=1, scratch_steps=2, sounds=0, probe="layers")
    found = evaluate(encoder, recordings, config, quiet)
    assert "weighted sum of all layers" in found.protocol["probe"] and "all training labels" in found.main_words
    last = measure(encoder, recordings, held, replace(config, probe="last"), quiet)
    probe = [row["value"] for row in found.label_curve if row["arm"] == "pretrained"]
    scratch = [row["value"] for row in found.label_curve if row["arm"] == "scratch"]
    assert probe != [last.hits("pretrained", 1.0).mean()] and scratch == [last.hits("scratch", 1.0).mean()]


def test_sounds_of_a_prepared_folder_are_found(spoken, fitted, tmp_path):
    from speech.prepare import prepare

    prepare(spoken, tmp_path / "packed")
    packed = fitted.read(tmp_path / "packed")
    wanted = list(packed.digest[[3, 77]])
    assert set(clips.find(tmp_path / "packed", wanted, fitted.recipe_.read)) == set(wanted)
    assert (
        clips.find(spoken, ["none"], fitted.recipe_.read) == {} and clips.find("nowhere", [], fitted.recipe_.read) == {}
    )
