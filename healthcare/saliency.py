"""Where a classifier looks: one map an image, and two checks of whether the map can be believed.

Grad-CAM (Selvaraju et al. 2017) for convolutional networks; for transformers relevance through attention (Chefer et al.
2021). A map that looks the same for weights drawn anew shows the image, not what was learned (Adebayo et al. 2018); a map that marks what
the answer rests on must cost more probability when deleted than as much of the image deleted at random.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from core.encoders import ConvNet, Encoder, TokenEncoder, Transformer
from core.encoders.encoder import pool_tokens
from core.errors import UserError
from core.tokens import Tokens
from healthcare.classifier import Heads, ImageClassifier
from healthcare.estimators import ImageEncoder

SIDE = 7  # a map of fewer places a side is too coarse to point at anything
ANEW = 3  # networks drawn anew that a map is compared with
DELETED = 0.2  # share of an image that the deletion check takes out
MODES = {4: "bilinear", 5: "trilinear"}
BLOCK = 64  # images explained at once


class Network(nn.Module):
    """Encoder and linear layer as one module over images (B, C, …).

    What speaks for a class is what raises its logit beyond the others': of classes that exclude each other the logits are centred.
    """

    def __init__(self, encoder: Encoder, heads: Heads, several: bool) -> None:
        super().__init__()
        self.encoder, self.heads, self.several = encoder, heads, several

    def answers(self, features: Tensor) -> Tensor:
        logits = self.heads(features)
        return logits if self.several else logits - logits.mean(1, keepdim=True)

    def forward(self, image: Tensor) -> Tensor:
        return self.answers(self.encoder.embed({"image": image}))


@dataclass(frozen=True)
class Checked:
    """Maps of M images and what the checks say of them.

    Attributes:
        maps: (M, …) as large as the image, 0 to 1.
        column: (M,) class or finding that is explained; probability: (M,) that was said of it.
        heads, whole: (M,) rank correlation with the map for another linear layer, and for a whole network, of weights drawn anew; not a
            number where a map is flat.
        drop, random: (M,) probability lost by deleting the most marked fifth of the image, and a fifth at random places.
    """

    maps: NDArray[np.float32]
    column: NDArray[np.int64]
    probability: NDArray[np.float64]
    heads: NDArray[np.float64]
    whole: NDArray[np.float64]
    drop: NDArray[np.float64]
    random: NDArray[np.float64]


def saliency(network: Network, pixels: NDArray[np.float32], column: NDArray[np.int64]) -> NDArray[np.float32]:
    """Maps (N, …), as large as the images (N, C, …), of what speaks for class or finding `column` (N,); each from 0 to 1.

    Nothing is cut off below, as Grad-CAM does at 0: the least of a map is what speaks most against.

    Raises:
        UserError: an encoder that is neither convolutional nor a transformer.
    """
    network.eval()
    out = np.zeros((len(pixels), *pixels.shape[2:]), np.float32)
    for one in np.unique(column):
        rows = np.flatnonzero(column == one)
        for start in range(0, len(rows), BLOCK):
            part = rows[start : start + BLOCK]
            image = torch.from_numpy(np.ascontiguousarray(pixels[part])).to(next(network.encoder.parameters()).device)
            if isinstance(network.encoder, ConvNet):
                found = grad_cam(network, image, int(one))
            elif isinstance(network.encoder, TokenEncoder) and isinstance(network.encoder.trunk, Transformer):
                found = relevance(network, image, int(one))
            else:
                raise UserError("no saliency for this encoder", where="encoder", mend="use a convolutional one, or vit")
            large = F.interpolate(found, size=image.shape[2:], mode=MODES[image.dim()], align_corners=False)
            out[part] = large[:, 0].detach().cpu().numpy()
    low, high = (f(out.reshape(len(out), -1), axis=1) for f in (np.min, np.max))
    spread = np.where(high > low, high - low, 1.0)
    shape = (-1, *[1] * (out.ndim - 1))
    return (out - low.reshape(shape)) / spread.reshape(shape)


def check(
    classifier: ImageClassifier, pixels: NDArray[np.float32], column: NDArray[np.int64] | None = None, seed: int = 0
) -> Checked:
    """Maps of images (M, C, …), and both checks.

    Args:
        column: (M,) what is explained; None: the most probable class or finding of each image.
    """
    network = Network(classifier.encoder_, classifier.heads_, classifier.decision_.several)
    said = _said(classifier, network, pixels)
    asked = said.argmax(1) if column is None else column
    every = np.arange(len(pixels))
    maps = saliency(network, pixels, asked)
    generator = np.random.default_rng(seed)
    alike = np.array(
        [
            [_rank_correlation(maps, saliency(o, pixels, asked)) for o in _anew(classifier, seed + k)]
            for k in range(ANEW)
        ]
    )  # (draws, 2, M)
    heads, whole = alike.mean(0)
    kept = said[every, asked]
    drop = kept - _said(classifier, network, _deleted(pixels, maps))[every, asked]
    random = [
        kept - _said(classifier, network, _deleted(pixels, _noise(maps.shape, generator)))[every, asked]
        for _ in range(5)
    ]
    return Checked(maps, asked, kept, heads, whole, drop, np.mean(random, axis=0))


def _anew(classifier: ImageClassifier, seed: int) -> list[Network]:
    """The network with a linear layer of weights drawn anew, and with all weights drawn anew."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        classes, dim = classifier.heads_.weight.shape
        heads = Heads(classes, dim, 0)
        heads.weight.normal_().mul_(classifier.heads_.weight.std())
        whole = ImageEncoder.build(ImageEncoder.describe(classifier)).encoder_
    whole.to(next(classifier.encoder_.parameters()).device).eval()
    return [Network(body, heads, classifier.decision_.several) for body in (classifier.encoder_, whole)]


