"""bf16 steps on a GPU, compiled: core's trunk and torch's `nn.TransformerEncoder`, as ViT-S and as a trunk of 12 layers."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from core.encoders import PatchStem
from core.peers import trunk
from core.peers.rounds import Rounds

SHAPES: dict[str, dict[str, Any]] = {
    "ViT-S/16, 224 px, batch 256": {"batch": 256, "length": 196, "dim": 384, "depth": 12, "heads": 6, "image": 224},
    "12 layers, width 512, 256 tokens, batch 128": {"batch": 128, "length": 256, "dim": 512, "depth": 12, "heads": 8},
}


class Net(nn.Module):
    """Patches where the input is images, then the trunk of either side."""

    def __init__(self, side: str, s: dict[str, Any]) -> None:
        super().__init__()
        self.stem = PatchStem(3, 16, s["dim"]) if "image" in s else None
        self.trunk = trunk.ours(s) if side == "ours" else trunk.torchs(s)

    def forward(self, x: Tensor) -> Tensor:
        return self.trunk(x if self.stem is None else self.stem({"image": x}).x, None)


def run(side: str, s: dict[str, Any], rounds: Rounds) -> None:
    """Settings as of `SHAPES`; `device` for another than the GPU."""
    device, steps = torch.device(s.get("device", "cuda")), s.get("steps", 20)
    net = Net(side, s).to(device)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-4, fused=True)
    shape = (3, s["image"], s["image"]) if "image" in s else (s["length"], s["dim"])
    x = torch.randn(s["batch"], *shape, device=device)
    with FlopCounterMode(display=False) as counter:
        step(net, x)
    net.zero_grad()
    fast: Any = torch.compile(net) if s.get("compile", True) else net
    spent = []

    def work() -> int:
        started = time.perf_counter()
        for _ in range(steps):
            step(fast, x)
            optimizer.step()
            optimizer.zero_grad()
        if device.type == "cuda":
            torch.cuda.synchronize()
        spent.append((time.perf_counter() - started) / steps)
        return steps

    while rounds.go():
        rounds.done(work())
    peak = matrix_peak(device, s.get("matrix", 8192))
    rounds.finish(utilisation=counter.get_total_flops() / min(spent) / 1e12 / peak, peak=peak)


def step(net: nn.Module, x: Tensor) -> None:
    with torch.autocast(x.device.type, torch.bfloat16):
        y = net(x)
    y.float().square().mean().backward()


def matrix_peak(device: torch.device, size: int) -> float:
    """TFLOP/s of the best of several large bf16 products of matrices."""
    a, b = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    best = float("inf")
    for _ in range(10):
        if device.type == "cuda":
            torch.cuda.synchronize()
        started = time.perf_counter()
        a @ b
        if device.type == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - started)
    return 2 * size**3 / best / 1e12
