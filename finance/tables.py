"""Tables made for the data's owner: they keep row numbers and ids, so that they can be joined."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd

from core.tables import pseudonyms
from finance.classifier import FraudClassifier
from finance.data import Transactions
from finance.estimators import FraudScorer, TransactionEncoder
from finance.groups import Groups
from finance.split import on_or_after


def score_table(
    scorer: FraudScorer, data: Transactions, since: int | None = None, pseudonymise: bool = False, alert: float | None = None,
    classifier: FraudClassifier | None = None,
) -> pd.DataFrame:  # fmt: skip
    """Row, id, score, and the surprise in nats of each field (`why: …`), in file order.

    Args:
        since: first day to score; None scores all.
        alert: score from which on a payment is an alert: a column of its own. With a classifier, a probability.
        classifier: of whose probability of fraud a column is made.
    """
    data = scorer.fitted()[0].seen(data)
    wanted = np.ones(len(data), bool) if since is None else on_or_after(data, since)
    table = _keys(data, pseudonymise)
    encoded = scorer.fitted()[0].encode(data)
    parts = scorer.parts(encoded, wanted)
    table["score"], table["card's past"] = parts[:, 0], parts[:, 2]
    judged = parts[:, 0]
    if classifier is not None:
        judged = table["probability of fraud"] = classifier.predict_proba(encoded, wanted)[:, 1]
    if alert is not None:
        table["alert"] = judged >= alert
    for name, values in scorer.reasons(encoded, wanted).items():
        table[f"why: {name}"] = values
    return table[wanted].sort_values("row").reset_index(drop=True)


def embedding_table(
    encoder: TransactionEncoder,
    data: Transactions,
    per: Literal["payment", "card"] = "payment",
    pseudonymise: bool = False,
) -> pd.DataFrame:
    """Columns `0` … `D-1`, beside row and id of a payment, or the card's name and, of a run of method swav, its `group`."""
    data = encoder.seen(data)
    if per == "card":
        cards, states = encoder.transform_cards(data)
        keys = pd.DataFrame({data.schema.entity: pseudonyms(cards) if pseudonymise else cards})
        if isinstance(encoder.heads_, Groups):
            keys["group"] = encoder.groups_of(states)
    else:
        keys, states = _keys(data, pseudonymise), encoder.transform(data)
    made = pd.concat([keys, pd.DataFrame(states, columns=[str(i) for i in range(states.shape[1])])], axis=1)
    return made if per == "card" else made.sort_values("row").reset_index(drop=True)


def _keys(data: Transactions, pseudonymise: bool) -> pd.DataFrame:
    keys = pd.DataFrame({"row": data.frame["row"]})
    if data.schema.id:
        keys[data.schema.id] = pseudonyms(data.frame["id"]) if pseudonymise else data.frame["id"]
    return keys
