"""Exported encoders give what the encoder gives, for any number of rows and any length."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

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
    resnet,
    small_convnet,
)
from core.errors import UserError
from core.estimator import PretrainedEncoder
from core.export import export
from core.norms import synchronised
from core.tokens import Batch

FIELDS = (Field("category", "categorical", 12), Field("amount", "numeric"))


def trunk(causal: bool = False, position: str = "sinusoidal") -> Transformer:
    return Transformer(TransformerConfig(dim=16, depth=1, heads=2, causal=causal, position=position, max_length=64))


def padding(rows: int, time: int, draw: torch.Generator) -> Tensor:
    lengths = torch.randint(1, time + 1, (rows,), generator=draw)
    lengths[0] = time
    return torch.arange(time)[None] >= lengths[:, None]


def events(rows: int, time: int, draw: torch.Generator) -> Batch:
    pad = padding(rows, time, draw)
    category = torch.randint(0, 12, (rows, time), generator=draw).masked_fill(pad, 0)
    amount = torch.randn((rows, time), generator=draw)
    missing = torch.rand((rows, time), generator=draw) < 0.2
    amount = amount.masked_fill(missing, float("nan")).masked_fill(pad, 0.0)
    return {"category": category, "amount": amount, "item": category, "pad": pad, "index": torch.arange(rows)}


def frames(rows: int, time: int, draw: torch.Generator) -> Batch:
    return {"mel": torch.randn((rows, time, 20), generator=draw), "pad": padding(rows, time, draw)}


def even_frames(rows: int, time: int, draw: torch.Generator) -> Batch:
    return {"mel": torch.randn((rows, time, 20), generator=draw)}


def waves(rows: int, time: int, draw: torch.Generator) -> Batch:
    return {"wave": torch.randn((rows, 9 * time), generator=draw), "pad": padding(rows, 9 * time, draw)}


def images(rows: int, time: int, draw: torch.Generator) -> Batch:
    return {"image": torch.randn((rows, 1, 28, 28), generator=draw)}


def volumes(rows: int, time: int, draw: torch.Generator) -> Batch:
    return {"volume": torch.randn((rows, 1, 8, 8, 8), generator=draw)}


ENCODERS: dict[str, tuple[Callable[[], Encoder], Callable[[int, int, torch.Generator], Batch]]] = {
    "fields": (lambda: TokenEncoder(FieldStem(FIELDS, 16), trunk(), "mean_max"), events),
    "fields, causal": (lambda: TokenEncoder(FieldStem(FIELDS, 16), trunk(True), "last"), events),
    "fields, recurrent": (lambda: TokenEncoder(FieldStem(FIELDS, 16), GRU(GRUConfig(16, 2)), "last"), events),
    "items": (lambda: TokenEncoder(ItemStem(12, 16, norm=True), trunk(True, "learned"), "last"), events),
    "frames": (lambda: TokenEncoder(FrameStem(20, 16, 4), trunk()), frames),
    "convolutions on frames": (lambda: small_convnet(1, 8, "mel", "mean_max", "channel"), frames),
    "patches of frames": (lambda: TokenEncoder(PatchStem(1, (4, 10), 16, "mel"), trunk(position="grid")), frames),
    "patches of a series": (lambda: TokenEncoder(PatchStem(20, (4,), 16, "mel"), trunk(), "max"), frames),
    "patches of images": (lambda: TokenEncoder(PatchStem(1, 7, 16), trunk(position="learned")), images),
    "patches of volumes": (
        lambda: TokenEncoder(PatchStem(1, (4, 4, 4), 16, "volume"), trunk(position="grid")),
        volumes,
    ),
    "waveforms": (lambda: TokenEncoder(WaveformStem(16, 8, ((10, 5), (4, 2))), GRU(GRUConfig(16))), waves),
    "small net": (lambda: small_convnet(1, 8), images),
    "small net, synchronised": (lambda: synchronised(small_convnet(1, 8)), images),
    "resnet": (lambda: resnet("resnet18", 1, small=True), images),
}


def made(make: Callable[[], Encoder]) -> Encoder:
    """An encoder with weights and statistics that are not those of a fresh one."""
    torch.manual_seed(0)
    encoder = make().eval()
    for name, buffer in encoder.named_buffers():
        if "running" in name:
            buffer.uniform_(0.5, 1.5)
    return encoder


def in_onnxruntime(path: Path) -> tuple[Callable[[Batch], Tensor], dict]:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    about = json.loads(session.get_modelmeta().custom_metadata_map["tacit"])
    kinds = {"float32": "tensor(float)", "int64": "tensor(int64)", "bool": "tensor(bool)"}
    assert [(i["name"], kinds[i["dtype"]], i["shape"]) for i in about["inputs"]] == [
        (i.name, i.type, i.shape) for i in session.get_inputs()
    ]
    assert [(o.name, o.shape) for o in session.get_outputs()] == [(about["output"]["name"], about["output"]["shape"])]
    names = [i["name"] for i in about["inputs"]]
    return lambda batch: torch.from_numpy(session.run(None, {n: batch[n].numpy() for n in names})[0]), about


def in_torch(path: Path) -> tuple[Callable[[Batch], Tensor], dict]:
    found = {"tacit.json": ""}
    program = torch.export.load(path, extra_files=found).module()
    about = json.loads(found["tacit.json"])
    return lambda batch: program(*[batch[i["name"]] for i in about["inputs"]]), about


QUICK = ("fields", "frames")  # exporting takes torch five to ten seconds of a core each


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in ENCODERS]
)
def test_an_exported_encoder_equals_it_at_every_size(name: str, tmp_path: Path) -> None:
    make, batch = ENCODERS[name]
    encoder = made(make)
    draw = torch.Generator().manual_seed(1)
    example = batch(3, 23, draw)
    runs = [
        in_onnxruntime(export(encoder, example, tmp_path / "a.onnx")),
        in_torch(export(encoder, example, tmp_path / "a.pt2")),
    ]
    sizes = [(3, 23), (1, 17), (5, 50), (2, 33)]
    for run, about in runs:
        low, _ = about.get("length", [1, None])
        axis = next(iter(batch(1, 1, draw).values())).shape[1]
        for rows, time in [*sizes, (1, -(-low // axis)), (4, max(low, 18))]:
            given = batch(rows, time, draw)
            torch.testing.assert_close(run(given), encoder.embed(given), rtol=0, atol=1e-4)
        assert all(i["shape"][0] == "batch" for i in about["inputs"])
        assert all(i["shape"][1] == "length" for i in about["inputs"] if len(i["shape"]) < 4)
        assert "index" not in [i["name"] for i in about["inputs"]]
    assert runs[0][1] == runs[1][1] and runs[0][1]["output"]["shape"] == ["batch", encoder.dim]


class Mean(Encoder):
    """The plainest encoder: a linear layer over the mean of `x` (B, T, 3), with `weight` (B, T) where the batch has it."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.dim = nn.Linear(3, 2), 2

    def embed(self, batch: Batch) -> Tensor:
        x = batch["x"]
        return self.linear((x * batch["weight"][..., None] if "weight" in batch else x).mean(1))


