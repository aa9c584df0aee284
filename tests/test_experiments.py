"""How the experiments hang together: what measures knows nothing of what judges."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from ovectors import keys, paths

FOLDER = paths.PACKAGE / "experiments"
MODULES = sorted(path for path in FOLDER.rglob("*.py") if path.name != "__init__.py")
JUDGING = ("figures", "prose", "claims.py", "statistics.py")


def names(path: Path) -> list[str]:
    """The parts of a module's place below `experiments/`: `["stages", "judge"]`."""
    return list(path.relative_to(FOLDER).with_suffix("").parts)


def named(path: Path) -> str:
    return "/".join(names(path))


def measures(path: Path) -> bool:
    return "measure" in names(path) or names(path) == ["shared", "layer_maps"]


def reached(path: Path) -> set[Path]:
    """What a table's key covers: the modules that this one imports, and so on."""
    dotted = ".".join(["ovectors", "experiments", *names(path)])
    return set(keys.library_sources([f"import {dotted}"]))


@pytest.mark.parametrize("path", [*filter(measures, MODULES)], ids=named)
def test_what_measures_does_not_reach_what_judges(path):
    inside = {one.relative_to(paths.PACKAGE) for one in reached(path)}
    judging = [one for one in inside if {"judge", "judge.py", "gather.py"} & set(one.parts)]
    assert not judging
    assert not [one for one in inside if one.parts[0] in JUDGING]


def test_a_question_s_packages_import_nothing_but_what_they_judge_with():
    for path in FOLDER.rglob("__init__.py"):
        has_code = len(ast.parse(path.read_text()).body) > 1
        assert has_code == (path.parent.name == "judge"), path


def test_a_measurement_reaches_its_own_module_and_not_its_neighbours():
    neurons = FOLDER / "linear_update" / "measure" / "neurons.py"
    assert neurons in reached(neurons)
    assert neurons.with_name("cosines.py") not in reached(neurons)


@pytest.mark.parametrize("path", MODULES, ids=named)
def test_models_are_intervened_on_by_sweeps_alone(path):
    called = {
        node.func.id if isinstance(node.func, ast.Name) else node.func.attr
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, (ast.Name, ast.Attribute))
    }
    assert not called & {"intervene", "during", "final_states"}


def test_what_is_shared_knows_no_question():
    for path in (FOLDER / "shared").glob("*.py"):
        below = {one.relative_to(FOLDER).parts for one in reached(path) if FOLDER in one.parents}
        assert {parts[0] for parts in below} <= {"__init__.py", "shared"}, path
