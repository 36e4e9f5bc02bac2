"""A segmenter: a U-Net on a pretrained encoder, or a fresh one, that learns from few annotated images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Generator, Tensor, nn

from core.artifacts import load_run
from core.config import from_dict, to_dict
from core.device import bf16_on, resolve_device
from core.encoders import ConvNet
from core.errors import UserError
from core.methods.base import Method, Out, need
from core.pretext import Pseudo
from core.tokens import Batch
from core.training import History
from healthcare.encoders import build_encoder
from healthcare.estimators import ImageEncoder, RecipeEncoder
from healthcare.instances import Parting, middles, part, targets, ways
from healthcare.masks import MaskedImages, from_arrays
from healthcare.patches import Annotated, PatchBatches, cut_for
from healthcare.segment_recipes import SegmentRecipe, region
from healthcare.unet import Pixelwise

MIRRORS: tuple[tuple[int, ...], ...] = ((), (3,), (2,), (2, 3))  # axes that are turned round
HELD = 8_000_000  # pixels of the training images on which thresholds are chosen, where there are no validation images
STRIDE = 10.0  # pixels that a step of one stands for in the network's ways: its outputs are about one then
OUTSIDE = -30.0  # logit of a pixel that nobody knows: it adds nothing to either loss


class PatchLoss(Method):
    """Cross-entropy of every output, and dice loss of the region, on the known pixels of patches.

    Args:
        encoder: the contracting path, or a whole U-Net.
        heads: what stands on it.
        dice: weight of the dice loss.
        seam: how much more the depth of objects weighs at their seams: few pixels tell whether two objects touch or are one (Ronneberger
            et al. 2015).
        ways: weight of the error of the ways to the objects' centres, as a share of their radii; 0 where none are told.
    """

    batch_statistics = True
    may_collapse = False

    def __init__(self, encoder: ConvNet, heads: Pixelwise, dice: float, seam: float = 0.0, ways: float = 0.0) -> None:
        from monai.losses import DiceCELoss, DiceLoss

        super().__init__()
        self.encoder, self.heads, self.seam, self.ways = encoder, heads, seam, ways
        self.both = DiceCELoss(sigmoid=True, batch=True, lambda_dice=dice) if dice else None
        self.kind = DiceLoss

    def forward(self, data: Pseudo, generator: Generator) -> Out:
        need(data, Pseudo, "segmentation")
        assert isinstance(data.label, dict)
        target, known = data.label["target"], data.label["known"] > 0
        logits = self.heads(self.encoder, data.batch["image"])  # type: ignore[arg-type]
        with torch.autocast(logits.device.type, enabled=False):
            maps = logits.float()
            logits, target = torch.where(known, maps, OUTSIDE), torch.where(known, target.float(), 0.0)
            region = (target[:, :1] > 0.5).float()
            loss = (
                F.binary_cross_entropy_with_logits(logits[:, :1], region)
                if self.both is None
                else self.both(logits[:, :1], region)
            )
            if logits.shape[1] > 1:
                depth, seams = target[:, 1:2], target[:, 2:]
                loss = loss + F.binary_cross_entropy_with_logits(logits[:, 1:2], depth, 1 + self.seam * seams)
            if self.ways:
                way, nearness = data.label["ways"].float().split([2, 1], 1)
                inside = region * (nearness > 0)
                off = (STRIDE * maps[:, 2:] - way).abs().sum(1, keepdim=True) * nearness
                loss = loss + self.ways * (off * inside).sum() / inside.sum().clamp(min=1)
        return Out(loss)


class Segmenter(RecipeEncoder):
    """Which pixels belong to what is looked for, learned from annotated images.

    >>> data = healthcare.read_masks("drive", recipe.reading)
    >>> segmenter = Segmenter(recipe).fit(data)
    >>> masks = segmenter.predict(data.select(data.rows("test")))

    Args:
        recipe: of `healthcare.segment_recipes`; `region` where None.
    """

    recipe_: SegmentRecipe
    encoder_: ConvNet  # type: ignore[assignment]
    heads_: Pixelwise  # type: ignore[assignment]

    def __init__(self, recipe: SegmentRecipe | None = None) -> None:
        self.recipe = recipe

    @classmethod
    def on_top_of(cls, encoder: ImageEncoder, recipe: SegmentRecipe) -> Self:
        """A segmenter, still to be fitted, that starts from the weights of a pretrained convolutional encoder.

        Raises:
            UserError: an encoder without maps, such as one of patches.
        """
        encoder._check_fitted()
        config = encoder.recipe_.encoder
        if not isinstance(encoder.encoder_, ConvNet):
            raise UserError(
                f"a U-Net cannot stand on an encoder of kind '{config.kind}'", where="run",
                mend="pretrain a convolutional one: --set encoder.kind=unet encoder.width=16 reading.size=64",
            )  # fmt: skip
        made = cls(replace(recipe, encoder=config))
        made._start = deepcopy(encoder.encoder_)
        made._start_channels = encoder.channels_
        return made

    def fit(
        self, X: MaskedImages | list[NDArray] | NDArray, y: list[NDArray] | NDArray | None = None, *,
        out: str | Path | None = None, note: Callable[[str], None] | None = None,
    ) -> Self:  # fmt: skip
        """Train on the annotated training images; choose thresholds on the validation images, or else on the training images.

        Args:
            X: read images with masks, or images (H, W) or (H, W, 3) with masks y (H, W).
            out: run folder; with it an interrupted training goes on where it stopped.
            note: where progress lines go.

        Raises:
            UserError: no annotated training image, nothing marked in any of them, or images that the encoder cannot read.
        """
        recipe = self.recipe or region()
        data = (
            X if isinstance(X, MaskedImages) else from_arrays(list(X), None if y is None else list(y), recipe.reading)
        )
        rows = data.rows("train", annotated=True)
        masks = [data.masks[row] for row in rows]
        if not any(mask is not None and mask.any() for mask in masks):
            raise UserError("nothing is marked in any training mask", where="masks", mend="annotate some images")
        start = getattr(self, "_start", None)
        if start is not None and self._start_channels != data.channels:
            raise UserError(
                f"the encoder reads {self._start_channels} channels, the images have {data.channels}", where="run",
                mend="set reading.channel as the encoder was pretrained",
            )  # fmt: skip
        self.recipe_, self.objects_, self.channels_ = recipe, data.objects, data.channels
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.train.seed)
            encoder, heads = self._fresh()
            encoder = deepcopy(start) if start is not None else encoder
        fields = [data.inside(int(row)) for row in rows]
        batches = PatchBatches(
            [data.images[row] for row in rows], [targets(m, data.objects) for m in masks if m is not None],
            fields, cut_for(recipe.patch, recipe.view), recipe.batch, recipe.train.seed,
            _objects(masks, fields) if data.objects and recipe.centred else None, recipe.centred,
            [ways(m) for m in masks if m is not None] if data.objects and recipe.ways else None,
        )  # fmt: skip
        pretext = Annotated(recipe.patch, recipe.view)
        loss = PatchLoss(encoder, heads, recipe.dice, recipe.seam, recipe.ways if data.objects else 0.0)
        self.pretrain(loss, batches, pretext, recipe.train, out, note)
        self.images_ = len(rows)
        self.parting_ = self._chosen(data, rows)
        return self

    def predict_proba(self, X: MaskedImages | list[NDArray] | NDArray) -> list[NDArray[np.float32]]:
        """Probability maps (K, H, W) of each image: of the region, and, of objects, of being deep inside one."""
        self._check_fitted()
        data = X if isinstance(X, MaskedImages) else from_arrays(list(X), None, self.recipe_.reading)
        if data.channels != self.channels_:
            raise UserError(
                f"images of {data.channels} channels, the segmenter wants {self.channels_}", where="images",
                mend="read them with the reading of its recipe",
            )  # fmt: skip
        device = resolve_device(self.recipe_.train.device)
        net = _Net(self.encoder_, self.heads_).to(device).eval()
        return [self._maps(net, torch.from_numpy(image)[None].to(device)) for image in data.images]

    def predict(self, X: MaskedImages | list[NDArray] | NDArray) -> list[NDArray[np.int32]]:
        """Masks (H, W): 1 inside the region, or the number of the object; 0 outside."""
        return [self.called(maps) for maps in self.predict_proba(X)]

    def called(self, maps: NDArray) -> NDArray[np.int32]:
        """The mask (H, W) that maps (K, H, W) stand for, at the chosen thresholds."""
        if self.objects_:
            return part(maps, self.parting_)
        return (maps[0] > self.parting_.object).astype(np.int32)

    def transform(self, X: MaskedImages) -> NDArray[np.float32]:
        """Share of each image that is marked, (N, 1): the one feature that a segmenter gives of a whole image."""
        return np.array([[float((mask > 0).mean())] for mask in self.predict(X)], np.float32)

    @torch.no_grad()
    def _maps(self, net: nn.Module, image: Tensor) -> NDArray[np.float32]:
        from monai.inferers import SlidingWindowInferer

        recipe, size = self.recipe_, image.shape[2:]
        bf16 = bf16_on(image.device, recipe.train.precision)
        zoom = recipe.view.zoom
        if zoom != 1:
            image = F.interpolate(
                image, size=[round(side * zoom) for side in size], mode="bilinear", align_corners=False
            )
        window = [min(recipe.window, length) for length in image.shape[2:]]
        slide = SlidingWindowInferer(window, 1, recipe.overlap, mode="gaussian", padding_mode="replicate")
        total = torch.zeros(1)
        for axes in MIRRORS[: recipe.flips]:
            with torch.autocast(image.device.type, torch.bfloat16, enabled=bf16):
                logits = slide(image.flip(axes).contiguous(memory_format=torch.channels_last), net)
            assert isinstance(logits, Tensor)
            total = total + logits.float().sigmoid().flip(axes).cpu()
        if zoom != 1:
            total = F.interpolate(total, size=size, mode="bilinear", align_corners=False)
        return (total / len(MIRRORS[: recipe.flips]))[0].numpy()

    def _chosen(self, data: MaskedImages, rows: NDArray) -> Parting:
        """Thresholds that are best on the validation images, or on as many training images as are looked at quickly."""
        from healthcare.segmentation import best_parting

        held = data.rows("val", annotated=True)
        if not len(held):
            areas = np.cumsum([data.images[row][0].size for row in rows])
            held = rows[: max(1, int((areas <= HELD).sum()))]
        some = data.select(held)
        return best_parting(some, self.predict_proba(some))

    def _fresh(self) -> tuple[ConvNet, Pixelwise]:
        encoder = build_encoder(self.recipe_.encoder, self.channels_, self.recipe_.patch)
        if not isinstance(encoder, ConvNet):
            raise UserError("a U-Net needs a convolutional encoder", where="encoder.kind", mend="use unet or small")
        return encoder, Pixelwise(encoder, self.channels_, 1 + self.objects_ * (1 + 2 * (self.recipe_.ways > 0)))

    def example(self) -> Batch:
        """Two black patches."""
        return {"image": torch.zeros(2, self.channels_, self.recipe_.patch, self.recipe_.patch)}

    def describe(self) -> dict[str, Any]:
        return {
            "kind": "segmenter", "recipe": to_dict(self.recipe_), "channels": self.channels_, "objects": self.objects_,
            "images": self.images_, "parting": asdict(self.parting_),
            "trained": self.trained(),
        }  # fmt: skip

    @classmethod
    def build(cls, config: dict[str, Any]) -> Self:
        made = cls()
        made.recipe_ = from_dict(SegmentRecipe, config["recipe"])
        made.channels_, made.objects_, made.images_ = int(config["channels"]), bool(config["objects"]), int(config["images"])  # fmt: skip
        made.parting_ = from_dict(Parting, config["parting"])
        made.encoder_, made.heads_ = made._fresh()
        made.history_ = History(config["trained"]["steps"], config["trained"]["seconds"])
        return made

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a segmenter back.

        Raises:
            UserError: no run there, a damaged one, or one that is no segmenter.
        """
        if load_run(path, cls.domain).config.get("kind") != "segmenter":
            raise UserError("that run is no segmenter", where=path, mend="make one with finetune --task segment")
        made = super().load(path)
        made.heads_.eval()
        return made


def _objects(masks: Sequence[NDArray[np.int32] | None], fields: Sequence[NDArray[np.bool_]]) -> NDArray[np.int64]:
    """Number of the image, row and column of the middle of every object (M, 3) that lies in the field of view."""
    found = [
        (number, row, column)
        for number, (mask, seen) in enumerate(zip(masks, fields, strict=True))
        for row, column in ([] if mask is None else middles(mask))
        if seen[row, column]
    ]
    return np.array(found, np.int64).reshape(-1, 3)


class _Net(nn.Module):
    """Image to logits of the region and, of objects, depth: what slides over an image. Ways are learned beside them and not looked at."""

    def __init__(self, encoder: ConvNet, heads: Pixelwise) -> None:
        super().__init__()
        self.encoder, self.heads = encoder, heads

    def forward(self, image: Tensor) -> Tensor:
        return self.heads(self.encoder, image)[:, :2]


def like_pretrained(recipe: SegmentRecipe, encoder: ImageEncoder) -> SegmentRecipe:
    """The recipe with the network that a pretrained encoder has: what it is compared with, from scratch."""
    return replace(recipe, encoder=encoder.recipe_.encoder)
