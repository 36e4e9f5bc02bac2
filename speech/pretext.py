"""What speech asks an encoder to learn without labels: that two views say the same (SimCLR), and what a hidden stretch was (BEST-RQ)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from core.errors import UserError
from core.masking import span_mask
from core.pretext import Masked, Pseudo, Views
from core.tokens import Batch
from speech import augment
from speech.features import MelConfig, Norm, normalise


@dataclass(frozen=True)
class ViewConfig:
    """How far two views of a recording may lie apart; 0 leaves a change out.

    Attributes:
        frames: every view is stretched to this many, so that pace is no feature.
        crop: largest share of the length cut at either end (half as much may be added as silence).
        bend: how unevenly time may run.
        tract: log of the largest factor on frequencies, so 0.2 is 0.82 to 1.22.
        shift: largest move of the mel axis, as a share of it.
        blur: largest Gaussian over bands, in bands.
        tilt, room, swell: natural log units of a spectral slope, a smooth spectral curve, a smooth gain over time.
        mix, noise: shares of samples that get another recording or coloured noise added.
        grain: independent noise on each cell.
        hide_time, hide_bands: largest share hidden by a stripe.
    """

    frames: int = 32
    crop: float = 0.15
    bend: float = 0.1
    tract: float = 0.2
    shift: float = 0.05
    blur: float = 1.5
    tilt: float = 1.0
    room: float = 0.7
    swell: float = 0.35
    mix: float = 0.3
    noise: float = 0.5
    grain: float = 0.3
    hide_time: float = 0.1
    hide_bands: float = 0.1

    def __post_init__(self) -> None:
        if self.frames < 8 or not 0 <= self.crop < 0.5 or not 0 <= self.bend <= 0.15 or not 0 <= self.tract <= 0.7:
            raise UserError(
                "views out of range",
                where=self,
                mend="frames ≥ 8, crop below 0.5, bend at most 0.15, tract at most 0.7",
            )
        if min(self.shift, self.blur, self.tilt, self.room, self.swell, self.mix, self.noise, self.grain) < 0:
            raise UserError("views out of range", where=self, mend="no strength below 0")
        if not (0 <= self.hide_time < 1 and 0 <= self.hide_bands < 1):
            raise UserError("views out of range", where=self, mend="hidden shares are in [0, 1)")


class LogMelViews:
    """Views of log-mel: two draws of voice, pace, room and noise for the same recording, and `local` ones of a part of it.

    Eats `{"mel": (B, T, F), "pad": (B, T)}` as `speech.features.log_mel` makes it; gives `Views` of normalised (B, frames, F).
    """

    def __init__(self, config: ViewConfig, mel: MelConfig, norm: Norm, local: int = 0, local_frames: int = 16) -> None:
        self.config, self.norm = config, norm
        self.local, self.local_frames = local, local_frames
        self.hertz = (mel.low, mel.rate / 2)

    def view(self, batch: Batch, generator: Generator, local: bool = False) -> Tensor:
        """One view (B, frames, F); a local one is of a random half of the recording, (B, local_frames, F)."""
        c, mel = self.config, batch["mel"]
        count, device = len(mel), mel.device
        real = augment.lengths(mel, batch.get("pad"))
        start = augment.uniform(generator, count, -c.crop / 2, c.crop)
        end = 1 - augment.uniform(generator, count, -c.crop / 2, c.crop)
        if local:
            start = augment.uniform(generator, count, 0.0, 0.5)
            end = start + 0.5
        bend = (torch.rand(count, 2, generator=generator, device=device) * 2 - 1) * c.bend
        bend[:, 1] /= 2  # the whole wave changes the pace twice as fast
        tract = augment.uniform(generator, count, -c.tract, c.tract).exp()
        shift = augment.uniform(generator, count, -c.shift, c.shift)
        frames = self.local_frames if local else c.frames
        x = augment.resample(mel, real, start, end, bend, tract, shift, frames, self.hertz)
        x = normalise(self._coloured(x, generator), None, self.norm)
        x = augment.stripes(x, c.hide_time, 1, generator)
        return augment.stripes(x, c.hide_bands, 2, generator)

    def _coloured(self, x: Tensor, generator: Generator) -> Tensor:
        """Coarser in frequency, of another slope, room and gain, among other sounds."""
        c, (count, frames, bands), device = self.config, x.shape, x.device
        if c.blur:
            x = augment.blur(x, augment.uniform(generator, count, 0, c.blur))
        slope = torch.randn(count, 1, generator=generator, device=device) * torch.linspace(-1, 1, bands, device=device)
        colour = c.tilt * slope + c.room * augment.smooth_curve(generator, count, bands, 5)
        x = x + colour[:, None, :] + c.swell * augment.smooth_curve(generator, count, frames, 3)[:, :, None]
        x = self._sounds(x, generator)
        return x + c.grain * torch.randn(x.shape, generator=generator, device=device) if c.grain else x

    def _sounds(self, x: Tensor, generator: Generator) -> Tensor:
        """Another recording 5 to 25 dB below, and coloured noise 15 to 60 dB below the loudest cell."""
        c, count, device = self.config, len(x), x.device
        other = x[torch.randperm(count, generator=generator, device=device)]
        mixed = augment.mix(x, other, -augment.uniform(generator, count, 5, 25))
        x = torch.where(augment.uniform(generator, count, 0, 1)[:, None, None] < c.mix, mixed, x)
        level = -augment.uniform(generator, count, 15, 60) * augment.DECIBEL
        colour = level[:, None] + augment.smooth_curve(generator, count, x.shape[2], 4)
        noise = colour[:, None, :] + 0.5 * torch.randn(x.shape, generator=generator, device=device)
        noisy = torch.logaddexp(x, noise)
        return torch.where(augment.uniform(generator, count, 0, 1)[:, None, None] < c.noise, noisy, x)

    def __call__(self, batch: Batch, generator: Generator) -> Views:
        views = [self.view(batch, generator, local) for local in [False, False, *[True] * self.local]]
        return Views([{"mel": view, "index": batch["index"]} for view in views])


class Labelled:
    """Recordings with their given labels, for training from scratch or fine-tuning: `label[index]` is looked up, -100 is none.

    Args:
        views: the same changes as in pretraining, so that scratch has what the pretext has; None for as they are.
        prepare: what the encoder reads where no view is drawn.
    """

    def __init__(self, label: Tensor, views: LogMelViews | None, prepare) -> None:
        self.label, self.views, self.prepare = label, views, prepare

    def __call__(self, batch: Batch, generator: Generator) -> Pseudo:
        seen = {"mel": self.views.view(batch, generator)} if self.views else self.prepare(batch)
        return Pseudo(seen, self.label.to(batch["index"].device)[batch["index"]])


@dataclass(frozen=True)
class QuantiserConfig:
    """BEST-RQ's targets and mask: `codes` of `width` dimensions, `mask_ratio` of tokens hidden in spans of `span` tokens."""

    codes: int = 256
    width: int = 16
    mask_ratio: float = 0.5
    span: int = 3
    seed: int = 0

    def __post_init__(self) -> None:
        if self.codes < 2 or self.width < 1 or not 0 < self.mask_ratio < 1 or self.span < 1:
            raise UserError(
                "not a usable quantiser", where=self, mend="codes ≥ 2, width ≥ 1, mask_ratio in (0, 1), span ≥ 1"
            )


