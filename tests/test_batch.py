"""The batch: a run is whole or not there, whatever happens to it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import psutil
import pytest

import trivial
from ovectors import batch, keys, notebooks, results, runs

pytestmark = pytest.mark.kernel


@pytest.fixture
def project(tmp_path, monkeypatch):
    return trivial.enter(trivial.make_project(tmp_path / "project"), monkeypatch)


def jobs_of(project: Path, *, force=False, chapters=(), **given):
    chosen = notebooks.choose_chapters(chapters)
    return batch.plan([str(project / "a-model")], chosen, given, force=force)


def run_all(project: Path, *, keep_going=False, **settings):
    said: list[str] = []
    jobs = jobs_of(project, **settings)
    outcomes = batch.run_jobs(
        jobs, keep_going=keep_going, report=lambda event: said.append(str(event))
    )
    return outcomes, said


def folder_of(project: Path) -> Path:
    (model,) = runs.models_with_runs()
    return project / "book" / "runs" / model


def test_a_run_is_published_whole(project):
    (outcome,), _ = run_all(project, n_items="7")
    assert (outcome.kind, outcome.reason) == ("done", "")
    folder = folder_of(project)
    files = {*trivial.files_below(folder)}
    assert files == {
        "01_first.ipynb",
        "01_first.json",
        "01_first/manifest.json",
        "01_first/numbers.json",
    }
    numbers = results.load_json(folder / "01_first", "numbers")
    assert (numbers["n_items"], numbers["seed"]) == (7, 0)
    sidecar = runs.read_sidecar(outcome.job.place)
    assert sidecar.parameters["n_items"] == 7 and sidecar.parameters["seed"] == 0
    assert sidecar.seconds > 0 and sidecar.peak_memory_bytes > 10_000_000
    executed = nbformat.read(folder / "01_first.ipynb", as_version=4)
    assert all(c.execution_count for c in executed.cells if c.cell_type == "code")
    assert str(project / "book") not in json.dumps(executed.metadata)  # no temporary paths


def test_what_is_whole_and_current_is_not_run_again(project):
    run_all(project)
    before = trivial.files_below(folder_of(project))
    (again,), said = run_all(project)
    assert again.kind == "current" and "not run again" in said[-1]
    assert trivial.files_below(folder_of(project)) == before
    (forced,), _ = run_all(project, force=True)
    assert forced.kind == "done"
    assert trivial.executions(project) == ["01_first 2"] * 2


def test_every_part_of_the_key_makes_it_run_again(project, monkeypatch):
    run_all(project)

    def why():
        (job,) = jobs_of(project)
        return job.needed, runs.state_of(job.place, job.parts).reason

    assert why() == (False, "")
    path = trivial.write_chapter(project, text="# Another text")
    assert why() == (True, "changed since: chapter")
    trivial.write_chapter(project)
    weights = project / "a-model" / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + b"\x01")
    keys._remembered_hash.cache_clear()
    assert why() == (True, "changed since: model")
    weights.write_bytes(content)
    keys._remembered_hash.cache_clear()
    (job,) = jobs_of(project, seed="1")
    assert job.needed
    with monkeypatch.context() as patch:
        patch.setattr(results, "versions", lambda: {"torch": "0"})
        assert why() == (True, "changed since: versions")
    with monkeypatch.context() as patch:
        patch.setattr(keys, "library_sources", lambda code: [])
        assert why() == (True, "changed since: library")
    executed = nbformat.read(path, as_version=4)
    executed.cells[2].outputs = [nbformat.v4.new_output("stream", text="old output")]
    nbformat.write(executed, path)
    assert why() == (False, "")  # outputs are no source


@pytest.mark.parametrize("damage", ["notebook", "result", "sidecar", "manifest", "stray"])
def test_a_damaged_run_is_seen_and_run_again(project, damage):
    run_all(project)
    folder = folder_of(project)
    path = {
        "notebook": folder / "01_first.ipynb",
        "result": folder / "01_first" / "numbers.json",
        "sidecar": folder / "01_first.json",
        "manifest": folder / "01_first" / "manifest.json",
        "stray": folder / "01_first" / "stray.json",
    }[damage]
    path.write_bytes((path.read_bytes() if path.exists() else b"") + b" " + path.name.encode())
    (job,) = jobs_of(project)
    assert runs.state_of(job.place, job.parts).kind == "broken"
    (outcome,), _ = run_all(project)
    assert outcome.kind == "done"
    assert jobs_of(project)[0].needed is False


DEATHS = {
    "raise": ("1 / 0", "ZeroDivisionError: division by zero (in code cell 3)"),
    "many lines": ("raise ValueError('one\\ntwo')", "ValueError: one two (in code cell 3)"),
    "exit": ("import os; os._exit(0)", "the kernel died in code cell 3: its process ended with"),
    "memory": ("import os; os.kill(os.getpid(), 9)", "the kernel died in code cell 3: it was kill"),
    "sys.exit": ("import sys; sys.exit(0)", "SystemExit: 0 (in code cell 3)"),
}


@pytest.mark.parametrize("death", DEATHS)
def test_a_failed_run_is_kept_apart_and_leaves_the_earlier_one(project, death):
    run_all(project)
    folder = folder_of(project)
    before = trivial.files_below(folder)
    extra, said = DEATHS[death]
    trivial.write_chapter(project, extra=extra)
    (outcome,), _ = run_all(project)
    assert outcome.kind == "failed" and outcome.reason.startswith(said)
    after = trivial.files_below(folder)
    kept = after.pop("failed/01_first.ipynb")
    assert after == before
    top = nbformat.reads(kept.decode(), as_version=4).cells[0]
    assert top.cell_type == "markdown" and said in top.source


def test_a_run_that_succeeds_takes_the_failed_one_away(project):
    trivial.write_chapter(project, extra="1 / 0")
    run_all(project)
    failed = folder_of(project) / "failed" / "01_first.ipynb"
    assert runs.failure_of(failed) == "ZeroDivisionError: division by zero (in code cell 3)"
    assert not runs.was_refused(failed)
    trivial.write_chapter(project)
    (outcome,), _ = run_all(project)
    assert outcome.kind == "done" and not failed.exists()


@pytest.mark.parametrize(
    ("last", "said"),
    [
        ("", "the chapter did not finish: it left no manifest"),
        ("run.finish(); (run.folder / 'numbers.json').unlink()", "numbers.json is missing"),
        ("run.finish(); import sys; sys.exit(0)", "SystemExit: 0 (in code cell 3)"),
    ],
)
def test_a_chapter_without_whole_results_has_failed(project, last, said):
    trivial.write_chapter(project, last=last)
    (outcome,), _ = run_all(project)
    assert (outcome.kind, outcome.reason) == ("failed", said)
    assert not (folder_of(project) / "01_first.json").exists()


def test_a_chapter_that_refuses_its_input_is_told_apart(project):
    extra = "from ovectors.errors import UserError\nraise UserError('no such layer')"
    trivial.write_chapter(project, extra=extra)
    (outcome,), _ = run_all(project)
    assert (outcome.reason, outcome.by_user) == ("no such layer", True)
    assert runs.was_refused(outcome.job.place.failed)
    assert runs.state_of(outcome.job.place, {}).refused


def test_a_failure_stops_the_batch_unless_it_is_told_to_keep_going(project):
    for name in ("02_second", "03_third"):
        trivial.write_chapter(project, name)
    trivial.write_chapter(project, "02_second", extra="1 / 0")
    outcomes, _ = run_all(project)
    assert [o.kind for o in outcomes] == ["done", "failed", "not started"]
    outcomes, said = run_all(project, keep_going=True)
    assert [o.kind for o in outcomes] == ["current", "failed", "done"]
    assert sum("FAILED" in line and "ZeroDivisionError" in line for line in said) == 1


def test_two_folders_of_one_name_do_not_share_results(project):
    elsewhere = trivial.write_model(project / "elsewhere" / "a-model")
    chapters = notebooks.find_chapters()
    jobs = batch.plan([str(project / "a-model"), str(elsewhere)], chapters, {})
    assert jobs[0].place.folder != jobs[1].place.folder


def test_the_kernel_is_this_interpreter_whatever_the_user_installed(project, monkeypatch, tmp_path):
    spec = tmp_path / "jupyter" / "kernels" / "python3"
    spec.mkdir(parents=True)
    foreign = {"argv": ["/bin/false"], "display_name": "foreign", "language": "python"}
    (spec / "kernel.json").write_text(json.dumps(foreign))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    startup = tmp_path / "ipython" / "profile_default" / "startup"
    startup.mkdir(parents=True)
    (startup / "00.py").write_text("raise SystemExit")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    extra = "import sys; run.save_json('python', sys.executable)"
    trivial.write_chapter(project, extra=extra)
    (outcome,), _ = run_all(project)
    assert outcome.kind == "done"
    assert results.load_json(outcome.job.place.results, "python") == sys.executable


RUN_ONE = """
import signal, sys
from ovectors import batch, notebooks
signal.signal(signal.SIGINT, signal.default_int_handler)  # what a shell's background job ignores
batch.check_model = lambda job: None
chosen = notebooks.choose_chapters([sys.argv[2]])
(outcome,) = batch.run_jobs(batch.plan([sys.argv[1]], chosen, {}))
sys.exit(outcome.kind != "done")
"""


def start_batch(project: Path, chapter: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", RUN_ONE, str(project / "a-model"), chapter],
        cwd=project,
        env=trivial.environment(project),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_six_runs_at_once_pass(project):
    names = [f"{number:02}_chapter" for number in range(1, 7)]
    (project / "chapters" / "01_first.ipynb").unlink()
    for name in names:
        trivial.write_chapter(project, name)
    started = [start_batch(project, name) for name in names]
    ended = [process.communicate(timeout=300) for process in started]
    assert [process.returncode for process in started] == [0] * 6, ended
    assert sorted(trivial.executions(project)) == [f"{name} 2" for name in names]
    assert all(not job.needed for job in jobs_of(project))


SLEEPS = "import time, pathlib, os\npathlib.Path('started').write_text(str(os.getpid()))\n"
SLEEPS += "time.sleep(300)"


def wait_for_kernel(project: Path) -> psutil.Process:
    """The kernel of a chapter with `SLEEPS` in it, once it is in that cell."""
    deadline = time.monotonic() + 60
    while not (project / "started").exists() or not (project / "started").read_text():
        assert time.monotonic() < deadline, "the chapter did not start"
        time.sleep(0.05)
    return psutil.Process(int((project / "started").read_text()))


def wait_for_end(kernel: psutil.Process) -> None:
    """Fails when the kernel is still there after a few seconds."""
    deadline = time.monotonic() + 20
    while kernel.is_running() and kernel.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, "the kernel is an orphan"
        time.sleep(0.1)


@pytest.mark.parametrize("deadly", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_batch_that_is_ended_leaves_no_kernel_and_nothing_half_written(project, deadly):
    run_all(project)
    folder = folder_of(project)
    before = trivial.files_below(folder)
    trivial.write_chapter(project, extra=SLEEPS)
    process = start_batch(project, "1")
    kernel = wait_for_kernel(project)
    process.send_signal(deadly)
    try:
        process.communicate(timeout=30)
    except subprocess.TimeoutExpired:  # lost in a callback of a library: press again, as users do
        process.send_signal(deadly)
        process.communicate(timeout=60)
    wait_for_end(kernel)
    left = {k: v for k, v in trivial.files_below(folder).items() if not k.startswith(".01_first@")}
    assert left == before
    if deadly == signal.SIGINT:
        assert not list(folder.glob(".01_first@*"))
    trivial.write_chapter(project)
    (outcome,), _ = run_all(project, force=True)
    assert outcome.kind == "done" and not list(folder.glob(".*"))


def test_a_killed_kernel_fails_its_run_at_once(project):
    trivial.write_chapter(project, extra=SLEEPS)
    process = start_batch(project, "1")
    kernel = wait_for_kernel(project)
    kernel.kill()
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 1 and "the kernel died in code cell 3: it was killed" in said
    assert (folder_of(project) / "failed" / "01_first.ipynb").exists()


def test_the_work_of_a_run_that_still_goes_on_is_left_alone(project):
    (job,) = jobs_of(project)
    host = os.uname().nodename
    mine = job.place.folder / f".01_first@{host}@{os.getppid()}"
    dead = job.place.folder / f".01_first@{host}@{2**22 + 1}"
    for folder in (mine, dead):
        folder.mkdir(parents=True)
    work = runs.workspace(job.place)
    assert mine.exists() and work.exists() and not dead.exists()
    shutil.rmtree(work)


def test_a_disk_that_fills_is_one_line_and_no_result(project, monkeypatch):
    def full(place, work, sidecar):
        raise OSError(28, "No space left on device", str(place.notebook))

    monkeypatch.setattr(runs, "publish", full)
    (outcome,), _ = run_all(project)
    assert outcome.kind == "failed" and "No space left on device" in outcome.reason
    assert "\n" not in outcome.reason and list(folder_of(project).iterdir()) == []
