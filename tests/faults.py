"""Kills a batch and its kernels at random moments, resumes it, and looks at what is left.

    python tests/faults.py --kills 100        writes tests/FAULTS.md

A batch of two chapters over three tiny models is run once undisturbed. Then, again and again, it is
started and the batch, one kernel or both are ended with SIGKILL. What was whole at that moment must
not be made again, what counts as whole must be what the undisturbed batch left, and no kernel may
stay behind. At the end the batch is run to its end, and everything compared.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import psutil

import trivial

MODELS = ("one", "two", "three")
CHAPTERS = ("01_first", "02_second")
ORPHANS_GONE = 20  # seconds: a kernel looks once a second whether its parent is still there
LONGEST = 300

# Every table that is computed leaves a line: they can be counted.
MEASURED = """
import os, time
from pathlib import Path
import numpy as np
import pandas as pd


def measured(model, *, of, name, number):
    with open(Path(os.environ["OVECTORS_ROOT"]) / "computed", "a") as file:
        print(of, name, number, file=file)
    time.sleep(0.3)
    values = LOGITS
    return pd.DataFrame({"item": range(len(values)), "value": values})
"""
PLAIN = "np.random.default_rng(number).normal(size=2000)"
WEIGHTS = "__import__('ovectors.interventions', fromlist='x').next_token_logits("
WEIGHTS += "model, [(5, 17, 99, number), (7, 7, 12)]).double().numpy().ravel()"

ASKS = """
import sys, types
with open(pathlib.Path(os.environ["OVECTORS_ROOT"]) / "executed", "a") as file:
    print("{name}", pathlib.Path(model).name, file=file)
sys.path.insert(0, os.environ["OVECTORS_ROOT"])
from measured import measured
from ovectors.store import Store
store = Store(model)
STAND_IN
asked = [store.table(measured, of=store.spec.name, name="{name}", number=n) for n in (1, 2)]
shared = store.table(measured, of=store.spec.name, name="shared", number=3)
run.save("table", asked[0], about="a table")
run.save_json("sums", [float(table["value"].sum()) for table in (*asked, shared)])
"""
STAND_IN = 'store.model = types.SimpleNamespace(provenance={"name": "none"})'


class Fault(AssertionError):
    """Something that killing must not do has happened."""


@dataclass
class Report:
    """What was seen."""

    kills: Counter = field(default_factory=Counter)
    rounds: int = 1
    undisturbed: float = 0.0
    seconds: float = 0.0
    slowest_end: float = 0.0
    finished_before_kill: int = 0
    tables_computed: int = 0
    tables_lost: int = 0
    leftovers: int = 0


def make_project(folder: Path, *, weights: bool) -> Path:
    """A project of two chapters and three models, of random weights where `weights` are used."""
    root = trivial.make_project(folder)
    (root / "chapters" / "01_first.ipynb").unlink()
    (root / "measured.py").write_text(MEASURED.replace("LOGITS", WEIGHTS if weights else PLAIN))
    for name in CHAPTERS:
        extra = ASKS.format(name=name).replace("STAND_IN", "" if weights else STAND_IN).strip()
        trivial.write_chapter(root, name, extra=extra)
    for model, case in zip(MODELS, ("gpt2", "gptj", "llama"), strict=True):
        if weights:
            from tiny_models import save_tiny

            save_tiny(case, root / model)
        else:
            trivial.write_model(root / model)
            (root / model / "unopened").touch()
    return root


# Models that are no models pass for some as long as nobody opens them.
UNOPENED = """
import sys
from ovectors import batch, cli
batch.check_model = lambda job: None
sys.exit(cli.main(sys.argv[1:]))
"""


def start(project: Path, at_once: int) -> subprocess.Popen[str]:
    """Start the batch in the background."""
    models = [word for name in MODELS for word in ("-m", f"./{name}")]
    unopened = (project / MODELS[0] / "unopened").exists()
    command = ["-c", UNOPENED] if unopened else ["-m", "ovectors"]
    return subprocess.Popen(
        [sys.executable, *command, "run", *models, "-k", "-j", str(at_once)],
        cwd=project,
        env=trivial.environment(project),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def kernels(project: Path, *, of: int | None = None) -> list[psutil.Process]:
    """The kernels of the project's batches that are alive; only those of one batch if asked."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            kernel = "ipykernel_launcher" in " ".join(process.cmdline())
            mine = kernel and process.environ().get("OVECTORS_ROOT") == str(project)
            alive = mine and process.status() != psutil.STATUS_ZOMBIE
            if alive and of in (None, process.ppid()):
                found.append(process)
    return found


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def whole_tables(project: Path) -> dict[str, str]:
    """Tables whose sidecar is there and has the right hash: what made each, and that hash."""
    found = {}
    for path in (project / "book" / "runs").glob("*/.store/*.json"):
        with contextlib.suppress(ValueError, OSError, KeyError):
            told = json.loads(path.read_text())
            if digest(path.with_suffix(".parquet")) == told["sha256"]:
                settings = told["parts"]["settings"]
                found["{of} {name} {number}".format(**settings)] = told["sha256"]
    return found


