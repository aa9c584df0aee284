"""A project of trivial chapters and a model that is never loaded, for tests of batch and book."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import nbformat
import numpy as np
import pytest
from safetensors.numpy import save_file

from ovectors import batch, paths

PARAMETERS = 'model = "mini-2m"\nn_items = 2\nseed = 0\nratio = 0.5\nloud = False\nnote = "a"'

# Every execution leaves a line in the file `executions` of the project: they can be counted.
BODY = """
import os, pathlib
from ovectors import results
run = results.ChapterRun(chapter="{name}", model=model, parameters={{"n_items": n_items}})
with open(pathlib.Path(os.environ["OVECTORS_ROOT"]) / "executions", "a") as file:
    print("{name}", n_items, file=file)
found = f"- It ran with {{n_items}} items."
numbers = {{"n_items": n_items, "seed": seed, "findings": found}}
run.save_json("numbers", numbers, about="what it was run with")
"""


def write_chapter(
    project: Path,
    name: str = "01_first",
    *,
    extra: str = "",
    last: str = "manifest = run.finish()",
    text: str = "# A trivial chapter\n\nIt shows nothing.",
    parameters: str = PARAMETERS,
) -> Path:
    """Write a chapter that saves one JSON file; `extra` is a cell before its `last` one."""
    cells = [
        nbformat.v4.new_markdown_cell(text),
        nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]}),
        nbformat.v4.new_code_cell(BODY.format(name=name).strip()),
        *([nbformat.v4.new_code_cell(extra)] if extra else []),
        *([nbformat.v4.new_code_cell(last)] if last else []),
    ]
    for number, cell in enumerate(cells):
        cell["id"] = f"cell-{number}"
    path = project / "chapters" / f"{name}.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    return path


def write_model(folder: Path) -> Path:
    """A folder that counts as a model as long as nobody loads it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    (folder / "tokenizer.json").write_text("{}")
    save_file({"weight": np.zeros(4, dtype=np.float16)}, folder / "model.safetensors")
    return folder


def make_project(folder: Path, *, tiny: Path | None = None) -> Path:
    """A project root with one chapter, a model in `a-model/`, and a copy of `tiny` in `tiny/`."""
    (folder / "chapters").mkdir(parents=True)
    (folder / "book").mkdir()
    (folder / "pyproject.toml").write_text("")
    write_chapter(folder)
    write_model(folder / "a-model")
    if tiny is not None:
        shutil.copytree(tiny, folder / "tiny")
    return folder


def enter(project: Path, monkeypatch: pytest.MonkeyPatch, *, check_models: bool = False) -> Path:
    """Make the project the one that the library works in; models are not opened unless checked."""
    for name, inside in {
        "ROOT": ".",
        "CHAPTERS": "chapters",
        "BOOK": "book",
        "RUNS": "book/runs",
        "PUBLISHED": "book/results",
        "MODELS": "models",
        "BUILD": "_build",
    }.items():
        monkeypatch.setattr(paths, name, (project / inside).resolve())
    if not check_models:
        monkeypatch.setattr(batch, "check_model", lambda job: None)
    monkeypatch.chdir(project)
    return project


def executions(project: Path) -> list[str]:
    """One line for every time a trivial chapter was executed."""
    path = project / "executions"
    return path.read_text().splitlines() if path.exists() else []


def files_below(folder: Path) -> dict[str, bytes]:
    """Every file below a folder with its bytes: two such states can be compared."""
    if not folder.exists():
        return {}
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def command(
    project: Path, *arguments: str, preexec: Callable[[], None] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run `ovectors` as a user would, inside the project."""
    return subprocess.run(
        [sys.executable, "-m", "ovectors", *arguments],
        cwd=project,
        env=environment(project),
        capture_output=True,
        text=True,
        preexec_fn=preexec,
        timeout=300,
    )


def environment(project: Path) -> dict[str, str]:
    """The environment of a command in the project: no network, one thread."""
    own = {"OVECTORS_ROOT": str(project), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    return {**os.environ, **own}


def one_line(result: subprocess.CompletedProcess[str], code: int) -> str:
    """The command's complaint, after checking that it is one line without a traceback."""
    assert result.returncode == code, (result.returncode, result.stdout, result.stderr)
    lines: Sequence[str] = result.stderr.splitlines()
    assert len(lines) == 1 and lines[0].startswith("ovectors: "), result.stderr
    return lines[0]


WAITS = "import pathlib, time\npathlib.Path('started').touch()\ntime.sleep(300)"
"""A cell that says that it has begun and then stays."""


def start(project: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start a command as a shell would, in the foreground of a session of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "ovectors", *arguments],
        cwd=project,
        env=environment(project),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    """Wait until the process has made that file."""
    deadline = time.monotonic() + 120
    while not path.exists():
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.1)
