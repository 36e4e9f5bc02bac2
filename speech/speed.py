"""How fast speech trains, beside those who do the same: a step of wav2vec 2.0, HuBERT and BEST-RQ, forward, backward and optimizer.

Both sides are processes of one thread that take turns (`core.benchmark`). Figures are of processor time: others may use the machine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from core import benchmark as sides
from core.bench import Row, row

Say = Callable[[str], None]
EXTRAS = {
    "transformers": "pip install -e '.[dev]'",
    "speechbrain": "make peers",
}  # how to get a peer that is no dependency


@dataclass(frozen=True)
class Contest:
    """One comparison.

    Attributes:
        task: wav2vec2, hubert or bestrq; peer: whom it is compared with.
        goal: of the seconds of audio trained, to the peer's.
        dim, depth, heads, mlp, channels: of the network (see speech.peers).
        batch, seconds: recordings of a step, and the length of each; steps: a round.
        rounds: that count; one more comes before them.
        memory: GB that must be free for both sides together.
    """

    task: str
    peer: str
    goal: float
    dim: int = 256
    depth: int = 4
    heads: int = 4
    mlp: int = 1024
    channels: int = 256
    batch: int = 4
    seconds: int = 4
    steps: int = 2
    rounds: int = 7
    memory: float = 5.0

    @property
    def place(self) -> str:
        return f"{self.task}, {self.depth} layers of {self.dim}, {self.batch} × {self.seconds} s"


BASE: dict[str, Any] = {"dim": 768, "depth": 12, "heads": 12, "mlp": 3072, "channels": 512, "batch": 2, "seconds": 5, "steps": 1, "rounds": 5, "memory": 9.0}  # fmt: skip
CONTESTS = (
    Contest("wav2vec2", "transformers", 1.5),
    Contest("wav2vec2", "transformers", 1.2, **BASE),
    Contest("hubert", "torchaudio", 1.15),
    Contest("hubert", "torchaudio", 1.15, **BASE),
    Contest("bestrq", "speechbrain", 1.2, batch=16),
    Contest("bestrq", "speechbrain", 1.2, **{**BASE, "dim": 576, "heads": 8, "mlp": 2048, "batch": 4}),
)
SAME = {
    "wav2vec2": "the same network (its loss and gradients are tested to be equal), masks and negatives drawn at each step",
    "hubert": "the same network (its loss and gradients are tested to be equal), 100 units, masks drawn at each step",
    "bestrq": "log-mel to loss, Transformer blocks on both sides (its recipe's are Conformer's), 8192 codes; each side's own layers before them",
}


def speed(say: Say, contests: Sequence[Contest]) -> list[Row]:
    """All rows; a comparison whose peer is not installed, or for which memory is short, is left out with a line."""
    rows: list[Row] = []
    for contest in contests:
        if not present(contest.peer):
            how = EXTRAS.get(contest.peer, "pip install -e .")
            say(f"{contest.place} is left out: {contest.peer} is not installed; `{how}` does that")
        elif free() < contest.memory:
            say(f"{contest.place} is left out: {free():.1f} GB of memory are free, it takes {contest.memory:g}")
        else:
            rows += beside(contest)
    return rows


def beside(contest: Contest) -> list[Row]:
    """Seconds of audio trained a core-second and peak memory of both sides, and the ratios."""
    settings = {k: v for k, v in asdict(contest).items() if k not in ("peer", "goal", "rounds", "memory")}
    found, last = sides.compare("speech.peers", ["ours", contest.peer], contest.rounds, **settings)
    rows = []
    for side, role in (("ours", "ours"), (contest.peer, "peer")):
        name = contest.task if side == "ours" else side
        size = f"{last[side]['weights'] / 1e6:.2f} M parameters"
        rows.append(row(contest.place, name, role, "seconds of audio trained a core-second", sides.median(found[side].each("cpu")), note=size))  # fmt: skip
        rows.append(row(contest.place, name, role, "peak memory of training, MB", last[side]["memory"], note="above what is held before the first step"))  # fmt: skip
    whose = contest.peer + ("'" if contest.peer.endswith("s") else "'s")
    ratio = sides.faster(found, contest.peer, "cpu")
    less = last[contest.peer]["memory"] / last["ours"]["memory"]
    return [
        row(contest.place, contest.task, "ours", f"ratio: seconds of audio trained, to {whose}", ratio, goal=contest.goal,
            note=SAME[contest.task]),
        row(contest.place, contest.task, "ours", f"ratio: {whose} peak memory, to ours", less),
        *rows,
    ]  # fmt: skip


def present(peer: str) -> bool:
    return sides.installed(peer) is not None or find_spec(peer) is not None


def free() -> float:
    """GB of memory that can be had; infinite where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
        return next(float(line.split()[1]) for line in lines if line.startswith("MemAvailable")) / 2**20
    except (OSError, StopIteration):
        return float("inf")
