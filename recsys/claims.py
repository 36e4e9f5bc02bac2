"""The benchmark's questions beside quality: does earlier pretraining help few sessions, what do vectors tell of people, do lists stay put?"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from core.bench import Row, row
from core.codec import Categories
from core.datasets import locate
from core.statistics import auroc, bootstrap, mean_interval
from core.statistics import paired as paired_metric
from recsys.cooccurrence import vectors
from recsys.data import Loaded, from_frame, load, read_table
from recsys.estimators import SessionRecommender
from recsys.evaluation import gained
from recsys.histories import whole
from recsys.injection import inject, overlap, rare_items, shown
from recsys.known import KNOWN
from recsys.ranking import MAIN, rank_all
from recsys.sequences import Sequences
from recsys.split import leave_one_out, prefixes, without_last
from recsys.synthetic import World, generate

LATER, FEW = (
    0.2,
    0.1,
)  # share of the users, those who came last, that are asked; and of the earlier ones that teach the task
RATES = (1e-3, 2e-3, 4e-3)  # of fine-tuning and of training from scratch, each tuned on users who teach neither
BOTH = "whole history and co-occurrence"
WIDE = 256  # numbers that co-occurrence tells of an item: it needs no training to be wide
PUSHED = 5  # items that injected sessions want recommended


def by_arrival(table: pd.DataFrame) -> Sequences:
    """Sequences of a log in the order in which their users came."""
    first = table.groupby("user_id")["timestamp"].transform("min")
    ordered = table.assign(first=first).sort_values(["first", "user_id", "timestamp"], kind="stable")
    return from_frame(ordered.drop(columns="first")).sequences


def few_sessions(
    data: str, table: pd.DataFrame, steps: int, seed: int, device: str, say: Callable[[str], None]
) -> list[Row]:
    """Pretrained on all earlier users, fine-tuned on the last tenth of them; against the same from scratch on that tenth alone.

    Asked are later users, of whom nothing was trained on: each of their events but the first. The catalogue is the earlier users'.
    """
    everyone = by_arrival(table)
    cut, few = round(len(everyone) * (1 - LATER)), round(len(everyone) * (1 - LATER) * FEW)
    chosen_by = round(len(everyone) * (1 - LATER) / 10)  # users just before the few, by whom rates are chosen
    earlier = everyone.select(np.arange(cut))
    known = Categories.fit(earlier.catalogue.decode(earlier.items))
    earlier = earlier.over(known)
    asked = prefixes(everyone.select(np.arange(cut, len(everyone))).over(known))
    asked = asked.sample(20_000, seed)
    tenth = earlier.select(np.arange(cut - few, cut))
    middle = prefixes(earlier.select(np.arange(cut - few - chosen_by, cut - few))).sample(2000, seed)
    before = earlier.select(np.arange(cut - few - chosen_by))

    def fitted(
        train: Sequences, steps: int, rate: float, start: SessionRecommender | None = None
    ) -> SessionRecommender:
        given = (f"train.lr={rate}", "model.length=100", "model.dim=64", "batch_size=32")
        model = SessionRecommender("next", steps=steps, seed=seed, device=device, changes=given)
        return model.fit_sequences(train, note=lambda line: None, start=start)

    def tuned(train: Sequences, start: SessionRecommender | None, steps: int) -> float:
        worth = {
            rate: rank_all(fitted(train, steps, rate, start), middle, repeats=False).per_user(MAIN).mean()
            for rate in RATES
        }
        return max(worth, key=lambda rate: worth[rate])

    # rates are chosen without the users whom they are judged by: pretraining for that leaves them out
    half = fitted(before, steps, RATES[1])
    fine, scratch = tuned(tenth, half, steps // 4), tuned(tenth, None, steps + steps // 4)
    say(f"{data}: rate {fine:g} of fine-tuning, {scratch:g} from scratch")
    pretrained = fitted(earlier, steps, RATES[1])
    models = {
        "pretrained, fine-tuned on 10%": fitted(tenth, steps // 4, fine, pretrained),
        "from scratch on 10%": fitted(tenth, steps + steps // 4, scratch),
        "pretrained alone": pretrained,
    }
    rankings = {name: rank_all(model, asked) for name, model in models.items()}
    first, second, _ = rankings.values()
    place = f"{data}, later users"
    rows = [row(place, name, "ours", MAIN, ranking.interval(MAIN, seed)) for name, ranking in rankings.items()]
    note = f"{len(tenth)} of {len(earlier)} earlier users, {len(np.unique(asked.group))} later ones"
    rows.append(
        row(
            place,
            "pretrained minus scratch",
            "ours",
            f"{MAIN} gain, as a share of scratch's",
            gained(first, second),
            goal=0.1,
            note=note,
        )
    )
    return rows


def movielens(name: str) -> pd.DataFrame:
    """A MovieLens set's interactions as `user_id, item_id, timestamp`."""
    table = read_table(locate(name, KNOWN) / "interactions.parquet")
    return table[["user_id", "item_id", "timestamp"]]


