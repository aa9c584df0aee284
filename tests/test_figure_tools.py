"""Below each figure: its drawing and tables as files, and how it was made, as it is on record."""

from __future__ import annotations

import json
from html.parser import HTMLParser

import nbformat
import pandas as pd
import pytest
from matplotlib.figure import Figure

import made_up_runs
import trivial
from ovectors import figure_tools, made, results, runs
from ovectors.pages import Page

TABLE = pd.DataFrame({"task": ["a, b", "c"], "mean": [0.25, float("nan")]})
CELL = 'figure = draw()\nrun.save_figure("line-figure", figure, data=["means"])'


class Links(HTMLParser):
    """The addresses of a piece of HTML, and its terms with their descriptions."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.files, self.terms, self._inside = [], {}, ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self._inside = tag if tag in ("dt", "dd") else self._inside
        found = dict(attributes)
        if tag == "a":
            assert "download" in found
            self.files.append(found["href"])

    def handle_data(self, data):
        if self._inside == "dt":
            self.terms[data] = ""
            self._term = data
        elif self._inside == "dd":
            self.terms[self._term] += data


@pytest.fixture
def page(tmp_path, monkeypatch) -> Page:
    """A page of a chapter run by hand, with one figure and two tables."""
    trivial.enter(trivial.make_project(tmp_path / "project"), monkeypatch)
    place = runs.Place(model="a-model", chapter="01_first")
    parameters = {"model": "./a-model", "n_items": 7}
    run = results.ChapterRun(
        chapter="01_first", model="./a-model", parameters=parameters, folder=place.results
    )
    run.save("raw", TABLE, about="every item")
    run.save("means", TABLE, about="means by <task>")
    figure = Figure()
    figure.subplots().plot([1, 2])
    run.save_figure("line-figure", figure, data=["means"])
    run.finish(provenance={"name": "a-model", "dtype": "float32", "device_map": {"": "cpu"}})
    return Page(place=place, model="a-model", is_reference=True)


def notebook_of(source: str = CELL, **metadata) -> nbformat.NotebookNode:
    shown = nbformat.v4.new_output("display_data", {"image/png": "AAAA", "text/plain": "<Figure>"})
    cell = nbformat.v4.new_code_cell(source, outputs=[shown])
    cell.metadata.update(metadata or {"mystnb": {"figure": {"name": "fig-line"}}})
    return nbformat.v4.new_notebook(cells=[cell, nbformat.v4.new_markdown_cell("After it.")])


def test_the_files_a_figure_offers_lie_beside_its_page(page, tmp_path):
    notebook = notebook_of()
    figure_tools.add(notebook, page, tmp_path / "root")
    drawn, below, after = notebook.cells
    assert after.source == "After it." and below.cell_type == "markdown"
    assert "\n\n" not in below.source  # an empty line would end the HTML
    links = Links(below.source).files
    assert links == [
        f"01_first/{name}" for name in ("line-figure.svg", "means.csv", "means.parquet")
    ]
    beside = (tmp_path / "root" / f"{page.document}.html").parent
    assert all((beside / link).is_file() for link in links)
    assert not (beside / "01_first" / "raw.csv").exists()
    pd.testing.assert_frame_equal(pd.read_csv(beside / links[1]), TABLE)
    saved = (page.place.results / "line-figure.svg").read_bytes()
    assert (beside / links[0]).read_bytes() == saved
    assert drawn.outputs[0].data == {"image/svg+xml": saved.decode(), "text/plain": "<Figure>"}


@pytest.mark.parametrize(
    ("source", "metadata"),
    [
        ('run.save_figure("never-saved", figure)', {}),
        ("run.save_figure(name, figure)", {}),
        ("%matplotlib inline", {}),
        (CELL, {"tags": ["no-figure"]}),
    ],
)
def test_what_shows_no_saved_figure_stays_as_it_is(page, tmp_path, source, metadata):
    notebook, same = notebook_of(source, **metadata), notebook_of(source, **metadata)
    figure_tools.add(notebook, page, tmp_path / "root")
    assert [one.source for one in notebook.cells] == [one.source for one in same.cells]
    assert "image/png" in notebook.cells[0].outputs[0].data and not (tmp_path / "root").exists()


def test_words_of_a_table_are_no_html(page, tmp_path):
    notebook = notebook_of()
    figure_tools.add(notebook, page, tmp_path / "root")
    assert "means by &lt;task&gt;: 2 rows" in notebook.cells[1].source


def test_what_is_not_recorded_is_said_to_be_so(page):
    manifest = results.read_manifest(page.place.results)
    told = made.facts(page.place, manifest, None)
    for name in ("Key", "This run", "Measuring"):
        assert told[name] == made.UNKNOWN
    assert told["Number format"] == "float32" and told["Device"] == "cpu"
    assert told["Model"] == f"a-model; revision {made.UNKNOWN}"
    assert told["To make it again"] == (
        "ovectors run --model ./a-model --chapter 1 --parameter n_items=7"
    )
    assert Links(made.as_html(told)).terms == told


def test_what_the_batch_recorded_is_told(tmp_path, monkeypatch):
    trivial.enter(made_up_runs.make_project(tmp_path / "project"), monkeypatch)
    trivial.write_model(tmp_path / "project" / "models" / "mini-2m")
    claim = made_up_runs.claim("stages", "mini-2m", {"world_capitals": 0.8})
    place = made_up_runs.write_run("01_stages_of_processing", "mini-2m", [claim])
    sidecar = json.loads(place.sidecar.read_text())
    sidecar |= {"seconds": 61.7, "peak_memory_bytes": 2_340_000_000}
    sidecar["parts"]["model"] = {"files": {"config.json": "11", "model.safetensors": "22"}}
    place.sidecar.write_text(json.dumps(sidecar))
    manifest = results.read_manifest(place.results)
    told = made.facts(place, manifest, runs.recorded_sidecar(place))
    assert told["Key"] == sidecar["key"]
    assert told["This run"] == "62 s, at most 2.34 GB of memory"
    assert told["Measuring"] == "1 s, at most 0.10 GB of memory"
    assert told["Model"] == "mini-2m; model.safetensors: SHA-256 22"
    assert told["To make it again"] == "ovectors run --model mini-2m --chapter 1"
    kept = runs.Made(**{name: sidecar[name] for name in runs.Made.model_fields})
    by_hand = kept.model_copy(update={"seconds": 0})
    assert made.facts(place, manifest, kept)["This run"] == told["This run"]
    assert made.facts(place, manifest, by_hand)["This run"] == made.UNKNOWN


@pytest.mark.parametrize(
    ("provenance", "said"),
    [
        ({"commit": "abc", "dirty": True}, "abc, with local changes"),
        ({"commit": "abc", "dirty": False}, "abc, without local changes"),
        ({"commit": None, "dirty": None}, made.UNKNOWN),
    ],
)
def test_local_changes_are_owned_up_to(page, provenance, said):
    manifest = results.read_manifest(page.place.results)
    manifest = manifest.model_copy(update={"provenance": {**manifest.provenance, **provenance}})
    assert made.facts(page.place, manifest, None)["Commit"] == said


def test_a_revision_is_told_where_there_is_one(page):
    manifest = results.read_manifest(page.place.results)
    loaded = {"name": "gpt2", "source": "openai-community/gpt2", "commit": "607a30d7"}
    manifest = manifest.model_copy(update={"provenance": {"model": loaded}})
    told = made.facts(page.place, manifest, None)
    assert told["Model"] == "gpt2, from openai-community/gpt2, revision 607a30d7"
