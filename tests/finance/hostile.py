"""Logs as they should not be: what tests of validation draw from."""

from __future__ import annotations

from decimal import Decimal
from random import Random

import pandas as pd
import pyarrow as pa

from finance.schema import Schema

NOW = 1_735_689_600  # 2025-01-01

SCHEMA = Schema(
    entity="card", time="when", amount="amount", categorical=("shop", "mcc"), numeric=("risk",), label="fraud",
    scenario="kind", id="id", counterparty="shop", currency="currency", text="words", label_time="reported", max_text=12,
    max_events=15,
)  # fmt: skip

WORDS = [
    "",
    "x",
    "ä",
    "NA",
    "null",
    "nan",
    "0012",
    "7",
    "7.0",
    "=1+1",
    "-2",
    'a,"b"',
    "two\nlines",
    "x" * 12,
    "y" * 13,
    "🤦🏽" * 6,
    " ",
]
NUMBERS = ["", "1", "-0.1", "+2.50", " 3 ", ".5", "5.", "1e3", "1e99", "1e400", "1e-400", "nan", "inf", "-Infinity", "1_000",
           "0x10", "٣", "ten", "true", " False ", "0.1234567890123456789", "9" * 41, "2", "0", "--1", "1\n"]  # fmt: skip
NAIVE = ["2024-01-01", "2024-02-29 23:59:59", "2023-02-29", "2024-12-31T10:00", "2024-03-31T02:30:00.999", "2024-13-01", "1969-12-31T23:59:59.5",
         "9999-12-31", "0000-01-01", "2024-10-27 02:30:00", "2024-01-01T24:00", "2024-01-01T10", "2024-01-01T10:00:60", " 2024-01-05 "]  # fmt: skip
ZONED = [
    "2024-01-01T10:00Z",
    "2024-01-01 10:00:00+02:00",
    "2024-01-01T10:00:00,25-0530",
    "2024-01-01T10:00+99",
    "2024-01-02T00:00 +01",
]
NO_TIMES = ["", "soon", "5", "1e9", "1735689601", "-5.5", "2024/01/01", "20240101", "4e10", "2024-01-01\n"]


def csv_log(random: Random) -> pd.DataFrame:
    """A table of text, as a csv holds it."""
    times = random.choice([NAIVE, [*ZONED, "2024-01-01T00:00Z"], NAIVE + ZONED + NO_TIMES, NO_TIMES])
    pools = {
        "id": [*(str(i) for i in range(200)), "", "7.0"],
        "card": ["a", "a", "b", "c", *WORDS],
        "when": times + NAIVE,
        "amount": ["1.5"] * len(NUMBERS) + NUMBERS,
        "shop": WORDS,
        "mcc": ["1", "01", "1.0", ""],
        "risk": [*NUMBERS, *["0.25"] * 20],
        "fraud": ["0", "1", "", "2", "maybe", "true", "1.0", "nan"],
        "kind": ["0", "3", "", "x", "1e20"],
        "currency": ["EUR", "", "euro"],
        "words": WORDS,
        "reported": ["", "2024-12-31", "1960-01-01", "soon", "2026-01-01"],
    }
    return pd.DataFrame({name: random.choices(pool, k=200) for name, pool in pools.items()}, dtype=str)


def parquet_log(random: Random) -> pa.Table:
    """A typed table, as a database or another program writes it."""

    def column(kind: pa.DataType, values: list) -> pa.Array:
        return pa.array(random.choices(values, k=200), type=kind)

    def one_of(*choices: tuple[pa.DataType, list]) -> pa.Array:
        return column(*random.choice(choices))

    whole = (pa.int64(), [None, *range(150), 2**62 + 1, 2**62 + 2])
    half = (pa.float64(), [None, 2.5, float("nan"), float("inf"), float(2**53), -0.0, *map(float, range(60))])
    seconds = [None, 0, -1, 86_399, NOW, NOW + 1, 1_711_848_600]
    stamps = (
        (pa.timestamp("us"), [None if s is None else s * 1_000_000 + 999_999 for s in seconds]),
        (pa.timestamp("ns"), [None if s is None else s * 10**9 + 1 for s in seconds]),
        (pa.timestamp("ms", "Europe/Paris"), [None if s is None else s * 1000 + 1 for s in seconds]),
        (pa.int64(), [*seconds, 10**15]),
        (pa.float64(), [None, 0.5, -0.5, float("nan"), float("inf"), 1e12, float(NOW)]),
        (pa.date32(), [None, 0, -1, 19_000, 19_723]),
        (pa.string(), [None, *NAIVE]),
    )
    decimals = (pa.decimal128(9, 2), [None, Decimal("1.10")])
    return pa.table(
        {
            "id": one_of(whole, half),
            "card": one_of(whole, half, (pa.string(), ["a", "b", None, ""])),
            "when": one_of(*stamps),
            "amount": one_of(half, (pa.float32(), [1.25, 0.1, None]), decimals),
            "shop": one_of(whole, (pa.string(), WORDS), (pa.uint64(), [1, None, 2**63])),
            "mcc": one_of(half, (pa.bool_(), [True, False, None]), (pa.int16(), [5, None])),
            "risk": one_of(half, (pa.int32(), [1, None])),
            "fraud": one_of((pa.bool_(), [True, False, None]), (pa.int8(), [0, 1, 2, None]), half),
            "kind": column(pa.int8(), [0, 1, None]),
            "currency": column(pa.string(), ["EUR", None]),
            "words": column(pa.large_string(), [*WORDS, None]),
            "reported": one_of(*stamps),
        }
    )
