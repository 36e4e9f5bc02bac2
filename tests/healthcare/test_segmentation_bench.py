"""The benchmark of segmentation, on generated images: which figures it gives, and that it goes on where it stopped."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from core.bench import Bench
from healthcare import segmentation_bench as bench
from healthcare.masks import MaskedImages, MaskReading, read_masks
from healthcare.segment_recipes import SegmentRecipe, objects, segment_recipe, vessels
from healthcare.synthetic_masks import SceneConfig, write_scenes

TINY = ("encoder.kind=unet", "encoder.width=4", "encoder.depth=2", "objective.width=16", "reading.size=32", "batch=8")


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> bench.Plan:
    write_scenes(tmp_path / "scenes", SceneConfig("vessels", images=8))
    found = read_masks(tmp_path / "scenes", MaskReading())
    data = replace(found, seconds=list(found.masks))

    def read(name: str, reading: MaskReading) -> MaskedImages:
        assert name == "drive" and reading.channel == "green"
        return data

    def recipe(name: str, seed: int = 0) -> SegmentRecipe:
        return replace(vessels(2, seed), patch=32, batch=4, flips=1)

    monkeypatch.setattr(bench, "read_masks", read)
    monkeypatch.setattr(bench, "segment_recipe", recipe)
    monkeypatch.setattr(bench, "PRETEXT", TINY)
    return bench.Plan("drive", 2, (1, 2), 2, draws=2, pretrain=2, against=((1, 2),))


def test_all_annotated_images(tiny: bench.Plan, tmp_path: Path) -> None:
    rows = bench.whole_set(tiny, 0, tmp_path / "runs")
    by = {(r["method"], r["metric"]): r for r in rows}
    assert by["U-Net, scratch", "auroc"]["role"] == "floor" and by["U-Net, pretrained", "auroc"]["goal"] == 0.9755
    assert by["U-Net, pretrained", "dice"]["goal"] == 0.8142
    assert by["second observer", "dice"]["value"] == 1 and by["U-Net", "dice"]["role"] == "published"
    gain = by["U-Net, pretrained minus scratch", "gain dice"]
    difference = by["U-Net, pretrained", "dice"]["value"] - by["U-Net, scratch", "dice"]["value"]
    assert gain["value"] == pytest.approx(difference) and gain["low"] <= gain["value"] <= gain["high"]
    again = bench.whole_set(tiny, 0, tmp_path / "runs")
    assert [r["value"] for r in again] == pytest.approx([r["value"] for r in rows], nan_ok=True), "from the saved runs"


def test_few_annotated_images(tiny: bench.Plan, tmp_path: Path) -> None:
    record = Bench(tmp_path, {}, lambda line: None)
    for draw in range(2):
        record.run("drive-few", draw, lambda draw=draw: bench.few_images(tiny, draw, tmp_path / "runs"))  # type: ignore[misc]
    assert [p.name for p in (tmp_path / "runs").iterdir()] == ["drive-encoder-0"], "draws share an encoder"
    assert "drive-few" in record.write().read_text()
    rows = bench.few_images(tiny, 0, tmp_path / "runs")
    gains = {r["method"]: r for r in rows if r["metric"] == "gain dice"}
    assert gains["U-Net, pretrained from 1 minus scratch from 2"]["goal"] == 0 and len(gains) == 3


def test_what_figures_depend_on_is_in_the_record() -> None:
    settings = bench.depends_on("nuclei-few")
    assert settings["plan"]["few"] == [5, 10, 50] and settings["recipe"]["reading"]["objects"] is True
    assert set(bench.TESTS) == {"drive", "drive-few", "nuclei", "nuclei-few"}
    assert bench.depends_on("drive") != settings and segment_recipe("dsb2018_nuclei_256") == objects()
