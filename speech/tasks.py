"""What a recipe asks an encoder to learn from, as frozen dataclasses: each is saved with a run, and `bound` to it becomes a pretext."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from core import damage, puzzles
from core.config import shares
from core.errors import UserError
from core.masking import span_mask
from core.pretext import Corrupted, Masked, Pretext, Pseudo, Shifted
from core.tokens import Batch
from speech import augment
from speech.crops import MixedCropViews
from speech.features import normalise
from speech.pretext import LogMelViews, QuantisedFrames

if TYPE_CHECKING:
    from speech.presets import Recipe


def read_as_it_is(settings: Recipe, batch: Batch) -> Batch:
    """What the recipe's encoder reads: samples as they are; raw log-mel stretched to the views' frames for convolutional nets, else of its own length."""
    if settings.encoder.kind == "wave":  # its stem normalises by itself
        return {key: batch[key] for key in ("wave", "pad") if key in batch}
    mel, pad = batch["mel"], batch.get("pad")
    if settings.stretched:
        fitted = augment.fit_frames(mel, pad, settings.views.whole, (settings.mel.low, settings.mel.rate / 2))
        return {"mel": normalise(fitted, None, settings.norm)}
    return {"mel": normalise(mel, pad, settings.norm)} | ({} if pad is None else {"pad": pad})


@dataclass(frozen=True)
class ViewPair:
    """Two views of each recording (see speech.pretext.ViewConfig), and `local` shorter ones of `local_frames`, each a part of it."""

    kind: Literal["views"] = "views"
    local: int = 0
    local_frames: int = 16

    def __post_init__(self) -> None:
        if self.local < 0 or self.local_frames < 8:
            raise UserError("local views out of range", where="pretext", mend="use 0 or more, of 8 frames or more")

    def bound(self, settings: Recipe) -> Pretext:
        return LogMelViews(settings.views, settings.mel, settings.norm, self.local, self.local_frames)


@dataclass(frozen=True)
class MixedCrops:
    """BYOL-A's views (Niizumi et al. 2021): another sound mixed in, then a crop resized; see speech.crops.

    Attributes:
        mix: largest share of the other sound's power.
        low, high: sides of the crop, as shares of the picture's; canvas: of the area that it lies in.
    """

    kind: Literal["mixed"] = "mixed"
    mix: float = 0.4
    low: float = 0.6
    high: float = 1.5
    canvas: float = 1.5

    def __post_init__(self) -> None:
        shares(self, "mix")
        if not 0.05 <= self.low <= self.high <= self.canvas <= 4 or self.canvas < 1:
            raise UserError("crops out of range", where="pretext", mend="0.05 ≤ low ≤ high ≤ canvas ≤ 4, canvas from 1")

    def bound(self, settings: Recipe) -> Pretext:
        frames = settings.views.frames
        return MixedCropViews(frames, self.mix, self.low, self.high, self.canvas, settings.mel, settings.norm)


@dataclass(frozen=True)
class Codes:
    """The random-projection codes of hidden frames (BEST-RQ, Chiu et al. 2022); see speech.pretext.QuantiserConfig."""

    kind: Literal["codes"] = "codes"

    def bound(self, settings: Recipe) -> Pretext:
        return QuantisedFrames(settings.quantiser, settings.encoder.stride, settings.mel.bands, settings.norm)


@dataclass(frozen=True)
class HiddenFrames:
    """Runs of frames are hidden; what stood there is told by the stem (mae, wav2vec2) or by a teacher (data2vec).

    Attributes:
        ratio: share of a recording's tokens that is hidden; span: tokens of a run.
    """

    kind: Literal["hidden"] = "hidden"
    ratio: float = 0.5
    span: int = 3

    def __post_init__(self) -> None:
        shares(self, "ratio")

    def bound(self, settings: Recipe) -> Pretext:
        stride = settings.encoder.token

        def make(batch: Batch, generator: Generator) -> Masked:
            seen = {**batch, **read_as_it_is(settings, batch)}
            pad = batch["pad"][:, ::stride]
            return Masked(seen, span_mask(pad, self.ratio, self.span, generator), {})

        return make


@dataclass(frozen=True)
class Units:
    """The unit of each hidden token (HuBERT, Hsu et al. 2021): clusters of MFCC at first, then of a layer of what those trained.

    Batches carry the units in `unit`, one a frame (see speech.hubert).

    Attributes:
        ratio: share of a recording's tokens that is hidden; span: tokens of a run.
        first: share of the training on units of MFCC.
        layer: whose states are clustered then, from 1.
    """

    kind: Literal["units"] = "units"
    ratio: float = 0.5
    span: int = 3
    first: float = 0.4
    layer: int = 2

    def __post_init__(self) -> None:
        shares(self, "ratio", "first")
        if self.layer < 1 or self.span < 1:
            raise UserError("layers and spans are 1 or more", where="pretext", mend="raise them")

    def bound(self, settings: Recipe) -> Pretext:
        stride = settings.encoder.token

        def make(batch: Batch, generator: Generator) -> Masked:
            if "unit" not in batch:
                raise UserError(
                    "no units in the batches", where="pretext", mend="train through speech.AudioEncoder.fit"
                )
            seen = {**batch, **read_as_it_is(settings, batch)}
            pad = batch["pad"][:, ::stride]
            unit = batch["unit"].masked_fill(batch["pad"], -100)
            middle = F.pad(unit, (0, -unit.shape[1] % stride), value=-100).unflatten(1, (-1, stride))
            # the middle frame's, where it is real; else the first's: a token is real where its first frame is
            unit = torch.where(middle[..., stride // 2] >= 0, middle[..., stride // 2], middle[..., 0])
            return Masked(seen, span_mask(pad, self.ratio, self.span, generator), {"unit": unit})

        return make


@dataclass(frozen=True)
class Damaged:
    """Log-mel with holes and noise, to be restored; or, with both at 0, as it is (for a variational autoencoder).

    Attributes:
        holes: rectangles replaced by the mean, each of `share` of the picture.
        noise: standard deviation, in those of the recording.
    """

    kind: Literal["damaged"] = "damaged"
    holes: int = 4
    share: float = 0.08
    noise: float = 0.5

    def __post_init__(self) -> None:
        shares(self, "share")
        if self.holes < 0 or self.noise < 0:
            raise UserError("holes and noise are 0 or more", where="pretext", mend="raise them")

    def bound(self, settings: Recipe) -> Pretext:
        views = LogMelViews(settings.views, settings.mel, settings.norm)

        def make(batch: Batch, generator: Generator) -> Corrupted:
            clean = views.view(batch, generator) if settings.stretched else read_as_it_is(settings, batch)["mel"]
            mel = clean
            if self.holes:
                mel, _ = damage.missing(mel, generator, self.share, self.holes)
            if self.noise:
                mel = mel + self.noise * torch.randn(mel.shape, generator=generator, device=generator.device)
            rest = {} if settings.stretched else {"pad": batch["pad"]}
            return Corrupted({"mel": mel, **rest}, {"mel": clean, **rest})

        return make


@dataclass(frozen=True)
class Ahead:
    """What comes `horizon` tokens later; below 3, tokens of FrameStem would overlap with what was seen."""

    kind: Literal["ahead"] = "ahead"
    horizon: int = 3

    def bound(self, settings: Recipe) -> Pretext:
        return lambda batch, generator: Shifted({**batch, **read_as_it_is(settings, batch)}, self.horizon)


@dataclass(frozen=True)
class Reordered:
    """The recording is cut into segments in another order, which is to be told."""

    kind: Literal["reordered"] = "reordered"
    segments: int = 3

    def __post_init__(self) -> None:
        puzzles.orders_of(self.segments, "pretext.segments")

    @property
    def classes(self) -> tuple[tuple[str, int], ...]:
        return puzzles.orders_of(self.segments, "pretext.segments")

    def bound(self, settings: Recipe) -> Pretext:
        def make(batch: Batch, generator: Generator) -> Pseudo:
            seen: dict[str, Tensor] = {**batch, **read_as_it_is(settings, batch)}
            return Pseudo(*puzzles.reorder(seen, batch["pad"], self.segments, generator))

        return make


Task = ViewPair | MixedCrops | Codes | HiddenFrames | Units | Damaged | Ahead | Reordered
