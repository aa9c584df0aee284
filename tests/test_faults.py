"""What a batch leaves when it is killed, or has no disk, no rights, no memory: whole or nothing."""

from __future__ import annotations

import itertools
import os
import resource
import shutil
import subprocess
import time
from pathlib import Path

import pytest

import fault_batch
import faults
import trivial
from ovectors import batch, execution, notebooks, runs
from test_cli import _cannot_override_permissions

pytestmark = pytest.mark.kernel

KILLS = 10


@pytest.mark.slow
def test_killing_at_any_moment_loses_and_repeats_nothing(tmp_path):
    """The short version of `tests/faults.py`, whose long one writes FAULTS.md."""
    project = fault_batch.make_project(tmp_path / "project", weights=False)
    report = faults.torment(project, KILLS, seed=1)
    assert report.all_kills == KILLS and min(report.kills.values()) >= 2
    tables = report.rounds * len(fault_batch.MODELS) * fault_batch.TABLES_OF_A_MODEL
    assert report.computed - report.lost == tables


def test_the_harness_sees_what_it_looks_for(tmp_path):
    """A table of other numbers, a half one, one that was made again, something left behind."""
    harness = object.__new__(faults.Harness)
    harness.project = tmp_path
    store = tmp_path / "book" / "runs" / "one" / ".store"
    store.mkdir(parents=True)
    (tmp_path / "tmp").mkdir()
    (store / "t.parquet").write_bytes(b"numbers")
    told = '{"sha256": "%s", "parts": {"settings": {"of": "one", "name": "n", "number": 1}}}'
    (store / "t.json").write_text(told % fault_batch.digest(store / "t.parquet"))
    whole = faults.Whole.now(tmp_path)
    assert [*whole.tables] == ["one n 1"]
    harness.tables, harness.runs = {"one n 1": "another"}, {}
    with pytest.raises(faults.Fault, match="the table one n 1 is another"):
        harness._compare()
    whole.check_kept(tmp_path)
    (tmp_path / "computed").write_text("one n 1\n")
    with pytest.raises(faults.Fault, match="were computed again"):
        whole.check_kept(tmp_path)
    assert fault_batch.left_behind(tmp_path) == []
    (store / ".t-x.parquet").touch()
    (tmp_path / "tmp" / "ov-1-x").mkdir()
    assert len(fault_batch.left_behind(tmp_path)) == 2
    (store / "t.parquet").write_bytes(b"half")
    assert fault_batch.whole_tables(tmp_path) == {}


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    return trivial.enter(trivial.make_project(tmp_path / "project"), monkeypatch)


def run_all(project: Path, report=lambda event: None, **how) -> list[batch.Outcome]:
    jobs = batch.plan([str(project / "a-model")], notebooks.find_chapters(), {}, **how)
    return batch.run_jobs(jobs, keep_going=True, report=report)


def run_one(project: Path) -> batch.Outcome:
    (outcome,) = run_all(project)
    return outcome


def mount(*arguments: str) -> None:
    if os.geteuid() != 0 or not shutil.which("mount"):
        pytest.skip("only root can mount a small file system")
    result = subprocess.run(["mount", *arguments], capture_output=True, text=True)
    if result.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {result.stderr.strip()}")


@pytest.fixture
def small_disk(project):
    """The folder of runs, on a disk of 400 kB."""
    folder = project / "book" / "runs"
    folder.mkdir()
    mount("-t", "tmpfs", "-o", "size=400k", "tmpfs", str(folder))
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


FILLS = {
    "while the chapter saves": "run.save_json('big', 'x' * 1_000_000)",
    "while its notebook is written": "print('x' * 1_000_000)",
    "to the last byte": "import os, pathlib\n"
    "place = pathlib.Path(os.environ['OVECTORS_OUTPUT']).parents[1] / 'filler'\n"
    "try:\n    place.write_bytes(b'x' * 10_000_000)\nexcept OSError:\n    pass",
}


@pytest.mark.parametrize("when", FILLS)
def test_a_full_disk_is_one_line_and_no_result(project, small_disk, when):
    trivial.write_chapter(project, extra=FILLS[when])
    trivial.write_chapter(project, "02_next")
    outcome, following = run_all(project)
    assert outcome.kind == "failed" and "No space left on device" in outcome.reason
    assert "\n" not in outcome.reason
    state = runs.state_of(outcome.job.place, outcome.job.parts)
    assert state.kind in ("missing", "broken") and state.sidecar is None
    assert following.kind == "done" or "No space left on device" in following.reason
    for path in small_disk.rglob("filler"):
        path.unlink()
    mount("-o", "remount,size=50m", str(small_disk))
    trivial.write_chapter(project)
    with batch.alone():
        assert {one.kind for one in run_all(project)} <= {"done", "current"}
    assert not [*small_disk.rglob(".*")]


def test_a_folder_that_becomes_read_only_is_one_line_and_mends_itself(project):
    """Its rights are taken away while the chapter runs, and given back."""
    extra = "import os, pathlib\n"
    extra += "pathlib.Path(os.environ['OVECTORS_OUTPUT']).parents[1].chmod(0o500)"
    trivial.write_chapter(project, extra=extra)
    trivial.write_chapter(project, "02_next")
    shutil.rmtree(project / "a-model")
    from tiny_models import save_tiny

    save_tiny("gpt2", project / "a-model")
    arguments = ["run", "--model", "./a-model", "--keep-going"]
    result = trivial.command(project, *arguments, preexec=_cannot_override_permissions)
    (folder,) = (project / "book" / "runs").iterdir()
    if result.returncode == 0:
        pytest.skip("permissions cannot be made to bind this user")
    for chapter, said in zip(("01_first", "02_next"), result.stderr.splitlines(), strict=True):
        assert said.startswith(f"ovectors: {chapter} on a-model failed: cannot write")
        assert "Permission denied" in said
    assert not [*folder.glob("*.json")]
    folder.chmod(0o755)
    trivial.write_chapter(project)
    result = trivial.command(project, *arguments, preexec=_cannot_override_permissions)
    assert result.returncode == 0 and "2 run" in result.stdout
    assert not [*folder.glob(".*")]


