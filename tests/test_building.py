"""Building the book: killed or started twice, it needs no hand."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

import trivial
from ovectors import locks, paths
from ovectors.errors import UserError
from test_pages import Page, build, run
from test_pages import project as project  # a fixture


@pytest.mark.book
@pytest.mark.kernel
def test_a_build_that_was_killed_is_mended_by_the_next(project):
    """The Sphinx that it had started may go on writing for a moment."""
    run(project)
    command = [sys.executable, "-m", "ovectors", "book"]
    process = subprocess.Popen(command, cwd=project, env=trivial.environment(project))
    deadline = time.monotonic() + 60
    while not [*(project / "_build").glob("work-*/_build")]:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    process.wait()
    index, _ = build()
    assert "It ran with 2 items." in Page(index).text
    assert build()[1][-1] == "Nothing has changed: the book is as it was built"


def test_one_build_at_a_time(project):
    paths.BUILD.mkdir()
    with (
        locks.lock(paths.BUILD / ".lock", wait=False),
        pytest.raises(UserError, match=rf"_build is being built by process {os.getpid()}"),
    ):
        build()
