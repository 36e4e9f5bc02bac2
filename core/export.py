"""An encoder and its pool as one file that other programs run: ONNX, or a program of torch.export.

The file takes the batch's tensors by name (`item`, `pad`, `image`, …) and gives `embedding` (B, D). The number of rows is free,
and so is the length of what has one: axis 1 of (B, T) and (B, T, F). What it expects stands inside it, as JSON under `tacit`:

    onnxruntime.InferenceSession(path).get_modelmeta().custom_metadata_map["tacit"]
    torch.export.load(path, extra_files=(found := {"tacit.json": ""}))
"""

from __future__ import annotations

import copy
import io
import json
import logging
import warnings
from collections import UserDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from core import __version__
from core.encoders.encoder import Encoder
from core.errors import UserError
from core.files import whole
from core.tokens import Batch

OUTPUT = "embedding"
LARGEST = 2_000_000_000  # bytes of weights that an ONNX file can hold
FORMATS = (".onnx", ".pt2")


class Embedding(nn.Module):
    """`encoder.embed` with the batch's tensors as arguments, in the order of `names`."""

    def __init__(self, encoder: Encoder, names: list[str]) -> None:
        super().__init__()
        self.encoder, self.names = encoder, names

    def forward(self, *inputs: Tensor) -> Tensor:
        first = inputs[0]
        for other in inputs[1:]:  # one batch and one length, also where nothing that the encoder does compares them
            torch._check(other.shape[0] == first.shape[0])
            if _has_length(other) and _has_length(first):
                torch._check(other.shape[1] == first.shape[1])
        return self.encoder.embed(dict(zip(self.names, inputs, strict=True)))


def export(encoder: Encoder, example: Batch, path: str | Path) -> Path:
    """Write `path`, whose ending says the format: `.onnx` or `.pt2`.

    Raises:
        UserError: see `export_onnx`, or another ending.
    """
    ways = dict(zip(FORMATS, (export_onnx, export_program), strict=True))
    ending = Path(path).suffix.lower()
    if ending not in ways:
        raise UserError(f"no format '{ending}'", where=path, mend=f"end the name in {' or '.join(FORMATS)}")
    return ways[ending](encoder, example, path)


def export_onnx(encoder: Encoder, example: Batch, path: str | Path) -> Path:
    """Write encoder and pool as ONNX, for onnxruntime and others.

    Args:
        example: any batch that the encoder reads; what it does not read becomes no input.

    Raises:
        UserError: packages are missing, the encoder cannot be traced or is too large, or the disk is full.
    """
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UserError(f"ONNX needs the package {error.name}", where=path, mend="pip install tacit[export]") from error
    if sum(p.numel() * p.element_size() for p in [*encoder.parameters(), *encoder.buffers()]) > LARGEST:
        raise UserError("the weights are more than an ONNX file can hold", where=path, mend="write a .pt2 instead")
    program, about = _traced(encoder, example)
    if _pools_a_free_length(program):
        program, about = _traced(encoder, example, length=False)
    with torch.no_grad(), _quiet():
        made = torch.onnx.export(program, dynamo=True, verbose=False)
    assert made is not None
    _name(made.model, [given["name"] for given in about["inputs"]], _symbols(program))
    made.model.metadata_props["tacit"] = json.dumps(about)
    with whole(path, "the ONNX file") as temporary:
        made.save(temporary)
    return Path(path)


def export_program(encoder: Encoder, example: Batch, path: str | Path) -> Path:
    """Write encoder and pool as a program of torch.export (.pt2): `torch.export.load(path).module()(*inputs)`.

    Raises:
        UserError: the encoder cannot be traced, or the disk is full.
    """
    program, about = _traced(encoder, example)
    content = io.BytesIO()  # torch's own writer aborts the process where the disk is full
    with _quiet():
        torch.export.save(program, content, extra_files={"tacit.json": json.dumps(about)})
    with whole(path, "the program") as temporary:
        temporary.write_bytes(content.getbuffer())
    return Path(path)


