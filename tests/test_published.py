"""The pages of runs, made small and committed, and shown where there is no such run."""

from __future__ import annotations

import base64
import dataclasses
import io
import shutil
from pathlib import Path

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
from PIL import Image

import trivial
from made_up_runs import STAGES, finding, make_project, shares, stages_of, write_run
from ovectors import comparison, made, pages, published, record, results, runs
from ovectors.prose import common
from ovectors.published import PublishedPlace


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    return trivial.enter(make_project(tmp_path / "project"), monkeypatch)


TOC = {"parts": [{"caption": "Chapters", "chapters": [{"file": f"runs/gpt2/{STAGES}"}]}]}


def png(pixels: np.ndarray) -> bytes:
    written = io.BytesIO()
    Image.fromarray(pixels).save(written, "PNG")
    return written.getvalue()


def executed() -> nbformat.NotebookNode:
    """A page with a figure, a link to a table, progress bars and what papermill leaves."""
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    noise[:32] //= 64  # half of it has few colours
    image = base64.b64encode(png(noise)).decode()
    output = nbformat.v4.new_output
    outputs = [
        output("stream", name="stderr", text="50%"),
        output("stream", name="stdout", text="said"),
        output("display_data", data={"image/png": image, "text/plain": "<Figure>"}),
        output("display_data", data={"text/plain": "42"}),
    ]
    caption = f"Data: [shares]({STAGES}/stage-shares.parquet)."
    figure = {"figure": {"name": "fig-one", "caption": caption}}
    cells = [
        nbformat.v4.new_markdown_cell("# Stages", metadata={"papermill": {"duration": 1.0}}),
        nbformat.v4.new_code_cell("draw()", outputs=outputs, metadata={"mystnb": figure}),
    ]
    notebook = nbformat.v4.new_notebook(cells=cells, metadata={"papermill": {"version": "2"}})
    return notebook


def write_shown(model: str, **given) -> runs.Place:
    """A run with a page."""
    table = shares({"past_tense": 0.5})
    given = {"notebook": executed(), "drawn": "one-figure", **given}
    return write_run(STAGES, model, stages_of(model), table=table, **given)


def collected() -> tuple[list[pages.Page], list[str]]:
    said: list[str] = []
    found = pages.collect_pages(TOC, said.append)
    return [*found], [line for line in said if "does not list" not in line]


def test_a_published_page_holds_what_is_shown_and_offered(project):
    run = write_shown("gpt2-medium")
    record.publish("gpt2-medium")
    place = PublishedPlace(model="gpt2-medium", chapter=STAGES)
    notebook = nbformat.read(place.notebook, as_version=4)
    assert "papermill" not in nbformat.writes(notebook)
    kinds = [one.get("name") or [*one.data] for one in notebook.cells[1].outputs]
    assert kinds == ["stdout", ["image/png"], ["text/plain"]]
    assert notebook.cells[1].metadata == executed().cells[1].metadata
    manifest = results.read_manifest(place.results)
    kept = {"one-figure.svg", "stage-shares.parquet", "numbers.json"}
    assert {file.file for file in manifest.files} == kept
    assert manifest.provenance == results.read_manifest(run.results).provenance
    assert {*runs.hashes_below(place.results)} == {"manifest.json", *kept}


def test_a_published_page_tells_what_measuring_took(project):
    run = write_shown("gpt2-medium")
    told = made.facts(run, results.read_manifest(run.results), runs.recorded_sidecar(run))
    record.publish("gpt2-medium")
    place = PublishedPlace(model="gpt2-medium", chapter=STAGES)
    kept = record.committed_page(place)
    again = made.facts(place, results.read_manifest(place.results), kept)
    assert again["Measuring"] == told["Measuring"] == "1 s, at most 0.10 GB of memory"


def test_images_become_smaller_and_look_the_same():
    figure, axes = plt.subplots(1, 2, figsize=(6, 3))
    axes[0].plot(np.sin(np.arange(99)), color="#b34e00")
    axes[1].imshow(np.arange(400).reshape(20, 20), cmap="viridis")
    written = io.BytesIO()
    figure.savefig(written, transparent=True)
    small = published.as_palette(written.getvalue())
    assert len(small) < 0.9 * len(written.getvalue())
    whole = Image.open(written).convert("RGBA")
    on_white = Image.alpha_composite(Image.new("RGBA", whole.size, "white"), whole)
    shown, wanted = (
        np.asarray(one.convert("RGB")).astype(int)
        for one in (Image.open(io.BytesIO(small)), on_white)
    )
    differs = np.abs(shown - wanted).max(axis=-1)
    assert np.quantile(differs, 0.99) <= 16 and differs.max() < 100


