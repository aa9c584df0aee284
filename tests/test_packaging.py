"""The lock, the ranges and the conda face agree, and `make` sets up what they say."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

REPOSITORY = Path(__file__).resolve().parents[1]
PYTHONS = ("3.11", "3.12", "3.13")

# What a machine with an NVIDIA GPU gets with PyTorch's GPU build, and no other machine needs.
GPU = re.compile(r"(nvidia|cuda)-.*|triton")

# Versions of Jupyter Book and what it builds with that are known to work together, offline.
BOOK = {
    "jupyter-book": "1.0.4.post1",
    "sphinx": "7.4.7",
    "docutils": "0.21.2",
    "myst-parser": "3.0.1",
    "myst-nb": "1.4.0",
    "jupyter-cache": "1.0.1",
    "sphinx-book-theme": "1.3.0",
    "pydata-sphinx-theme": "0.17.1",
    "sphinx-design": "0.8.0",
    "sphinx-external-toc": "1.1.0",
    "sphinxcontrib-bibtex": "2.7.0",
}


def read(name: str) -> str:
    return (REPOSITORY / name).read_text("utf-8")


def pins(lock: str) -> dict[str, tuple[str, Marker | None]]:
    """Name -> (version, marker) of every line; AssertionError for one that pins nothing."""
    found = {}
    for line in lock.splitlines():
        if not line or line.startswith("#"):
            continue
        requirement = Requirement(line)
        (pin,) = requirement.specifier
        assert pin.operator == "==" and "*" not in pin.version, f"{line} pins no version"
        name = canonicalize_name(requirement.name)
        assert name == requirement.name and name not in found, f"{line}: wrong or double name"
        found[name] = (pin.version, requirement.marker)
    return found


# Extras that the lock leaves out: what benchmarks compare with is no part of the environment,
# Playwright brings a browser's driver along, and Snakemake is for those who have a cluster.
UNLOCKED = ("bench", "browser", "cluster")


def wanted(pyproject: str) -> list[Requirement]:
    project = tomllib.loads(pyproject)["project"]
    extras = project["optional-dependencies"].items()
    locked = [line for name, lines in extras if name not in UNLOCKED for line in lines]
    return [Requirement(line) for line in (*project["dependencies"], *locked)]


def disagreements(pyproject: str, lock: str, environment: str) -> list[str]:
    """Where pyproject.toml, requirements.lock and environment.yml contradict one another."""
    found, locked = [], pins(lock)
    for requirement in wanted(pyproject):
        version, _ = locked.get(canonicalize_name(requirement.name), (None, None))
        if version is None:
            found.append(f"{requirement.name} is not in the lock")
        elif not requirement.specifier.contains(version, prereleases=True):
            found.append(f"the lock has {requirement.name} {version}, not {requirement.specifier}")
    pythons = SpecifierSet(tomllib.loads(pyproject)["project"]["requires-python"])
    for line in yaml.safe_load(environment)["dependencies"]:
        if isinstance(line, dict):
            if line != {"pip": ["-r requirements.lock", "-e ."]}:
                found.append(f"environment.yml installs {line} with pip, not the lock alone")
        elif line.startswith("python"):
            if line != "python=3.12" or not pythons.contains("3.12"):
                found.append(f"environment.yml has {line}")
        elif line not in ("pip", "git", "make"):
            found.append(f"environment.yml installs {line} beside the lock")
    return found


def test_lock_ranges_and_conda_face_agree():
    files = [read(name) for name in ("pyproject.toml", "requirements.lock", "environment.yml")]
    assert disagreements(*files) == []


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("pyproject.toml", '"torch>=2.6,<3"', '"torch>=3"'),
        ("pyproject.toml", '"click>=8.1,<9"', '"click>=8.1,<9", "left-pad"'),
        ("requirements.lock", "pandas==3.", "pandas==9."),
        ("requirements.lock", "papermill==2.7.0\n", ""),
        ("environment.yml", "python=3.12", "python=3.10"),
        ("environment.yml", "- -e .", "- -e .\n      - torch==2.6.0"),
        ("environment.yml", "- make", "- make\n  - pandas=2"),
    ],
)
def test_a_disagreement_is_found(name, old, new):
    files = {n: read(n) for n in ("pyproject.toml", "requirements.lock", "environment.yml")}
    assert old in files[name]
    files[name] = files[name].replace(old, new)
    assert len(disagreements(*files.values())) == 1


def test_benchmarks_compare_with_named_versions_that_stay_out_of_the_lock():
    extras = tomllib.loads(read("pyproject.toml"))["project"]["optional-dependencies"]
    compared = [Requirement(line) for line in extras["bench"]]
    assert {one.name: str(one.specifier) for one in compared} == {
        "transformer-lens": "==4.3.*",
        "nnsight": "==0.8.*",
    }
    assert not {one.name for one in compared} & set(pins(read("requirements.lock")))


def test_the_versions_that_are_known_to_work_together_are_pinned():
    locked = {name: version for name, (version, _) in pins(read("requirements.lock")).items()}
    assert {name: locked[name] for name in BOOK} == BOOK
    assert locked["torch"] == "2.13.0"


def needed(python: str) -> dict[str, list[str]]:
    """Every package that the project needs on a Python, with who asks for what of it.

    It follows the metadata of what is installed, with markers evaluated for that Python on Linux.
    """
    place = {"python_version": python, "python_full_version": f"{python}.0", "extra": ""}
    place |= {"sys_platform": "linux", "platform_system": "Linux", "platform_machine": "x86_64"}
    asked: dict[str, list[str]] = {"setuptools": ["build-system"]}
    waiting = [("pyproject.toml", requirement) for requirement in wanted(read("pyproject.toml"))]
    followed = set()
    while waiting:
        by, requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        asked.setdefault(name, []).append(f"{by}: {requirement.specifier}")
        for extra in ("", *requirement.extras):
            if (name, extra) in followed:
                continue
            followed.add((name, extra))
            try:
                lines = metadata.requires(name) or []
            except metadata.PackageNotFoundError:
                continue
            for line in map(Requirement, lines):
                if line.marker is None or line.marker.evaluate({**place, "extra": extra}):
                    waiting.append((name, line))
    return {name: who for name, who in asked.items() if not GPU.fullmatch(name)}


@pytest.mark.parametrize("python", PYTHONS)
def test_the_lock_pins_everything_that_is_needed_and_satisfies_who_asks(python):
    locked = pins(read("requirements.lock"))
    place = {"python_version": python, "sys_platform": "linux"}
    valid = {n: v for n, (v, marker) in locked.items() if not marker or marker.evaluate(place)}
    for name, who in needed(python).items():
        assert name in valid, f"the lock lacks {name} on Python {python}, for {who}"
        for one in who[1:] if name == "setuptools" else who:
            specifier = SpecifierSet(one.partition(": ")[2])
            assert specifier.contains(valid[name], prereleases=True), f"{name}: {one}"


def test_the_lock_pins_nothing_that_nobody_needs():
    asked = {name for python in PYTHONS for name in needed(python)}
    locked = pins(read("requirements.lock"))
    present = {canonicalize_name(found.name) for found in metadata.distributions()}
    stray = {name for name in locked if name not in asked and name in present}
    assert stray == set()


def test_ci_runs_the_two_commands_of_the_readme():
    commands = [line for line in read(".ci/run").splitlines() if line.startswith("make ")]
    assert commands == ["make test", "make book", 'make test ARGS="-m browser -rs"']
    assert all(command in read("README.md") for command in commands[:2])
    workflow = yaml.safe_load(read(".github/workflows/ci.yml"))
    job = workflow["jobs"]["check"]
    assert {"run": "bash .ci/run"} in job["steps"]
    assert tuple(job["strategy"]["matrix"]["python"]) == PYTHONS


def test_the_citation_names_this_version_and_the_paper():
    citation = yaml.safe_load(read("CITATION.cff"))
    project = tomllib.loads(read("pyproject.toml"))["project"]
    assert (citation["version"], citation["license"]) == (project["version"], project["license"])
    (paper,) = citation["references"]
    assert "Word2Vec" in paper["title"] and len(paper["authors"]) == 3


# A Python that is suitable, makes a `.venv` of itself, logs what pip is asked, and can be told to
# fail: what `make` does is seen without installing anything.
FAKE = """#!/bin/sh
log="{folder}/log"
case "$1 $2" in
  "--version "*) echo "Python 3.12.0" ;;
  "-c "*) exit 0 ;;
  "-m venv") echo venv >> "$log"
    rm -rf "$4"; mkdir -p "$4/bin"; touch "$4/pyvenv.cfg"; cp "$0" "$4/bin/python" ;;
  "-m pip") shift 2; echo "pip $*" >> "$log"
    if [ -e "{folder}/broken" ]; then exit 1; fi ;;
  "-m pytest") echo pytest >> "$log" ;;
