"""Beside every figure of a chapter's page: the drawing, its data, and how it was made.

A chapter saves each figure as SVG, and names the tables that it was drawn from. When the book is
assembled, the page shows that very SVG, and a line below it offers to enlarge it and to download it
and its tables, as CSV and Parquet; folded under it is how the run was made. The files are copied to
the page's own folder in the built book, so that the links work from a disk as from a server.
"""

from __future__ import annotations

import ast
import html
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import nbformat
import pandas as pd

from ovectors import made, runs
from ovectors.results import Manifest, SavedFile, read_manifest

if TYPE_CHECKING:
    from ovectors.pages import Page

_SVG, _PNG = "image/svg+xml", "image/png"


def add(notebook: nbformat.NotebookNode, page: Page, root: Path) -> None:
    """Put the tools below each figure of a page, and the files they link to below `root`.

    `root` is the folder whose content is copied to the root of the built book.
    """
    manifest = read_manifest(page.place.results)
    folder = root / page.document
    run = page.published or runs.recorded_sidecar(page.place)
    told = made.as_html(made.facts(page.place, manifest, run))
    cells = []
    for cell in notebook.cells:
        cells.append(cell)
        shown = "figure" in cell.metadata.get("mystnb", {})
        name = saved_name(cell.source) if shown else ""
        if drawn := _drawn(manifest, name):
            tables = [manifest.file(one) for one in drawn.data or ()]
            _copy(page.place.results, folder, drawn, tables)
            _show_drawing(cell, page.place.results / drawn.file)
            text = tools(page.place.chapter, drawn, tables, told)
            below = nbformat.v4.new_markdown_cell(text)
            below["id"] = f"{cell['id']}-tools"
            cells.append(below)
    notebook.cells = cells


def saved_name(source: str) -> str:
    """The name that a cell saves its figure under, `run.save_figure("NAME", ...)`; "" if none."""
    try:
        tree = ast.parse(source)
    except SyntaxError:  # a cell of another language, or a line of IPython's own
        return ""
    for node in ast.walk(tree):
        called = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
        if called and node.func.attr == "save_figure" and node.args:
            first = node.args[0]
            return str(first.value) if isinstance(first, ast.Constant) else ""
    return ""


def tools(folder: str, drawn: SavedFile, tables: list[SavedFile], told: str) -> str:
    """The line below a figure, as HTML that Markdown leaves alone: without an empty line.

    `folder` is where the files lie, seen from the page; `told` says how the run was made.
    """
    drawing = f"{folder}/{drawn.file}"
    lines = [
        '<div class="figure-tools" role="group" aria-label="Of the figure above">',
        '<button type="button" hidden>Enlarge</button>',
        f'<a href="{drawing}" download>SVG</a>',
    ]
    for table in tables:
        stem = f"{folder}/{table.name}"
        about = html.escape(f"{table.about}: {table.rows:,} rows")
        lines.append(
            f'<span class="figure-data">Data <code>{table.name}</code>: '
            f'<a href="{stem}.csv" download title="{about}">CSV</a> '
            f'<a href="{stem}.parquet" download title="{about}">Parquet</a></span>'
        )
    fold = f"<details><summary>How it was made</summary>{told}</details>"
    return "\n".join([*lines, fold, "</div>"])


def _drawn(manifest: Manifest, name: str) -> SavedFile | None:
    """The drawing that was saved under a name, where there is one."""
    for saved in manifest.files:
        if saved.name == name and saved.file.endswith(".svg"):
            return saved
    return None


def _copy(results: Path, folder: Path, drawn: SavedFile, tables: list[SavedFile]) -> None:
    """The drawing, and its tables both ways, in the folder beside the page."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(results / drawn.file, folder / drawn.file)
    for table in tables:
        shutil.copyfile(results / table.file, folder / f"{table.name}.parquet")
        pd.read_parquet(results / table.file).to_csv(folder / f"{table.name}.csv", index=False)


def _show_drawing(cell: nbformat.NotebookNode, drawing: Path) -> None:
    """Let the page show the SVG in place of the picture that the kernel sent."""
    for output in cell.get("outputs", []):
        if _PNG in output.get("data", {}):
            del output.data[_PNG]
            output.data[_SVG] = drawing.read_text("utf-8")
