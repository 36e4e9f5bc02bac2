"""Named recipes. Each is a function that returns one frozen dataclass: the Python argument, `--set`, and the saved JSON."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from core import methods as m
from core.errors import UserError
from core.training import TrainConfig
from healthcare.data import Reading
from healthcare.encoders import EncoderConfig
from healthcare.methods import Objective, Task
from healthcare.places import Places
from healthcare.pretext import Coloured, Damaged, HiddenPatches, Noisy, Shuffled, Turned, Whole
from healthcare.views import MILD, ImageViews

TOKENS = EncoderConfig(kind="vit", width=64, patch=4, depth=3, heads=4)


@dataclass(frozen=True)
class Recipe:
    """Everything that a pretraining run is made of.

    Attributes:
        method: the preset's name.
        objective: the method's own settings.
        pretext: what it learns from: views, hidden patches, damage to repair, puzzles.
        batch: images a step; for many methods every other image of it is a negative. None: a sixteenth of the training images,
            64 to 256, since few images in large batches are few steps.
        patches: random cubes of `reading.size` voxels a side that are cut from each volume an epoch, at full resolution, where volumes
            are too large to be resized; 0 reads every image whole.
        crop: features are averaged over an image and four crops of this share of its sides; 1 is the image alone.
    """

    method: str
    objective: Objective
    train: TrainConfig
    pretext: Task = field(default_factory=ImageViews)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    reading: Reading = field(default_factory=Reading)
    batch: int | None = None
    patches: int = 0
    crop: float = 0.875


def _train(minutes: float | None, steps: int | None, seed: int, device: str, lr: float = 2e-3) -> TrainConfig:
    minutes = None if steps is not None else minutes
    return TrainConfig(steps=steps, minutes=minutes, lr=lr, weight_decay=1e-4, seed=seed, device=device)


def simclr(minutes: float | None = 5.0, steps: int | None = None, seed: int = 0, device: str = "cpu") -> Recipe:
    """SimCLR (Chen et al. 2020) with batched, mild augmentation.

    Command: `tacit-healthcare pretrain --data pneumoniamnist --method simclr --out run --minutes 8`, then `evaluate`.
    Expected on PneumoniaMNIST: test auroc .949 with 10 % of the labels after 277 steps of 256 (seed 0, five label draws; about
    two minutes of one undisturbed core), raw pixels .916. `bench` gives the figures of the full length.
    Expected of simclr's features, of untrained ones in brackets: dsb2018_nuclei_256 auroc .965 (.935) by kNN, .976
    (.953) by a linear probe, after 1.5 minutes; pneumoniamnist auroc .943 (.927) by kNN, .950 (.928) by a linear
    probe, after 2.1 minutes (docs/methods.md).
    """
    return Recipe("simclr", m.SimCLRConfig(), _train(minutes, steps, seed, device))


def moco(minutes: float | None = 5.0, steps: int | None = None, seed: int = 0, device: str = "cpu") -> Recipe:
    """MoCo (He et al. 2019).

    Command: `tacit-healthcare pretrain --data pneumoniamnist --method moco --out run`, then `evaluate`.
    Expected of moco's features, of untrained ones in brackets: pneumoniamnist auroc .942 (.919) by kNN, .952 (.925) by
    a linear probe, after 1.1 minutes (docs/methods.md).
    """
    return Recipe("moco", m.MoCoConfig(), _train(minutes, steps, seed, device))


def byol(minutes: float | None = 5.0, steps: int | None = None, seed: int = 0, device: str = "cpu") -> Recipe:
    """BYOL (Grill et al. 2020).

    Command: `tacit-healthcare pretrain --data pneumoniamnist --method byol --out run`, then `evaluate`.
    Expected of byol's features, of untrained ones in brackets: dsb2018_nuclei_256 auroc .951 (.934) by kNN, .972 (.948)
    by a linear probe, after 1.3 minutes; pneumoniamnist auroc .947 (.927) by kNN, .948 (.928) by a linear probe,
    after 1.1 minutes (docs/methods.md).
    """
    return Recipe("byol", m.BYOLConfig(), _train(minutes, steps, seed, device))


def simsiam(minutes: float | None = 5.0, steps: int | None = None, seed: int = 0, device: str = "cpu") -> Recipe:
    """SimSiam (Chen & He 2020).

    Command: `tacit-healthcare pretrain --data pneumoniamnist --method simsiam --out run`, then `evaluate`.
    Expected of simsiam's features, of untrained ones in brackets: dsb2018_nuclei_256 auroc .955 (.934) by kNN, .977
    (.948) by a linear probe, after 1.0 minutes; pneumoniamnist auroc .939 (.927) by kNN, .949 (.928) by a linear
    probe, after 0.9 minutes (docs/methods.md).
    """
    return Recipe("simsiam", m.SimSiamConfig(), _train(minutes, steps, seed, device))


def barlow(minutes: float | None = 5.0, steps: int | None = None, seed: int = 0, device: str = "cpu") -> Recipe:
    """Barlow Twins (Zbontar et al. 2021).

    Command: `tacit-healthcare pretrain --data pneumoniamnist --method barlow --out run`, then `evaluate`.
    Expected of barlow's features, of untrained ones in brackets: dsb2018_nuclei_256 auroc .963 (.935) by kNN, .975
    (.953) by a linear probe, after 1.9 minutes; pneumoniamnist auroc .929 (.927) by kNN, .952 (.928) by a linear
    probe, after 2.1 minutes (docs/methods.md).
    """
    return Recipe("barlow", m.BarlowConfig(), _train(minutes, steps, seed, device))


def vicreg(minutes: float | None = 5.0, steps: int | None = None, seed: int = 0, device: str = "cpu") -> Recipe:
    """VICReg (Bardes et al. 2021).

    Command: `tacit-healthcare pretrain --data pneumoniamnist --method vicreg --out run`, then `evaluate`.
    Expected of vicreg's features, of untrained ones in brackets: dsb2018_nuclei_256 auroc .963 (.934) by kNN, .977
    (.948) by a linear probe, after 1.3 minutes; pneumoniamnist auroc .941 (.927) by kNN, .942 (.928) by a linear
    probe, after 1.1 minutes (docs/methods.md).
    """
    return Recipe("vicreg", m.VICRegConfig(), _train(minutes, steps, seed, device))


def swav(minutes: float | None = 5.0, steps: int | None = None, seed: int = 0, device: str = "cpu") -> Recipe:
    """SwAV (Caron et al. 2020), with small crops.

    Command: `tacit-healthcare pretrain --data pneumoniamnist --method swav --out run`, then `evaluate`.
    Expected of swav's features, of untrained ones in brackets: dsb2018_nuclei_256 auroc .960 (.935) by kNN, .976 (.953)
    by a linear probe, after 2.6 minutes; pneumoniamnist auroc .942 (.927) by kNN, .946 (.928) by a linear probe,
    after 1.9 minutes (docs/methods.md).
    """
    return Recipe("swav", m.SwAVConfig(), _train(minutes, steps, seed, device), ImageViews(local=4))


def dino(minutes: float | None = 5.0, steps: int | None = None, seed: int = 0, device: str = "cpu") -> Recipe:
    """DINO (Caron et al. 2021), with small crops.

    Command: `tacit-healthcare pretrain --data pneumoniamnist --method dino --out run`, then `evaluate`.
    Expected of dino's features, of untrained ones in brackets: dsb2018_nuclei_256 auroc .953 (.935) by kNN, .971 (.954)
    by a linear probe, after 3.7 minutes; pneumoniamnist auroc .933 (.927) by kNN, .948 (.928) by a linear probe,
    after 5.1 minutes (docs/methods.md).
    """
    return Recipe("dino", m.DINOConfig(), _train(minutes, steps, seed, device), ImageViews(local=4))


def deepcluster(minutes: float | None = 5.0, steps: int | None = None, seed: int = 0, device: str = "cpu") -> Recipe:
    """DeepCluster (Caron et al. 2018), with gentle views and batches of 128.

    Command: `tacit-healthcare pretrain --data pneumoniamnist --method deepcluster --out run`, then `evaluate`.
    Chosen on PneumoniaMNIST inside the training labels and on changed validation images, test images unseen: with 300 steps of 256 it was
    ahead of SimCLR in all of them, with gentle views ahead of wider and narrower ones, and with 600 steps of 128 ahead of 300 of 256.
    Expected of deepcluster's features, of untrained ones in brackets: dsb2018_nuclei_256 auroc .960 (.935) by kNN, .974
    (.953) by a linear probe, after 1.6 minutes; pneumoniamnist auroc .931 (.927) by kNN, .961 (.928) by a linear
    probe, after 2.8 minutes (docs/methods.md).
    """
    return Recipe(
        "deepcluster",
        m.DeepClusterConfig(),
        _train(minutes, steps, seed, device),
        ImageViews(view=replace(MILD, area=0.6)),
        batch=128,
    )


def mae(minutes: float | None = 5.0, steps: int | None = None, seed: int = 0, device: str = "cpu") -> Recipe:
    """Masked autoencoder (He et al. 2021).

    Command: `tacit-healthcare pretrain --data pneumoniamnist --method mae --out run`, then `evaluate`.
    Expected of mae's features, of untrained ones in brackets: dsb2018_nuclei_256 auroc .967 (.937) by kNN, .978 (.964)
    by a linear probe, after 3.6 minutes; pneumoniamnist auroc .936 (.864) by kNN, .950 (.933) by a linear probe,
    after 2.6 minutes (docs/methods.md).
    """
    # brought to variance 1 each, the noise of empty patches would count as much as what is seen
    as_they_are = m.MAEConfig(norm_target=False)
    return Recipe("mae", as_they_are, _train(minutes, steps, seed, device), HiddenPatches(), TOKENS, batch=64)


def data2vec(minutes: float | None = 5.0, steps: int | None = None, seed: int = 0, device: str = "cpu") -> Recipe:
    """data2vec (Baevski et al. 2022).

    Command: `tacit-healthcare pretrain --data pneumoniamnist --method data2vec --out run`, then `evaluate`.
    Expected of data2vec's features, of untrained ones in brackets: dsb2018_nuclei_256 auroc .951 (.940) by kNN, .968
    (.963) by a linear probe, after 4.2 minutes; pneumoniamnist auroc .929 (.864) by kNN, .944 (.933) by a linear
    probe, after 2.9 minutes (docs/methods.md).
    """
    hidden = HiddenPatches(ratio=0.6, shape="block")
    return Recipe("data2vec", m.Data2VecConfig(), _train(minutes, steps, seed, device), hidden, TOKENS, batch=64)


def restore(minutes: float | None = 5.0, steps: int | None = None, seed: int = 0, device: str = "cpu") -> Recipe:
    """Models Genesis (Zhou et al. 2019).

    Command: `tacit-healthcare pretrain --data pneumoniamnist --method restore --out run`, then `evaluate`.
    Expected of restore's features, of untrained ones in brackets: dsb2018_nuclei_256 auroc .972 (.940) by kNN, .969
    (.963) by a linear probe, after 2.7 minutes; pneumoniamnist auroc .930 (.864) by kNN, .955 (.932) by a linear
    probe, after 2.2 minutes (docs/methods.md).
    """
    return Recipe("restore", m.DenoiseConfig(), _train(minutes, steps, seed, device), Damaged(), TOKENS, batch=64)


def denoise(minutes: float | None = 5.0, steps: int | None = None, seed: int = 0, device: str = "cpu") -> Recipe:
    """Denoising autoencoder (Vincent et al. 2008) with holes (Pathak et al. 2016).

    Command: `tacit-healthcare pretrain --data pneumoniamnist --method denoise --out run`, then `evaluate`.
    Expected of denoise's features, of untrained ones in brackets: dsb2018_nuclei_256 auroc .966 (.940) by kNN, .978
    (.963) by a linear probe, after 8.2 minutes; pneumoniamnist auroc .887 (.864) by kNN, .928 (.932) by a linear
    probe, after 6.0 minutes (docs/methods.md).
    """
    return Recipe("denoise", m.DenoiseConfig(), _train(minutes, steps, seed, device), Noisy(), TOKENS, batch=64)


def vae(minutes: float | None = 5.0, steps: int | None = None, seed: int = 0, device: str = "cpu") -> Recipe:
    """Variational autoencoder (Kingma & Welling 2013).

    Command: `tacit-healthcare pretrain --data pneumoniamnist --method vae --out run`, then `evaluate`.
    Expected of vae's features, of untrained ones in brackets: dsb2018_nuclei_256 auroc .947 (.937) by kNN, .974 (.964)
    by a linear probe, after 4.3 minutes; pneumoniamnist auroc .913 (.864) by kNN, .914 (.932) by a linear probe,
    after 6.0 minutes (docs/methods.md).
    """
    return Recipe("vae", m.VAEConfig(), _train(minutes, steps, seed, device), Whole(), TOKENS, batch=64)


def rotation(minutes: float | None = 5.0, steps: int | None = None, seed: int = 0, device: str = "cpu") -> Recipe:
    """Rotation (Gidaris et al. 2018).

    Command: `tacit-healthcare pretrain --data pneumoniamnist --method rotation --out run`, then `evaluate`.
    Expected of rotation's features, of untrained ones in brackets: dsb2018_nuclei_256 auroc .932 (.940) by kNN, .953
    (.963) by a linear probe, after 6.9 minutes; pneumoniamnist auroc .925 (.864) by kNN, .936 (.932) by a linear
    probe, after 3.8 minutes (docs/methods.md).
    """
    return Recipe("rotation", m.PuzzleConfig(), _train(minutes, steps, seed, device), Turned(), TOKENS, batch=64)


def jigsaw(minutes: float | None = 5.0, steps: int | None = None, seed: int = 0, device: str = "cpu") -> Recipe:
    """Jigsaw (Noroozi & Favaro 2016).

    Command: `tacit-healthcare pretrain --data pneumoniamnist --method jigsaw --out run`, then `evaluate`.
    Expected of jigsaw's features, of untrained ones in brackets: dsb2018_nuclei_256 auroc .947 (.934) by kNN, .969
    (.948) by a linear probe, after 2.5 minutes; pneumoniamnist auroc .923 (.927) by kNN, .944 (.928) by a linear
    probe, after 0.7 minutes (docs/methods.md).
    """
    return Recipe("jigsaw", m.PuzzleConfig(), _train(minutes, steps, seed, device), Shuffled())


def micle(minutes: float | None = 5.0, steps: int | None = None, seed: int = 0, device: str = "cpu") -> Recipe:
    """MICLe (Azizi et al. 2021): SimCLR whose two views are of two images of one patient, where the data name patients.

    Command: `tacit-healthcare pretrain --data dsb2018_nuclei_256 --method micle --out run`, then `evaluate`.
    Expected of micle's features, of untrained ones in brackets: dsb2018_nuclei_256 auroc .960 (.934) by kNN, .971
    (.948) by a linear probe, after 2.1 minutes (docs/methods.md).
    """
    return Recipe("micle", m.SimCLRConfig(), _train(minutes, steps, seed, device), ImageViews(same_patient=True))


def position(minutes: float | None = 5.0, steps: int | None = None, seed: int = 0, device: str = "cpu") -> Recipe:
    """Position contrast (VoCo, Wu et al. 2024).

    Command: `tacit-healthcare pretrain --data pneumoniamnist --method position --out run`, then `evaluate`.
    Expected of position's features, of untrained ones in brackets: dsb2018_nuclei_256 auroc .945 (.934) by kNN, .970
    (.948) by a linear probe, after 1.7 minutes; pneumoniamnist auroc .913 (.927) by kNN, .940 (.928) by a linear
    probe, after 2.1 minutes (docs/methods.md).
    """
    return Recipe("position", m.PositionConfig(), _train(minutes, steps, seed, device), Places())


def colour(minutes: float | None = 5.0, steps: int | None = None, seed: int = 0, device: str = "cpu") -> Recipe:
    """Colourising (Zhang et al. 2016), of colour images alone.

    Command: `tacit-healthcare pretrain --data drive --method colour --out run --set reading.size=32`.
    Expected of colour's features, of untrained ones in brackets: drive auroc .819 (.531) by kNN, .879 (.670) by a
    linear probe, after 9.6 minutes (docs/methods.md).
    """
    return Recipe("colour", m.DenoiseConfig(), _train(minutes, steps, seed, device), Coloured(), TOKENS, batch=64)


PRESETS: dict[str, Callable[..., Recipe]] = {
    "simclr": simclr, "moco": moco, "byol": byol, "simsiam": simsiam, "barlow": barlow, "vicreg": vicreg, "swav": swav,
    "dino": dino, "deepcluster": deepcluster, "mae": mae, "data2vec": data2vec, "restore": restore, "denoise": denoise,
    "vae": vae, "rotation": rotation, "jigsaw": jigsaw, "micle": micle, "position": position, "colour": colour,
}  # fmt: skip


def preset(
    name: str, minutes: float | None = None, steps: int | None = None, seed: int = 0, device: str = "cpu"
) -> Recipe:
    """The recipe of that name; its own length where neither minutes nor steps are given.

    Raises:
        UserError: no such method; the known ones are listed.
    """
    if name not in PRESETS:
        raise UserError(f"no method '{name}'", where="--method", mend=f"choose from {', '.join(PRESETS)}")
    recipe = PRESETS[name](seed=seed, device=device)
    return recipe if minutes is None and steps is None else timed(recipe, minutes, steps)


def batch_for(recipe: Recipe, images: int) -> int:
    """Images a step for a training set of this size."""
    return recipe.batch if recipe.batch is not None else min(256, max(64, images // 16))


def timed(recipe: Recipe, minutes: float | None, steps: int | None) -> Recipe:
    """The recipe with another budget: steps where given, else minutes."""
    return replace(recipe, train=replace(recipe.train, steps=steps, minutes=None if steps is not None else minutes))
