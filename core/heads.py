"""What turns hidden states into losses and log-probabilities. Logits never leave a head.

Every head has `loss(hidden (N, D), target (N,), generator) -> scalar` and `log_prob(hidden, target) -> (N,)`, in fp32.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from core import distributed
from core.losses import unit
from core.norms import BatchNorm


class Head(nn.Module):
    """Base: the loss is the mean of −log p. `batch_statistics`: it depends on which rows are in the batch together."""

    batch_statistics: bool = False

    def log_prob(self, hidden: Tensor, target: Tensor) -> Tensor:
        raise TypeError(f"{type(self).__name__} must define log_prob")

    def loss(self, hidden: Tensor, target: Tensor, generator: Generator | None = None) -> Tensor:
        return distributed.mean(-self.log_prob(hidden, target))


class CategoricalHead(Head):
    """Base of heads over classes: they differ in how logits are made."""

    def logits(self, hidden: Tensor) -> Tensor:
        raise TypeError(f"{type(self).__name__} must define logits")

    def log_prob(self, hidden: Tensor, target: Tensor) -> Tensor:
        with torch.autocast(hidden.device.type, enabled=False):
            return -F.cross_entropy(self.logits(hidden.float()), target, reduction="none")

    def log_probs(self, hidden: Tensor) -> Tensor:
        """(N, C) log-probabilities of every class: for ranking and reason codes."""
        with torch.autocast(hidden.device.type, enabled=False):
            return self.logits(hidden.float()).log_softmax(-1)


class LinearHead(CategoricalHead):
    """A linear layer from D to C classes."""

    def __init__(self, dim: int, size: int) -> None:
        super().__init__()
        self.linear = nn.Linear(dim, size)

    def logits(self, hidden: Tensor) -> Tensor:
        return self.linear(hidden)


class CosineHead(CategoricalHead):
    """Cosines of the projected states with a vector for each of C classes, divided by `temperature` (HuBERT, Hsu et al. 2021)."""

    def __init__(self, dim: int, size: int, out: int, temperature: float = 0.1) -> None:
        super().__init__()
        self.project = nn.Linear(dim, out)
        self.table = nn.Parameter(torch.rand(size, out))
        self.temperature = temperature

    def logits(self, hidden: Tensor) -> Tensor:
        return unit(self.project(hidden)) @ unit(self.table).T / self.temperature


class TiedHead(CategoricalHead):
    """Inner products with an embedding table, plus a bias (Press & Wolf 2017); ids below `first` are never predicted.

    Args:
        dim: width of the hidden states.
        embedding: the table.
        first: ids below are reserved.
        bias: a number for each id is learned beside.
        temperature: above 0, products are of unit vectors, divided by it (cosine softmax, Wang et al. 2018): how often an id is met
            then no longer makes its vector long. 0: plain products.
    """

    def __init__(
        self, dim: int, embedding: nn.Embedding, first: int = 3, bias: bool = False, temperature: float = 0.0
    ) -> None:
        super().__init__()
        self.project = nn.Identity() if embedding.embedding_dim == dim else nn.Linear(dim, embedding.embedding_dim)
        self.table = [embedding]  # in a list, so that the table belongs to the stem alone
        self.first = first
        self.bias = nn.Parameter(torch.zeros(embedding.num_embeddings)) if bias else None
        self.temperature = temperature

    def asking(self, hidden: Tensor) -> Tensor:
        """Hidden states (N, D) as they are compared, (N, E)."""
        asked = self.project(hidden)
        return F.normalize(asked, dim=-1) / self.temperature if self.temperature else asked

    def answers(self, ids: Tensor | None = None) -> Tensor:
        """The table's rows as they are compared: of these ids, or all."""
        table = self.table[0]
        rows = (table.weight if ids is None else table(ids)).float()
        return F.normalize(rows, dim=-1) if self.temperature else rows

    def logits(self, hidden: Tensor) -> Tensor:
        weight = self.answers()
        logits = F.linear(self.asking(hidden), weight, self.bias)
        reserved = torch.arange(weight.shape[0], device=weight.device) < self.first
        return logits.masked_fill(reserved, -1e9)


def draw(first: int, size: int, count: int, generator: Generator | None, device: torch.device) -> Tensor:
    """(count,) ids from `first` to `size` − 1, drawn evenly, the same on every process."""
    place = device if generator is None else generator.device
    return distributed.broadcast(torch.randint(first, size, (count,), generator=generator, device=place).to(device))


