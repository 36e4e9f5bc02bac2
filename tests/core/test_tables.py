"""Tables for the data's owner: joined back they are what they were, in a spreadsheet they run nothing."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from core.errors import UserError
from core.tables import KEY, check_table, pseudonyms, write_table

TABLE = pd.DataFrame({"where": ["a", "=1+1"], "p(=x)": [0.25, -0.5], "@b": [True, False], "n": [1, 2]})


def test_parquet_holds_a_table_as_it_is(tmp_path: Path) -> None:
    pd.testing.assert_frame_equal(pd.read_parquet(write_table(TABLE, tmp_path / "made" / "t.parquet")), TABLE)


def test_text_and_names_are_safe_in_a_csv_and_numbers_stay(tmp_path: Path) -> None:
    lines = write_table(TABLE, tmp_path / "t.csv").read_text(encoding="utf-8").splitlines()
    assert lines == ["where,p(=x),'@b,n", "a,0.25,True,1", "'=1+1,-0.5,False,2"]


@pytest.mark.parametrize("name", ["t.xlsx", "t", "t.CSV"])
def test_another_ending_is_refused_before_the_work_and_nothing_is_left(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match=r"no table format .* end the name in \.csv or \.parquet"):
        check_table(tmp_path / name)
    with pytest.raises(UserError, match="no table format"):
        write_table(TABLE, tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_a_table_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    out = write_table(TABLE, tmp_path / "t.parquet")
    before = out.read_bytes()
    with pytest.raises(Exception, match="Expected bytes"):
        write_table(pd.DataFrame({"mixed": [b"a", 1]}, dtype=object), out)
    assert out.read_bytes() == before and list(tmp_path.iterdir()) == [out]


def test_ids_are_hashed_by_the_environments_key_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY, "secret")
    check_table(tmp_path / "t.csv", pseudonymise=True)
    one, other, again = pseudonyms(["a", 7, "a"])
    assert one == again != other and {len(one), len(other)} == {32}
    monkeypatch.setenv(KEY, "another")
    assert pseudonyms(["a"]) != [one]
    for nothing in ("", None):  # no key is no key, not an empty one
        monkeypatch.setenv(KEY, "") if nothing == "" else monkeypatch.delenv(KEY)
        with pytest.raises(UserError, match=f"no key to hash ids with .{KEY} is not set"):
            check_table(tmp_path / "t.csv", pseudonymise=True)
        with pytest.raises(UserError, match="no key"):
            pseudonyms(["a"])
