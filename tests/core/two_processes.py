"""Run by two processes: each takes its share of every case's batch; the first one saves gradients and state.

`python -m torch.distributed.run --nproc-per-node 2 two_processes.py OUT`
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
import torch.distributed as dist

sys.path.insert(0, str(Path(__file__).parent))
from method_cases import CASES, ROWS, drawn, fresh, rows_of

from core.norms import synchronised

FIRST = 7  # rows of the first process: not half, so that uneven batches are tested too


def main(out: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    mine = slice(0, FIRST) if dist.get_rank() == 0 else slice(FIRST, ROWS)
    found: dict[str, dict] = {}
    for name, case in CASES.items():
        try:
            method = synchronised(fresh(name))
            ddp = torch.nn.parallel.DistributedDataParallel(
                method, find_unused_parameters=True, broadcast_buffers=False
            )
            torch.manual_seed(3)
            result = ddp(rows_of(case.data(), mine), drawn(4))
            result.loss.backward()
            method.after_step(0.5)
            found[name] = {
                "gradient": {n: p.grad for n, p in method.named_parameters() if p.grad is not None},
                "state": dict(method.named_buffers()),
                "teacher": {n: p for n, p in method.named_parameters() if not p.requires_grad},
            }
        except Exception as error:
            raise RuntimeError(f"case '{name}' on process {dist.get_rank()}") from error
    if dist.get_rank() == 0:
        torch.save(found, out)
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
