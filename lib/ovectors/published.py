"""The page of a run, made small enough to be committed: what it shows and offers, and no more.

book/results/<model>/pages/<chapter>.ipynb   the executed notebook, thinned
book/results/<model>/pages/<chapter>/        figures and tables that the page needs, a manifest

It has the shape of a folder of runs (`runs.Place`), so that whatever reads a page reads it too.
"""

from __future__ import annotations

import base64
import io
import re
import shutil
from pathlib import Path
from typing import Any

import nbformat

from ovectors import paths, results, runs
from ovectors.results import SavedFile

PAGES = "pages"
_COLOURS = 256  # figures have few, and edges between them: as a palette a PNG is a third as large
_ON_FIRST_PAGE = ("examples", "numbers")  # chapter 1's items in its picture; a chapter's findings
_PER_RUN = ("papermill", "execution", "ExecuteTime")  # metadata of cells and of the notebook


class PublishedPlace(runs.Place):
    """Where the published page of a chapter on a model lies."""

    @property
    def folder(self) -> Path:
        """The folder of the model's published pages."""
        return self.saved / PAGES

    @property
    def saved(self) -> Path:
        """The folder from which `Made.files` are named: claims lie beside the pages."""
        return paths.PUBLISHED / self.model


def write_page(run: runs.Place) -> dict[str, str]:
    """Write the page of a whole run to its published place; returns the hash of every file.

    Files are named from the folder of the model's published pages.
    """
    place = PublishedPlace(model=run.model, chapter=run.chapter)
    shutil.rmtree(place.results, ignore_errors=True)
    place.results.mkdir(parents=True)
    notebook = nbformat.read(run.notebook, as_version=4)
    thin(notebook)
    nbformat.write(notebook, place.notebook)
    manifest = results.read_manifest(run.results)
    needed = [file for file in manifest.files if _is_needed(file, manifest.files, notebook)]
    for file in needed:
        (place.results / file.file).parent.mkdir(exist_ok=True)
        shutil.copyfile(run.results / file.file, place.results / file.file)
    small = manifest.model_copy(update={"files": needed})
    results.write_json(place.results / results.MANIFEST, small.model_dump())
    below = runs.hashes_below(place.results)
    page = {f"{place.chapter}/{name}": digest for name, digest in below.items()}
    return {place.notebook.name: results.sha256_of(place.notebook), **page}


def thin(notebook: nbformat.NotebookNode) -> None:
    """Take from an executed notebook what its page does not show, and store its images smaller."""
    for name in _PER_RUN:
        notebook.metadata.pop(name, None)
    for cell in notebook.cells:
        for name in _PER_RUN:
            cell.metadata.pop(name, None)
        if cell.cell_type == "code":
            cell.outputs = [one for one in cell.outputs if one.get("name") != "stderr"]
            for output in cell.outputs:
                _thin_data(output.get("data", {}))


def _thin_data(data: dict[str, Any]) -> None:
    """One output's representations: the words for terminals go where there is anything else."""
    if len(data) > 1:
        data.pop("text/plain", None)
    if "image/png" in data:
        small = as_palette(base64.b64decode(data["image/png"]))
        data["image/png"] = base64.b64encode(small).decode()


def as_palette(png: bytes) -> bytes:
    """The same image with at most 256 colours, on white; as it was where that is no smaller."""
    from PIL import Image

    image = Image.open(io.BytesIO(png)).convert("RGBA")
    white = Image.new("RGBA", image.size, "white")
    flat = Image.alpha_composite(white, image).convert("RGB")
    written = io.BytesIO()
    palette = flat.quantize(_COLOURS, dither=Image.Dither.NONE)
    palette.save(written, "PNG", optimize=True)
    return min(written.getvalue(), png, key=len)


def _is_needed(file: SavedFile, files: list[SavedFile], notebook: nbformat.NotebookNode) -> bool:
    """Whether a page needs a file: drawings, tables they are drawn from, what it links to, and what
    the book's first page shows of it."""
    if file.kind == "figure":
        return file.file.endswith(".svg")
    if file.name in _ON_FIRST_PAGE:
        return True
    drawn = {name for one in files for name in one.data or ()}
    link = rf"\]\([^()\s]*/{re.escape(file.file)}\)"
    return file.name in drawn or re.search(link, nbformat.writes(notebook)) is not None
