"""Assembling the book's pages: hand-written ones, and executed chapters of every model."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import yaml

from ovectors import (
    chapter_tools,
    comparison,
    elsewhere,
    figure_tools,
    fragments,
    keys,
    paths,
    record,
    runs,
    siblings,
)
from ovectors.catalogue import by_size
from ovectors.errors import UserError
from ovectors.labels import own_labels, rename_labels
from ovectors.notebooks import Chapter, find_chapters, read_notebook
from ovectors.prose.common import listed, quantised_sentence
from ovectors.published import PublishedPlace
from ovectors.record import Kept, models_with_record
from ovectors.results import BrokenResult

_RUN_ENTRY = re.compile(r"runs/([^/]+)/([^/]+)")
_APART = "# what the cell above printed"  # a cell without any source would not be shown at all
_CHANGED = {
    "chapter": "the chapter",
    "library": "the library's code",
    "data": "the data",
    "model": "the model's weights",
}
# Written by hand, but no pages: what runs leave, and what editors leave.
_NOT_COPIED = shutil.ignore_patterns("runs", "results", "explorer", ".*", "__pycache__")


@dataclass(frozen=True, kw_only=True)
class Page:
    """One executed chapter as a page: where its run is, on which model, and the reference or not.

    `model` is the model's name as it is shown, `place.model` the name of its folder. Pages that
    compare models stand with the reference model's. `published` tells of pages that were published
    and not run here how their run was made, and `changed` what of that has changed since.
    """

    place: runs.Place
    model: str
    is_reference: bool
    published: Kept | None = None
    changed: tuple[str, ...] = ()

    @property
    def document(self) -> str:
        """The page's name in the table of contents."""
        return f"runs/{self.place.model}/{self.place.chapter}"


def read_yaml(name: str) -> dict[str, Any]:
    """`_config.yml` or `_toc.yml` of the project; UserError when it is missing or broken."""
    path = paths.ROOT / name
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path} is no YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} is empty")
    return content


def reference_model(toc: Mapping[str, Any]) -> str:
    """The model whose chapters the table of contents lists: `runs/<model>/...`.

    Chapters that compare models, `runs/all/...`, are nobody's.
    """
    models = {match[1] for entry in _files(toc) if (match := _RUN_ENTRY.fullmatch(entry))}
    models.discard(runs.ALL)
    if len(models) != 1:
        named = ", ".join(sorted(models)) or "none"
        raise UserError(f"_toc.yml must list chapters of one reference model; it lists {named}")
    return models.pop()


def collect_pages(toc: Mapping[str, Any], report: Callable[[str], None]) -> tuple[Page, ...]:
    """The runs that the book can show: whole, and made from the chapters and library of now.

    The reference model's come first, with those that compare models, then model by model by size,
    each in the order of the table of contents; of other models also published pages that are whole,
    where there is no such run here. What is left out is reported with its reason. UserError when
    the reference model has no page at all.
    """
    reference = reference_model(toc)
    chapters = {chapter.name: chapter for chapter in find_chapters()}
    listed = [m[2] for entry in _files(toc) if (m := _RUN_ENTRY.fullmatch(entry))]
    for name in sorted({*chapters} ^ {*listed}):
        lacks = "chapters/ does not hold" if name in listed else "_toc.yml does not list"
        report(f"left out: {name}, which {lacks}")
    others = by_size({*runs.models_with_runs(), *models_with_record()} - {reference})
    pages = []
    for name in (name for name in listed if name in chapters):
        model = runs.ALL if chapters[name].across else reference
        pages += _page_of(model, chapters[name], reference, report)
    if not any(page.place.model == reference for page in pages):
        raise UserError(
            f"no chapter has a whole and current run on {reference}: `ovectors run` makes one, "
            "`ovectors status` shows what is there"
        )
    for model in others:
        for name in listed:
            if name in chapters and not chapters[name].across:
                pages += _page_of(model, chapters[name], reference, report)
    return tuple(pages)


def _page_of(
    model: str, chapter: Chapter, reference: str, report: Callable[[str], None]
) -> list[Page]:
    place = runs.Place(model=model, chapter=chapter.name)
    state = comparison.recorded_state(place, chapter)
    belongs = model in (reference, runs.ALL)
    if state.shown and state.sidecar is not None:
        return [Page(place=place, model=state.sidecar.model, is_reference=belongs)]
    if state.kind != "missing" or belongs:
        report(f"left out: {chapter.name} on {model}, {state.kind} ({state.reason})")
    return [] if belongs else _published_page_of(model, chapter, report)


def _published_page_of(model: str, chapter: Chapter, report: Callable[[str], None]) -> list[Page]:
    place = PublishedPlace(model=model, chapter=chapter.name)
    try:
        kept = record.committed_page(place)
    except BrokenResult as error:
        report(f"left out: the published page of {chapter.name} on {model}, broken ({error})")
        return []
    if kept is None:
        return []
    changed = tuple(keys.changed_parts(kept.parts, runs.parts_now(chapter, kept)))
    made = {"published": kept, "changed": changed}
    return [Page(place=place, model=kept.model, is_reference=False, **made)]


