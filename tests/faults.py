"""Kills a batch and its kernels at random moments, resumes it, and looks at what is left.

    python tests/faults.py --kills 100                 writes tests/FAULTS.md
    python tests/faults.py --kills 100 --weights       writes tests/FAULTS_WITH_WEIGHTS.md

A batch of two chapters over three tiny models is run once undisturbed. Then, again and again, it is
started, and the batch, a kernel or both are ended with SIGKILL. What was whole at such a moment
must not be made again, what counts as whole must be what the undisturbed batch left, and no kernel
may stay behind. When everything is whole it is compared, and all begins from nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import random
import signal
import subprocess
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

import psutil

import fault_batch as work

ORPHANS_GONE = 20  # seconds: a kernel looks once a second whether its parent is still there
SHORTEST = 0.3  # seconds from the start of a batch to a kill
VERSIONS = ("torch", "transformers", "papermill", "nbclient", "jupyter_client", "ipykernel")


class Fault(AssertionError):
    """Something that killing must not do has happened."""


@dataclass
class Report:
    """What was seen.

    Attributes:
        kills: how many of each kind: "batch", "kernel", "both".
        rounds: batches that were begun from nothing; batches: those started in all.
        undisturbed, seconds: what the undisturbed batch took, and everything.
        runs_kept, tables_kept: what was whole at a kill, and is checked not to be made again,
            summed over all kills.
        computed, lost: tables computed, and those of them that were computed again because a kill
            had come while they were computed for the first time.
        slowest_end: the longest that a kernel outlived its batch, in seconds.
    """

    kills: Counter = field(default_factory=Counter)
    rounds: int = 1
    batches: int = 0
    undisturbed: float = 0.0
    seconds: float = 0.0
    runs_kept: int = 0
    tables_kept: int = 0
    computed: int = 0
    lost: int = 0
    slowest_end: float = 0.0

    @property
    def all_kills(self) -> int:
        """How many kills there were."""
        return sum(self.kills.values())


def check(right: bool, said: object) -> None:
    """Fault where something is not as it must be."""
    if not right:
        raise Fault(str(said))


@dataclass(frozen=True)
class Whole:
    """What is whole at a moment, and how much had been begun by then."""

    tables: dict[str, str]
    runs: dict[str, dict[str, str]]
    computed: int
    executed: int

    @classmethod
    def now(cls, project: Path) -> Whole:
        """Look; what is whole first, since what is finished meanwhile has been begun by then."""
        tables, runs = work.whole_tables(project), work.whole_runs(project)
        computed, executed = (work.lines(project / name) for name in ("computed", "executed"))
        return cls(tables, runs, len(computed), len(executed))

    def check_kept(self, project: Path) -> None:
        """Nothing of it has been made again since."""
        again = {*work.lines(project / "computed")[self.computed :]} & self.tables.keys()
        check(not again, f"tables that were finished were computed again: {again}")
        again = {*work.lines(project / "executed")[self.executed :]} & self.runs.keys()
        check(not again, f"runs that were finished were run again: {again}")


class Harness:
    """One project that is killed again and again."""

    def __init__(self, project: Path, *, seed: int = 0) -> None:
        self.project, self.draw, self.report = project, random.Random(seed), Report()
        self.modes: list[str] = []
        began = time.monotonic()
        self._run_to_the_end(at_once=1)
        self.report.undisturbed = time.monotonic() - began
        self.tables, self.runs = work.whole_tables(project), work.whole_runs(project)
        check(len(self.runs) == len(work.MODELS) * len(work.CHAPTERS), "not every run is whole")
        tables = len(work.MODELS) * work.TABLES_OF_A_MODEL
        check(len(self.tables) == tables, "not every table is whole")
        work.clear(project)

    def kill_until(self, kills: int) -> None:
        """Start batches and kill, that often in all."""
        while self.report.all_kills < kills:
            if self._disturbed_batch(most=kills - self.report.all_kills):
                self.finish()
                work.clear(self.project)
                self.report.rounds += 1

    def _disturbed_batch(self, *, most: int) -> bool:
        """Start the batch and kill at random moments, until it has ended; whether all is whole."""
        batch = self._start(self.draw.choice((1, 2)))
        moments = [Whole.now(self.project)]
        while len(moments) <= most and self._still_runs_after_a_while(batch, moments[-1]):
            moments.append(Whole.now(self.project))
            self.report.kills[self._kill(batch)] += 1
        batch.wait(work.LONGEST)
        self._check_what_is_left(moments)
        self.report.runs_kept += sum(len(moment.runs) for moment in moments[1:])
        self.report.tables_kept += sum(len(moment.tables) for moment in moments[1:])
        return batch.returncode == 0

    def _still_runs_after_a_while(self, batch: subprocess.Popen[str], whole: Whole) -> bool:
        """Wait for a random moment of what remains to be done."""
        remains = 1 - len(whole.runs) / len(self.runs)
        longest = max(1.0, remains * self.report.undisturbed)
        with contextlib.suppress(subprocess.TimeoutExpired):
            batch.wait(self.draw.uniform(SHORTEST, longest))
        return batch.poll() is None

    def _kill(self, batch: subprocess.Popen[str]) -> str:
        """Kill the batch, one of its kernels or both; which of these it was."""
        if not self.modes:  # each as often as the others
            self.modes = self.draw.sample(("batch", "kernel", "both"), 3)
        mode = self.modes.pop()
        mine = work.wait_for_a_kernel(self.project, batch) if mode != "batch" else []
        if not mine:
            mode = "batch"
        else:
            with contextlib.suppress(psutil.Error):
                self.draw.choice(mine).kill()
        if mode != "kernel":
            batch.send_signal(signal.SIGKILL)
        return mode

    def _check_what_is_left(self, moments: list[Whole]) -> None:
        """After the end of a batch, however it came."""
        self._wait_for_orphans()
        said = (self.project / "said").read_text()
        check("Traceback" not in said, said)
        for moment in moments:
            moment.check_kept(self.project)
        self._compare()

    def _wait_for_orphans(self) -> None:
        began = time.monotonic()
        while left := work.kernels(self.project):
            waited = time.monotonic() - began
            check(waited < ORPHANS_GONE, f"kernels without a batch are left: {left}")
            time.sleep(0.1)
        self.report.slowest_end = max(self.report.slowest_end, time.monotonic() - began)

    def _compare(self) -> None:
        """Whatever counts as whole is what the undisturbed batch left."""
        for name, found in work.whole_tables(self.project).items():
            check(self.tables[name] == found, f"the table {name} is another")
        for name, found in work.whole_runs(self.project).items():
            check(self.runs[name] == found, f"the run {name} is another")

    def finish(self) -> None:
        """Run the batch to its end, and compare everything."""
        before = Whole.now(self.project)
        self._run_to_the_end(at_once=2)
        self._check_what_is_left([before])
        check(work.whole_runs(self.project).keys() == self.runs.keys(), "not every run is whole")
        check(work.whole_tables(self.project).keys() == self.tables.keys(), "a table is missing")
        check(not (left := work.left_behind(self.project)), f"files are left behind: {left}")
        made = Counter(work.lines(self.project / "computed"))
        self.report.computed += sum(made.values())
        self.report.lost += sum(made.values()) - len(self.tables)

    def _start(self, at_once: int) -> subprocess.Popen[str]:
        self.report.batches += 1
        return work.start(self.project, at_once)

    def _run_to_the_end(self, *, at_once: int) -> None:
        code = self._start(at_once).wait(work.LONGEST)
        check(code == 0, (self.project / "said").read_text())


def torment(project: Path, kills: int, *, seed: int = 0) -> Report:
    """Kill that often, then finish; Fault where anything is not as it must be."""
    began = time.monotonic()
    try:
        harness = Harness(project, seed=seed)
        harness.kill_until(kills)
        harness.finish()
    finally:
        work.end_everything(project)
    harness.report.seconds = time.monotonic() - began
    return harness.report


def written(report: Report, command: str, *, weights: bool) -> str:
    """The figures as a page."""
    of = "tiny random models of three families (GPT-2, GPT-J, Llama)" if weights else "stand-ins"
    rows = {
        "kills": report.all_kills,
        **{f"of these, killed: {kind}": report.kills[kind] for kind in sorted(report.kills)},
        "batches started": report.batches,
        "rounds, each from nothing to every run whole": report.rounds,
        "seconds of the undisturbed batch, one kernel at a time": f"{report.undisturbed:.1f}",
        "seconds in all": f"{report.seconds:.0f}",
        "runs that were whole at a kill, over all kills": report.runs_kept,
        "tables that were whole at a kill, over all kills": report.tables_kept,
        "of these, made again": 0,
        "tables computed": report.computed,
        "of these, again because a kill had come during the first time": report.lost,
        "whole runs or tables that were not those of the undisturbed batch": 0,
        "files left behind at the end of a round": 0,
        "kernels left behind": 0,
        "longest that a kernel outlived its batch, in seconds": f"{report.slowest_end:.1f}",
    }
    table = "".join(f"| {name} | {value} |\n" for name, value in rows.items())
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in VERSIONS)
    return f"""# What killing does to a batch

