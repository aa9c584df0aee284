"""The first page is led by the language model on which the argument is seen best, if there is one.

mini-2m is the reference model and run here; gpt2 and gpt2-medium stand for language models.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import nbformat
import pandas as pd
import pytest

import trivial
from made_up_runs import STAGES, claim, make_project, ranks, stages_of, write_run
from ovectors import fragments, keys, pages, record
from ovectors.catalogue import ModelSpec
from ovectors.landing.leading import leading_model

BEYOND = "07_beyond"
CHAPTERS = [{"file": f"runs/mini-2m/{name}"} for name in (STAGES, BEYOND)]
TOC = {"parts": [{"caption": "Chapters", "chapters": CHAPTERS}]}


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """A project in which the reference model was run, and its argument is always on top."""
    root = trivial.enter(make_project(tmp_path / "project"), monkeypatch)
    write_stages("mini-2m", world_capitals=[1.0, 1.0], past_tense=[1.0, 1.0])
    write_run(BEYOND, "mini-2m", [claim("beyond", "mini-2m", {"noun_plural": 0.9})])
    return root


def write_stages(model: str | ModelSpec, **heights: list[float]) -> str:
    """Chapter 1 on a model, with the argument's mean reciprocal ranks by layer."""
    name = model if isinstance(model, str) else model.name
    rows = [
        {"rank_argument": 1.0 + layer, "rank_answer": 3.0 - layer, "layer": layer}
        for layer in range(3)
    ]
    item = pd.DataFrame(rows).assign(
        relation="world_capitals", form="one_shot", item=0, correct=True, answer=" Lima"
    )
    item["argument"], item["top_token"] = f" Peru of {name}", [" a", " b", " Lima"]
    text = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# Stages")])
    made = {"curves": ranks(heights), "examples": item, "notebook": text, "drawn": "the-x"}
    return write_run(STAGES, model, stages_of(name), **made).model


def publish(project: Path, model: str, **heights: list[float]) -> None:
    """Leave of a run what was published, and nothing else."""
    write_stages(model, **heights)
    record.publish(model)
    shutil.rmtree(project / "book" / "runs" / model)


def shown() -> tuple[pages.Page, ...]:
    return pages.collect_pages(TOC, lambda line: None)


def front(project: Path) -> dict[str, str]:
    """The first page's pieces."""
    folder = project / "source"
    folder.mkdir()
    fragments.write(folder, shown())
    names = ("verdicts", "on_which_model", "findings", "journey")
    return {name: (folder / f"{name}.md").read_text("utf-8") for name in names}


def test_without_a_language_model_the_reference_leads(project):
    own = ModelSpec(name="mine", folder=trivial.write_model(project / "mine"))
    for other in ("mini-6m", own):
        write_stages(other, world_capitals=[1.0, 1.0, 1.0])
    write_run(STAGES, "gpt2", stages_of("gpt2"))  # it has no curves
    assert leading_model(shown()) == "mini-2m"
    said = front(project)
    assert (
        "Peru of mini-2m" in said["journey"] and "`mini-2m` is a {term}" in said["on_which_model"]
    )
    assert "offline, with nothing fetched" in said["on_which_model"]


@pytest.mark.parametrize(
    ("other", "leads"),
    [
        ({"world_capitals": [0.9, 0.1], "past_tense": [0.2, 0.3]}, "gpt2-medium"),
        ({"world_capitals": [0.1, 0.8], "past_tense": [0.8, 0.1]}, "gpt2"),  # each at its layer
        ({"world_capitals": [1.0, 1.0]}, "gpt2-medium"),  # the other is not answered
    ],
)
def test_the_highest_mean_peak_leads(project, other, leads):
    write_stages("gpt2-medium", world_capitals=[0.1, 0.9], past_tense=[0.4, 0.4])
    write_stages("gpt2", **other)
    assert leading_model(shown()) == leads


def test_a_model_of_the_hub_that_no_catalogue_knows_may_lead(project, monkeypatch):
    folder = write_stages(ModelSpec(name="someone--model", hub_id="someone/model"), past_tense=[1])
    assert leading_model(shown()) == "mini-2m"
    found = shown()
    real = fragments.read_manifest

    def with_commit(place):
        manifest = real(place)
        told = {**manifest.provenance, "model": {"commit": "abc"}}
        return manifest.model_copy(update={"provenance": told})

    monkeypatch.setattr("ovectors.landing.leading.read_manifest", with_commit)
    assert leading_model(found) == folder


def test_the_first_page_is_made_from_published_files_alone(project):
    publish(project, "gpt2", world_capitals=[0.2, 0.9])
    assert not (project / "book" / "runs" / "gpt2").exists()
    said = front(project)
    assert "<svg" in said["journey"] and "Lima" in said["journey"]
    assert "Peru of gpt2? asked of `gpt2`" in re.sub(r"[*]", "", said["journey"])
    assert "2 claims judged on `gpt2` and `mini-2m`" in said["verdicts"]
    assert "same on mini-2m" in said["verdicts"]
    # A claim that the leading model was not asked is shown on the reference model.
    assert '<a href="#claim-beyond">Beyond</a>' in said["verdicts"]
    assert "<small>(on mini-2m)</small>" in said["verdicts"]
    assert said["findings"].count("<section") == 2
    assert f'href="runs/mini-2m/{BEYOND}.html"' in said["findings"]
    assert f'href="runs/gpt2/{STAGES}.html"' in said["findings"]
    assert f"\n- {STAGES} on gpt2." in said["findings"] and "on mini-2m" not in said["findings"]
    assert "`mini-2m`, a {term}`miniature` trained by this project" in said["on_which_model"]


def test_the_published_model_leads_though_the_library_changed(project, monkeypatch):
    publish(project, "gpt2", world_capitals=[0.2, 0.9])
    real = keys.source_parts
    monkeypatch.setattr(
        keys, "source_parts", lambda chapter: {**real(chapter), "library": {"lens.py": "another"}}
    )
    write_stages("mini-2m", world_capitals=[1.0])
    assert leading_model(shown()) == "gpt2"
    (page,) = (page for page in shown() if page.model == "gpt2")
    assert page.changed == ("library",)
    (page.place.results / "examples.parquet").write_bytes(b"")
    assert leading_model(shown()) == "mini-2m"
