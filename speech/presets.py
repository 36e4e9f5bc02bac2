"""Named recipes: functions that give one frozen dataclass, reachable whole by `--set key=value`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from core import methods as m
from core.errors import UserError
from core.training import TrainConfig
from speech.activity import ActivityConfig
from speech.audio import ReadConfig
from speech.encoders import EncoderConfig
from speech.features import MelConfig, Norm
from speech.methods import Objective
from speech.pretext import QuantiserConfig, ViewConfig
from speech.tasks import Ahead, Codes, Damaged, HiddenFrames, MixedCrops, Reordered, Task, Units, ViewPair


@dataclass(frozen=True)
class Recipe:
    """Everything that pretraining needs; saved in the run as JSON.

    Attributes:
        method: the preset's name.
        objective: the method's own settings.
        pretext: what it learns from. Convolutional nets read every recording stretched to `views.frames`, Transformers keep its length.
        trim: whether quiet is cut off both ends of every recording before anything hears it; for words in longer clips.
        voice: when a frame counts as sound, and how much quiet is left beside it.
        norm: of the log-mel that the encoder reads.
        max_frames: longer recordings are cut (at random in training, to the last frames in embedding).
        max_seconds: most sound of a batch, padding included: short recordings then come in larger batches than long ones, `batch_size` of
            them at most. In training a window is a third of it at most, so that every batch holds two or more. None: `batch_size` alone
            says how many.
    """

    method: str = "simclr"
    objective: Objective = field(default_factory=m.SimCLRConfig)
    pretext: Task = field(default_factory=ViewPair)
    read: ReadConfig = field(default_factory=ReadConfig)
    trim: bool = False
    voice: ActivityConfig = field(default_factory=lambda: ActivityConfig(hang=0.05))
    mel: MelConfig = field(default_factory=MelConfig)
    norm: Norm = "utterance"
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    views: ViewConfig = field(default_factory=ViewConfig)
    quantiser: QuantiserConfig = field(default_factory=QuantiserConfig)
    batch_size: int = 128
    max_frames: int = 400
    max_seconds: float | None = None
    train: TrainConfig = field(default_factory=lambda: TrainConfig(steps=600, lr=2e-3, weight_decay=1e-4))

    def __post_init__(self) -> None:
        if self.batch_size < 2 or self.max_frames < 8:
            raise UserError(
                "not a usable recipe",
                where="recipe",
                mend="batch_size ≥ 2, max_frames ≥ 8",
            )
        if self.max_seconds is not None and (self.stretched or not self.max_seconds >= 24 * self.mel.hop):
            raise UserError(
                f"max_seconds is {self.max_seconds:g} and the encoder a {self.encoder.kind}", where="max_seconds",
                mend=f"give {24 * self.mel.hop:.2g} s or more to a transformer or wave; others read all recordings alike, so "
                "batch_size bounds them",
            )  # fmt: skip
        if self.stretched and isinstance(self.pretext, Codes | HiddenFrames | Units | Ahead | Reordered):
            raise UserError(
                f"{self.method} hides tokens, which a convolutional net has not",
                where="encoder.kind",
                mend="use transformer",
            )
        if self.encoder.kind == "wave" and not isinstance(self.pretext, HiddenFrames):
            raise UserError(
                "the waveform has hidden tokens alone", where="encoder.kind", mend="use transformer or convnet"
            )
        if self.encoder.kind == "convnet" and self.views.frames // 8 < self.encoder.segments:
            raise UserError(
                "more segments than the net has places in time", where="views.frames", mend="raise it or lower segments"
            )

    @property
    def trimming(self) -> ActivityConfig | None:
        """By what quiet ends are cut off; None where they stay."""
        return self.voice if self.trim else None

    @property
    def stretched(self) -> bool:
        """Whether every recording is stretched to `views.frames`."""
        return self.encoder.kind not in ("transformer", "wave")


def simclr() -> Recipe:
    """SimCLR on views that change the voice and keep the word, with the convolutional net: mild views, for short budgets.

    `tacit-speech pretrain --data fsdd --fold 0 --method simclr --out RUN --steps 600`, about 2 minutes on one core and 1 on two.
    One run (seed 0), first speaker held out: linear probe .774 with all labels and .772 with a tenth of them (500 test
    recordings, 95 % about ±.036), the net untrained .555 and .639, log-mel statistics .550 and .545, from scratch (30 s and 10 s of a busy core) .812 and .761.
    Expected of simclr's features, of untrained ones in brackets: fsdd accuracy .779 (.618) by kNN, .777 (.646) by a
    linear probe, after 2.8 minutes (docs/methods.md).
    """
    return Recipe()


def simclr_strong() -> Recipe:
    """SimCLR with larger batches and views further apart.

    `tacit-speech pretrain --data fsdd --fold 0 --method simclr-strong --out RUN --minutes 2`. On the inner folds of FSDD (half a
    minute each, seed 0) it is level with `simclr`: .804 and .807. In a pilot without the first and the fourth speaker (300
    steps, 94 s of one core, seed 0) it heard .82 of them, `simclr` .80 in 51 s.
    Expected of simclr-strong's features, of untrained ones in brackets: not yet measured (docs/methods.md).
    """
    usual = Recipe()
    views = replace(usual.views, mix=0.5, noise=0.8, hide_time=0.15, hide_bands=0.15)
    return replace(usual, views=views, batch_size=256, train=replace(usual.train, steps=400))


def bestrq() -> Recipe:
    """BEST-RQ: predict the random-projection codes of hidden frames, with FrameStem and a Transformer.

    `tacit-speech pretrain --data fsdd --fold 0 --method bestrq --out RUN --steps 400`, half a minute on one core. In the same
    pilot .55: at this size it loses to log-mel statistics and is no tool for words of unseen voices.
    Expected of bestrq's features, of untrained ones in brackets: fsdd accuracy .330 (.362) by kNN, .534 (.560) by a
    linear probe, after 0.7 minutes (docs/methods.md).
    """
    return Recipe(
        "bestrq",
        m.MaskedConfig(),
        Codes(),
        encoder=EncoderConfig(kind="transformer"),
        batch_size=64,
        train=TrainConfig(steps=800, lr=1e-3, weight_decay=0.01),
    )


def _views(method: str, objective: Any, local: int = 0) -> Recipe:
    """A recipe on `simclr`'s views and net."""
    return Recipe(method, objective, ViewPair(local=local))


