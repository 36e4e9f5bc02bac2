from __future__ import annotations

import pytest

from core.errors import UserError
from finance.data import read
from finance.synthetic import World, generate, write

WORLD = World(cards=150, days=60, compromised=6.0, leaked=6.0)


def test_equal_seeds_give_equal_logs_and_other_seeds_others():
    assert generate(WORLD).equals(generate(WORLD))
    assert not generate(WORLD).equals(generate(World(cards=150, days=60, compromised=6.0, leaked=6.0, seed=1)))


def test_size_scales_with_cards():
    assert 1.6 < len(generate(World(cards=200, days=20))) / len(generate(World(cards=100, days=20))) < 2.4


def test_planted_frauds_have_their_marks():
    log = generate(WORLD)
    assert set(log["scenario"]) == {0, 1, 2, 3}
    assert (log["fraud"] == (log["scenario"] > 0)).all()
    assert (log.loc[log["scenario"] == 1, "amount"] > 220).all()
    usual = log[log["scenario"] == 0].groupby("card")["amount"].mean()
    leaked = log[log["scenario"] == 3].groupby("card")["amount"].mean()
    ratio = leaked / usual.reindex(leaked.index)
    assert 4 < ratio.median() < 6
    log["day"] = log["time"].to_numpy().astype("datetime64[D]").astype(int)
    found = paid = 0
    for card, hit in log[log["scenario"] == 3].groupby("card"):
        during = log[(log["card"] == card) & log["day"].between(hit["day"].min(), hit["day"].min() + 13)]
        found, paid = found + len(during[during["scenario"] == 3]), paid + len(during)
    assert 0.2 < found / paid < 0.5  # a third of a leaked card's payments


def test_a_compromised_terminal_defrauds_everyone_while_it_lasts():
    log = generate(WORLD)
    log["day"] = log["time"].to_numpy().astype("datetime64[D]").astype(int)
    hit = log[log["scenario"] == 2]
    terminal = hit["terminal"].value_counts().index[0]
    first = hit.loc[hit["terminal"] == terminal, "day"].min()
    during = log[(log["terminal"] == terminal) & (log["day"].between(first, first + 20))]
    assert (during["fraud"] == 1).all() and during["card"].nunique() > 1


def test_cards_have_habits():
    log = generate(WORLD)
    log = log[log["fraud"] == 0]
    log["hour"] = log["time"].str[11:13].astype(float)
    for column in ("amount", "hour"):
        between = log.groupby("card")[column].mean().std()
        within = log.groupby("card")[column].std().mean()
        assert between > 0.4 * within  # a shuffled log of this size has about 0.1


@pytest.mark.parametrize("file", ["transactions.parquet", "transactions.csv"])
def test_what_is_written_is_what_data_reads(tmp_path, file):
    data = read(write(tmp_path / "d", World(cards=20, days=10), file))
    assert len(data) == data.rows_read and len(data.quarantine) == 0 and data.labelled


def test_an_empty_world_is_refused():
    with pytest.raises(UserError):
        generate(World(cards=0))