def generated(seed: int) -> pd.DataFrame:
    """A log with planted order, users coming one after another."""
    return generate(World(users=4000, intents=16), seed)


def who(model: SessionRecommender, loaded: Loaded, seed: int) -> list[Row]:
    """Gender and age of ML-1M's users from frozen vectors of their sequences, against a bag of their items.

    Half of the users teach a logistic regression, whose penalty is chosen within them; the others are asked.

    Args:
        model: trained on the sequences, without any of those labels.
    """
    sequences = loaded.sequences
    users = read_table(locate("movielens_1m_sasrec", KNOWN) / "users.parquet").assign(
        key=lambda t: t["user_id"].astype(str)
    )
    about = users.set_index("key").loc[sequences.keys.astype(str)]
    wider = whole(model, sequences, beside=vectors(without_last(sequences, model.hold_out_), WIDE))
    inputs = {
        "bag of items": sequences.matrix(),
        "state after the last item": model.hidden(sequences),
        "whole history": np.delete(wider, np.s_[-1 - 2 * WIDE : -1], axis=1),
        BOTH: wider,
        "whole history, untrained": whole(model.untrained(), sequences),
    }
    labels = {"gender": (about["gender"] == "F").to_numpy(int), "age of 35 or more": (about["age"] >= 35).to_numpy(int)}
    order = np.random.default_rng(seed).permutation(len(sequences))
    teach, ask = order[: len(order) // 2], order[len(order) // 2 :]
    rows = []
    for name, label in labels.items():
        said = {what: _probe(x, label, teach, ask) for what, x in inputs.items()}
        for what, score in said.items():
            role = "floor" if what in ("bag of items", "whole history, untrained") else "ours"
            told = bootstrap(auroc, label[ask], score, draws=300, seed=seed)
            rows.append(row(f"ml-1m, {name}", what, role, "auroc", told))
        for what, goal in (("whole history", None), (BOTH, 0.0)):
            gain = paired_metric(auroc, label[ask], said[what], said["bag of items"], draws=300, seed=seed)
            rows.append(
                row(f"ml-1m, {name}", f"{what} minus bag of items", "ours", "auroc difference", gain, goal=goal)
            )
    return rows


def _probe(x: NDArray, label: NDArray, teach: NDArray, ask: NDArray) -> NDArray[np.float64]:
    """Scores (A,) of a logistic regression whose penalty is chosen within those who teach.

    Columns are taken as they are: items are 0 or 1, and a history's directions share one scale, on which leading ones count more.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV

    probe = GridSearchCV(LogisticRegression(max_iter=300), {"C": np.logspace(-4, 1, 6)}, cv=3, scoring="roc_auc")
    return probe.fit(x[teach], label[teach]).decision_function(x[ask])


def injected(data: str, steps: int, seed: int, device: str, share: float = 0.01) -> list[Row]:
    """How much the first ten of every user move when 1 % of made-up sessions push five rare items; beside what another seed moves."""
    split = leave_one_out(load(data).sequences)
    asked = split.test.sample(3000, seed)
    pushed = rare_items(split.train, PUSHED, seed)
    dirty = inject(split.train, share, pushed, seed)

    def fitted(train: Sequences, seed: int) -> SessionRecommender:
        model = SessionRecommender("next", steps=steps, seed=seed, device=device)
        return model.fit_sequences(train, note=lambda line: None)

    clean, other, poisoned = (
        rank_all(fitted(train, s), asked)
        for train, s in ((split.train, seed), (split.train, seed + 100), (dirty, seed))
    )
    place = f"{data}, {share:.0%} injected"
    return [
        row(place, "lists kept, injected", "ours", "overlap@10", mean_interval(overlap(clean, poisoned))),
        row(place, "lists kept, another seed", "ours", "overlap@10", mean_interval(overlap(clean, other))),
        row(place, "users shown a pushed item, before", "ours", "share@10", mean_interval(shown(clean, pushed))),
        row(place, "users shown a pushed item, injected", "ours", "share@10", mean_interval(shown(poisoned, pushed))),
        row(place, "injected", "ours", MAIN, poisoned.interval(MAIN, seed)),
        row(place, "clean", "ours", MAIN, clean.interval(MAIN, seed)),
    ]