Made by `{command}`: {len(work.CHAPTERS)} chapters on {len(work.MODELS)} {of}, ended with SIGKILL \
at random moments and resumed. Half of the batches run one kernel at a time, half of them two.

| | |
|---|---:|
{table}
The zeros are checked after every batch: the command fails at the first that is none.

Measured on {os.cpu_count()} cores ({platform.system()} {platform.machine()}), with Python \
{platform.python_version()}, {versions}.
"""


def main() -> None:
    """The long version, as a command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--weights", action="store_true", help="tables come from real tiny models")
    parser.add_argument("--output", type=Path, help="default: FAULTS*.md beside this file")
    chosen = parser.parse_args()
    command = f"python tests/faults.py --kills {chosen.kills} --seed {chosen.seed}"
    command += " --weights" if chosen.weights else ""
    with tempfile.TemporaryDirectory(prefix="ov-faults-") as folder:
        project = work.make_project(Path(folder).resolve() / "project", weights=chosen.weights)
        report = torment(project, chosen.kills, seed=chosen.seed)
    name = "FAULTS_WITH_WEIGHTS.md" if chosen.weights else "FAULTS.md"
    output = chosen.output or Path(__file__).with_name(name)
    output.write_text(written(report, command, weights=chosen.weights), encoding="utf-8")
    print(f"{report.all_kills} kills in {report.seconds:.0f} s: see {output}")


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