class SampledHead(TiedHead):
    """`TiedHead` for a catalogue that is too large to score whole at every step: its loss scores a target against the batch's
    other targets and some items drawn evenly.

    All rows of all processes share these candidates. Targets of a batch are popular items, so each logit is lowered by the log
    of the chance that its item is among the candidates (logQ correction, Bengio & Senécal 2008; Yi et al. 2019): in
    expectation the loss is that of the whole catalogue. On Beauty's 12,101 items a step costs an eighth of full
    softmax; evenly drawn negatives alone are as cheap, but learn more slowly (ndcg@10 after 20 epochs .0461 against .0499).
    Log-probabilities are those of the whole catalogue.

    Args:
        dim: width of the hidden states.
        embedding: the table of the items.
        counts: (size,) how often each id is a target in training.
        negatives: items drawn evenly at each step.
        temperature: see `TiedHead`.
    """

    batch_statistics = True
    counts: Tensor

    def __init__(
        self, dim: int, embedding: nn.Embedding, counts: Tensor, negatives: int = 512, temperature: float = 0.0
    ) -> None:
        super().__init__(dim, embedding, temperature=temperature)
        self.negatives = negatives
        self.register_buffer("counts", counts.float())

    def log_chance(self, ids: Tensor, targets: int) -> Tensor:
        """log P(id is a candidate), given that many targets in the batch; (ids,)."""
        even = math.log1p(-1.0 / (self.table[0].num_embeddings - self.first))
        share = (self.counts[ids] / self.counts.sum().clamp(min=1)).clamp(max=0.999)
        missed = self.negatives * even + targets * torch.log1p(-share)  # log of the chance that no draw gives it
        return torch.log(-torch.expm1(missed))

    def loss(self, hidden: Tensor, target: Tensor, generator: Generator | None = None) -> Tensor:
        """Mean over rows (N, D) of all processes of −log softmax of the target among the candidates; scalar, fp32."""
        with torch.autocast(hidden.device.type, enabled=False):
            hidden = self.asking(hidden.float())
            drawn = draw(self.first, self.table[0].num_embeddings, self.negatives, generator, hidden.device)
            targets = distributed.gather(target)
            candidates = torch.unique(torch.cat([targets, drawn]))  # (C,) sorted
            logits = hidden @ self.answers(candidates).T - self.log_chance(candidates, len(targets))  # (N, C)
            return distributed.mean(F.cross_entropy(logits, torch.searchsorted(candidates, target), reduction="none"))


class GBCEHead(TiedHead):
    """`TiedHead` trained by generalised binary cross-entropy (gSASRec, Petrov & Macdonald 2023): the target against items drawn evenly.

    −(β log σ(s⁺) + Σ log(1 − σ(s⁻))) ÷ (negatives + 1), with β = α (t (1 − 1/α) + 1/α) and α = negatives ÷ (items − 1). Plain
    binary cross-entropy (t = 0) makes a model of a few negatives overconfident: it tells targets from random items, and not from
    near ones. At t = 1 the probabilities σ(s) are unbiased whatever the number of negatives.

    Where the paper draws items for each place, all rows of all processes share one draw, as in `SampledHead`; a row's own target
    among them does not count. Log-probabilities are those of a softmax over the catalogue: where σ(s) is small, and it is for
    all but a few items, both rank and compare items alike.

    Args:
        dim: width of the hidden states.
        embedding: the table of the items.
        negatives: items drawn at each step; 0, or as many as there are others, takes every item once.
        calibration: t, in [0, 1].
        temperature: see `TiedHead`.
    """

    def __init__(
        self,
        dim: int,
        embedding: nn.Embedding,
        negatives: int = 256,
        calibration: float = 0.75,
        temperature: float = 0.0,
    ) -> None:
        super().__init__(dim, embedding, temperature=temperature)
        others = max(embedding.num_embeddings - self.first - 1, 1)
        self.negatives = negatives if 0 < negatives < others else others
        self.all = self.negatives == others
        self.power = 1 - calibration * (1 - self.negatives / others)  # β, of which the formula above is the long form

    def loss(self, hidden: Tensor, target: Tensor, generator: Generator | None = None) -> Tensor:
        """Mean over rows (N, D) of all processes; scalar, fp32."""
        with torch.autocast(hidden.device.type, enabled=False):
            hidden, size = self.asking(hidden.float()), self.table[0].num_embeddings
            if self.all:
                drawn = torch.arange(self.first, size, device=hidden.device)
            else:
                drawn = draw(self.first, size, self.negatives, generator, hidden.device)
            own = (hidden * self.answers(target)).sum(1)  # (N,)
            others = hidden @ self.answers(drawn).T  # (N, negatives)
            apart = F.logsigmoid(-others).masked_fill(drawn == target[:, None], 0.0).sum(1)
            return distributed.mean(-(self.power * F.logsigmoid(own) + apart) / (self.negatives + 1))