@torch.no_grad()
def _said(classifier: ImageClassifier, network: Network, pixels: NDArray[np.float32]) -> NDArray[np.float64]:
    """Calibrated probabilities (N, K) of the images alone, without crops."""
    device = next(network.encoder.parameters()).device
    parts = [
        network.encoder.embed({"image": torch.from_numpy(pixels[i : i + BLOCK]).to(device)}).float().cpu().numpy()
        for i in range(0, len(pixels), BLOCK)
    ]
    return classifier.calibrated(np.concatenate(parts))


def grad_cam(network: Network, image: Tensor, column: int) -> Tensor:
    """(B, 1, …) maps of the last stage that is not too coarse, weighted by the answer's mean gradient; not cut off at 0."""
    encoder = network.encoder
    assert isinstance(encoder, ConvNet)
    stages = encoder.layers({"image": image})
    fine = [stage for stage in stages if min(stage.shape[2:]) >= SIDE]
    stage = fine[-1] if fine else stages[0]
    last = Tokens(stages[-1].flatten(2).transpose(1, 2))
    answers = network.answers(pool_tokens(last, encoder.pool))
    (gradient,) = torch.autograd.grad(answers[:, column].sum(), stage)
    weight = gradient.mean(tuple(range(2, stage.dim())), keepdim=True)
    return (weight * stage.detach()).sum(1, keepdim=True)


def relevance(network: Network, image: Tensor, column: int) -> Tensor:
    """What each patch adds to the answer, (B, 1, …) through attention weighted by its gradient (Chefer et al. 2021)."""
    encoder = network.encoder
    assert isinstance(encoder, TokenEncoder) and isinstance(encoder.trunk, Transformer)
    tokens = encoder.stem({"image": image})
    states, weights = encoder.trunk.watched(tokens)
    logits = network.answers(pool_tokens(states, encoder.pool))
    gradients = torch.autograd.grad(logits[:, column].sum(), weights)
    places = weights[0].shape[-1]
    total = torch.eye(places, device=image.device).expand(len(image), -1, -1)
    for weight, gradient in zip(weights, gradients, strict=True):
        total = total + (weight * gradient).clamp(min=0).mean(1).detach() @ total
    each = total.mean(1) - 1 / places  # (B, T): without what each token gives itself
    return each.view(len(image), 1, *(tokens.grid or (places,)))


def _rank_correlation(a: NDArray, b: NDArray) -> NDArray[np.float64]:
    """Spearman's (N,) of the places of two stacks of maps."""
    from scipy.stats import spearmanr

    found = np.full(len(a), np.nan)
    for row, (x, y) in enumerate(zip(a.reshape(len(a), -1), b.reshape(len(b), -1), strict=True)):
        if x.min() < x.max() and y.min() < y.max():
            found[row] = float(spearmanr(x, y)[0])
    return found


def _deleted(pixels: NDArray[np.float32], maps: NDArray[np.float32]) -> NDArray[np.float32]:
    """Images whose most marked fifth is replaced by the image's mean, channel by channel."""
    flat = maps.reshape(len(maps), -1)
    count = round(DELETED * flat.shape[1])
    gone = np.zeros(flat.shape, bool)
    np.put_along_axis(gone, np.argsort(-flat, axis=1, kind="stable")[:, :count], True, axis=1)
    mean = pixels.mean(tuple(range(2, pixels.ndim)), keepdims=True)
    return np.where(gone.reshape(maps.shape)[:, None], mean, pixels)


def _noise(shape: tuple[int, ...], generator: np.random.Generator) -> NDArray[np.float32]:
    """Maps of blobs at random places, about as coarse as the real ones."""
    coarse = torch.from_numpy(generator.random((shape[0], 1, *[SIDE] * (len(shape) - 1)), dtype=np.float32))
    return F.interpolate(coarse, size=shape[1:], mode=MODES[len(shape) + 1], align_corners=False)[:, 0].numpy()
