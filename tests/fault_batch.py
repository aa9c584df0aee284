"""A batch that can be killed: its project, its processes, and what of its work is whole."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import psutil

import trivial

MODELS = ("one", "two", "three")
CASES = ("gpt2", "gptj", "llama")
CHAPTERS = ("01_first", "02_second")
TABLES_OF_A_MODEL = 5
LONGEST = 3600  # seconds: a batch that takes more hangs, however busy the machine is

# Every table that is computed leaves a line: they can be counted.
MEASURED = """
import os, time
from pathlib import Path
import numpy as np
import pandas as pd


def measured(model, *, of, name, number):
    with open(Path(os.environ["OVECTORS_ROOT"]) / "computed", "a") as file:
        print(of, name, number, file=file)
    time.sleep(0.2)
    values = LOGITS
    return pd.DataFrame({"item": range(len(values)), "value": values})
"""
PLAIN = "np.random.default_rng(number).normal(size=2000)"
WEIGHTS = "__import__('ovectors.interventions', fromlist='x').next_token_logits("
WEIGHTS += "model, [(5, 17, 99, number), (7, 7, 12)])[:, :200].double().numpy().ravel()"

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

# Models that are no models pass for some as long as nobody opens them.
UNOPENED = """
import sys
from ovectors import batch, cli
batch.check_model = lambda job: None
sys.exit(cli.main(sys.argv[1:]))
"""


def make_project(folder: Path, *, weights: bool) -> Path:
    """A project of two chapters and three models; with `weights`, random ones of three families."""
    root = trivial.make_project(folder)
    (root / "tmp").mkdir()
    (root / "chapters" / "01_first.ipynb").unlink()
    (root / "measured.py").write_text(MEASURED.replace("LOGITS", WEIGHTS if weights else PLAIN))
    for name in CHAPTERS:
        extra = ASKS.format(name=name).replace("STAND_IN", "" if weights else STAND_IN).strip()
        trivial.write_chapter(root, name, extra=extra)
    for model, case in zip(MODELS, CASES, strict=True):
        if weights:
            from tiny_models import save_tiny

            save_tiny(case, root / model)
        else:
            trivial.write_model(root / model)
            (root / model / "unopened").touch()
    return root


def start(project: Path, at_once: int) -> subprocess.Popen[str]:
    """Start the batch in the background; what it says goes to a file, `said`."""
    models = [word for name in MODELS for word in ("-m", f"./{name}")]
    unopened = (project / MODELS[0] / "unopened").exists()
    command = ["-c", UNOPENED] if unopened else ["-m", "ovectors"]
    with open(project / "said", "w") as said:
        return subprocess.Popen(
            [sys.executable, *command, "run", *models, "-k", "-j", str(at_once)],
            cwd=project,
            env=trivial.environment(project) | {"TMPDIR": str(project / "tmp")},
            stdout=said,
            stderr=subprocess.STDOUT,
            text=True,
        )


def kernels(project: Path, *, of: int | None = None) -> list[psutil.Process]:
    """The kernels of the project's batches that are alive; only those of one batch if asked."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if of not in (None, process.ppid()) or process.status() == psutil.STATUS_ZOMBIE:
                continue
            kernel = "ipykernel_launcher" in " ".join(process.cmdline())
            if kernel and process.environ().get("OVECTORS_ROOT") == str(project):
                found.append(process)
    return found


def end_everything(project: Path) -> None:
    """End what still runs in the project, after a fault or Ctrl-C."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get("OVECTORS_ROOT") == str(project):
                process.kill()


def wait_for_a_kernel(project: Path, batch: subprocess.Popen[str]) -> list[psutil.Process]:
    """The batch's kernels, once it has any; none where it has ended."""
    while batch.poll() is None:
        if found := kernels(project, of=batch.pid):
            return found
        time.sleep(0.1)
    return []


def digest(path: Path) -> str:
    """The hash of a file; told here once more, so that a mistake in the library would be seen."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def whole_tables(project: Path) -> dict[str, str]:
    """Tables whose sidecar is there and has the right hash: what made each, and that hash."""
    found = {}
    for path in (project / "book" / "runs").glob("*/.store/[!.]*.json"):
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


def left_behind(project: Path) -> list[Path]:
    """What must not be there after a batch that ended well: workspaces, unfinished files, files of
    locks, temporary files."""
    runs = project / "book" / "runs"
    hidden = [path for path in runs.rglob(".*") if path.name != ".store"]
    return [*hidden, *runs.rglob("*.lock"), *(project / "tmp").iterdir()]


def lines(path: Path) -> list[str]:
    """The lines of a file; none where there is no file."""
    return path.read_text().splitlines() if path.exists() else []


def clear(project: Path) -> None:
    """Forget everything that batches have made."""
    shutil.rmtree(project / "book" / "runs")
    for name in ("computed", "executions", "executed"):
        (project / name).unlink(missing_ok=True)