def test_a_published_page_is_shown_where_there_is_no_run(project, monkeypatch):
    write_shown("gpt2")
    write_shown("gpt2-medium")
    record.publish("gpt2-medium")
    (_, here), said = collected()
    assert here.published is None and not isinstance(here.place, PublishedPlace)
    shutil.rmtree(project / "book" / "runs" / "gpt2-medium")
    (_, page), said = collected()
    assert (page.model, page.document) == ("gpt2-medium", f"runs/gpt2-medium/{STAGES}")
    assert not page.is_reference and said == []
    assert page.published == record.committed(runs.Place(model="gpt2-medium", chapter=STAGES))
    target = project / "source"
    monkeypatch.setattr(pages.fragments, "write", lambda folder, shown: None)
    (project / "_config.yml").write_text("title: A book\n")
    pages.assemble(target, [page], TOC)
    text = (target / f"{page.document}.ipynb").read_text()
    assert "Changed since" not in text and "quantised" not in text
    assert "# Stages on gpt2-medium" in text and "fig-one-gpt2-medium" in text
    assert "not run here but published: run on 2026-01-01 from" in text
    assert f"key `{page.published.key[:12]}`" in text
    assert (target / "runs" / "gpt2-medium" / STAGES / "stage-shares.parquet").is_file()


@pytest.mark.parametrize("damage", ["notebook", "figure", "gone"])
def test_a_published_page_that_was_altered_is_left_out(project, damage):
    write_shown("gpt2")
    write_shown("gpt2-medium")
    record.publish("gpt2-medium")
    shutil.rmtree(project / "book" / "runs" / "gpt2-medium")
    place = PublishedPlace(model="gpt2-medium", chapter=STAGES)
    if damage == "gone":
        (place.results / "manifest.json").unlink()
    else:
        path = place.notebook if damage == "notebook" else place.results / "one-figure.svg"
        path.write_text(path.read_text() + " ")
    found, said = collected()
    assert [page.model for page in found] == ["gpt2"]
    assert len(said) == 1 and "the published page of 01" in said[0] and "broken" in said[0]
    assert finding("gpt2-medium").condition == "whole"  # its claims are


def test_a_published_page_whose_claims_were_altered_is_left_out(project):
    write_shown("gpt2")
    write_shown("gpt2-medium")
    record.publish("gpt2-medium")
    place = PublishedPlace(model="gpt2-medium", chapter=STAGES)
    shutil.rmtree(project / "book" / "runs" / "gpt2-medium")
    claim = place.saved / "claims" / "stages.json"
    claim.write_text(claim.read_text() + " ")
    found, said = collected()
    assert [page.model for page in found] == ["gpt2"]
    assert len(said) == 1 and "claims/stages.json" in said[0] and "broken" in said[0]


def note_on(page: pages.Page) -> str:
    notebook = nbformat.read(page.place.notebook, as_version=4)
    pages.make_distinct(notebook, page, None)
    return notebook.cells[0].source


def test_a_published_page_stands_for_a_run_that_went_stale_and_says_what_changed(project):
    write_shown("gpt2-medium")
    record.publish("gpt2-medium")
    trivial.write_chapter(project, STAGES, text="# Another text")
    write_shown("gpt2")
    (_, page), said = collected()
    assert said == [f"left out: {STAGES} on gpt2-medium, stale (changed since: chapter)"]
    again = "`ovectors run --model gpt2-medium` makes it again."
    assert f"Changed since: the chapter; {again}" in note_on(page)
    older = dataclasses.replace(page, changed=("library", "versions"))
    assert f"Changed since: the library's code; {again}" in note_on(older)
    write_shown("gpt2-medium")
    (_, page), said = collected()
    assert page.published is None and said == []


def test_a_page_says_that_its_model_is_quantised(project, monkeypatch):
    write_shown("gpt2")
    write_shown("gpt2-medium")
    monkeypatch.setattr(common, "quantisation", {"gpt2": "", "gpt2-medium": "Q4_1"}.get)
    first, second = map(note_on, collected()[0])
    assert "quantised" not in first
    assert "weights of `gpt2-medium` are quantised (Q4_1): rounded to four to eight bits" in second


def test_a_published_page_stands_for_a_run_that_is_broken(project):
    write_shown("gpt2")
    place = write_shown("gpt2-medium")
    record.publish("gpt2-medium")
    place.notebook.write_text("changed")
    (_, page), said = collected()
    assert page.published is not None and ", broken (" in said[0] and len(said) == 1


def test_publishing_again_replaces_a_page(project):
    write_shown("gpt2")
    write_shown("gpt2-medium")
    folder = record.publish("gpt2-medium")
    write_shown("gpt2-medium", drawn="another-figure")
    record.publish("gpt2-medium")
    shutil.rmtree(project / "book" / "runs" / "gpt2-medium")
    assert [page.model for page in collected()[0]] == ["gpt2", "gpt2-medium"]
    drawn = {path.name for path in folder.rglob("*.svg")}
    assert drawn == {"another-figure.svg"}


def test_a_published_page_does_not_make_the_comparison_stale(project):
    write_shown("gpt2")
    before = comparison.digest(comparison.gather())
    record.publish("gpt2")
    assert comparison.digest(comparison.gather()) == before
