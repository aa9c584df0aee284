"""The chapters as notebooks: sources without outputs, and runnable by papermill alone."""

import json
import subprocess
import sys

import nbformat
import pytest

from ovectors import figure_tools, notebooks, paths, results

CHAPTERS = notebooks.find_chapters()
NAMES = [chapter.name for chapter in CHAPTERS]


@pytest.mark.parametrize("chapter", CHAPTERS, ids=NAMES)
def test_a_chapter_is_a_source(chapter):
    notebook = nbformat.read(chapter.path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in code)
    assert len(code) <= 20
    assert max(cell.source.count("\n") + 1 for cell in code) <= 15
    common = ("model",) if chapter.across else ("model", "n_items", "seed", "device", "dtype")
    for name in common:
        assert name in notebooks.default_parameters(chapter)


@pytest.mark.parametrize("chapter", CHAPTERS, ids=NAMES)
def test_every_figure_has_a_name_a_caption_and_a_text_alternative(chapter):
    notebook = nbformat.read(chapter.path, as_version=4)
    drawn = [cell for cell in notebook.cells if "save_figure" in cell.source]
    assert drawn
    for cell in drawn:
        described = cell.metadata["mystnb"]
        assert described["figure"]["name"].startswith("fig-")
        assert len(described["figure"]["caption"]) > 80
        assert len(described["image"]["alt"]) > 80
        assert figure_tools.saved_name(cell.source) and "data=[" in cell.source


@pytest.mark.kernel
@pytest.mark.parametrize("chapter", CHAPTERS, ids=NAMES)
@pytest.mark.parametrize("which", ["embedded", "untrained"])
def test_papermill_runs_a_chapter_by_itself(chapter, which, tmp_path, untrained_folder):
    model = "mini-2m" if which == "embedded" else str(untrained_folder)
    command = [sys.executable, "-m", "papermill", str(chapter.path), "out.ipynb"]
    command += ["-p", "model", model, *([] if chapter.across else ["-p", "n_items", "12"])]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stderr[-2000:]
    (manifest,) = tmp_path.rglob(results.MANIFEST)
    found = results.read_manifest(manifest.parent)
    assert found.chapter == chapter.name and found.parameters["model"] == model
    assert chapter.across or found.parameters["n_items"] == 12
    assert manifest.parent.parent.parent == tmp_path / "results"
    numbers = json.loads((manifest.parent / "numbers.json").read_text())
    assert numbers["findings"]


def test_the_chapters_are_where_the_project_says():
    assert all(chapter.path.parent == paths.CHAPTERS for chapter in CHAPTERS)