def whole_runs(project: Path) -> dict[str, dict[str, str]]:
    """Runs whose sidecar is there and has the right hashes: the hashes of what each saved."""
    found = {}
    for path in (project / "book" / "runs").glob("*/0*.json"):
        with contextlib.suppress(ValueError, OSError, KeyError):
            told = json.loads(path.read_text())
            saved = path.with_suffix("")
            files = {
                one.relative_to(saved).as_posix(): digest(one)
                for one in saved.rglob("*")
                if one.is_file()
            }
            if told["files"] == files and digest(path.with_suffix(".ipynb")) == told["notebook"]:
                found[f"{told['chapter']} {told['model']}"] = files
    return found


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def started_runs(project: Path) -> list[str]:
    return lines(project / "executed")


class Harness:
    """One project that is killed again and again."""

    def __init__(self, project: Path, *, seed: int = 0) -> None:
        self.project, self.draw, self.report = project, random.Random(seed), Report()
        self.modes: list[str] = []
        began = time.monotonic()
        self._finish()
        self.report.undisturbed = time.monotonic() - began
        self.tables, self.runs = whole_tables(project), whole_runs(project)
        self._check(len(self.runs) == len(MODELS) * len(CHAPTERS), "the undisturbed batch is whole")
        self._check(len(self.tables) == len(MODELS) * 5, "so are its tables")
        self._clear()

    def kill(self) -> bool:
        """Start the batch and kill at a random moment; False where it had ended before."""
        tables, runs = whole_tables(self.project), whole_runs(self.project)
        computed, executed = len(lines(self.project / "computed")), len(started_runs(self.project))
        batch = start(self.project, self.draw.choice((1, 2)))
        with contextlib.suppress(subprocess.TimeoutExpired):
            batch.wait(self.draw.uniform(0.3, max(1.0, self.report.undisturbed)))
        ended = batch.poll() is not None
        if not ended:
            self.report.kills[self._kill(batch)] += 1
        said, _ = batch.communicate(timeout=LONGEST)
        self._wait_for_orphans()
        self._check("Traceback" not in said, said)
        again = set(lines(self.project / "computed")[computed:]) & tables.keys()
        self._check(not again, f"tables that were finished were computed again: {again}")
        again = set(started_runs(self.project)[executed:]) & runs.keys()
        self._check(not again, f"runs that were finished were run again: {again}")
        self._compare()
        self.report.finished_before_kill += len(runs)
        return not ended

    def _kill(self, batch: subprocess.Popen[str]) -> str:
        if not self.modes:  # each as often as the others
            self.modes = self.draw.sample(("batch", "kernel", "both"), 3)
        mode = self.modes.pop()
        while not (mine := kernels(self.project, of=batch.pid)):
            if mode == "batch" or batch.poll() is not None:
                break
            time.sleep(0.05)  # a kernel was to be killed, and there will be one
        victims = [self.draw.choice(mine)] if mine and mode != "batch" else []
        mode = mode if victims else "batch"
        for process in victims:
            with contextlib.suppress(psutil.Error):
                process.kill()
        if mode != "kernel":
            batch.send_signal(signal.SIGKILL)
        return mode

    def _wait_for_orphans(self) -> None:
        began = time.monotonic()
        while left := kernels(self.project):
            waited = time.monotonic() - began
            self._check(waited < ORPHANS_GONE, f"kernels without a batch are left: {left}")
            time.sleep(0.05)
        self.report.slowest_end = max(self.report.slowest_end, time.monotonic() - began)

    def _compare(self) -> None:
        """Whatever counts as whole is what the undisturbed batch left."""
        for name, found in whole_tables(self.project).items():
            self._check(self.tables[name] == found, f"the table {name} is another")
        for name, found in whole_runs(self.project).items():
            self._check(self.runs[name] == found, f"the run {name} is another")

    def finish(self) -> None:
        """Run the batch to its end, and compare everything."""
        self._finish()
        self._compare()
        self._check(whole_runs(self.project).keys() == self.runs.keys(), "every run is whole")
        self._check(whole_tables(self.project).keys() == self.tables.keys(), "every table is whole")
        left = [path for path in (self.project / "book" / "runs").rglob(".*") if path.is_file()]
        left += [*(self.project / "book" / "runs").glob("*/.0*")]
        left += [*(self.project / "book" / "runs").glob("*/.store/.*")]
        self._check(not left, f"files are left behind: {left}")
        made = Counter(lines(self.project / "computed"))
        self.report.tables_computed += sum(made.values())
        self.report.tables_lost += sum(made.values()) - len(self.tables)

    def start_over(self) -> None:
        """Compare what a round came to, and begin another from nothing."""
        self.finish()
        self._clear()
        self.report.rounds += 1

    def _finish(self) -> None:
        batch = start(self.project, 2)
        said, _ = batch.communicate(timeout=LONGEST)
        self._check(batch.returncode == 0, said)

    def _clear(self) -> None:
        shutil.rmtree(self.project / "book" / "runs")
        for name in ("computed", "executions", "executed"):
            (self.project / name).unlink(missing_ok=True)

    @staticmethod
    def _check(right: bool, said: str) -> None:
        if not right:
            raise Fault(said)


