"""The recommender's protocol: every item ranked, floors tuned, three answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from math import inf
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.errors import UserError
from core.evaluation import Answer, Evaluation, Section, answer, labels_saved
from core.probes import label_subset
from core.statistics import Estimate, mean_interval
from recsys.baselines import Markov, Popularity, RecentPopularity, SessionPopularity
from recsys.ease import EASE
from recsys.estimators import SessionRecommender
from recsys.neighbours import STAN, ItemKNN, SessionKNN
from recsys.ranking import MAIN, METRICS, Ranking, Scorer, rank_all
from recsys.sections import sections
from recsys.sequences import Sequences
from recsys.split import Examples, Split

GRIDS: dict[str, list[Any]] = {
    "popularity": [Popularity()],
    "recent_popularity": [RecentPopularity(share) for share in (0.3, 0.1, 0.03)],
    "markov": [Markov(backoff) for backoff in (0.0, 0.3)],
    "item_knn": [ItemKNN(shrink=s, half_life=h) for h in (0.3, 1.0, 3.0) for s in (0.0, 20.0)],
    "session_knn": [SessionKNN(half_life=h, idf=i) for h in (0.3, 1.0, 3.0) for i in (0.0, 1.0)],
}
SESSION_GRIDS: dict[str, list[Any]] = {
    "session_popularity": [SessionPopularity()],
    "stan": [
        STAN(500, half_life=h, age=a, reach=r, length=0.5, power=1.5, idf=0.5) for h in (1.5, 5.0) for a in (0.3, inf) for r in (2.0, 5.0)
    ],
}  # fmt: skip
DENSE = 5000  # items up to which EASE is fitted, in seconds
EASES = [EASE(l2=l2) for l2 in (100.0, 500.0)]
Note = Callable[[str], None]


def grids(split: Split) -> dict[str, list[Any]]:
    """The floors that suit a split, each with the settings to choose from; EASE for catalogues that its dense matrix allows."""
    found = {**GRIDS, **(SESSION_GRIDS if split.repeats else {})}
    return {**found, "ease": EASES} if split.train.n_items <= DENSE else found


def tuned_floors(
    split: Split, questions: int = 2000, seed: int = 0, only: Sequence[str] | None = None
) -> dict[str, Any]:
    """Each floor, or `only` those, with the settings that are best on at most so many of the validation questions, fitted on all of
    `train`."""
    asked = split.validation.sample(questions, seed)
    if not len(asked):
        raise UserError(
            "no validation item is in the run's catalogue",
            where="--data",
            mend="evaluate on data of the same catalogue",
        )

    def worth(floor: Any) -> float:
        return float(rank_all(floor.fit(split.tuning), asked, split.repeats).per_user(MAIN).mean())

    found = {}
    for name, grid in grids(split).items():
        if only is not None and name not in only:
            continue
        best = max((replace(floor) for floor in grid), key=worth) if len(grid) > 1 else replace(grid[0])
        fitted = len(grid) > 1 and split.tuning is split.train  # by `worth`
        found[name] = best if fitted else best.fit(split.train)
    return found


def sparser(split: Split, fraction: float, seed: int) -> Sequences:
    """The training sequences of a draw of `fraction` of the users; draws of one seed are nested."""
    rows = label_subset(np.zeros(len(split.train), dtype=np.int64), fraction, seed, least=10)
    return split.train.select(rows)


def from_scratch(
    model: SessionRecommender, train: Sequences, fraction: float, seed: int, note: Note
) -> SessionRecommender:
    """The same recipe trained on `train` alone, `fraction` of the users.

    It gets as many epochs as the run had, twice as many at a tenth of the users, since fewer users need more epochs.
    """
    steps = max(20, round(model.steps_spent() * max(fraction, min(0.2, 2 * fraction))))
    base = model.recipe_
    chosen = replace(base, train=replace(base.train, steps=steps, minutes=None, seed=seed, device=model.device))
    twin = SessionRecommender(model.method, device=model.device, attributes=model.attributes)
    return twin.fit_sequences(train, note=note, chosen=chosen)


def check_held_out(model: SessionRecommender, data: str, split: Split) -> str:
    """A line on what training saw; `UserError` where it saw the answers."""
    same = bool(data) and data == model.data_
    if split.held_out == 0:
        return (
            f"the {split.unit} before those that are asked"
            if same
            else "other data; whether they are earlier cannot be seen"
        )
    if same and model.hold_out_ != split.held_out:
        raise UserError(
            "the run was trained on all events of this data, the test items among them", where="--run",
            mend="pretrain with --hold-out 2, or evaluate on later data",
        )  # fmt: skip
    if same:
        return "the same data without each user's last two events"
    return "other data; whether they hold events of these users' test items cannot be seen"


def evaluate(
    model: SessionRecommender, split: Split, *, data: str = "", fractions: Sequence[float] = (0.1,), draws: int = 3,
    questions: int = 5000, sampled: int = 0, seed: int = 0, note: Note = print,
) -> Evaluation:  # fmt: skip
    """How well `model` ranks the items that came next among all items, beside the floors.

    Args:
        model: a trained recommender.
        split: over the model's catalogue (`load(..., catalogue=model.catalogue_)`, then `leave_one_out`).
        data: digest of the file that `split.train` is from.
        fractions: shares of the users that a model from scratch gets, besides all of them.
        draws: draws of users at each fraction.
        questions: those by which the curve over fractions is measured, at most.
        sampled: also rank among so many sampled items, in a section that says that this misleads; 0 does not.

    Raises:
        UserError: too few long sequences, a catalogue that shares nothing with the run's, or a run that saw the answers.
    """
    if not 0 < min(fractions, default=0) < 1 or draws < 1:
        raise UserError(
            "the curve needs a fraction below 1 and a draw", where="--fractions", mend="use for example 0.1"
        )
    if sampled < 0:
        raise UserError(f"{sampled} sampled items", where="--sampled", mend="give how many, or 0 for none")
    seen = check_held_out(model, data, split)
    split, unknown = split.rankable()
    items = split.train.n_items
    note(f"ranking {items} items for {len(split.test)} questions")
    floors = tuned_floors(split, seed=seed)
    models: dict[str, Scorer] = {"ours": model, **floors, "untrained": model.untrained(seed)}
    rankings = {name: rank_all(one, split.test, split.repeats) for name, one in models.items()}
    ours = rankings.pop("ours")
    floor_metrics = {name: ranking.metrics(METRICS, seed) for name, ranking in rankings.items()}
    curve, scratch = user_curve(model, floors, split, ours, rankings, fractions, draws, questions, seed, note)
    best = max(rankings, key=lambda name: rankings[name].per_user(MAIN).mean())
    few = min(fractions)
    against = paired(ours, rankings[best])
    pretraining = over_draws(ours.per_user(MAIN)[scratch.rows][None] - scratch.values[few], seed)
    untrained = paired(ours, rankings["untrained"])
    return Evaluation(
        task="recommend each user's next item",
        protocol={
            "split": split.name, "questions": len(split.test), split.unit: len(np.unique(split.test.group)), "items": items,
            f"training {split.unit}": len(split.train), "training events": len(split.train.items),
            "training saw": seen, "data sha256": data or "not from a file",
            "test items unknown to the run (left out)": unknown,
            "steps": model.steps_spent(), "training minutes": round(model.minutes_spent(), 2), "checkpoint": "last step",
            "history cut to": model.recipe_.model.length,
            "floors tuned on validation items": {n: s for n, f in floors.items() if (s := _settings(f))},
            "seeds": {"run": model.recipe_.train.seed, f"draws of {split.unit}": list(range(draws))},
            "from scratch": f"the same recipe on fewer {split.unit}; its steps are max(fraction, min(0.2, 2 · fraction)) of the run's",
            "curve measured on questions": len(scratch.asked),
        },
        main=MAIN,
        metrics=ours.metrics(METRICS, seed),
        floors=floor_metrics,
        label_curve=curve,
        answers={
            "pretraining": answer(
                pretraining,
                f"{MAIN}, trained on all {split.unit} minus trained on {few:.0%} of them ({draws} draws); minus untrained: {untrained}",
            ),
            "best_tool": answer(against, f"{MAIN} minus that of {best}, the best of the tuned floors; paired by question"),
            "labels_saved": users_saved(curve, best, len(split.train), split.unit, seed),
        },
        unit=split.unit,
        sections=[
            *sections(model, split, ours, rankings, best, seed),
            *([sampled_section(models, split, sampled, seed)] if sampled else []),
        ],
    )  # fmt: skip


class Scratch:
    """What models from scratch reached: the questions asked, and per fraction (draws, questions) of the main metric."""

    def __init__(self, asked: Examples, rows: NDArray[np.int64]) -> None:
        self.asked, self.rows = asked, rows
        self.values: dict[float, NDArray] = {}


def user_curve(
    model: SessionRecommender, floors: dict[str, Any], split: Split, ours: Ranking, rankings: dict[str, Ranking],
    fractions: Sequence[float], draws: int, questions: int, seed: int, note: Note,
) -> tuple[list[dict[str, Any]], Scratch]:  # fmt: skip
    """Rows `{fraction, labels (users or sessions), arm, seed, metric, value}`: ours as it is, all else fitted on fewer."""
    rows = np.sort(np.random.default_rng(seed).permutation(len(split.test))[:questions])
    result, curve = Scratch(split.test.select(rows), rows), []

    def add(fraction: float, count: int, arm: str, draw: int, values: NDArray) -> None:
        value = float(values.mean())
        curve.append({"fraction": fraction, "labels": count, "arm": arm, "seed": draw, "metric": MAIN, "value": value})

    everyone = len(split.train)
    for draw in range(draws):
        for fraction in sorted(set(fractions) - {1.0}):
            part = sparser(split, fraction, draw)
            note(f"from scratch on {len(part)} of {everyone} {split.unit}, draw {draw}")
            twin = from_scratch(model, part, fraction, draw, lambda line: None)
            arms: dict[str, Scorer] = {
                "scratch": twin,
                **{name: replace(floor).fit(part) for name, floor in floors.items()},
            }
            for arm, scorer in arms.items():
                values = rank_all(scorer, result.asked, split.repeats).per_user(MAIN)
                add(fraction, len(part), arm, draw, values)
                if arm == "scratch":
                    result.values[fraction] = np.vstack([result.values[fraction], values]) if draw else values[None]
            add(fraction, len(part), "pretrained", draw, ours.per_user(MAIN)[rows])
        # on all users, from scratch and pretrained are the same model; the floors have no randomness
        for arm, ranking in {"pretrained": ours, "scratch": ours, **rankings}.items():
            add(1.0, everyone, arm, draw, ranking.per_user(MAIN)[rows])
    return curve, result


def sampled_section(models: dict[str, Scorer], split: Split, count: int, seed: int) -> Section:
    """The same models among `count` sampled items, for setting beside older papers."""
    rankings = {
        name: rank_all(one, split.test, split.repeats, sampled=count, seed=seed) for name, one in models.items()
    }
    return Section(
        f"Sampled metrics: misleading (among {count} items drawn evenly)",
        "For comparison with papers that sampled. They flatter every model and can order models wrongly (Krichene & Rendle 2020); the figures "
        "above rank the whole catalogue.",
        ("model", MAIN, "hr@10"),
        tuple((name, str(one.interval(MAIN, seed)), str(one.interval("hr@10", seed))) for name, one in rankings.items()),
    )  # fmt: skip


def paired(ours: Ranking, other: Ranking, metric: str = MAIN) -> Estimate:
    """Mean difference of a metric, with a bootstrap over users or sessions."""
    return mean_interval(ours.per_user(metric) - other.per_user(metric), ours.group)


def gained(ours: Ranking, other: Ranking) -> Estimate:
    """The difference of the main metric as a share of what the other reaches."""
    gain, scale = paired(ours, other), float(other.per_user(MAIN).mean())
    return Estimate(gain.value / scale, gain.low / scale, gain.high / scale)


def over_draws(differences: NDArray[np.float64], seed: int = 0, resamples: int = 1000) -> Estimate:
    """Mean of (draws, users) differences; the bootstrap resamples users and, where there are several, draws."""
    generator = np.random.default_rng(seed)
    draws, users = differences.shape
    means = []
    for _ in range(resamples):
        mean = differences[generator.integers(0, draws, draws)].mean(0)
        means.append(mean[generator.integers(0, users, users)].mean())
    return Estimate(float(differences.mean()), float(np.percentile(means, 2.5)), float(np.percentile(means, 97.5)))


def users_saved(curve: list[dict[str, Any]], floor: str, everyone: int, unit: str = "users", seed: int = 0) -> Answer:
    """All users ÷ the users whose events bring the encoder to what the best floor makes of all of them.

    Guessing the next item is both the pretext and the job, so there are no labels to save; what can be saved is users.
    """
    whole = [{**row, "arm": "floor"} for row in curve if row["arm"] == floor and row["labels"] == everyone]
    if floor == "untrained" or not whole:
        return Answer("not measured", Estimate(np.nan, np.nan, np.nan), "no floor beats chance")
    needed = labels_saved(
        [*whole, *(row for row in curve if row["arm"] == "scratch")], MAIN, "floor", "scratch", what=unit, seed=seed
    )
    share, low, high = needed.estimate.value, needed.estimate.low, needed.estimate.high
    ours = float(np.mean([row["value"] for row in curve if row["arm"] == "scratch" and row["labels"] == everyone]))
    if ours < float(np.mean([row["value"] for row in whole])):
        return Answer(
            f"none: the encoder needs more {unit} than there are",
            Estimate(np.nan, np.nan, np.nan),
            f"{MAIN}, against {floor} on all {everyone} {unit}",
        )
    least = "at least " if share <= min(row["fraction"] for row in curve) * 1.0001 else ""
    detail = f"the encoder needs {share:.0%} of the {unit} for the {MAIN} that {floor} reaches with all {everyone}"
    return Answer(f"{least}{1 / share:.1f}× the {unit}", Estimate(1 / share, 1 / high, 1 / low), detail)


def _settings(floor: Any) -> dict[str, Any]:
    """A floor's settings: its dataclass fields that it is made with."""
    return {f.name: getattr(floor, f.name) for f in fields(floor) if f.init}
