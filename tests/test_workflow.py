"""The workflow for clusters: the right jobs with the right resources, and the results of `run`."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import yaml
from safetensors.numpy import load_file, save_file

import trivial
from ovectors import cli, paths, resources, runs
from ovectors.catalogue import catalogue
from test_explain import ASKS
from test_workplan import BOTH, SECOND, write_across
from tiny_models import save_tiny

WORKFLOW = Path(__file__).resolve().parents[1] / "workflow"
PROFILES = sorted(path.name for path in (WORKFLOW / "profiles").iterdir())

pytestmark = [
    pytest.mark.slow,
    pytest.mark.kernel,
    pytest.mark.skipif(
        importlib.util.find_spec("snakemake") is None,
        reason="Snakemake is not installed (pip install -e '.[cluster]')",
    ),
]

# Stands in for the command: Sphinx needs more of a project than there is here.
COMMAND = """#!/bin/sh
echo "$@" >> commands
[ "$1" = book ] || exec {python} -m ovectors "$@"
"""


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """Two chapters that ask for a table each and one across models, and two tiny models."""
    root = trivial.enter(trivial.make_project(tmp_path / "project"), monkeypatch)
    shutil.copytree(WORKFLOW, root / "workflow")
    for name in ("one", "two"):
        save_tiny("gpt2", root / name)
    trivial.write_chapter(root, extra=ASKS.strip())
    trivial.write_chapter(root, "02_second", extra=SECOND)
    write_across(root)
    (root / "command").write_text(COMMAND.format(python=sys.executable))
    (root / "command").chmod(0o755)
    return root


def snakemake(
    project: Path,
    *arguments: str,
    models: str = "one two",
    config: Sequence[str] = (),
    code: int = 0,
) -> str:
    """Run the workflow as a user would; gives what it says."""
    own = [f"models={models}", f"command={project / 'command'}", "threads=1", *config]
    command = [sys.executable, "-m", "snakemake", *arguments, "--config", *own]
    done = subprocess.run(
        command, cwd=project, env=trivial.environment(project), capture_output=True, text=True
    )
    said = done.stdout + done.stderr
    assert done.returncode == code, said
    return said


def local(project: Path, **more) -> str:
    return snakemake(project, "--profile", "workflow/profiles/local", "--cores", "1", **more)


def jobs(said: str) -> dict[str, str]:
    """The jobs of a dry run: rule and what it is for, with the resources that it asks for."""
    found = {}
    for block in re.findall(r"(?:rule|localrule) (\w+):\n((?:    .*\n)+)", said):
        wildcards = dict(re.findall(r"(\w+)=([^,\s]+)", block[1].partition("wildcards:")[2]))
        named = [block[0], wildcards.get("model"), wildcards.get("chapter")]
        found[" ".join(filter(None, named))] = block[1].partition("resources:")[2]
    return found


def asked(text: str) -> dict[str, int]:
    return {name: int(value) for name, value in re.findall(r"(mem_mb|runtime|gpu)=(\d+)", text)}


def commands(project: Path) -> list[str]:
    """What has been run since this was last asked."""
    path = project / "commands"
    lines = path.read_text().splitlines() if path.exists() else []
    path.unlink(missing_ok=True)
    return lines


def test_every_model_computes_every_chapter_is_executed_and_one_builds(project):
    said = snakemake(project, "--dry-run", "--cores", "1", models="one gpt2 bloom")
    found = jobs(said)
    (one,) = [name.split()[1] for name in found if re.fullmatch(r"compute one-\w+", name)]
    models = (one, "gpt2", "bloom")
    expected = {f"compute {model}" for model in models} | {"compare 03_across", "build", "all"}
    expected |= {f"execute {model} {chapter}" for model in models for chapter in BOTH}
    assert {*found} == expected
    for model in ("gpt2", "bloom"):
        wanted = resources.of_model(catalogue()[model], gpu_gb=80)
        resourced = {"mem_mb": wanted.mem_mb, "runtime": wanted.runtime, "gpu": wanted.gpus}
        assert asked(found[f"compute {model}"]) == resourced and wanted.gpus > 0
        light = {"mem_mb": resources.LIGHT.mem_mb, "runtime": resources.LIGHT.runtime}
        assert asked(found[f"execute {model} 01_first"]) == light
    assert asked(found[f"compute {one}"])["gpu"] == 0
    assert not (project / "_build").exists() and not paths.RUNS.exists()


def test_settings_that_are_left_empty_are_the_defaults(project):
    dry = ("--dry-run", "--cores", "1")
    empty = snakemake(project, *dry, config=("chapters=", "parameters="))
    assert {*jobs(empty)} == {*jobs(snakemake(project, *dry))}


def test_it_ends_as_run_does_and_what_is_current_is_no_job(project, capsys):
    for model in ("one", "two"):
        assert cli.main(["run", "-m", f"./{model}"]) == 0
    alone = paths.RUNS.rename(project / "alone")
    local(project)
    ran = commands(project)
    assert sum("--tables-only" in line for line in ran) == 2
    assert sum("--made-on cpu" in line for line in ran) == 4 and ran[-1] == "book"
    assert [line for line in ran if "-c 03_across" in line] == ["run --beside -c 03_across"]
    assert same_results(alone, paths.RUNS)
    # Nothing that snakemake remembers is needed to know what is left.
    shutil.rmtree(project / ".snakemake")
    for path in paths.CHAPTERS.iterdir():
        path.touch()
    assert {*jobs(snakemake(project, "--dry-run", "--cores", "1"))} == {
        "compare 03_across",
        "build",
        "all",
    }
    times = {path: path.stat().st_mtime_ns for path in paths.CHAPTERS.iterdir()}
    trivial.write_chapter(project, extra=ASKS.strip(), text="# Another caption")
    for path, time in times.items():
        os.utime(path, ns=(time, time))
    local(project)
    ran = commands(project)
    assert not any("--tables-only" in line for line in ran)
    assert sum("--made-on cpu" in line and "-c 01_first" in line for line in ran) == 2
    assert len(ran) == 4


def same_results(a: Path, b: Path) -> bool:
    """Whether two folders of runs hold the same chapters with the same numbers and tables."""
    left, right = (
        {
            path.relative_to(folder): path.read_bytes()
            for path in folder.rglob("*")
            if path.name == "numbers.json" or path.suffix == ".parquet"
        }
        for folder in (a, b)
    )
    assert len(left) == 2 * (2 + 2) + 1
    return left == right


def test_a_model_that_fails_stops_no_other_and_the_book_is_built(project):
    weights = project / "two" / "model.safetensors"
    content = weights.read_bytes()
    save_file({name: np.nan * one for name, one in load_file(weights).items()}, weights)
    said = local(project, code=1)
    assert "Error in rule execute" in said
    whole = sorted(path.parent.name[:3] + path.stem for path in paths.RUNS.glob("*/0*.json"))
    assert whole == ["all03_across", "one01_first", "one02_second"]
    assert commands(project)[-2:] == ["run --beside -c 03_across", "book"]
    weights.write_bytes(content)
    found = jobs(snakemake(project, "--dry-run", "--cores", "1"))
    assert {name.split("-")[0] for name in found} >= {"compute two", "execute two"}
    assert not any("one" in name for name in found)
    local(project)
    assert len([*paths.RUNS.glob("two*/0*.json")]) == 2


def test_a_chapter_that_fails_leaves_the_others_of_its_model(project):
    trivial.write_chapter(project, extra="1 / 0")
    said = local(project, models="one", code=1)
    assert said.count("Error in rule execute") == 1
    (folder,) = paths.RUNS.glob("one*")
    assert [path.stem for path in folder.glob("0*.json")] == ["02_second"]
    assert "ZeroDivisionError" in runs.failure_of(folder / "failed" / "01_first.ipynb")
    (log,) = (project / "_build" / "workflow").glob("*/runs/one*/01_first.log")
    assert "ZeroDivisionError: division by zero (in code cell 3)" in log.read_text()


def test_bad_input_is_said_before_anything_is_started(project):
    said = snakemake(project, "--dry-run", "--cores", "1", models="gtp2", code=1)
    assert "unknown model 'gtp2', did you mean gpt2" in said and "Traceback" not in said


@pytest.mark.parametrize("profile", PROFILES)
def test_profiles_name_the_executor_and_go_on_after_a_failure(profile):
    settings = yaml.safe_load((WORKFLOW / "profiles" / profile / "config.yaml").read_text())
    assert settings["executor"] == profile and settings["keep-going"] and settings["nolock"]


def test_the_snakefile_is_formatted():
    if importlib.util.find_spec("snakefmt") is None:
        pytest.skip("snakefmt is not installed (pip install snakefmt)")
    command = [sys.executable, "-m", "snakefmt", "--check", "--line-length", "100"]
    subprocess.run([*command, str(WORKFLOW / "Snakefile")], check=True, capture_output=True)
