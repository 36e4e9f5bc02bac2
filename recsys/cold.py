"""Items that training never saw: each gets the vector that its attributes tell."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from core.codec import FIRST, Categories
from core.errors import UserError
from recsys.attributes import Attributes, joined, pairs_of

if TYPE_CHECKING:
    from recsys.estimators import SessionRecommender

R = TypeVar("R", bound="SessionRecommender")


def with_items(model: R, attributes: pd.DataFrame, penalty: float) -> R:
    """A copy of a fitted recommender that also knows the table's new items; see `SessionRecommender.add_items`."""
    attributes = joined(model.attributes, attributes)
    fresh = new_items(attributes, model.catalogue_)
    catalogue = Categories((*model.catalogue_.values, *fresh))
    counts = np.concatenate([model.popularity_, np.zeros(len(fresh), np.int64)])
    with torch.random.fork_rng(devices=[]):
        twin = type(model).build(
            {**model.describe(), "catalogue": list(catalogue.values), "popularity": counts.tolist()}
        )
    weights = {name: value.cpu() for name, value in model.encoder_.state_dict().items()}
    table = weights["stem.embedding.weight"]  # (ids, dim)
    vectors = np.concatenate([table.numpy(), np.zeros((len(fresh), table.shape[1]), np.float32)])
    trained = np.concatenate([np.zeros(FIRST, bool), counts > 0])
    cold = np.arange(model.catalogue_.size, catalogue.size)
    made = cold_vectors(Attributes.of(attributes, catalogue), vectors, trained, cold, penalty)
    made *= _length(vectors[trained]) / max(
        _length(made), 1e-9
    )  # a regression's are short, and short ones are never offered
    weights["stem.embedding.weight"] = torch.cat([table, torch.from_numpy(made)])
    twin.encoder_.load_state_dict(weights)
    if model.heads_ is not None and twin.heads_ is not None:  # their buffers count the catalogue, and are new
        twin.heads_.load_state_dict(dict(model.heads_.named_parameters()), strict=False)
    twin.device, twin.columns, twin.attributes = model.device, model.columns, attributes
    twin.encoder_.eval()
    return twin


def _length(vectors: NDArray[np.float32]) -> float:
    """Mean length of rows."""
    return float(np.linalg.norm(vectors, axis=1).mean())


def new_items(frame: pd.DataFrame, catalogue: Categories) -> tuple[str, ...]:
    """The items that the catalogue does not hold and that share an attribute with one that it does, in the order of the table.

    Raises:
        UserError: a column is missing, or there is no such item.
    """
    pairs = pairs_of(frame)
    known = catalogue.encode(pairs["item"]) >= FIRST
    shared = pairs["attribute"].isin(pairs["attribute"][known])
    found = tuple(dict.fromkeys(pairs["item"][~known & shared]))
    if not found:
        raise UserError(
            "no new item shares an attribute with a known one", where="attributes",
            mend="give the attributes of known and of new items in one table",
        )  # fmt: skip
    return found


def cold_vectors(
    attributes: Attributes, vectors: NDArray[np.float32], trained: NDArray[np.bool_], cold: NDArray, penalty: float
) -> NDArray[np.float32]:
    """Vectors (M, D) of the ids `cold`, told from their attributes by a ridge regression over the trained ids.

    Args:
        vectors: (ids, D); read where `trained`.
        trained: (ids,) bool; those without attributes are left out.
        penalty: of the regression, in items: an attribute of so many items counts half.

    Raises:
        UserError: no trained item has an attribute.
    """
    from sklearn.linear_model import Ridge

    rows = np.flatnonzero(trained & attributes.known)
    if not len(rows):
        raise UserError("no trained item has an attribute", where="attributes", mend="give those of known items too")
    matrix = attributes.matrix()
    ridge = Ridge(alpha=penalty, solver="sparse_cg", tol=1e-5).fit(matrix[rows], vectors[rows])
    return np.atleast_2d(ridge.predict(matrix[cold])).astype(np.float32)