class MultiLabelHead(Head):
    """Which of many labels hold, each a question of its own (binary cross-entropy over all of them).

    Targets are sets: ids (N, K), those that are not there -100. Probabilities start where a row has one label, since with many
    labels an even start would have to unlearn most of them first.

    Args:
        dim: width of the hidden states.
        size: labels.
    """

    def __init__(self, dim: int, size: int) -> None:
        super().__init__()
        self.linear = nn.Linear(dim, size)
        nn.init.constant_(self.linear.bias, -math.log(max(size - 1, 1)))

    def log_prob(self, hidden: Tensor, target: Tensor) -> Tensor:
        """log-probability (N,) that exactly these labels hold."""
        with torch.autocast(hidden.device.type, enabled=False):
            logits = self.linear(hidden.float())  # (N, size)
            own = logits.gather(1, target.clamp(min=0)).masked_fill(target == -100, 0.0)
            return own.sum(1) - F.softplus(logits).sum(1)


class MixtureHead(Head):
    """A mixture of Gaussians for one standardised number (Bishop 1994), able to give both density and tail.

    Args:
        dim: width of the hidden states.
        components: Gaussians in the mixture.
        trim: this fraction of a batch's worst losses is left out, so that outliers in unlabelled data do not teach.
    """

    def __init__(self, dim: int, components: int = 8, trim: float = 0.0) -> None:
        super().__init__()
        self.linear = nn.Linear(dim, 3 * components)
        self.trim, self.batch_statistics = trim, trim > 0
        with torch.no_grad():  # start with the components spread over the standardised range
            self.linear.bias[components : 2 * components] = torch.linspace(-2, 2, components)

    def _parts(self, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        weight, mean, log_std = self.linear(hidden.float()).chunk(3, -1)
        return weight.log_softmax(-1), mean, log_std.clamp(-5, 3)

    def log_prob(self, hidden: Tensor, target: Tensor) -> Tensor:
        with torch.autocast(hidden.device.type, enabled=False):
            log_weight, mean, log_std = self._parts(hidden)
            z = (target.float()[:, None] - mean) / log_std.exp()
            return (log_weight - 0.5 * z**2 - log_std - 0.5 * math.log(2 * math.pi)).logsumexp(-1)

    def log_survival(self, hidden: Tensor, target: Tensor) -> Tensor:
        """log P(X ≥ target), (N,): how surprising it is that the number is this large."""
        with torch.autocast(hidden.device.type, enabled=False):
            log_weight, mean, log_std = self._parts(hidden)
            z = (target.float()[:, None] - mean) / log_std.exp()
            return (log_weight + torch.special.log_ndtr(-z)).logsumexp(-1)

    def quantile(self, hidden: Tensor, share: float) -> Tensor:
        """The value (N,), in standardised units, below which the number lies with probability `share`, in (0, 1); to 1e-4 or better."""
        with torch.autocast(hidden.device.type, enabled=False):
            _, mean, log_std = self._parts(hidden)
            reach = 10 * log_std.exp()
            low, high = (mean - reach).amin(-1), (mean + reach).amax(-1)
            for _ in range(32):  # bisection: a mixture's quantiles have no closed form
                middle = (low + high) / 2
                below = self.log_survival(hidden, middle) > math.log1p(-share)
                low, high = torch.where(below, middle, low), torch.where(below, high, middle)
            return (low + high) / 2

    def mean(self, hidden: Tensor) -> Tensor:
        """Expected value (N,), in standardised units."""
        with torch.autocast(hidden.device.type, enabled=False):
            log_weight, mean, _ = self._parts(hidden)
            return (log_weight.exp() * mean).sum(-1)

    def loss(self, hidden: Tensor, target: Tensor, generator: Generator | None = None) -> Tensor:
        losses = -self.log_prob(hidden, target)
        if not self.trim:
            return distributed.mean(losses)
        losses = distributed.gather(losses)  # which losses are the worst is asked of the whole batch
        keep = len(losses) - int(self.trim * len(losses))
        return losses.topk(keep, largest=False).values.sum() / max(keep, 1)


def mlp(dim: int, hidden: int, out: int, layers: int = 2, last_norm: bool = False, norm: bool = True) -> nn.Sequential:
    """A projection or prediction head: linear layers with batch norm (over all processes) and ReLU between them.

    Args:
        dim, hidden, out: widths of the input, the inner layers and the output.
        layers: linear layers.
        last_norm: a batch norm without affine after the last one (SimSiam, VICReg's relatives).
        norm: batch norms between the layers; False leaves them out, for batches that are too small for statistics.
    """
    parts: list[nn.Module] = []
    for place in range(layers):
        last = place == layers - 1
        bias = (last and not last_norm) or not norm
        parts.append(nn.Linear(dim if place == 0 else hidden, out if last else hidden, bias=bias))
        if not last:
            parts += [*([BatchNorm(hidden)] if norm else []), nn.ReLU()]
        elif last_norm:
            parts.append(BatchNorm(out, affine=False))
    return nn.Sequential(*parts)


def head_table(heads: Mapping[str, Head] | nn.ModuleDict) -> nn.ModuleDict:
    """Heads by the name of what they predict, as one module."""
    return heads if isinstance(heads, nn.ModuleDict) else nn.ModuleDict(dict(heads))
