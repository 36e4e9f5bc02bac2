"""The segmenter: learns, repeats itself, is saved whole, and sees an image the same however it is cut."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from core.config import settings
from core.errors import UserError
from core.pretext import Pseudo
from healthcare.cli import main
from healthcare.encoders import EncoderConfig, build_encoder
from healthcare.estimators import ImageEncoder
from healthcare.instances import ways
from healthcare.masks import MaskedImages, MaskReading, read_masks
from healthcare.patches import Annotated, PatchBatches, PatchView, cut_for, patch_images, poses, redirected, turned
from healthcare.presets import preset
from healthcare.segment_recipes import SegmentRecipe, lengthened, objects, region
from healthcare.segmentation import judge
from healthcare.segmentation_report import Few, evaluate_masks
from healthcare.segmenter import PatchLoss, Segmenter, _Net
from healthcare.synthetic_masks import SceneConfig, write_scenes
from healthcare.unet import Pixelwise, UNet

SMALL = EncoderConfig(kind="unet", width=8, depth=3)


@pytest.fixture(scope="module")
def nuclei(tmp_path_factory: pytest.TempPathFactory) -> MaskedImages:
    folder = tmp_path_factory.mktemp("nuclei")
    write_scenes(folder, SceneConfig(images=12))
    return read_masks(folder, MaskReading(objects=True))


@pytest.fixture(scope="module")
def vessels(tmp_path_factory: pytest.TempPathFactory) -> MaskedImages:
    folder = tmp_path_factory.mktemp("vessels")
    write_scenes(folder, SceneConfig("vessels", images=8))
    return read_masks(folder)


def short(recipe: SegmentRecipe, steps: int) -> SegmentRecipe:
    recipe = replace(recipe, encoder=SMALL, patch=32, batch=8, flips=1)
    return settings(lengthened(recipe, steps), ("train.precision=fp32", "train.lr=0.01"))


@pytest.fixture(scope="module")
def fitted(nuclei: MaskedImages) -> Segmenter:
    return Segmenter(short(objects(), 200)).fit(nuclei, note=lambda line: None)


def figures(segmenter: Segmenter, data: MaskedImages) -> dict[str, float]:
    test = data.select(data.rows("test"))
    maps = segmenter.predict_proba(test)
    judged = judge(test, [segmenter.called(m) for m in maps], maps, outlines=False)
    return {name: figure(np.arange(len(test))) for name, figure in judged.figures().items()}


def test_it_learns_to_tell_objects_apart(fitted: Segmenter, nuclei: MaskedImages) -> None:
    found = figures(fitted, nuclei)
    assert found["dice"] > 0.85 and found["ap@0.5"] > 0.6, found


def test_it_learns_a_region(vessels: MaskedImages) -> None:
    found = figures(Segmenter(short(region(), 110)).fit(vessels, note=lambda line: None), vessels)
    assert found["auroc"] > 0.9 and found["dice"] > 0.6, found


def test_equal_seeds_give_equal_masks(vessels: MaskedImages) -> None:
    some = vessels.select(vessels.rows("test"))
    first, again, other = (
        Segmenter(settings(short(region(), 6), (f"train.seed={seed}",))).fit(vessels, note=lambda line: None).predict_proba(some)[0]
        for seed in (0, 0, 1)
    )  # fmt: skip
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_a_saved_segmenter_predicts_as_before(fitted: Segmenter, nuclei: MaskedImages, tmp_path: Path) -> None:
    some = nuclei.select(nuclei.rows("val"))
    fitted.save(tmp_path / "seg")
    again = Segmenter.load(tmp_path / "seg")
    assert again.parting_ == fitted.parting_ and again.recipe_ == fitted.recipe_
    for a, b in zip(fitted.predict(some), again.predict(some), strict=True):
        assert np.array_equal(a, b) and a.max() > 3
    with pytest.raises(UserError, match="no segmenter"):
        fitted_encoder(tmp_path / "run")
        Segmenter.load(tmp_path / "run")


def fitted_encoder(out: Path, **changes: str) -> ImageEncoder:
    pixels = np.random.default_rng(0).random((40, 32, 32)).astype(np.float32)
    changes = {
        "encoder.kind": "unet",
        "encoder.width": "8",
        "encoder.depth": "3",
        "reading.size": "32",
        "batch": "8",
        **changes,
    }
    recipe = settings(preset("restore", steps=2), tuple(f"{key}={value}" for key, value in changes.items()))
    encoder = ImageEncoder(recipe).fit(pixels, out=out, note=lambda line: None)
    encoder.save(out)
    return encoder


@pytest.mark.parametrize("kind", ["unet", "small"])
def test_it_stands_on_any_convolutional_encoder(kind: str, vessels: MaskedImages, tmp_path: Path) -> None:
    encoder = fitted_encoder(tmp_path / "run", **{"encoder.kind": kind})
    made = Segmenter.on_top_of(encoder, short(region(), 1))
    before = {name: value.clone() for name, value in encoder.encoder_.state_dict().items()}
    made = Segmenter.on_top_of(encoder, settings(short(region(), 1), ("train.lr=1e-9",))).fit(
        vessels, note=lambda line: None
    )
    moved = max(
        float((v - before[n]).abs().max()) for n, v in made.encoder_.state_dict().items() if n.endswith("weight")
    )
    assert moved < 1e-6, "it starts from the pretrained weights"
    assert all(torch.equal(v, before[n]) for n, v in encoder.encoder_.state_dict().items()), "which stay as they were"
    shapes = [m.shape for m in made.predict(vessels)]
    assert shapes == [image.shape[1:] for image in vessels.images], "odd sizes as well"


def test_what_it_cannot_stand_on(vessels: MaskedImages, tmp_path: Path) -> None:
    encoder = fitted_encoder(tmp_path / "run", **{"encoder.kind": "vit", "encoder.patch": "4", "encoder.width": "16"})
    with pytest.raises(UserError, match="cannot stand on"):
        Segmenter.on_top_of(encoder, region())
    colours = replace(vessels, images=[np.repeat(image, 3, 0) for image in vessels.images])
    with pytest.raises(UserError, match="reads 1 channels"):
        Segmenter.on_top_of(fitted_encoder(tmp_path / "other"), region()).fit(colours)
    with pytest.raises(UserError, match="nothing is marked"):
        Segmenter(region()).fit([np.eye(32)], [np.zeros((32, 32), int)])
    with pytest.raises(UserError, match="not fitted"):
        Segmenter().predict(vessels)


def test_a_sliding_window_sees_what_the_whole_image_shows(fitted: Segmenter, nuclei: MaskedImages) -> None:
    image = torch.from_numpy(nuclei.images[0])[None]
    net = _Net(fitted.encoder_, fitted.heads_).eval()
    with torch.no_grad():
        whole = net(image).sigmoid()[0].numpy()
    assert np.allclose(fitted._maps(net, image), whole, atol=1e-5), "one window is the whole image"
    made, kept = Segmenter(), fitted.recipe_
    made.recipe_ = replace(kept, window=48, overlap=0.5)
    slid = made._maps(net, image)
    assert slid.shape == whole.shape and np.abs(slid - whole)[:, 8:-8, 8:-8].mean() < 0.05
    made.recipe_ = replace(kept, flips=4)
    assert np.allclose(made._maps(net, image.flip(2))[:, ::-1], made._maps(net, image), atol=1e-5), "mirrored alike"


def test_patches_are_those_of_their_number_and_show_the_image(vessels: MaskedImages) -> None:
    masks = [m for m in vessels.masks if m is not None]
    batches = PatchBatches(
        vessels.images, [m[None].astype(np.float32) for m in masks], [vessels.inside(i) for i in range(8)], 20, 16, 3
    )
    assert torch.equal(batches.batch(2, 1)["image"], batches.batch(2, 1)["image"])
    assert not torch.equal(batches.batch(2, 1)["image"], batches.batch(2, 2)["image"])
    ordered = torch.cat([b["image"] for b in batches.ordered()])
    assert len(ordered) == batches.rows and torch.equal(batches.at(np.array([5]))["image"][0], ordered[5])
    batch, found = batches.batch(0, 0), 0
    for image, target, known in zip(
        batch["image"].numpy(), batch["target"].numpy(), batch["known"].numpy(), strict=True
    ):
        if not known.all():
            continue
        for whole, mask in zip(vessels.images, masks, strict=True):
            windows = np.lib.stride_tricks.sliding_window_view(whole[0], (20, 20))
            places = np.argwhere(
                np.isclose(windows[..., 0, 0], image[0, 0, 0]) & np.isclose(windows[..., 9, 7], image[0, 9, 7])
            )
            found += any(
                np.allclose(windows[y, x], image[0]) and np.array_equal(mask[y : y + 20, x : x + 20], target[0])
                for y, x in places
            )
    assert found >= 5, "a patch and its target come from one place"


@pytest.mark.parametrize("free", [0.0, 1.0])
def test_turning_moves_image_and_mask_alike(free: float) -> None:
    random = np.random.default_rng(0)
    view = PatchView(free=free)
    side = cut_for(16, view)
    image = torch.from_numpy(random.random((6, 1, side, side)).astype(np.float32))
    theta = poses(6, side, 16, view, torch.Generator().manual_seed(0), image.device)
    stack = turned(torch.cat([image, image, torch.ones_like(image)], 1), theta, 16)
    assert torch.equal(stack[:, 0], stack[:, 1]) and (stack[:, 2] > 0.999).all(), "no corner is missing"
    if not free:
        middle = image[:, 0]
        for made, whole in zip(stack[:, 0], middle, strict=True):
            ways = [torch.rot90(w, k) for k in range(4) for w in (whole, whole.flip(1))]
            assert any(torch.allclose(made, way, atol=1e-4) for way in ways)


@pytest.mark.parametrize(("free", "zoom"), [(0.0, 1.0), (1.0, 1.0), (1.0, 2.0)])
def test_ways_lead_to_the_same_centre_after_a_turn(free: float, zoom: float) -> None:
    view = PatchView(free=free, zoom=zoom)
    side = cut_for(32, view)
    mask = np.zeros((side, side), np.int32)
    top = side // 2 - 4
    mask[top : top + 4, top - 1 : top + 9], mask[top + 4 : top + 9, top : top + 6] = (
        1,
        2,
    )  # they touch, in the middle of the patch
    rows = 12
    stack = torch.from_numpy(np.concatenate([mask[None], ways(mask)])).float().repeat(rows, 1, 1, 1)
    theta = poses(rows, side, 32, view, torch.Generator().manual_seed(1), stack.device)
    seen = turned(stack, theta, 32, "nearest")
    told = redirected(seen[:, 1:], theta, side)
    for number, found in zip(seen[:, 0], told, strict=True):
        for one in (1, 2):
            own = (number == one).nonzero().T
            ends = own + found[:2, own[0], own[1]]
            # nearest sampling moves what a pixel shows by half a pixel of the image at most
            assert (ends.std(1) < 0.5 * zoom).all() and (ends.mean(1) - own.float().mean(1)).abs().max() < 1
            radius = (own.shape[1] / np.pi) ** 0.5
            assert found[2, own[0], own[1]].mean() * radius == pytest.approx(1, abs=0.1)


def test_ways_are_asked_of_objects_alone() -> None:
    torch.manual_seed(0)
    encoder = UNet(1, 4, 2)
    heads = Pixelwise(encoder, 1, 4)
    image, known = torch.rand(2, 1, 16, 16), torch.ones(2, 1, 16, 16)
    target = torch.zeros(2, 3, 16, 16)
    target[:, :2, 4:10, 4:10] = 1
    way = torch.randn(2, 3, 16, 16).abs()

    def loss(weight: float, told: torch.Tensor) -> float:
        method = PatchLoss(encoder, heads, 0.5, 3.0, weight).eval()
        label = {"target": target, "known": known, "ways": told}
        return float(method(Pseudo({"image": image}, label), torch.Generator()).loss.detach())

    elsewhere = torch.where(target[:, :1] > 0, way, 7.0)
    assert loss(1.0, way) == loss(1.0, elsewhere) > loss(0.0, way)
    assert loss(2.0, way) - loss(0.0, way) == pytest.approx(2 * (loss(1.0, way) - loss(0.0, way)), rel=1e-3)
    assert loss(1.0, 2 * way) != loss(1.0, way)


def test_a_zoomed_patch_shows_its_middle_larger(fitted: Segmenter, nuclei: MaskedImages) -> None:
    view = PatchView(free=0, mirror=False, zoom=2)
    assert cut_for(16, view) == 8
    stack = torch.rand(40, 1, 8, 8)
    seen = turned(stack, poses(40, 8, 16, view, torch.Generator().manual_seed(0), stack.device), 16)
    larger = torch.nn.functional.interpolate(stack, scale_factor=2, mode="bilinear", align_corners=False)
    unturned = [i for i in range(40) if torch.allclose(seen[i, :, 1:-1, 1:-1], larger[i, :, 1:-1, 1:-1], atol=1e-4)]
    assert 3 < len(unturned) < 25, "a quarter of them is not turned"
    made = Segmenter()
    made.recipe_ = replace(fitted.recipe_, view=view)
    net, image = _Net(fitted.encoder_, fitted.heads_).eval(), torch.from_numpy(nuclei.images[0])[None]
    assert made._maps(net, image).shape[1:] == image.shape[2:]


def test_pixels_that_nobody_knows_teach_nothing() -> None:
    torch.manual_seed(0)
    encoder = UNet(1, 4, 2)
    method = PatchLoss(encoder, Pixelwise(encoder, 1, 2), 0.5, 3.0).eval()
    image, target, known = torch.rand(2, 1, 16, 16), torch.rand(2, 3, 16, 16), torch.ones(2, 1, 16, 16)
    known[:, :, :, 8:] = 0
    other = torch.where(known > 0, target, 1 - target)
    losses = [
        method(Pseudo({"image": image}, {"target": t, "known": known}), torch.Generator()).loss for t in (target, other)
    ]
    assert torch.equal(*losses) and losses[0] > 0
    view = PatchView(free=0)
    batch = {"image": image, "target": target, "known": known}
    assert set(Annotated(16, view)(batch, torch.Generator()).label["known"].unique().tolist()) == {0.0, 1.0}  # type: ignore[index]


def test_depth_weighs_more_at_seams() -> None:
    torch.manual_seed(0)
    encoder = UNet(1, 4, 2)
    heads = Pixelwise(encoder, 1, 2)
    image, known = torch.rand(2, 1, 16, 16), torch.ones(2, 1, 16, 16)
    target = torch.rand(2, 3, 16, 16)

    def loss(seam: float, share: float) -> float:
        target[:, 2] = share
        data = Pseudo({"image": image}, {"target": target, "known": known})
        return float(PatchLoss(encoder, heads, 0.5, seam).eval()(data, torch.Generator()).loss.detach())

    assert loss(4, 0) == loss(0, 1) and loss(4, 1) > loss(4, 0.5) > loss(4, 0)


def test_patches_are_centred_on_objects_each_alike() -> None:
    images = [np.zeros((1, 40, 40), np.float32) for _ in range(2)]
    objects = np.array([(0, 5, 7), (1, 20, 30), (1, 33, 12), (1, 0, 39)])
    for which, row, column in objects:
        images[which][0, row, column] = 1
    whole = [np.ones((40, 40), bool)] * 2
    made = [PatchBatches(images, images, whole, 9, 400, 1, objects, share).batch(0, 0) for share in (1.0, 0.5)]
    shown = [batch["image"][:, 0, 4, 4].mean().item() for batch in made]
    assert shown[0] == 1 and 0.4 < shown[1] < 0.6, "their middle is the patch's"
    lone = (made[0]["known"][:, 0].sum((1, 2)) < 80) & (made[0]["known"][:, 0, 0, 0] == 0)
    assert 0.15 < lone.float().mean() < 0.35, "an object counts, not its image"
    nothing = PatchBatches(images, images, whole, 9, 4, 1, objects[:0], 1.0).batch(0, 0)
    assert nothing["image"].shape == (4, 1, 9, 9), "without objects, anywhere"


def test_a_unet_takes_any_size_and_its_features_are_the_whole_map() -> None:
    encoder = build_encoder(SMALL, 1, 32)
    tokens = encoder({"image": torch.rand(2, 1, 23, 37)})
    assert tokens.x.shape == (2, 23 * 37, 8) and tokens.grid == (23, 37) and encoder.dim == 8
    assert encoder.embed({"image": torch.rand(2, 1, 23, 37)}).shape == (2, 8)


def test_patches_for_a_pretext_come_from_training_images_inside_the_field(vessels: MaskedImages) -> None:
    rows = vessels.rows("train")
    fields = [np.zeros(image.shape[1:], bool) for image in vessels.images]
    for seen in fields:
        seen[:, :40] = True
    found = patch_images(replace(vessels, fields=list(fields)), 32)
    assert found.pixels.shape[1:] == (1, 32, 32) and set(found.patient) <= set(vessels.patient[rows])
    assert len(found) == len(rows) * len(found) // len(rows) and (found.label == -1).all()
    with pytest.raises(UserError, match="patch of 500"):
        patch_images(vessels, 500)


def test_the_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def tacit(*words: str) -> int:
        with pytest.raises(SystemExit) as end:
            main(words)
        return int(end.value.code or 0)

    assert (
        tacit("synth", "--format", "objects", "--size", "8", "--pixels", "64", "--out", str(tmp_path / "PATIENT-NAME"))
        == 0
    )
    data, small = str(tmp_path / "PATIENT-NAME"), ("encoder.kind=unet", "encoder.width=8", "encoder.depth=2")
    run, seg, out = (str(tmp_path / name) for name in ("run", "seg", "masks"))
    assert (
        tacit(
            "pretrain",
            "--data",
            data,
            "--method",
            "restore",
            "--steps",
            "2",
            "--out",
            run,
            "--set",
            *small,
            "reading.size=32",
            "batch=8",
        )
        == 0
    )
    capsys.readouterr()
    assert tacit("check", "--data", data, "--out", str(tmp_path)) == 0
    assert "--recipe objects" in (said := capsys.readouterr().out) and "train: 4 images, 4 with masks" in said
    made = ("--task", "segment", "--data", data)
    changes = ("--set", "reading.objects=true", "patch=32", "batch=4", "flips=1", "train.precision=fp32")
    assert tacit("finetune", "--run", run, *made, "--recipe", "objects", "--steps", "2", "--out", seg, *changes) == 0
    assert tacit("segment", "--run", seg, "--data", str(tmp_path / "PATIENT-NAME/images"), "--out", out) == 0
    table = pd.read_csv(tmp_path / "masks/masks.csv")
    assert len(table) == 8 and {"where", "mask", "pixels", "share", "objects", "mean_pixels"} == set(table.columns)
    mask = np.asarray(Image.open(tmp_path / "masks" / table["mask"][0]))
    assert mask.shape == np.asarray(Image.open(tmp_path / "PATIENT-NAME/images" / table["where"][0])).shape
    assert int((mask > 0).sum()) == table["pixels"][0] and mask.max() == table["objects"][0]
    assert tacit("segment", "--run", seg, "--data", data, "--out", out) == 0, "its own folder may be replaced"
    assert tacit("segment", "--run", seg, "--data", data, "--out", data) == 2, "another may not"
    assert tacit("segment", "--run", run, "--data", data, "--out", out) == 2
    assert tacit("finetune", "--data", data, "--out", seg) == 2, "a classifier needs a run"
    printed = capsys.readouterr()
    assert "PATIENT-NAME" not in (tmp_path / "seg/card.md").read_text() and "Traceback" not in printed.err


def test_the_report_compares_with_scratch_and_names_nobody(nuclei: MaskedImages, tmp_path: Path) -> None:
    named = replace(nuclei, where=np.array(["SECRET"] * len(nuclei), dtype=object))
    encoder = fitted_encoder(tmp_path / "run")
    evaluation = evaluate_masks(
        encoder, named, short(objects(), 3), Few(annotated=(2,), draws=2), note=lambda line: None
    )
    path = evaluation.write(tmp_path / "report")
    assert set(evaluation.answers) == {"pretraining", "labels_saved"} and evaluation.main == "ap@0.5"
    assert {row["arm"] for row in evaluation.label_curve} == {"pretrained", "scratch"} and len(
        evaluation.label_curve
    ) == 6
    page = path.read_text(encoding="utf-8")
    assert "SECRET" not in page and "SECRET" not in (tmp_path / "report/evaluation.json").read_text()
    assert page.count("<svg") >= 4 and "Predictions" in page
