"""How soon we are as good as a peer is after its whole budget: validation ndcg@10 by processor seconds of training, on `beauty`."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from core import benchmark
from core.bench import Row, row
from core.cli import say
from recsys.data import load
from recsys.peers import PEERS, write, write_questions
from recsys.ranking import MAIN
from recsys.speed import BLOCK, DATA, SHAPE
from recsys.split import leave_one_out

ASKED = 2000  # validation questions
BATCH = 128  # sequences a step, of RecBole prefixes
# processor seconds of a round of ours, and of the peer's; its rounds. They are its whole budget: no best is known beyond
OURS, THEIRS, ROUNDS = 3.0, 30.0, 12
GOAL = 2.0  # times as soon


def pace(
    out: Path, peer: str = "recbole", rounds: int = ROUNDS, seconds: tuple[float, float] = (OURS, THEIRS)
) -> list[Row]:
    """Processor seconds that both sides train until ours first reaches the best ndcg@10 that the peer has within its budget.

    Both have full softmax, the loss that the peer is documented with, and one thread; each its own learning rate, constant. What is
    asked are questions of the validation, after every round; asking is not timed. Empty where the peer is not installed.
    """
    if not benchmark.beside([], {peer: PEERS[peer]}):
        return []
    split = leave_one_out(load(DATA).sequences)
    out.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=out) as folder:
        settings = {
            **SHAPE, "batch": BATCH, "loss": "full", "chunk": BLOCK, "data": str(write(Path(folder) / "train.npz", split.train)),
            "questions": str(write_questions(Path(folder) / "asked.npz", split.validation.sample(ASKED, 0))),
        }  # fmt: skip
        sides: dict[str, benchmark.Side] = {}
        try:
            for name, each in zip(("ours", peer), seconds, strict=True):
                sides[name] = benchmark.Side(
                    "recsys.peers", name, {**settings, "seconds": each}, benchmark.installed(name)
                )
            for _ in range(rounds):
                for name, side in sides.items():
                    side.round()
                    say(f"{name}: ndcg {side.rounds[-1]['ndcg']:.4f} after {spent(side):.0f} processor seconds")
            while best(sides["ours"])[0] < best(sides[peer])[0] and spent(sides["ours"]) < spent(sides[peer]):
                sides["ours"].round()
            for side in sides.values():
                side.finish()
        finally:
            for side in sides.values():
                side.stop()
    return _rows(sides["ours"], sides[peer], PEERS[peer])


def spent(side: benchmark.Side, rounds: int | None = None) -> float:
    """Processor seconds of training in the first so many rounds, or in all."""
    return sum(r["cpu"] for r in side.rounds[:rounds])


def best(side: benchmark.Side) -> tuple[float, float]:
    """The highest ndcg of a side, and the processor seconds after which it was first there."""
    found = [r["ndcg"] for r in side.rounds]
    return max(found), spent(side, found.index(max(found)) + 1)


def reached(side: benchmark.Side, ndcg: float) -> float | None:
    """Processor seconds after which a side first had that ndcg; None where it never did."""
    for number, one in enumerate(side.rounds, 1):
        if one["ndcg"] >= ndcg:
            return spent(side, number)
    return None


def _rows(ours: benchmark.Side, theirs: benchmark.Side, peer: str) -> list[Row]:
    goal, needed = best(theirs)
    took = reached(ours, goal)
    passes = sum(r["count"] for r in theirs.rounds)
    note = f"{peer}'s best within {spent(theirs):.0f} processor seconds, {passes} interactions; {ASKED} validation questions"
    ratio = None if took is None else needed / took
    lost = f"not reached within {spent(ours):.0f} processor seconds; best {best(ours)[0]:.4f}; "
    return [
        row(DATA, f"{peer}, full softmax", "peer", f"{MAIN} of validation", goal, note=note),
        row(DATA, f"{peer}, full softmax", "peer", "processor seconds to its best ndcg", needed, note=note),
        row(DATA, "next, full softmax", "ours", f"processor seconds to {peer}'s best ndcg", took, note=note if took else lost + note),
        row(DATA, "next, full softmax", "ours", f"ratio: processor seconds to {peer}'s best ndcg, {peer}'s to ours", ratio, goal=GOAL,
            note=note if took else lost + note),
        row(DATA, "next, full softmax", "ours", f"{MAIN} of validation", best(ours)[0],
            note=f"its best within {spent(ours):.0f} processor seconds"),
    ]  # fmt: skip
