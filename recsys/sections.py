"""What the report shows beside the three answers: where hits are, what lists look like, examples, and a map of the items."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from core.codec import FIRST
from core.evaluation import Section
from core.report import COLOURS, figure, svg
from core.statistics import Estimate, mean_interval
from core.vectors import unit_rows
from recsys.estimators import SessionRecommender, popularity
from recsys.lists import Shelf, list_quality
from recsys.ranking import MAIN, Ranking
from recsys.split import Split

LENGTHS = ((1, 2), (3, 4), (5, 9), (10, 10**9))  # events of a history
EVENTS = ((0, 4), (5, 19), (20, 99), (100, 10**9))  # training events of an item
MAPPED, KINDS = 800, 8  # items on the map, the most popular ones, and groups that they are coloured by


def sections(
    model: SessionRecommender, split: Split, ours: Ranking, floors: dict[str, Ranking], best: str, seed: int = 0
) -> list[Section]:
    """All sections of a recommender's report; `best` is the floor to compare with."""
    target = split.test.target - FIRST
    counts = popularity(split.train)
    return [
        beyond_hits(split, {"ours": ours, **floors}, seed),
        by(
            f"{MAIN} by length of the history", "events", split.test.history.lengths, LENGTHS, ours, floors[best], best
        ),
        by(f"{MAIN} by frequency of the item that came", "training events", counts[target], EVENTS, ours, floors[best], best),
        examples(split, ours, seed),
        item_map(model, counts, seed),
    ]  # fmt: skip


def beyond_hits(split: Split, rankings: dict[str, Ranking], seed: int = 0) -> Section:
    """Novelty, diversity, popularity, coverage and inequality of every model's lists."""
    shelf = Shelf.of(split.train)
    found = {
        name: list_quality(one, shelf, split.test.target - FIRST, seed=seed)
        for name, one in rankings.items()
        if name != "untrained"
    }
    columns = next(iter(found.values()))
    return Section(
        "Lists beyond hits",
        "Novelty: bits, higher is less known. Diversity: 1 − cosine of the items of a list, by who had both. Popularity: training events of "
        "what is shown ÷ of what came; above 1 leans to what is popular. Coverage: share of the catalogue shown to anyone. Gini: 0 shows all "
        "items equally often, 1 always the same.",
        ("model", *columns),
        tuple((name, *(_cell(metrics[column]) for column in columns)) for name, metrics in found.items()),
    )


def by(
    title: str, what: str, values: NDArray, bins: Sequence[tuple[int, int]], ours: Ranking, other: Ranking, name: str
) -> Section:
    """The main metric of the encoder and of the best floor, by ranges of a number (M,)."""
    rows = []
    for low, high in bins:
        inside = (values >= low) & (values <= high)
        if inside.sum() >= 2:
            a, b, group = ours.per_user(MAIN)[inside], other.per_user(MAIN)[inside], ours.group[inside]
            label = f"{low} to {high}" if high < 10**9 else f"{low} or more"
            estimates = (mean_interval(values, group) for values in (a, b, a - b))
            rows.append((label, int(inside.sum()), *map(str, estimates)))
    return Section(
        title, "Differences are paired by question.", (what, "questions", "encoder", name, "difference"), tuple(rows)
    )


def examples(split: Split, ours: Ranking, seed: int = 0, each: int = 4) -> Section:
    """Questions drawn at random, half of them answered within the first ten: the latest items, what came, what was recommended."""
    generator = np.random.default_rng(seed)
    hit = ours.ranks < 10
    drawn = [generator.permutation(np.flatnonzero(kind))[:each] for kind in (hit, ~hit)]
    decode = split.train.catalogue.decode
    rows = []
    for row in np.concatenate(drawn):
        history = split.test.history.select(np.array([row])).known().last(6)
        shown = ours.first[row][:5]
        rows.append(
            (
                " → ".join(map(str, decode(history.items))),
                str(decode(split.test.target[[row]])[0]),
                int(np.floor(ours.ranks[row])) + 1,
                ", ".join(map(str, decode(shown[shown >= 0] + FIRST))),
            )
        )
    return Section(
        "Examples", f"Drawn at random: up to {each} that were found within the first ten, then up to {each} that were not.",
        ("latest items", "came", "its rank", "recommended first"), tuple(rows),
    )  # fmt: skip


def item_map(model: SessionRecommender, counts: NDArray[np.int64], seed: int = 0) -> Section:
    """The vectors of the most popular items in two dimensions (t-SNE, van der Maaten & Hinton 2008), coloured by k-means groups."""
    from sklearn.cluster import KMeans
    from sklearn.manifold import TSNE

    vectors = model.item_vectors()
    chosen = np.argsort(-counts, kind="stable")[:MAPPED]
    if len(chosen) < 4 * KINDS:
        return Section("Map of the items", f"{len(chosen)} items are too few for a map.")
    vectors = unit_rows(vectors[chosen])
    kind = KMeans(KINDS, n_init=3, random_state=seed).fit_predict(vectors)
    perplexity = min(30.0, (len(chosen) - 1) / 3)
    place = TSNE(2, perplexity=perplexity, init="pca", random_state=seed, max_iter=400).fit_transform(vectors)
    drawing, axes = figure(height=5.0)
    names = model.catalogue_.decode(chosen + FIRST)
    rows = []
    for number in range(KINDS):
        inside = kind == number
        colour = COLOURS[number % len(COLOURS)]
        marker = "o" if number < len(COLOURS) else "^"
        axes.scatter(*place[inside].T, s=8, color=colour, marker=marker, label=str(number + 1), linewidths=0)
        rows.append((number + 1, int(inside.sum()), ", ".join(map(str, names[inside][:5]))))
    axes.set_xticks([])
    axes.set_yticks([])
    axes.legend(frameon=False, fontsize=8, ncols=2, title="group")
    return Section(
        "Map of the items",
        f"The {len(chosen)} most popular items by their vectors; near ones are taken for one another. Groups are k-means of the vectors.",
        ("group", "items", "the most popular ones"), tuple(rows), svg(drawing),
    )  # fmt: skip


def _cell(estimate: Estimate) -> str:
    return f"{estimate.value:.3f}" if np.isnan(estimate.low) else str(estimate)
