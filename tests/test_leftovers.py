"""What the dead leave is removed, and what the living use is not."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from ovectors import batch, leftovers, locks, paths

DEAD = 2**22 + 1  # more than any process has as its number


@pytest.fixture
def runs(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr(paths, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    for folder in ("tmp", "runs/one/.store", "runs/one/failed", "runs/one/01_first"):
        (tmp_path / folder).mkdir(parents=True)
    return tmp_path / "runs"


def below(runs: Path) -> set[str]:
    return {path.relative_to(runs).as_posix() for path in runs.rglob("*")}


HOST = socket.gethostname()
WORK_OF_THE_DEAD = f"one/.01_first@{HOST}@{DEAD}"
WORK_ELSEWHERE = f"one/.01_first@elsewhere@{DEAD}"
WORK_OF_THE_LIVING = f"one/.02_second@{HOST}@{os.getpid()}"
UNFINISHED = (
    "one/.01_first-abc.json",
    "one/failed/.01_first-abc.ipynb",
    "one/.store/.measure-0123-abc.parquet",
    "one/.store/measure-0123.lock",
    "one/.01_first@lock",
)
WHOLE = ("one/01_first.ipynb", "one/01_first.json", "one/.store/m-1.json", "one/01_first/a-b.json")


def fill(runs: Path) -> None:
    for name in (WORK_OF_THE_DEAD, WORK_ELSEWHERE, WORK_OF_THE_LIVING):
        (runs / name / "results").mkdir(parents=True)
    for name in (*UNFINISHED, *WHOLE):
        (runs / name).touch()


def test_a_batch_that_is_alone_removes_everything_half_done(runs):
    fill(runs)
    with batch.alone():
        left = below(runs)
    assert left == {"one", "one/.store", "one/failed", "one/01_first", ".lock", *WHOLE}


def test_beside_others_only_work_of_the_dead_is_removed(runs):
    fill(runs)
    before = below(runs)
    with batch.alone(beside=True):
        left = below(runs)
    assert before - left == {WORK_OF_THE_DEAD, f"{WORK_OF_THE_DEAD}/results"}


def test_a_lock_that_somebody_holds_stays(runs):
    path = runs / "one" / ".store" / "measure-0123.lock"
    with locks.lock(path, wait=False):
        leftovers.remove(alone=True)
        assert path.exists()
    assert not path.exists()


def test_temporary_folders_go_with_their_process(runs):
    make = "from ovectors import leftovers; print(leftovers.temporary_folder())"
    environment = os.environ | {"TMPDIR": tempfile.gettempdir()}
    command = [sys.executable, "-c", make]
    made = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    theirs, mine = Path(made.stdout.strip()), leftovers.temporary_folder()
    assert theirs.is_dir() and theirs.parent == mine.parent == Path(tempfile.gettempdir())
    leftovers.remove(alone=False)
    assert mine.is_dir() and not theirs.exists()


def test_folders_for_sockets_have_short_paths(monkeypatch, tmp_path):
    long = tmp_path / ("x" * 80)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    short = leftovers.temporary_folder(short=True)
    assert len(os.fsencode(short)) < leftovers._LONGEST_FOLDER
    assert leftovers.temporary_folder().parent == long
    short.rmdir()