def _tokens(method: str, objective: Any, pretext: Any, lr: float = 1e-3, causal: bool = False) -> Recipe:
    """A recipe on frames with a Transformer."""
    encoder = EncoderConfig(kind="transformer", causal=causal)
    return Recipe(
        method,
        objective,
        pretext,
        encoder=encoder,
        batch_size=64,
        train=TrainConfig(steps=800, lr=lr, weight_decay=0.01),
    )


def moco() -> Recipe:
    """SimCLR's views against a queue of past recordings (MoCo, He et al. 2019).

    `tacit-speech pretrain --data fsdd --fold 0 --method moco --out RUN --steps 400`.
    Expected of moco's features, of untrained ones in brackets: fsdd accuracy .747 (.618) by kNN, .791 (.646) by a
    linear probe, after 1.6 minutes (docs/methods.md).
    """
    return _views("moco", m.MoCoConfig(queue=1024))


def byol() -> Recipe:
    """One view predicts a slow copy's features of the other (BYOL, Grill et al. 2020; for audio BYOL-A, Niizumi et al. 2021).

    `tacit-speech pretrain --data fsdd --fold 0 --method byol --out RUN --steps 400`.
    Expected of byol's features, of untrained ones in brackets: fsdd accuracy .708 (.602) by kNN, .756 (.556) by a
    linear probe, after 1.7 minutes (docs/methods.md).
    """
    return _views("byol", m.BYOLConfig())


def byola() -> Recipe:
    """BYOL on its views for sound: another recording mixed in, then a resized crop (BYOL-A, Niizumi et al. 2021).

    `tacit-speech pretrain --data fsdd --fold 0 --method byola --out RUN --steps 400`.
    Expected of byola's features, of untrained ones in brackets: not yet measured (docs/methods.md).
    """
    return Recipe("byola", m.BYOLConfig(), MixedCrops())


def simsiam() -> Recipe:
    """BYOL without the copy (SimSiam, Chen & He 2020).

    `tacit-speech pretrain --data fsdd --fold 0 --method simsiam --out RUN --steps 400`.
    Expected of simsiam's features, of untrained ones in brackets: fsdd accuracy .736 (.602) by kNN, .742 (.556) by a
    linear probe, after 2.1 minutes (docs/methods.md).
    """
    return _views("simsiam", m.SimSiamConfig())


