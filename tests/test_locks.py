"""A lock is held by a living process, and by nobody else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ovectors.locks import Busy, lock

HOLD = """
import sys, time
from pathlib import Path
from ovectors.locks import lock
with lock(Path(sys.argv[1]), wait=True, shared=sys.argv[2] == "shared"):
    print("held", flush=True)
    time.sleep(60)
"""


def holder(path: Path, how: str = "alone") -> subprocess.Popen[str]:
    command = [sys.executable, "-c", HOLD, str(path), how]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    return process


def test_who_holds_it_is_told_and_a_dead_holder_holds_nothing(tmp_path):
    path = tmp_path / "lock"
    process = holder(path)
    said = rf"process {process.pid}, since \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d"
    with pytest.raises(Busy, match=said), lock(path, wait=False):
        pass
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert path.exists()  # nothing could be tidied up
    with lock(path, wait=False):
        pass
    assert not path.exists()


def test_shared_ones_go_together_and_with_no_other(tmp_path):
    path = tmp_path / "lock"
    process = holder(path, "shared")
    with lock(path, wait=False, shared=True), pytest.raises(Busy), lock(path, wait=False):
        pass
    process.kill()
    process.wait()
    with lock(path, wait=False), pytest.raises(Busy), lock(path, wait=False, shared=True):
        pass


def test_one_that_waits_gets_it_when_the_holder_ends(tmp_path):
    path = tmp_path / "lock"
    process = holder(path)
    began = time.monotonic()
    waiting = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path), "alone"], stdout=subprocess.PIPE, text=True
    )
    time.sleep(1)
    assert waiting.poll() is None
    process.kill()
    assert waiting.stdout.readline() == "held\n" and time.monotonic() - began >= 1
    with pytest.raises(Busy), lock(path, wait=False):
        pass
    waiting.kill()
    for one in (process, waiting):
        one.wait()


COUNT = """
import sys
from pathlib import Path
from ovectors.locks import lock
folder = Path(sys.argv[1])
for _ in range(50):
    with lock(folder / "lock", wait=True):
        number = int((folder / "number").read_text())
        (folder / "number").write_text(str(number + 1))
"""


def test_never_two_hold_it_though_the_file_comes_and_goes(tmp_path):
    (tmp_path / "number").write_text("0")
    command = [sys.executable, "-c", COUNT, str(tmp_path)]
    processes = [subprocess.Popen(command) for _ in range(4)]
    assert [process.wait(timeout=120) for process in processes] == [0] * 4
    assert (tmp_path / "number").read_text() == "200"
    assert os.listdir(tmp_path) == ["number"]


def test_an_exception_frees_it(tmp_path):
    with pytest.raises(ZeroDivisionError), lock(tmp_path / "lock", wait=False):
        raise ZeroDivisionError
    with lock(tmp_path / "lock", wait=False):
        pass
