"""Every method on small data, for the tests of what holds for all of them and for the two processes that they launch.

A case gives a method with fresh weights and what its pretext made of one batch: always the same for the same number of rows.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from core.encoders import (
    GRU,
    Encoder,
    Field,
    FieldStem,
    FrameStem,
    GRUConfig,
    ItemStem,
    PatchStem,
    TokenEncoder,
    Transformer,
    TransformerConfig,
    WaveformStem,
    small_convnet,
)
from core.heads import LinearHead, SampledHead
from core.masking import random_mask, span_mask
from core.methods import (
    BYOL,
    CPC,
    DINO,
    Autoregressive,
    BarlowTwins,
    BYOLConfig,
    Classifier,
    CoLES,
    CoLESConfig,
    CPCConfig,
    Data2Vec,
    Data2VecConfig,
    DeepCluster,
    DeepClusterConfig,
    DenoiseConfig,
    DenoisingAutoencoder,
    DINOConfig,
    Hubert,
    HubertConfig,
    Joint,
    MAEConfig,
    MaskedAutoencoder,
    MaskedPrediction,
    Method,
    MoCo,
    MoCoConfig,
    Part,
    Position,
    PositionConfig,
    PretextClassifier,
    PuzzleConfig,
    SimCLR,
    SimCLRConfig,
    SimSiam,
    SimSiamConfig,
    SwAV,
    SwAVConfig,
    TokenLabels,
    TokenLabelsConfig,
    VAEConfig,
    VariationalAutoencoder,
    VICReg,
    Wav2Vec2,
    Wav2Vec2Config,
)
from core.pretext import Corrupted, Joined, Masked, Pieces, Placed, PretextOutput, Pseudo, Shifted, Views
from core.tokens import Batch

ROWS, TIME, SIDE, BANDS = 12, 11, 16, 8
FIELDS = (Field("category", "categorical", 12), Field("amount", "numeric"))


def drawn(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(rows: int = ROWS, side: int = SIDE, seed: int = 0) -> Batch:
    """Rows of three planted kinds, so that there is something to learn."""
    g = drawn(seed)
    kind = torch.arange(rows) % 3
    base = torch.randn(3, 1, side, side, generator=drawn(7))
    image = base[kind] + 0.5 * torch.randn(rows, 1, side, side, generator=g)
    return {"image": image, "index": torch.arange(rows)}


def events(rows: int = ROWS, time: int = TIME, seed: int = 0) -> Batch:
    """Padded event sequences; every row has at least 4 events."""
    g = drawn(seed)
    length = torch.randint(4, TIME + 1, (rows,), generator=g)
    length[0] = TIME
    pad = torch.arange(time)[None] >= length[:, None]
    category = torch.randint(3, 12, (rows, TIME), generator=g)
    amount = torch.randn(rows, TIME, generator=g)
    frames = torch.randn(rows, 4 * TIME, BANDS, generator=g)
    wide = time - TIME
    batch = {
        "category": F.pad(category, (0, wide)), "item": F.pad(category, (0, wide)), "amount": F.pad(amount, (0, wide)),
        "pad": pad, "index": torch.arange(rows),
    }  # fmt: skip
    batch = {k: v.masked_fill(pad, 0) if k not in ("pad", "index") else v for k, v in batch.items()}
    return batch | {"mel": F.pad(frames, (0, 0, 0, 4 * wide)).masked_fill(pad.repeat_interleave(4, 1)[..., None], 0.0)}


def audio(rows: int = ROWS, time: int = TIME, seed: int = 0) -> Batch:
    """Padded log-mel, four frames a token."""
    batch = events(rows, time, seed)
    return {"mel": batch["mel"], "pad": batch["pad"].repeat_interleave(4, 1), "index": batch["index"]}


def sound(rows: int = ROWS, time: int = TIME, seed: int = 0) -> Batch:
    """Padded waves, eight samples a token."""
    pad = events(rows, time, seed)["pad"].repeat_interleave(8, 1)
    wave = F.pad(torch.randn(rows, 8 * TIME, generator=drawn(seed + 11)), (0, 8 * (time - TIME)))
    return {"wave": wave.masked_fill(pad, 0.0), "pad": pad, "index": torch.arange(rows)}


def token_pad(rows: int, time: int) -> Tensor:
    return events(rows, time)["pad"]


def widened(mask: Tensor, time: int) -> Tensor:
    return F.pad(mask, (0, time - mask.shape[1]))


def trunk(causal: bool = False, dim: int = 16, depth: int = 2) -> Transformer:
    return Transformer(TransformerConfig(dim=dim, depth=depth, heads=2, causal=causal, position="sinusoidal"))


def fields(causal: bool = False) -> TokenEncoder:
    return TokenEncoder(FieldStem(FIELDS, 16), trunk(causal), "mean")


def patches() -> TokenEncoder:
    return TokenEncoder(PatchStem(1, 4, 16), trunk(), "mean")


def frames(causal: bool = False) -> TokenEncoder:
    return TokenEncoder(FrameStem(BANDS, 16, 4), trunk(causal), "mean")


def waves(causal: bool = False) -> TokenEncoder:
    return TokenEncoder(WaveformStem(16, 12, ((6, 4), (2, 2))), trunk(causal), "mean")


# pretext outputs: always the same draws for the same rows, however long the padding


def two_views(rows: int = ROWS, time: int = TIME) -> Views:
    return Views([images(rows, seed=s) for s in (1, 2)])


def multi_crop(rows: int = ROWS, time: int = TIME) -> Views:
    return Views([*(images(rows, seed=s) for s in (1, 2)), *(images(rows, SIDE // 2, seed=s) for s in (3, 4))])


def event_views(rows: int = ROWS, time: int = TIME) -> Views:
    return Views([events(rows, time, seed=s) for s in (1, 2)])


def hidden_fields(rows: int = ROWS, time: int = TIME) -> Masked:
    batch, g = events(rows, time), drawn(5)
    mask = {f.name: widened(random_mask(token_pad(rows, TIME), 0.3, g), time) for f in FIELDS}
    return Masked(batch, mask, {name: batch[name] for name in mask})


def hidden_items(rows: int = ROWS, time: int = TIME) -> Masked:
    batch = events(rows, time)
    mask = {"item": widened(random_mask(token_pad(rows, TIME), 0.3, drawn(5)), time)}
    return Masked(batch, mask, {"item": batch["item"]})


def hidden_tokens(rows: int = ROWS, time: int = TIME) -> Masked:
    return Masked(events(rows, time), widened(random_mask(token_pad(rows, TIME), 0.3, drawn(5)), time), {})


def hidden_frames(rows: int = ROWS, time: int = TIME) -> Masked:
    batch = audio(rows, time)
    mask = widened(span_mask(token_pad(rows, TIME), 0.4, 2, drawn(5)), time)
    values = batch["mel"].reshape(rows, time, 4 * BANDS)
    return Masked(batch, mask, {"patch": values})


def hidden_sound(rows: int = ROWS, time: int = TIME) -> Masked:
    mask = widened(span_mask(token_pad(rows, TIME), 0.5, 2, drawn(5)), time)
    return Masked(sound(rows, time), mask, {})


def hidden_units(rows: int = ROWS, time: int = TIME) -> Masked:
    unit = (events(rows, time)["category"] % 5).masked_fill(events(rows, time)["pad"], -100)
    return dataclasses.replace(hidden_sound(rows, time), target={"unit": unit})


def hidden_patches(rows: int = ROWS, time: int = TIME) -> Masked:
    batch = images(rows)
    mask = random_mask(torch.zeros(rows, 16, dtype=torch.bool), 0.5, drawn(5))
    return Masked(batch, mask, {"patch": PatchStem(1, 4, 16).values(batch)})


def noisy_images(rows: int = ROWS, time: int = TIME) -> Corrupted:
    clean = images(rows)
    noise = torch.randn(clean["image"].shape, generator=drawn(6))
    return Corrupted({**clean, "image": clean["image"] + 0.3 * noise}, clean)


def noisy_fields(rows: int = ROWS, time: int = TIME) -> Corrupted:
    clean = events(rows, time)
    wrong = widened(random_mask(token_pad(rows, TIME), 0.3, drawn(6)), time)
    return Corrupted({**clean, "category": clean["category"].masked_fill(wrong, 3)}, clean)


def turned(rows: int = ROWS, time: int = TIME) -> Pseudo:
    batch = images(rows)
    label = torch.arange(rows) % 4
    turned = torch.stack([torch.rot90(x, int(k), (1, 2)) for x, k in zip(batch["image"], label, strict=True)])
    return Pseudo({**batch, "image": turned}, label)


def tiles(rows: int = ROWS, time: int = TIME) -> Pieces:
    image = images(rows)["image"]
    half = image.shape[-1] // 2
    return Pieces([{"image": image[..., :half, :half]}, {"image": image[..., half:, half:]}], torch.arange(rows) % 2)


def placed(rows: int = ROWS, time: int = TIME) -> Placed:
    """Halves of an image as bases; one crop is the left half, one lies between both."""
    image = images(rows)["image"]
    half = image.shape[-1] // 2
    bases = [{"image": image[..., :half]}, {"image": image[..., half:]}]
    crops = [{"image": image[..., :half]}, {"image": image[..., half // 2 : half // 2 + half]}]
    return Placed(bases, crops, torch.tensor([[1.0, 0.0], [0.5, 0.5]]).expand(rows, 2, 2))


def swapped(rows: int = ROWS, time: int = TIME) -> Pseudo:
    batch = events(rows, time)
    wrong = widened(random_mask(token_pad(rows, TIME), 0.3, drawn(6)), time)
    return Pseudo(
        {**batch, "category": batch["category"].masked_fill(wrong, 3)}, wrong.long().masked_fill(batch["pad"], -100)
    )


def shifted(rows: int = ROWS, time: int = TIME) -> Shifted:
    return Shifted(events(rows, time))


def shifted_items(rows: int = ROWS, time: int = TIME) -> Shifted:
    return Shifted({k: v for k, v in events(rows, time).items() if k in ("item", "pad", "index")})


def shifted_frames(rows: int = ROWS, time: int = TIME) -> Shifted:
    return Shifted(audio(rows, time))


@dataclass(frozen=True)
class Case:
    """A method and what it eats; `padded`: its input may carry padding."""

    method: Callable[[], Method]
    data: Callable[..., PretextOutput | Joined]
    padded: bool = False


def sampled() -> Method:
    encoder = TokenEncoder(ItemStem(12, 16, norm=True), trunk(True), "last")
    counts = torch.arange(12).float()
    return Autoregressive(encoder, {"item": SampledHead(16, encoder.stem.embedding, counts, 5)})


def masked_items() -> Method:
    encoder = TokenEncoder(ItemStem(12, 16), trunk(), "mean")
    return MaskedPrediction(encoder, {"item": SampledHead(16, encoder.stem.embedding, torch.ones(12), 5)})


def labelled(rows: int = ROWS, time: int = TIME) -> Pseudo:
    """Two labels a token, told by its item."""
    batch = events(rows, time)
    label = torch.stack([batch["item"] % 5, 5 + batch["item"] % 2], -1)
    return Pseudo(batch, label.masked_fill(batch["pad"][..., None], -100))


def joined(**parts: Callable[..., PretextOutput]) -> Callable[..., Joined]:
    return lambda rows=ROWS, time=TIME: Joined({name: made(rows, time) for name, made in parts.items()})


def event_joint() -> Method:
    encoder = fields(causal=True)
    return Joint(
        {
            "next": Part(Autoregressive(encoder, encoder.stem.heads())),
            "views": Part(SimCLR(encoder, SimCLRConfig(hidden=0)), 0.3),
            "replaced": Part(PretextClassifier(encoder, PuzzleConfig(classes=(("replaced", 2),), per_token=True)), 0.2),
        }
    )


def token_joint() -> Method:
    """None of its parts mixes rows."""
    encoder = TokenEncoder(ItemStem(12, 16), trunk(True), "mean")
    return Joint(
        {
            "next": Part(Autoregressive(encoder, encoder.stem.heads())),
            "labels": Part(TokenLabels(encoder, TokenLabelsConfig(count=7)), 0.5),
        }
    )


def image_joint() -> Method:
    """With a teacher, clusters and a pretext of its own each."""
    encoder = convnet()
    return Joint(
        {
            "clusters": Part(DeepCluster(encoder, ROWS, DeepClusterConfig(clusters=3))),
            "byol": Part(BYOL(encoder, BYOLConfig(hidden=16, out=8)), 0.5),
            "rotation": Part(PretextClassifier(encoder, PuzzleConfig(classes=(("rotation", 4),))), 0.1),
        }
    )


def with_heads(kind: type, causal: bool = False, trim: float = 0.0) -> Method:
    encoder = fields(causal)
    return kind(encoder, encoder.stem.heads(trim=trim))


def convnet() -> Encoder:
    return small_convnet(1, 8)


CASES: dict[str, Case] = {
    "simclr": Case(lambda: SimCLR(convnet(), SimCLRConfig(hidden=16, out=8)), two_views),
    "simclr, grouped events": Case(
        lambda: SimCLR(fields(), SimCLRConfig(hidden=16, out=8)),
        lambda rows=ROWS, time=TIME: dataclasses.replace(event_views(rows, time), group=torch.arange(rows) // 2), True,
    ),
    "coles": Case(lambda: CoLES(convnet(), CoLESConfig(margin=1.0)), two_views),
    "coles, grouped events": Case(
        lambda: CoLES(fields(), CoLESConfig(margin=1.0)),
        lambda rows=ROWS, time=TIME: dataclasses.replace(event_views(rows, time), group=torch.arange(rows) // 2), True,
    ),
    "moco": Case(lambda: MoCo(convnet(), MoCoConfig(hidden=16, out=8, queue=48)), two_views),
    "byol": Case(lambda: BYOL(convnet(), BYOLConfig(hidden=16, out=8)), two_views),
    "simsiam": Case(lambda: SimSiam(convnet(), SimSiamConfig(hidden=16, out=8)), two_views),
    "barlow": Case(lambda: BarlowTwins(convnet()), two_views),
    "vicreg": Case(lambda: VICReg(convnet()), two_views),
    "swav": Case(lambda: SwAV(convnet(), SwAVConfig(prototypes=6)), multi_crop),
    "deepcluster": Case(lambda: DeepCluster(convnet(), ROWS, DeepClusterConfig(clusters=3)), two_views),
    "dino": Case(lambda: DINO(convnet(), DINOConfig(out=24)), multi_crop),
    "masked fields": Case(lambda: with_heads(MaskedPrediction), hidden_fields, True),
    "masked fields, trimmed": Case(lambda: with_heads(MaskedPrediction, trim=0.2), hidden_fields, True),
    "masked items, sampled": Case(masked_items, hidden_items, True),
    "masked frames": Case(
        lambda: MaskedPrediction(frames(), {"code": LinearHead(16, 5)}),
        lambda rows=ROWS, time=TIME: dataclasses.replace(
            hidden_frames(rows, time), target={"code": events(rows, time)["category"] % 5}
        ), True,
    ),
    "mae, patches": Case(lambda: MaskedAutoencoder(patches(), MAEConfig(dim=16, heads=2)), hidden_patches),
    "mae, frames": Case(lambda: MaskedAutoencoder(frames(), MAEConfig(dim=16, heads=2)), hidden_frames, True),
    "data2vec, frames": Case(lambda: Data2Vec(frames(), Data2VecConfig()), hidden_frames, True),
    "data2vec, fields": Case(lambda: Data2Vec(fields(), Data2VecConfig()), hidden_fields, True),
    "data2vec, tokens": Case(lambda: Data2Vec(fields(), Data2VecConfig()), hidden_tokens, True),
    "wav2vec2": Case(lambda: Wav2Vec2(waves(), Wav2Vec2Config(codes=5, width=8, out=8, negatives=6)), hidden_sound, True),
    "wav2vec2, frames": Case(
        lambda: Wav2Vec2(frames(), Wav2Vec2Config(codes=5, width=8, out=8, negatives=6)), hidden_frames, True
    ),
    "hubert": Case(lambda: Hubert(waves(), HubertConfig(units=5, out=8, unmasked=0.5)), hidden_units, True),
    "denoise, images": Case(lambda: DenoisingAutoencoder(convnet(), DenoiseConfig()), noisy_images),
    "denoise, fields": Case(
        lambda: (lambda e: DenoisingAutoencoder(e, DenoiseConfig(), heads=e.stem.heads()))(fields()), noisy_fields, True
    ),
    "vae": Case(lambda: VariationalAutoencoder(convnet(), VAEConfig(latent=6)), noisy_images),
    "next": Case(lambda: with_heads(Autoregressive, causal=True), shifted, True),
    "next, sampled": Case(sampled, shifted_items, True),
    "cpc, events": Case(lambda: CPC(TokenEncoder(FieldStem(FIELDS, 16), GRU(GRUConfig(dim=16)), "mean"), CPCConfig()), shifted, True),
    "cpc, frames": Case(lambda: CPC(frames(True), CPCConfig()), shifted_frames, True),
    "rotation": Case(lambda: PretextClassifier(convnet(), PuzzleConfig(classes=(("rotation", 4),))), turned),
    "replaced": Case(lambda: PretextClassifier(fields(), PuzzleConfig(classes=(("replaced", 2),), per_token=True)), swapped, True),
    "jigsaw": Case(
        lambda: PretextClassifier(convnet(), PuzzleConfig(classes=(("order", 2),), pieces=2, hidden=8)), tiles
    ),
    "position": Case(lambda: Position(convnet(), PositionConfig(hidden=16, out=8)), placed),
    "classifier": Case(lambda: Classifier(convnet(), 4), turned),
    "labels": Case(lambda: TokenLabels(TokenEncoder(ItemStem(12, 16), trunk(), "mean"), TokenLabelsConfig(count=7)), labelled, True),
    "joint, events": Case(event_joint, joined(next=shifted, views=event_views, replaced=swapped), True),
    "joint, tokens": Case(token_joint, joined(next=shifted, labels=labelled), True),
    "joint, images": Case(image_joint, joined(clusters=two_views, byol=two_views, rotation=turned)),
}  # fmt: skip


def fresh(name: str, seed: int = 0) -> Method:
    """The case's method with the weights of a seed, in training mode; clustering methods have clustered once."""
    torch.manual_seed(seed)
    method = CASES[name].method().train()
    method.start_epoch(0, lambda: torch.randn(ROWS, method.encoder.dim, generator=drawn(8)), drawn(9))
    return method


def rows_of(data: Any, where: slice) -> Any:
    """Those rows of everything in a pretext's output."""
    if isinstance(data, Tensor):
        return data[where]
    if isinstance(data, dict):
        return {key: rows_of(value, where) for key, value in data.items()}
    if isinstance(data, list):
        return [rows_of(value, where) for value in data]
    if dataclasses.is_dataclass(data):
        parts = {f.name: rows_of(getattr(data, f.name), where) for f in dataclasses.fields(data)}
        return dataclasses.replace(data, **parts)  # type: ignore[type-var]
    return data