def barlow() -> Recipe:
    """Features of two views agree one to one (Barlow Twins, Zbontar et al. 2021).

    `tacit-speech pretrain --data fsdd --fold 0 --method barlow --out RUN --steps 400`.
    Expected of barlow's features, of untrained ones in brackets: fsdd accuracy .788 (.666) by kNN, .835 (.727) by a
    linear probe, after 2.5 minutes (docs/methods.md).
    """
    return _views("barlow", m.BarlowConfig())


def vicreg() -> Recipe:
    """Views agree, features vary and differ (VICReg, Bardes et al. 2021).

    `tacit-speech pretrain --data fsdd --fold 0 --method vicreg --out RUN --steps 400`.
    Expected of vicreg's features, of untrained ones in brackets: fsdd accuracy .784 (.602) by kNN, .786 (.556) by a
    linear probe, after 8.2 minutes (docs/methods.md).
    """
    return _views("vicreg", m.VICRegConfig())


def swav() -> Recipe:
    """Views agree on a prototype (SwAV, Caron et al. 2020), with two shorter views.

    `tacit-speech pretrain --data fsdd --fold 0 --method swav --out RUN --steps 400`.
    Expected of swav's features, of untrained ones in brackets: fsdd accuracy .780 (.618) by kNN, .791 (.646) by a
    linear probe, after 2.3 minutes (docs/methods.md).
    """
    return _views("swav", m.SwAVConfig(), local=2)


def dino() -> Recipe:
    """A student tells a teacher's prototypes (DINO, Caron et al. 2021), with two shorter views.

    `tacit-speech pretrain --data fsdd --fold 0 --method dino --out RUN --steps 400`.
    Expected of dino's features, of untrained ones in brackets: fsdd accuracy .774 (.602) by kNN, .770 (.556) by a
    linear probe, after 8.0 minutes (docs/methods.md).
    """
    return _views("dino", m.DINOConfig(), local=2)


def deepcluster() -> Recipe:
    """Cluster, tell the clusters, repeat (DeepCluster, Caron et al. 2018).

    `tacit-speech pretrain --data fsdd --fold 0 --method deepcluster --out RUN --steps 400`.
    Expected of deepcluster's features, of untrained ones in brackets: fsdd accuracy .858 (.602) by kNN, .860 (.556) by
    a linear probe, after 6.4 minutes (docs/methods.md).
    """
    return _views("deepcluster", m.DeepClusterConfig())


def sounds() -> Recipe:
    """SimCLR on stretches of longer recordings, at 16 kHz: for sounds of which a moment tells, wherever in the recording it lies.

    `tacit-speech pretrain --data esc10 --fold 0 --method sounds --out RUN --steps 400`.
    Expected of sounds's features, of untrained ones in brackets: not yet measured (docs/methods.md).
    """
    return Recipe(
        "sounds",
        m.SimCLRConfig(),
        mel=MelConfig(rate=16_000, bands=64, window=0.04, hop=0.02, low=50.0),
        encoder=EncoderConfig(segments=1, pool="mean_max"),
        views=ViewConfig(frames=64, part=0.25, tract=0.1),
        batch_size=64,
    )


def voices() -> Recipe:
    """SimCLR on halves of recordings whose voice is left as it is: what the halves share is who speaks, and where.

    `tacit-speech pretrain --data arabic-digits --method voices --out RUN --steps 400`, then `tacit-speech verify`.
    Expected of voices's features, of untrained ones in brackets: not yet measured (docs/methods.md).
    """
    views = ViewConfig(part=0.5, tract=0.0, shift=0.0, blur=0.5, tilt=0.3, room=0.3, bend=0.05)
    net = EncoderConfig(segments=1, pool="mean_max")
    return Recipe("voices", m.SimCLRConfig(), norm="none", encoder=net, views=views)


def mae() -> Recipe:
    """Hidden frames from those seen (masked autoencoder, He et al. 2021; Huang et al. 2022 for audio).

    `tacit-speech pretrain --data fsdd --fold 0 --method mae --out RUN --steps 400`.
    Expected of mae's features, of untrained ones in brackets: fsdd accuracy .340 (.362) by kNN, .420 (.560) by a linear
    probe, after 1.0 minutes (docs/methods.md).
    """
    return _tokens("mae", m.MAEConfig(), HiddenFrames(ratio=0.6, span=2))


def data2vec() -> Recipe:
    """A slow copy's features at hidden frames (data2vec, Baevski et al. 2022).

    `tacit-speech pretrain --data fsdd --fold 0 --method data2vec --out RUN --steps 400`.
    Expected of data2vec's features, of untrained ones in brackets: fsdd accuracy .446 (.362) by kNN, .506 (.560) by a
    linear probe, after 1.4 minutes (docs/methods.md).
    """
    return _tokens("data2vec", m.Data2VecConfig(), HiddenFrames(ratio=0.5, span=3))