def assemble(folder: Path, pages: Sequence[Page], toc: Mapping[str, Any]) -> None:
    """Write the source of the book to a new folder: pages, `_config.yml` and `_toc.yml`."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(paths.BOOK, folder, ignore=_NOT_COPIED)
    reference = {page.place.chapter: page for page in pages if page.is_reference}
    config = chapter_tools.settings(book_config(), pages)
    told = elsewhere.by_chapter(comparison.gather())
    for page in pages:
        target = folder / f"{page.document}.ipynb"
        target.parent.mkdir(parents=True, exist_ok=True)
        notebook = nbformat.read(page.place.notebook, as_version=4)
        if not page.is_reference:
            make_distinct(notebook, page, reference.get(page.place.chapter))
        set_text_apart(notebook)
        elsewhere.add(notebook, told.get(page.place.chapter, ""))
        chapter_tools.add(notebook, page, config, folder / fragments.EXTRA)
        figure_tools.add(notebook, page, folder / fragments.EXTRA)
        nbformat.write(notebook, target)
        shutil.copytree(page.place.results, target.with_suffix(""))
    fragments.write(folder, pages)
    _write_yaml(folder / "_toc.yml", book_toc(toc, pages))
    _write_yaml(folder / "_config.yml", _with_made_settings(config, pages))


def make_distinct(notebook: nbformat.NotebookNode, page: Page, reference: Page | None) -> None:
    """Let a page say which model it is of, and share no label with the reference model's page."""
    rename_labels(notebook, siblings.label_suffix(page.place.model))
    first = next((c for c in notebook.cells if c.cell_type == "markdown"), None)
    if first is None:
        return
    first.source = re.sub(r"\A\s*# .+", rf"\g<0> on {page.model}", first.source, count=1)
    said = [f"This is the chapter as it comes out on **{page.model}**."]
    if reference is not None:
        shared = f"The sentences that it shares with the page on {reference.model} were written"
        said.append(f"{shared} for that model.")
    if page.published is not None:
        said.append(_origin(page.published, page.changed))
    if quantised := quantised_sentence(page.model):
        said.append(quantised)
    note = f":::{{note}}\n{' '.join(said)}\n:::"
    lines = first.source.split("\n", 1)
    first.source = "\n\n".join([lines[0], note, *lines[1:]])


def _origin(made: Kept, changed: Sequence[str]) -> str:
    """Where a published page comes from."""
    commit, dirty = made.provenance.get("commit"), made.provenance.get("dirty")
    code = f"commit `{commit[:12]}`" if commit else "a folder that is no checkout"
    code += " with local changes" if dirty else ""
    said = f"It was not run here but published: run on {made.started[:10]} from {code}, "
    said += f"key `{made.key[:12]}`."
    if since := [what for part, what in _CHANGED.items() if part in changed]:
        again = f"`ovectors run --model {made.asked}` makes it again."
        said += f" Changed since: {listed(since)}; {again}"
    return said


def set_text_apart(notebook: nbformat.NotebookNode) -> None:
    """Move the text that a figure's cell printed behind the figure, into a cell of its own.

    A kernel sends the figure at the end of its cell, after the text; and on the page a figure's
    caption and name would be given to every output of the cell, not to the image alone.
    """
    cells = []
    for cell in notebook.cells:
        cells.append(cell)
        outputs = cell.get("outputs", [])
        text = [one for one in outputs if not any("image/" in kind for kind in one.get("data", {}))]
        if "figure" in cell.metadata.get("mystnb", {}) and text:
            cell.outputs = [one for one in outputs if one not in text]
            number = cell.execution_count
            apart = nbformat.v4.new_code_cell(_APART, outputs=text, execution_count=number)
            apart.metadata["tags"] = ["remove-input"]
            apart["id"] = f"{cell['id']}-text"
            cells.append(apart)
    notebook.cells = cells


def book_toc(toc: Mapping[str, Any], pages: Sequence[Page]) -> dict[str, Any]:
    """The table of contents to build from: every chapter once, entries without a page dropped.

    A chapter that the reference model lacks is listed by the first model that has it; pages of
    other models are reached through the switch (`siblings`). A part that is left empty goes.
    """
    listed = {page.place.chapter: page.document for page in reversed(pages)}
    parts = []
    for part in toc.get("parts", []):
        kept = []
        for entry in part.get("chapters", []):
            match = _RUN_ENTRY.fullmatch(entry["file"])
            if match is None:
                kept.append(entry)
            elif match[2] in listed:
                kept.append({**entry, "file": listed[match[2]]})
        if kept:
            parts.append({**part, "chapters": kept})
    return {**toc, "parts": parts}


def book_config() -> dict[str, Any]:
    """`_config.yml`, with the repository that a GitHub workflow runs in, where it runs in one."""
    config = read_yaml("_config.yml")
    server, name = os.environ.get("GITHUB_SERVER_URL"), os.environ.get("GITHUB_REPOSITORY")
    if server and name:
        config["repository"] = {**config.get("repository", {}), "url": f"{server}/{name}"}
    return config


def _with_made_settings(config: Mapping[str, Any], pages: Sequence[Page]) -> dict[str, Any]:
    """The settings, and what the pages' links and quotations of the code need beside them."""
    sphinx, parse = config.get("sphinx", {}), config.get("parse", {})
    shown = {page.place.chapter: page.document for page in pages if page.is_reference}
    known = {chapter.name: chapter for chapter in find_chapters()}
    labels = {
        label: name
        for name, chapter in known.items()
        for label in sorted(own_labels(read_notebook(chapter.path)))
    }
    documents = {name: shown.get(name, "") for name in known}
    made = {
        "ovectors_documents": documents,
        "ovectors_labels": labels,
        siblings.SETTING: siblings.by_chapter(pages),
    }
    return {
        **config,
        "parse": {**parse, "myst_substitutions": fragments.substitutions()},
        "sphinx": {**sphinx, "config": {**sphinx.get("config", {}), **made}},
    }


def _files(toc: Mapping[str, Any]) -> Iterable[str]:
    """Every `file:` entry of the parts of a table of contents."""
    for part in toc.get("parts", []):
        for entry in part.get("chapters", []):
            yield entry["file"]


def _write_yaml(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(yaml.safe_dump(dict(content), sort_keys=False, allow_unicode=True), "utf-8")