class QuantisedFrames:
    """BEST-RQ's pretext (Chiu et al. 2022): a fixed random projection and codebook number the stacked frames; predict hidden ones.

    Projection and codebook are drawn once from `config.seed` and never trained; distances are between unit vectors.

    Args:
        stride: frames a token, as in the encoder's stem.
        bands: of the log-mel.
        norm: how the input is normalised; the quantiser sees each band normalised over the utterance, without which most
            frames fall on few codes.
    """

    def __init__(self, config: QuantiserConfig, stride: int, bands: int, norm: Norm) -> None:
        generator = torch.Generator().manual_seed(config.seed)
        self.config, self.stride, self.norm = config, stride, norm
        size = stride * bands
        bound = (6 / (size + config.width)) ** 0.5  # Xavier, as in the paper
        self.projection = (torch.rand(size, config.width, generator=generator) * 2 - 1) * bound
        self.codebook = F.normalize(torch.randn(config.codes, config.width, generator=generator), dim=1)

    def codes(self, batch: Batch) -> Tensor:
        """Code of each token (B, T'), of log-mel (B, T, F); tokens of padding get -100."""
        mel, pad = batch["mel"], batch.get("pad")
        band = normalise(mel, pad, "band")
        count = -(-mel.shape[1] // self.stride)
        stacked = F.pad(band, (0, 0, 0, count * self.stride - mel.shape[1])).reshape(len(mel), count, -1)
        projected = F.normalize(stacked @ self.projection.to(mel.device), dim=-1)
        code = (projected @ self.codebook.to(mel.device).T).argmax(-1)  # nearest on the unit sphere
        return code if pad is None else code.masked_fill(pad[:, :: self.stride], -100)

    def __call__(self, batch: Batch, generator: Generator) -> Masked:
        mel, pad = batch["mel"], batch.get("pad")
        code = self.codes(batch)
        token_pad = torch.zeros_like(code, dtype=torch.bool) if pad is None else pad[:, :: self.stride]
        seen = {**batch, "mel": normalise(mel, pad, self.norm)}
        return Masked(seen, self._mask(token_pad, generator), {"code": code})

    def _mask(self, pad: Tensor, generator: Generator) -> Tensor:
        return span_mask(pad, self.config.mask_ratio, self.config.span, generator)