def test_a_kernel_without_memory_says_so(project):
    limit = 3 << 30
    extra = f"import resource\nresource.setrlimit(resource.RLIMIT_AS, ({limit}, {limit}))\n"
    trivial.write_chapter(project, extra=extra + "data = bytearray(8 << 30)")
    assert resource.getrlimit(resource.RLIMIT_AS)[0] != limit
    outcome = run_one(project)
    assert outcome.kind == "failed" and outcome.reason.startswith("out of memory: a smaller model")
    assert outcome.reason.endswith("(in code cell 3)")
    trivial.write_chapter(project)
    assert run_one(project).kind == "done"


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("MemoryError", ""),
        ("RuntimeError", "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
        ("OutOfMemoryError", "CUDA out of memory. Tried to allocate 20.00 GiB."),
        ("OSError", "[Errno 12] Cannot allocate memory"),
    ],
)
def test_a_lack_of_memory_is_known_by_what_is_said(kind, said):
    assert execution._plainly(kind, said).startswith("out of memory")
    assert execution._plainly("ValueError", "no memory of it") == "ValueError: no memory of it"


def test_a_clock_that_jumps_while_chapters_run_changes_nothing(project, monkeypatch):
    """To tomorrow when a cell is done, to the last year at the next."""
    trivial.write_chapter(project, "02_next")
    real, ahead, jumps = time.time, [0.0], itertools.cycle((86_400.0, -3e7))
    monkeypatch.setattr(time, "time", lambda: real() + ahead[0])
    jumped = []

    def jump(event: batch.Event) -> None:
        if event.kind == "cell":
            ahead[0] = next(jumps)
            jumped.append(ahead[0])

    outcomes = run_all(project, jump)
    assert [one.kind for one in outcomes] == ["done"] * 2 and len(jumped) >= 6
    sidecars = [runs.read_sidecar(one.job.place) for one in outcomes]
    assert all(0 < one.seconds < 120 for one in (*outcomes, *sidecars))
    assert [one.kind for one in run_all(project)] == ["current"] * 2


def test_files_of_another_time_are_what_they_were(project):
    assert run_one(project).kind == "done"
    for number, path in enumerate(sorted((project / "book" / "runs").rglob("*"))):
        os.utime(path, (0, 0) if number % 2 else (4e9, 4e9))
    assert run_one(project).kind == "current"


TABLE = """
import os, sys, types
sys.path.insert(0, os.environ["OVECTORS_ROOT"])
from measured import measured
from ovectors.store import Store
store = Store(model)
store.model = types.SimpleNamespace(provenance={})
run.save("table", store.table(measured, of="one", name="n", number=1), about="")
"""


def test_a_damaged_table_is_computed_again_and_reported(project):
    (project / "measured.py").write_text(fault_batch.MEASURED.replace("LOGITS", fault_batch.PLAIN))
    trivial.write_chapter(project, extra=TABLE.strip())
    said: list[str] = []
    jobs = batch.plan([str(project / "a-model")], notebooks.find_chapters(), {}, force=True)
    (first,) = batch.run_jobs(jobs, report=lambda event: said.append(str(event)))
    assert first.kind == "done" and said[-1].endswith("tables: 1 computed, 0 known")
    before = trivial.files_below(first.job.place.results)
    (table,) = first.job.place.store.glob("*.parquet")
    content = bytearray(table.read_bytes())
    content[len(content) // 2] ^= 1
    table.write_bytes(content)
    batch.run_jobs(jobs, report=lambda event: said.append(str(event)))
    damage = "computed again: its table is not the one that was kept"
    assert said[-1].endswith(
        f"tables: 1 computed, 0 known; {table.stem.rpartition('-')[0]} {damage}"
    )
    assert trivial.files_below(first.job.place.results) == before
    batch.run_jobs(jobs, report=lambda event: said.append(str(event)))
    assert said[-1].endswith("tables: 0 computed, 1 known")
    assert fault_batch.lines(project / "computed") == ["one n 1"] * 2


def test_a_table_that_is_damaged_between_two_chapters_is_computed_again(project):
    """Both run in one kernel, which has read the table when it was whole."""
    (project / "measured.py").write_text(fault_batch.MEASURED.replace("LOGITS", fault_batch.PLAIN))
    for name in ("01_first", "02_second"):
        trivial.write_chapter(project, name, extra=TABLE.strip())

    def damage(event: batch.Event) -> None:
        if event.kind == "done" and event.number == 1:
            (table,) = event.job.place.store.glob("*.parquet")
            table.write_bytes(table.read_bytes()[:-1])

    first, second = run_all(project, damage)
    assert [use.damage for use in second.tables] == ["its table is not the one that was kept"]
    tables = [one.job.place.results / "table.parquet" for one in (first, second)]
    assert tables[0].read_bytes() == tables[1].read_bytes()
    assert fault_batch.lines(project / "computed") == ["one n 1"] * 2
