"""`ovectors run` over several models and chapters: at once, again, quietly, and beside another."""

from __future__ import annotations

import json
import os
import shutil
import signal

import pytest

import trivial
from ovectors import cli

pytestmark = pytest.mark.kernel

ONE_OF_TWO = "import os, pathlib\nassert pathlib.Path(model).name == 'tiny', 'not this one'"
BOTH = ["--model", "./tiny", "--model", "./other"]


@pytest.fixture
def project(tmp_path, tiny_folder):
    return trivial.make_project(tmp_path / "project", tiny=tiny_folder)


@pytest.fixture
def two(project, tiny_folder, monkeypatch):
    """Two models, the second of which every chapter refuses; in this process, unopened."""
    shutil.copytree(tiny_folder, project / "other")
    trivial.write_chapter(project, extra=ONE_OF_TWO)
    return trivial.enter(project, monkeypatch)


def test_what_does_not_run_in_one_model_does_not_stop_another_with_keep_going(project, tiny_folder):
    shutil.copytree(tiny_folder, project / "other")
    extra = "assert model.endswith('other'), 'not this one'"
    trivial.write_chapter(project, extra=extra)
    both = ["run", "--model", "./tiny", "--model", "./other"]
    result = trivial.command(project, *both)
    assert result.returncode == 1 and "1 failed, 1 not started" in result.stdout
    result = trivial.command(project, *both, "--keep-going")
    assert result.returncode == 1 and "1 run, 1 failed" in result.stdout


def test_jobs_at_once_leave_the_folder_of_the_process_alone(two, monkeypatch):
    """It is one for all threads: whoever changes it, if only for a moment, moves the others too."""
    changed = []
    monkeypatch.setattr(os, "chdir", changed.append)
    assert cli.main(["run", *BOTH, "--jobs", "2", "--keep-going"]) == 1
    assert changed == []


def test_jobs_at_once_end_as_one_by_one(two, capsys):
    for name in ("02_second", "03_third"):
        trivial.write_chapter(two, name)
    assert cli.main(["run", *BOTH, "--jobs", "4", "--keep-going"]) == 1
    out, err = capsys.readouterr()
    assert out.splitlines()[-1] == "5 run, 1 failed" and err.count("\n") == 1
    assert sorted(trivial.executions(two)) == sorted(
        ["01_first 2"] * 2 + ["02_second 2"] * 2 + ["03_third 2"] * 2
    )
    assert [*(two / "book" / "runs").rglob(".*")] == []
    assert cli.main(["run", *BOTH, "--jobs", "4", "--keep-going"]) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "5 already current, 1 failed"


def test_only_failed_runs_what_failed_and_nothing_else(two, capsys):
    cli.main(["run", *BOTH, "--keep-going"])
    trivial.write_chapter(two)  # mended: now both are stale
    capsys.readouterr()
    assert cli.main(["run", *BOTH, "--only-failed"]) == 0
    out = capsys.readouterr().out
    assert "01_first on other: running" in out and "on tiny" not in out
    assert cli.main(["run", *BOTH, "--only-failed"]) == 0
    assert capsys.readouterr().out == "nothing to run\n"


def test_a_dry_run_says_why_and_writes_nothing(two, capsys):
    assert cli.main(["run", *BOTH, "--dry-run"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "[1/2] 01_first on tiny: would run (never run)",
        "[2/2] 01_first on other: would run (never run)",
    ]
    assert [*(two / "book").iterdir()] == [] and trivial.executions(two) == []
    cli.main(["run", "--model", "./tiny"])
    capsys.readouterr()
    before = trivial.files_below(two / "book")
    trivial.write_chapter(two, text="# Another", extra=ONE_OF_TWO)
    assert cli.main(["run", "--model", "./tiny", "--n-items", "3", "-n"]) == 0
    said = "[1/1] 01_first on tiny: would run (changed since: chapter, parameters)\n"
    assert capsys.readouterr().out == said
    assert cli.main(["run", "--model", "./tiny", "--force", "--dry-run", "--json-lines"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line)["event"] == "would run"
    assert trivial.files_below(two / "book") == before


def test_json_lines_tell_every_start_and_end(two, capsys):
    assert cli.main(["run", *BOTH, "--keep-going", "--json-lines"]) == 1
    out, err = capsys.readouterr()
    events = [json.loads(line) for line in out.splitlines()]
    kinds = [event["event"] for event in events]
    assert kinds == ["started", "done", "started", "failed", "finished"]
    assert events[0]["why"] == "never run" and events[1]["seconds"] > 0
    assert events[3]["model"] == "other" and "not this one" in events[3]["reason"]
    assert events[4]["counts"] == {"done": 1, "failed": 1} and events[4]["exit_code"] == 1
    assert err.startswith("ovectors: 01_first on other failed: AssertionError: not this one")


def test_quiet_says_what_failed_and_nothing_else(two, capsys):
    assert cli.main(["run", "--model", "./tiny", "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")
    assert cli.main(["run", "--model", "./other", "-q"]) == 1
    out, err = capsys.readouterr()
    assert out == "" and len(err.splitlines()) == 1
    assert cli.main(["run", "-q", "--json-lines"]) == 2


def test_a_second_batch_is_refused_until_the_first_is_gone(project):
    trivial.write_chapter(project, extra=trivial.WAITS)
    first = trivial.start(project, "run", "--model", "./tiny")
    trivial.wait_for(project / "started", first)
    said = trivial.one_line(trivial.command(project, "run", "--model", "./tiny"), 2)
    assert f"another batch is running in {project / 'book' / 'runs'} (process {first.pid}" in said
    beside = trivial.command(project, "run", "--model", "./tiny", "--beside")
    assert "another batch is running" in trivial.one_line(beside, 2)
    looking = trivial.command(project, "run", "--model", "./tiny", "--dry-run")
    assert looking.returncode == 0
    first.send_signal(signal.SIGKILL)
    first.communicate()
    trivial.write_chapter(project)
    result = trivial.command(project, "run", "--model", "./tiny")
    assert result.returncode == 0 and "1 run" in result.stdout
    assert [*(project / "book" / "runs").rglob(".*")] == []


def test_beside_one_another_no_chapter_is_run_twice_at_a_time(project):
    trivial.write_chapter(project, extra=trivial.WAITS)
    first = trivial.start(project, "run", "--model", "./tiny", "--beside")
    trivial.wait_for(project / "started", first)
    result = trivial.command(project, "run", "--model", "./tiny", "--beside")
    said = trivial.one_line(result, 2)
    assert f"01_first on tiny failed: it is being run by process {first.pid}" in said
    trivial.write_chapter(project, "02_second")
    result = trivial.command(project, "run", "--model", "./tiny", "--beside", "-c", "2")
    assert result.returncode == 0
    first.send_signal(signal.SIGINT)
    _, err = first.communicate(timeout=60)
    assert first.returncode == 130 and "the same command goes on from here" in err
