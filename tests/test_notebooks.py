"""A chapter's parameters are checked before anything starts, and its sources are known."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest

import trivial
from ovectors import batch, keys, notebooks, runs
from ovectors.errors import UserError


@pytest.fixture
def project(tmp_path, monkeypatch):
    return trivial.enter(trivial.make_project(tmp_path / "project"), monkeypatch)


def jobs_of(project: Path, **given):
    return batch.plan([str(project / "a-model")], notebooks.find_chapters(), given)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"n_itmes": "3"}, "no parameter 'n_itmes'; it has: model, n_items"),
        ({"n_items": "many"}, "n_items must be a whole number (like 2), not 'many'"),
        ({"n_items": "2.5"}, "n_items must be a whole number (like 2), not 2.5"),
        ({"n_items": True}, "n_items must be a whole number (like 2), not True"),
        ({"n_items": -1}, "n_items must be 0 (all items) or more"),
        ({"ratio": "NaN"}, "ratio must be a number (like 0.5), not nan"),
        ({"loud": "1"}, "loud must be true or false (like False), not 1"),
        ({"note": 3}, "note must be text (like 'a'), not 3"),
        ({"model": "gpt2"}, "use --model"),
    ],
)
def test_a_wrong_parameter_is_refused_before_anything_starts(project, given, said):
    with pytest.raises(UserError) as raised:
        jobs_of(project, **given)
    assert said in str(raised.value)
    assert trivial.executions(project) == [] and runs.models_with_runs() == []


def test_text_from_the_command_line_takes_the_type_of_the_default(project):
    given = {"n_items": "3", "ratio": "1", "loud": "true", "note": "12"}
    (job,) = jobs_of(project, **given)
    values = {name: job.parameters[name] for name in given}
    assert values == {"n_items": 3, "ratio": 1.0, "loud": True, "note": "12"}
    assert isinstance(values["ratio"], float)


def test_a_chapter_without_a_parameters_cell_is_refused(project):
    trivial.write_chapter(project, parameters="n_items = len([1])")
    with pytest.raises(UserError, match="something else than `name = value`"):
        jobs_of(project)
    notebook = nbformat.read(project / "chapters" / "01_first.ipynb", as_version=4)
    notebook.cells[1].metadata["tags"] = []
    nbformat.write(notebook, project / "chapters" / "01_first.ipynb")
    with pytest.raises(UserError, match="0 cells tagged 'parameters'"):
        jobs_of(project)


def test_library_sources_follow_imports_and_nothing_else():
    code = ["from ovectors import results\nimport json"]
    names = {path.name for path in keys.library_sources(code)}
    assert names == {"__init__.py", "paths.py", "results.py"}
    deeper = {path.name for path in keys.library_sources(["import ovectors.keys"])}
    assert {"keys.py", "catalogue.py", "notebooks.py", "errors.py"} <= deeper
    assert "cli.py" not in deeper and "batch.py" not in deeper
    assert len(keys.library_sources(["this is no python"])) > len(deeper)