def torment(project: Path, kills: int, *, seed: int = 0) -> Report:
    """Kill that often, then finish; Fault where anything is not as it must be."""
    began = time.monotonic()
    harness = Harness(project, seed=seed)
    while sum(harness.report.kills.values()) < kills:
        if not harness.kill():
            harness.start_over()
    harness.finish()
    harness.report.seconds = time.monotonic() - began
    return harness.report


def written(report: Report, *, kills: int, seed: int, weights: bool) -> str:
    """The figures as a page."""
    kinds = "".join(f"| killed: {kind} | {report.kills[kind]} |\n" for kind in sorted(report.kills))
    command = f"python tests/faults.py --kills {kills} --seed {seed}"
    return f"""# What killing does to a batch

Made by `{command}{" --weights" if weights else ""}`: a batch of {len(CHAPTERS)} chapters over \
{len(MODELS)} tiny models, ended with SIGKILL at random moments and resumed.

| | |
|---|---:|
| kills | {sum(report.kills.values())} |
{kinds}| batches that were begun from nothing | {report.rounds} |
| seconds of the undisturbed batch | {report.undisturbed:.1f} |
| seconds in all | {report.seconds:.0f} |
| runs that were whole when a batch was resumed, and were not run again | \
{report.finished_before_kill} |
| tables computed | {report.tables_computed} |
| of these, again after a kill during the first time | {report.tables_lost} |
| finished tables or runs that were made again | 0 |
| whole runs or tables that were not those of the undisturbed batch | 0 |
| files left behind at the end | 0 |
| longest that a kernel outlived its batch, in seconds | {report.slowest_end:.1f} |

The zeros are checked after every kill: the command fails at the first that is none.
"""


def main() -> None:
    """The long version, as a command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--weights", action="store_true", help="tables come from real tiny models")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "FAULTS.md")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ovectors-faults-") as folder:
        project = make_project(Path(folder).resolve() / "project", weights=chosen.weights)
        report = torment(project, chosen.kills, seed=chosen.seed)
    told = {"kills": chosen.kills, "seed": chosen.seed, "weights": chosen.weights}
    chosen.output.write_text(written(report, **told), encoding="utf-8")
    print(f"{sum(report.kills.values())} kills in {report.seconds:.0f} s: see {chosen.output}")


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
