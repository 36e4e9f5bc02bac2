"""How a segmenter is made: one frozen dataclass, and one function for each kind of task."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from core.config import within
from core.errors import UserError
from core.training import TrainConfig
from healthcare.encoders import EncoderConfig
from healthcare.masks import MaskReading
from healthcare.patches import PatchView

UNET = EncoderConfig(kind="unet", width=16, depth=4)
STEPS = 800


@dataclass(frozen=True)
class SegmentRecipe:
    """Everything that a segmenter is made of.

    Attributes:
        name: what it is for.
        encoder: the network where none is pretrained.
        patch: side of a training patch, in pixels; batch: patches a step.
        dice: weight of the dice loss (Milletari et al. 2016) beside that of the cross-entropy, which is 1.
        centred: share of the patches that are centred on an object, each alike, rather than anywhere in an image, each alike.
        seam: weight, beside the usual 1, of the depth of objects where two of them are close.
        ways: weight of the ways from an object's pixels to its centre, which a network learns beside; 0 leaves them out.
        window: side of what is looked at at once when predicting; larger images are covered by overlapping windows.
        overlap: of neighbouring windows, as a share; blended by a Gaussian.
        flips: predictions are averaged over the image and its mirror images: 1, 2 or 4.
    """

    name: str
    train: TrainConfig
    reading: MaskReading = field(default_factory=MaskReading)
    encoder: EncoderConfig = UNET
    view: PatchView = field(default_factory=PatchView)
    patch: int = 64
    batch: int = 32
    dice: float = 0.5
    centred: float = 0.0
    seam: float = 0.0
    ways: float = 0.0
    window: int = 320
    overlap: float = 0.25
    flips: int = 4

    def __post_init__(self) -> None:
        within(
            self, patch=(16, 4096), batch=(2, 1e6), dice=(0, 100), centred=(0, 1), seam=(0, 100), ways=(0, 100), window=(32, 1e5),
            overlap=(0, 0.9), flips=(1, 4),
        )  # fmt: skip
        if self.flips == 3:
            raise UserError("3 mirror images", where="flips", mend="use 1, 2 or 4")


def _train(steps: int | None, seed: int, device: str) -> TrainConfig:
    return TrainConfig(
        steps=steps or STEPS, lr=4e-3, weight_decay=1e-4, betas=(0.9, 0.99), warmup=0.05, seed=seed, device=device,
        precision="bf16", channels_last=True,
    )  # fmt: skip


def region(steps: int | None = None, seed: int = 0, device: str = "cpu") -> SegmentRecipe:
    """One region, marked by one value: a lesion, an organ.

    Command: `tacit-healthcare finetune --task segment --data DATA --out SEG`, then `segment --run SEG`.
    """
    return SegmentRecipe("region", _train(steps, seed, device))


def vessels(steps: int | None = None, seed: int = 0, device: str = "cpu") -> SegmentRecipe:
    """Vessels of the retina: the green channel, its contrast evened out.

    Command: `tacit-healthcare finetune --task segment --data drive --recipe vessels --out SEG`.
    """
    return SegmentRecipe("vessels", _train(steps, seed, device), MaskReading(channel="green", contrast="clahe"))


def objects(steps: int | None = None, seed: int = 0, device: str = "cpu") -> SegmentRecipe:
    """Objects that are to be told apart and counted, such as nuclei; masks number them. Images are evenly exposed, and grey values
    taken to their roots. Three patches of four show objects in their middle, and depth weighs more where two of them touch: most of
    an image is empty, and a few pixels tell two objects from one. Every pixel learns the way to its object's centre as well.

    Command: `tacit-healthcare finetune --task segment --data dsb2018_nuclei_256 --recipe objects --out SEG`.
    """
    reading = MaskReading(contrast="root", objects=True)
    return SegmentRecipe("objects", _train(steps, seed, device), reading, centred=0.75, seam=5.0, ways=1.0)


RECIPES: dict[str, Callable[..., SegmentRecipe]] = {"region": region, "vessels": vessels, "objects": objects}
USUAL = {"drive": "vessels", "dsb2018_nuclei_256": "objects"}  # of the known sets


def segment_recipe(
    data: str, name: str | None = None, steps: int | None = None, seed: int = 0, device: str = "cpu"
) -> SegmentRecipe:  # fmt: skip
    """The recipe of that name; that of a known set, or `region`, where none is named.

    Raises:
        UserError: no such recipe.
    """
    name = name or USUAL.get(data, "region")
    if name not in RECIPES:
        raise UserError(f"no recipe '{name}'", where="--recipe", mend=f"choose from {', '.join(RECIPES)}")
    return RECIPES[name](steps, seed, device)


def lengthened(recipe: SegmentRecipe, steps: int) -> SegmentRecipe:
    """The recipe with another number of steps."""
    return replace(recipe, train=replace(recipe.train, steps=steps))