class Segments(Mean):
    """Means over two halves of time, as torch's adaptive pool takes them."""

    def __init__(self) -> None:
        super().__init__()
        self.dim = 4

    def embed(self, batch: Batch) -> Tensor:
        return self.linear(nn.functional.adaptive_avg_pool1d(batch["x"].transpose(1, 2), 2).transpose(1, 2)).flatten(1)


class Branching(Mean):
    def embed(self, batch: Batch) -> Tensor:
        return super().embed(batch) if float(batch["x"].sum()) > 0 else self.linear(batch["x"][:, 0])


class Large(Mean):
    """Half a billion weights, without the memory for them."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(10_000_000, 60, device="meta")


@pytest.fixture
def plain() -> Mean:
    torch.manual_seed(0)
    return Mean()


def test_one_row_of_one_place_is_example_enough_and_the_encoder_stays_as_it_was(plain: Mean, tmp_path: Path) -> None:
    plain.train()
    example = {"x": torch.randn(1, 1, 3), "weight": torch.rand(1, 1), "unread": torch.zeros(1)}
    run, about = in_onnxruntime(export(plain, example, tmp_path / "deep" / "a.onnx"))
    assert [i["name"] for i in about["inputs"]] == ["x", "weight"] and about["length"] == [1, None]
    given = {"x": torch.randn(4, 9, 3), "weight": torch.rand(4, 9)}
    torch.testing.assert_close(run(given), plain.embed(given), rtol=0, atol=1e-5)
    assert plain.training and plain.linear.weight.requires_grad


def test_a_length_that_onnx_cannot_leave_free_is_fixed_and_said(tmp_path: Path) -> None:
    encoder = Segments()
    example = {"x": torch.randn(2, 7, 3)}
    run, about = in_onnxruntime(export(encoder, example, tmp_path / "a.onnx"))
    assert about["inputs"][0]["shape"] == ["batch", 7, 3]
    torch.testing.assert_close(run({"x": example["x"].repeat(3, 1, 1)})[:2], encoder.embed(example), rtol=0, atol=1e-5)
    run, about = in_torch(export(encoder, example, tmp_path / "a.pt2"))
    longer = {"x": torch.randn(3, 12, 3)}
    torch.testing.assert_close(run(longer), encoder.embed(longer))


def test_what_cannot_be_exported_is_one_clear_line(
    plain: Mean, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    example = {"x": torch.ones(2, 4, 3)}
    with pytest.raises(UserError, match=r"no format '.bin'.*end the name in .onnx or .pt2"):
        export(plain, example, tmp_path / "a.bin")
    with pytest.raises(UserError, match="cannot be traced"):
        export(Branching(), example, tmp_path / "a.pt2")
    with pytest.raises(UserError, match="more than an ONNX file can hold"):
        export(Large(), example, tmp_path / "a.onnx")
    monkeypatch.setitem(__import__("sys").modules, "onnxscript", None)
    with pytest.raises(UserError, match=r"needs the package onnxscript.*pip install tacit\[export\]"):
        export(plain, example, tmp_path / "a.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("ending", [".onnx", ".pt2"])
def test_a_full_disk_leaves_the_old_file_whole(ending: str, plain: Mean, tmp_path: Path, full_disk) -> None:
    place = tmp_path / f"a{ending}"
    place.write_bytes(b"the old one")
    with full_disk(after=100), pytest.raises(UserError, match="could not be written: File too large"):
        export(plain, {"x": torch.ones(2, 4, 3)}, place)
    assert place.read_bytes() == b"the old one" and list(tmp_path.iterdir()) == [place]


def test_an_estimator_exports_what_it_learned(plain: Mean, tmp_path: Path) -> None:
    class Estimator(PretrainedEncoder):
        def example(self) -> Batch:
            return {"x": torch.zeros(2, 4, 3)}

    estimator = Estimator()
    with pytest.raises(UserError, match="not fitted"):
        estimator.export(tmp_path / "a.pt2")
    estimator.encoder_ = plain
    run, _ = in_torch(estimator.export(tmp_path / "a.pt2"))
    given = {"x": torch.randn(3, 5, 3)}
    torch.testing.assert_close(run(given), plain.embed(given))
