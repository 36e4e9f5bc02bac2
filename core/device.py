"""Where and how a method is computed: its device, compiled parts."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import nn

from core.distributed import world
from core.encoders.convnet import ConvNet
from core.encoders.encoder import Stem, Trunk
from core.errors import UserError

T = TypeVar("T")


def resolve_device(name: str) -> torch.device:
    """The device of that name, or one clear line; `cuda` is this process's own GPU."""
    if name == "cpu":
        return torch.device("cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device).item()  # refused by the device `meta`, which holds no values
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"device '{name}' cannot be used here", where="device", mend="use --device cpu") from error
    if device.type == "cuda" and world() > 1:
        return torch.device("cuda", torch.cuda.current_device())
    return device


def bf16_on(device: torch.device, precision: str) -> bool:
    """Whether to compute in bf16: where that is asked for, but not on a processor without instructions for it.

    There PyTorch falls back on loops without blocking: a U-Net's step then takes ten times as long as in fp32.
    """
    return precision == "bf16" and (device.type != "cpu" or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported()))


def seed_all(seed: int, device: torch.device) -> None:
    """What torch.manual_seed does for the CPU and `device`; that one also formats a stack trace for each kind of device that
    is not there, a third of a millisecond a call."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)
    elif device.type != "cpu":
        torch.manual_seed(seed)


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread for many small operations: several wait for each other longer than they work, on a busy machine for minutes."""
    from threadpoolctl import threadpool_limits

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(before)


def on_cores(work: Callable[[T], None], items: Sequence[T], device: torch.device | str = "cpu") -> None:
    """`work` on every item, without gradients: on the CPU side by side, one item to each of torch's threads.

    Threads that share one small operation wait for each other more than they work; those with an item of their own do not.
    What `work` writes must not overlap from item to item.
    """
    threads = min(torch.get_num_threads(), len(items)) if torch.device(device).type == "cpu" else 1

    @torch.inference_mode()  # is each thread's own
    def one(item: T) -> None:
        work(item)

    if threads < 2:
        for item in items:
            one(item)
        return
    with one_thread(), ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(one, items):  # asks for the results, so that an error is raised
            pass


@contextmanager
def compiled(method: nn.Module, wanted: bool) -> Iterator[None]:
    """Stems, trunks and convolutional nets compiled while inside; names and weights stay.

    Raises:
        UserError: no C++ compiler is found.
    """
    parts = [m for m in method.modules() if isinstance(m, Stem | Trunk | ConvNet)] if wanted else []
    if parts and not any(shutil.which(name) for name in (os.environ.get("CXX", ""), "g++", "clang++", "c++", "cl")):
        raise UserError("no C++ compiler is found", where="compile", mend="install g++, set CXX, or use compile=false")
    try:
        for part in parts:
            part.compile()
        yield
    finally:
        for part in parts:
            part._compiled_call_impl = None


@contextmanager
def eager(module: nn.Module) -> Iterator[None]:
    """Nothing compiled while inside: features now and then are not worth another compilation."""
    before = {m: m._compiled_call_impl for m in module.modules() if m._compiled_call_impl is not None}
    try:
        for part in before:
            part._compiled_call_impl = None
        yield
    finally:
        for part, call in before.items():
            part._compiled_call_impl = call