def _traced(
    encoder: Encoder, example: Batch, length: bool = True
) -> tuple[torch.export.ExportedProgram, dict[str, Any]]:
    """The program, traced on the CPU in eval mode, and what it expects; `length`: it is free where it can be."""
    encoder = copy.deepcopy(encoder).cpu().eval().requires_grad_(False)
    inputs = _inputs(encoder, {name: value.cpu() for name, value in example.items()})
    free = torch.export.Dim
    shapes = tuple(
        {0: free.DYNAMIC, 1: free.AUTO if length and _has_length(value) else free.STATIC} for value in inputs.values()
    )
    try:
        with torch.no_grad(), _quiet():
            program = torch.export.export(
                Embedding(encoder, list(inputs)), tuple(inputs.values()), dynamic_shapes=(shapes,), strict=False
            )
    except UserError:
        raise
    except Exception as error:  # torch raises many kinds for what it cannot trace
        raise UserError(
            f"the encoder cannot be traced: {str(error).partition(chr(10))[0]}", where="export",
            mend="keep branches on values, and len() of tensors, out of its forward",
        ) from error  # fmt: skip
    return program, _about(program, inputs, encoder.dim)


def _pools_a_free_length(program: torch.export.ExportedProgram) -> bool:
    """Whether an adaptive pool reads a free size: torch's ONNX exporter takes its windows from the example, and errs in others."""
    return any(
        "adaptive" in str(node.target) and any(not isinstance(size, int) for size in node.args[0].meta["val"].shape[1:])
        for node in program.graph.nodes
        if node.op == "call_function"
    )


class _Read(UserDict):
    """A batch that notes which of its keys are read."""

    def __init__(self, batch: Batch) -> None:
        self.read: list[str] = []
        super().__init__(batch)

    def __getitem__(self, key: str) -> Tensor:
        value = super().__getitem__(key)
        if key not in self.read:
            self.read.append(key)
        return value


def _inputs(encoder: Encoder, example: Batch) -> Batch:
    """What the encoder reads of the example, in the order of the batch, with two rows and two places at least.

    torch.export takes an axis of one for a constant.
    """
    read = _Read(example)
    with torch.no_grad():
        encoder.embed(read)  # type: ignore[arg-type]
    inputs = {name: value for name, value in example.items() if name in read.read}
    for axis in (0, 1):
        if all(value.shape[axis] == 1 for value in inputs.values() if axis == 0 or _has_length(value)):
            inputs = {
                name: torch.cat([value, value], axis) if axis == 0 or _has_length(value) else value
                for name, value in inputs.items()
            }
    return inputs


def _has_length(value: Tensor) -> bool:
    """Whether axis 1 is a length: (B, T) and (B, T, F) have one, images and volumes do not."""
    return value.dim() in (2, 3)


def _symbols(program: torch.export.ExportedProgram) -> dict[str, str]:
    """Names for the program's free sizes: batch and length."""
    found: dict[str, str] = {}
    for value in _values(program):
        for axis, name in enumerate(("batch", "length")):
            if value.dim() > axis and not isinstance(value.shape[axis], int):
                found.setdefault(str(value.shape[axis]), name)
    return found


def _values(program: torch.export.ExportedProgram) -> list[Tensor]:
    """The inputs as torch traced them, their free sizes as symbols."""
    wanted = set(program.graph_signature.user_inputs)
    return [node.meta["val"] for node in program.graph.nodes if node.op == "placeholder" and node.name in wanted]


def _about(program: torch.export.ExportedProgram, inputs: Batch, dim: int) -> dict[str, Any]:
    """What the file takes and gives, as JSON."""
    symbols = _symbols(program)
    about: dict[str, Any] = {"tacit": __version__, "inputs": [], "output": {"name": OUTPUT, "shape": ["batch", dim]}}
    for (name, value), traced in zip(inputs.items(), _values(program), strict=True):
        shape = [size if isinstance(size, int) else symbols[str(size)] for size in traced.shape]
        about["inputs"].append({"name": name, "dtype": str(value.dtype).removeprefix("torch."), "shape": shape})
    for symbol, limits in program.range_constraints.items():
        if symbols.get(str(symbol)) == "length":  # torch writes 2 where it means "not a constant 1"
            low = int(limits.lower) if int(limits.lower) > 2 else 1
            about["length"] = [low, int(limits.upper) if limits.upper.is_Integer else None]
    return about


def _name(model: Any, names: list[str], symbols: dict[str, str]) -> None:
    """Name inputs and output of an ONNX model; inner values get an underscore, since `pad` and `embedding` are also operations."""
    from onnx_ir import Shape

    graph = model.graph
    outer = [*graph.inputs, *graph.outputs]
    inner = [value for node in graph for value in node.outputs if value not in outer]
    for value in inner:
        value.name = f"_{value.name}"
    for value, name in zip(outer, [*names, OUTPUT], strict=True):
        value.name = name
    for value in [*outer, *inner]:
        if value.shape is not None:
            value.shape = Shape([symbols.get(str(getattr(d, "value", d)), d) for d in value.shape])


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporters' notes on their own inner workings are not for the user."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
