"""A chapter's page tells the verdicts and values of all models that have some."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest

import trivial
from made_up_models import STAGES, write_stages
from made_up_runs import make_project
from ovectors import comparison, elsewhere

SIZES = {"mini-2m": 2_000_000, "mini-6m": 6_000_000, "gpt2": 124_000_000}


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    return trivial.enter(make_project(tmp_path / "project"), monkeypatch)


def shown(*sources: str) -> list[nbformat.NotebookNode]:
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(s) for s in sources])
    elsewhere.add(notebook, elsewhere.by_chapter(comparison.gather()).get(STAGES, ""))
    return notebook.cells


def test_values_of_all_models_stand_behind_the_verdict(project):
    for model, value in (("gpt2", 0.5), ("mini-6m", 0.8), ("mini-2m", 0.3)):
        write_stages(model, {"past_tense": value, "uppercase": 0.9}, SIZES[model])
    cells = shown("first()", "show(claim_block(other))", "show(claim_block(own))", "last()")
    (added,) = (cell for cell in cells if cell.cell_type == "markdown")
    assert cells.index(added) == 3  # behind the last verdict of several
    lines = added.source.splitlines()
    assert lines[0] == "## Model by model"
    assert [line for line in lines if line.startswith("| ")] == [
        "| model | Stages |",
        "| `mini-2m` | partly |",
        "| `mini-6m` | supported |",
        "| `gpt2` | partly |",
        "| Stages: main | `mini-2m` | `mini-6m` | `gpt2` |",
        "| Past tense | 0.30 [0.20, 0.40], n = 100 | **0.80 [0.70, 0.90]**, n = 100 "
        "| 0.50 [0.40, 0.60], n = 100 |",
        "| Upper-casing |" + " **0.90 [0.80, 1.00]**, n = 100 |" * 3,
    ]
    assert "miniatures, from `mini-2m` to `mini-6m`): rises on past tense (0.30, 0.80)" in (
        added.source.replace("*", "")
    )


def test_another_chapters_claims_are_not_its_own(project):
    for model in ("mini-2m", "mini-6m"):
        write_stages(model, {"past_tense": 0.8}, SIZES[model])
    assert [*elsewhere.by_chapter(comparison.gather())] == [STAGES]


def test_nothing_is_added_for_one_model_or_without_a_verdict(project):
    write_stages("mini-2m", {"past_tense": 0.8}, SIZES["mini-2m"])
    assert len(shown("show(claim_block(own))")) == 1
    write_stages("gpt2", {"past_tense": 0.8}, SIZES["gpt2"])
    assert len(shown("show(claim_block(own))")) == 2  # of different kinds: a table, and no trend
    assert "rises" not in shown("show(claim_block(own))")[1].source
    assert len(shown("show(something_else)")) == 1