def wav2vec2() -> Recipe:
    """Which of a recording's hidden places held this quantised input, from the waveform (wav2vec 2.0, Baevski et al. 2020).

    `tacit-speech pretrain --data fsdd --fold 0 --method wav2vec2 --out RUN --steps 400`.
    Expected of wav2vec2's features, of untrained ones in brackets: not yet measured (docs/methods.md).
    """
    encoder = EncoderConfig(kind="wave", depth=3)
    train = TrainConfig(steps=800, lr=1e-3, weight_decay=0.01)
    return Recipe(
        "wav2vec2", m.Wav2Vec2Config(), HiddenFrames(ratio=0.5, span=5), encoder=encoder, batch_size=32, train=train
    )


def hubert() -> Recipe:
    """The unit of each hidden frame, twice: clusters of MFCC, then of a layer of what those trained (HuBERT, Hsu et al. 2021).

    `tacit-speech pretrain --data fsdd --fold 0 --method hubert --out RUN --steps 400`, both iterations in one command.
    Expected of hubert's features, of untrained ones in brackets: not yet measured (docs/methods.md).
    """
    return _tokens("hubert", m.HubertConfig(), Units())


def denoise() -> Recipe:
    """Clean log-mel from one with holes and noise (Vincent et al. 2008), with a convolutional net that a decoder can follow.

    `tacit-speech pretrain --data fsdd --fold 0 --method denoise --out RUN --steps 400`.
    Expected of denoise's features, of untrained ones in brackets: fsdd accuracy .332 (.344) by kNN, .282 (.346) by a
    linear probe, after 3.0 minutes (docs/methods.md).
    """
    return Recipe("denoise", m.DenoiseConfig(), Damaged(), encoder=EncoderConfig(kind="meanpool"))


def vae() -> Recipe:
    """A latent from which log-mel is restored (Kingma & Welling 2013).

    `tacit-speech pretrain --data fsdd --fold 0 --method vae --out RUN --steps 400`.
    Expected of vae's features, of untrained ones in brackets: fsdd accuracy .510 (.454) by kNN, .547 (.467) by a linear
    probe, after 2.3 minutes (docs/methods.md).
    """
    return Recipe("vae", m.VAEConfig(), Damaged(holes=0, noise=0.0), encoder=EncoderConfig(kind="meanpool"))


def cpc() -> Recipe:
    """Which of many frames comes three to six tokens later (CPC, van den Oord et al. 2018).

    `tacit-speech pretrain --data fsdd --fold 0 --method cpc --out RUN --steps 400`.
    Expected of cpc's features, of untrained ones in brackets: fsdd accuracy .506 (.388) by kNN, .586 (.546) by a linear
    probe, after 1.5 minutes (docs/methods.md).
    """
    return _tokens("cpc", m.CPCConfig(), Ahead(), causal=True)


def order() -> Recipe:
    """Which order the thirds of a recording are in.

    `tacit-speech pretrain --data fsdd --fold 0 --method order --out RUN --steps 400`.
    Expected of order's features, of untrained ones in brackets: fsdd accuracy .406 (.362) by kNN, .580 (.560) by a
    linear probe, after 1.0 minutes (docs/methods.md).
    """
    return _tokens("order", m.PuzzleConfig(), Reordered())


RECIPES: dict[str, Callable[[], Recipe]] = {
    "simclr": simclr, "simclr-strong": simclr_strong, "bestrq": bestrq, "moco": moco, "byol": byol, "byola": byola, "simsiam": simsiam,
    "barlow": barlow, "sounds": sounds, "voices": voices, "vicreg": vicreg, "swav": swav, "dino": dino, "deepcluster": deepcluster, "mae": mae,
    "data2vec": data2vec, "wav2vec2": wav2vec2, "hubert": hubert, "denoise": denoise, "vae": vae, "cpc": cpc, "order": order,
}  # fmt: skip
WORDS = ("deepcluster", "simclr")  # between which the benchmark's training side chooses, for words
SOUNDS = ("sounds",)  # and for other sounds


def recipe(name: str) -> Recipe:
    """The recipe of that name.

    Raises:
        UserError: no such recipe.
    """
    if name not in RECIPES:
        raise UserError(
            f"method '{name}' is not known here", where="--method", mend=f"choose from {', '.join(RECIPES)}"
        )
    return RECIPES[name]()
