"""What a killed process left half-written goes when the same file is written again; what anybody else has there stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from core.files import scratch, whole, whole_folder

# writes half of what it was asked for, says so, and waits to be killed
HALF = """
import sys, time
from pathlib import Path
from core import files
place = Path(sys.argv[1])
with getattr(files, sys.argv[2])(*((place, "it") if sys.argv[2] != "scratch" else (place.parent, place.name))) as temporary:
    (temporary if sys.argv[2] == "whole" else temporary / "part").write_text("half")
    print("half", flush=True)
    time.sleep(60)
"""
# is killed when the old folder is moved away and the new one not yet there
BETWEEN = """
import os, signal, sys
from core import files
rename = os.replace
def replace(source, target):
    rename(source, target)
    if str(target).endswith(".old"):
        os.kill(os.getpid(), signal.SIGKILL)
os.replace = replace
with files.whole_folder(sys.argv[1], "it") as temporary:
    (temporary / "part").write_text("new")
"""


def begun(place: Path, how: str) -> subprocess.Popen[str]:
    child = subprocess.Popen([sys.executable, "-c", HALF, str(place), how], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None and child.stdout.readline() == "half\n"
    return child


def ended(child: subprocess.Popen[str]) -> None:
    child.send_signal(signal.SIGKILL)
    child.communicate()


def write(place: Path, how: str) -> None:
    if how == "whole":
        with whole(place, "it") as temporary:
            temporary.write_text("all")
    elif how == "whole_folder":
        with whole_folder(place, "it") as temporary:
            (temporary / "part").write_text("all")
    else:
        with scratch(place.parent, place.name) as temporary:
            (temporary / "part").write_text("all")


@pytest.mark.parametrize("how", ["whole", "whole_folder", "scratch"])
def test_what_a_killed_process_left_is_swept_by_the_next_and_a_living_ones_stays(tmp_path: Path, how: str) -> None:
    place = tmp_path / "made"
    child = begun(place, how)
    mine = {path.name for path in tmp_path.iterdir()}
    assert len(mine) == 1
    other = f".other.{next(iter(mine)).split('.', 2)[2]}"
    (tmp_path / other).write_text("of another file")
    elsewhere = f".made.00000000.{child.pid}.tmp"
    (tmp_path / elsewhere).write_text("of another machine")
    write(place, how)
    assert {path.name for path in tmp_path.iterdir()} - {"made"} == mine | {other, elsewhere}  # it lives
    ended(child)
    write(place, how)
    assert {path.name for path in tmp_path.iterdir()} - {"made"} == {other, elsewhere}
    assert (tmp_path / "made").exists() == (how != "scratch")


def test_a_link_left_there_is_removed_and_not_what_it_points_to(tmp_path: Path) -> None:
    child = begun(tmp_path / "made", "whole_folder")
    left = next(tmp_path.iterdir())
    ended(child)
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").write_text("mine")
    left.rename(tmp_path / "aside")
    left.symlink_to(tmp_path / "precious")
    write(tmp_path / "made", "whole_folder")
    assert not left.is_symlink() and (tmp_path / "precious" / "file").read_text() == "mine"


def test_what_was_only_moved_away_when_the_kill_came_is_put_back(tmp_path: Path) -> None:
    place = tmp_path / "made"
    write(place, "whole_folder")
    done = subprocess.run([sys.executable, "-c", BETWEEN, str(place)], check=False)
    assert done.returncode == -signal.SIGKILL and not place.exists() and len(os.listdir(tmp_path)) == 2
    with pytest.raises(ZeroDivisionError), whole_folder(place, "it"):
        _ = 1 / 0
    assert os.listdir(tmp_path) == ["made"] and (place / "part").read_text() == "all"