esac
"""


@pytest.fixture
def clone(tmp_path):
    """A folder with what `make` reads, and a Python that only pretends."""
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        shutil.copy(REPOSITORY / name, tmp_path / name)
    fake = tmp_path / "fake-python"
    fake.write_text(FAKE.format(folder=tmp_path))
    fake.chmod(0o755)
    return tmp_path


def make(clone: Path, *arguments: str) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """Run make with the pretending Python; returns what it said and what that Python was asked."""
    log = clone / "log"
    log.unlink(missing_ok=True)
    settings = () if any("PYTHON" in one for one in arguments) else ("PYTHON=./fake-python",)
    command = ["make", *arguments, *settings]
    result = subprocess.run(command, cwd=clone, capture_output=True, text=True, timeout=60)
    return result, log.read_text().splitlines() if log.exists() else []


def test_make_installs_the_lock_once_and_again_when_it_changes(clone):
    result, log = make(clone, "test")
    assert result.returncode == 0, result.stderr
    assert log[0] == "venv" and log[-1] == "pytest"
    assert any("-r requirements.lock" in line for line in log)
    assert any("--no-deps -e ." in line for line in log)
    assert make(clone, "test")[1] == ["pytest"]
    (clone / "pyproject.toml").touch()  # a new time alone changes nothing
    (clone / "requirements.lock").touch()
    assert make(clone, "test")[1] == ["pytest"]
    (clone / "pyproject.toml").write_text(read("pyproject.toml") + "\n")
    _, log = make(clone, "test")
    assert "venv" not in log and any("-e ." in line for line in log)
    (clone / "requirements.lock").write_text(read("requirements.lock") + "\n")
    assert make(clone, "test")[1][0] == "venv"


def test_a_half_made_environment_is_never_taken_for_whole(clone):
    (clone / "broken").touch()
    result, _ = make(clone, "test")
    assert result.returncode != 0 and (clone / ".venv" / "bin" / "python").exists()
    (clone / "broken").unlink()
    result, log = make(clone, "test")
    assert result.returncode == 0 and log[0] == "venv"


def test_make_says_clearly_that_no_python_suits(clone):
    result, _ = make(clone, "book", "PYTHON=/bin/false")
    assert result.returncode != 0 and not (clone / ".venv").exists()
    assert "no suitable Python in PYTHON=/bin/false: 3.11, 3.12 or 3.13" in result.stderr


def test_make_leaves_a_folder_that_is_no_environment_alone(clone):
    (clone / "mine").mkdir()
    (clone / "mine" / "thesis.txt").write_text("words")
    result, log = make(clone, "test", "VENV=mine")
    assert result.returncode != 0 and "it is left alone" in result.stderr and "venv" not in log
    assert (clone / "mine" / "thesis.txt").read_text() == "words"


def test_this_python_suits():
    assert f"{sys.version_info.major}.{sys.version_info.minor}" in PYTHONS
