"""A run is whole or not there, whichever step of its publication was the last before a kill."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import made_up_runs
import trivial
from made_up_runs import claim, write_run
from ovectors import results, runs
from ovectors.claims import Claim

STAGES = "01_stages_of_processing"


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    return trivial.enter(made_up_runs.make_project(tmp_path / "project"), monkeypatch)


def killed_at(step: int, work: Callable[[], Any]) -> bool:
    """Do the work in a process that ends as by SIGKILL before its `step`th change of the disk;
    whether it came so far."""
    if (child := os.fork()) == 0:
        left = [step]

        def counted(change: Callable[..., Any]) -> Callable[..., Any]:
            def changing(*arguments: Any, **more: Any) -> Any:
                left[0] -= 1
                if left[0] < 0:
                    os._exit(9)
                return change(*arguments, **more)

            return changing

        for name in ("replace", "unlink", "chmod"):
            setattr(os, name, counted(getattr(os, name)))
        try:
            work()
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9


def verdict_of(place: runs.Place) -> str:
    """What the run found, after checking every file of it."""
    runs.read_sidecar(place)
    manifest = results.read_manifest(place.results)
    path = place.results / manifest.file("claim-stages").file
    return Claim.model_validate_json(path.read_bytes()).verdict


def test_every_step_leaves_the_old_run_the_new_one_or_none(project, tmp_path):
    place = write_run(
        STAGES, "gpt2", [claim("stages", "gpt2", {"past_tense": 0.9, "uppercase": 0.9})]
    )
    order = [verdict_of(place), "none"]
    old = shutil.copytree(place.folder, tmp_path / "old")
    write_run(STAGES, "gpt2", [claim("stages", "gpt2", {"past_tense": 0.1, "uppercase": 0.1})])
    order.append(verdict_of(place))
    sidecar = runs.read_sidecar(place)
    new = shutil.copytree(place.folder, tmp_path / "new")

    def publish() -> None:
        work = runs.workspace(place)
        shutil.copytree(new / place.chapter, work / "results")
        shutil.copy(new / place.notebook.name, work / "notebook.ipynb")
        runs.publish(place, work, sidecar)

    seen = []
    for step in range(100):
        shutil.rmtree(place.folder)
        shutil.copytree(old, place.folder)
        if not killed_at(step, publish):
            break
        try:
            seen.append(verdict_of(place))
        except results.BrokenResult:
            seen.append("none")
        publish()
        assert verdict_of(place) == order[-1]
    assert len({*order}) == 3
    assert seen == sorted(seen, key=order.index) and seen[0] == order[0]
    assert seen.count("none") >= 3
