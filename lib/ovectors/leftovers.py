"""What killed processes leave behind: named so that it is found, and removed by the next batch."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil

from ovectors import locks, paths

# A Unix socket's path has at most 104 bytes on macOS and 108 on Linux.
_LONGEST_FOLDER = 70


def temporary_folder(*, short: bool = False) -> Path:
    """A new temporary folder of this process; `short`: for sockets, whose paths have a limit."""
    usual = tempfile.gettempdir()
    long = len(os.fsencode(usual)) > _LONGEST_FOLDER
    parent = "/tmp" if long and short else usual
    return Path(tempfile.mkdtemp(prefix=f"ov-{os.getpid()}-", dir=parent))


def remove(*, alone: bool) -> None:
    """Remove temporary folders, workspaces, unfinished files and files of locks that belong to
    nobody any more.

    Where it is certain that nobody else works in the folder of runs (`alone`), what is in there is
    nobody's; otherwise only the workspaces of processes of this machine that are gone.
    """
    for folder in _temporary_folders_of_the_dead():
        shutil.rmtree(folder, ignore_errors=True)
    for folder in _workspaces():
        if alone or _is_of_the_dead(folder):
            shutil.rmtree(folder, ignore_errors=True)
    for file in _unfinished() if alone else ():
        with contextlib.suppress(OSError):  # whoever writes there next tells what is wrong
            file.unlink()
    for file in _locks() if alone else ():
        # A kernel whose batch was killed a moment ago may still hold one.
        with contextlib.suppress(OSError, locks.Busy), locks.lock(file, wait=False):
            pass  # it removes the file


def _temporary_folders_of_the_dead() -> Iterator[Path]:
    for parent in {tempfile.gettempdir(), "/tmp"}:
        for folder in Path(parent).glob("ov-*-*"):
            process = folder.name.split("-")[1]
            if process.isdecimal() and not psutil.pid_exists(int(process)):
                yield folder


def _workspaces() -> Iterator[Path]:
    """Those of `runs.workspace`: `.<chapter>@<host>@<process>`."""
    yield from paths.RUNS.glob("*/.*@*@*")


def _is_of_the_dead(workspace: Path) -> bool:
    _, host, process = workspace.name.rsplit("@", 2)
    here = host == socket.gethostname() and process.isdecimal()
    return here and not psutil.pid_exists(int(process))


def _unfinished() -> Iterator[Path]:
    """Those of `results.atomic_path`: `.<name>-<random>.<suffix>`."""
    for pattern in (".*-*.*", "*/.*-*.*", "*/failed/.*-*.*", "*/.store/.*-*.*"):
        yield from paths.RUNS.glob(pattern)


def _locks() -> Iterator[Path]:
    yield from paths.RUNS.glob("*/.*@lock")
    yield from paths.RUNS.glob("*/.store/*.lock")
