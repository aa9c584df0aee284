"""The notebook of a fork: the source's cells, under names of its own and judged by its own rules.

What is rewritten is what would clash or speak of the source: its name and number, labels, cell ids,
the lines that save claims, title and exercises. All else stays as it is, for its author to change.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

import nbformat

from ovectors import claims
from ovectors.errors import UserError
from ovectors.labels import rename_labels
from ovectors.notebooks import Chapter, find_chapters, read_notebook

if TYPE_CHECKING:
    from ovectors.forking.study import Study

EXERCISES_TAG = "exercises"
"""Cells that are the source's alone."""
RELATIONS_TAG = "relations"
"""The cell whose line `relations = ...` says what a chapter measures."""
_IMPORTS = re.compile(r"^(from ovectors import .*\bresults)$", re.MULTILINE)
_SAVES = re.compile(r"^( *)run\.save_claim\((\w+), cost=", re.MULTILINE)
_RELATIONS = re.compile(r"\A.*?^relations = .*?$", re.MULTILINE | re.DOTALL)
_HEAD = re.compile(r"\A# [^\n]*\n*(?::::\{note\}\nForked from .*?\n:::\n*)?", re.DOTALL)
_NOTE = """\
:::{{note}}
Forked from {{chapter}}`{words} <{source}>`. Code and text are that chapter's until they are \
rewritten.
:::"""


def notebook_of(study: Study) -> nbformat.NotebookNode:
    """The study's notebook; UserError where the source is written in a way that is not known."""
    notebook = read_notebook(study.source.path)
    notebook.cells = [cell for cell in notebook.cells if EXERCISES_TAG not in _tags(cell)]
    name = study.slug.replace("_", "-")
    rename_labels(notebook, f"-{name}")
    saved = 0
    for place, cell in enumerate(notebook.cells):
        cell["id"] = f"{name}-{place:02d}"
        cell.source = _own_names(cell.source, study)
        figure = cell.metadata.get("mystnb", {}).get("figure", {})
        if "caption" in figure:
            figure["caption"] = _own_names(figure["caption"], study)
        if cell.cell_type == "code":
            saved += len(_SAVES.findall(cell.source))
            cell.source = _own_code(cell.source, study.ids)
    if saved != len(study.ids):
        raise UserError(
            f"{study.source.path.name} cannot be forked: it has {len(study.ids)} rules, and "
            f"{saved} lines like `run.save_claim(verdict, cost=store.cost)`"
        )
    if study.pairs is not None:
        _put_pairs(notebook, study)
    words = study.source.name[3:].replace("_", " ")
    head = f"# {study.title}\n\n{_NOTE.format(words=words, source=study.source.name)}\n\n"
    notebook.cells[0].source = _HEAD.sub(lambda _: head, notebook.cells[0].source)
    return notebook


def _tags(cell: nbformat.NotebookNode) -> list[str]:
    return cell.metadata.get("tags", [])


def _own_names(text: str, study: Study) -> str:
    """The study's name and number where the source had its own."""
    text = text.replace(study.source.name, study.chapter)
    return re.sub(rf"--(chapter|from) {study.source.number}\b", rf"--\1 {study.number}", text)


def _own_code(code: str, ids: Mapping[str, str]) -> str:
    """Code that hands each verdict on to the study's own rule; a study's code does so already."""
    if "studies.judge(" not in code:
        code = _SAVES.sub(r"\1\2 = studies.judge(\2, chapter=run.chapter)\n\g<0>", code)
    for old, new in ids.items():
        if old not in claims.RULES:
            code = code.replace(f'"{old}"', f'"{new}"')
    return _IMPORTS.sub(r"\1, studies", code)


def _put_pairs(notebook: nbformat.NotebookNode, study: Study) -> None:
    """Let the chapter measure the reader's pairs in place of its relations."""
    tagged = [cell for cell in notebook.cells if RELATIONS_TAG in _tags(cell)]
    if len(tagged) != 1 or not _RELATIONS.search(tagged[0].source):
        taking = " or ".join(str(one.number) for one in find_chapters() if _takes_pairs(one))
        raise UserError(
            f"chapter {study.source.number} does not take pairs: --pairs goes with --from {taking}"
        )
    path = f'studies.folder(run.chapter) / "{study.pairs.name}"'
    lines = (
        "from ovectors.relations import load_relation",
        "",
        f'relations = [load_relation("{study.pairs.stem}", path={path})]',
    )
    tagged[0].source = _RELATIONS.sub(lambda _: "\n".join(lines), tagged[0].source)


def _takes_pairs(chapter: Chapter) -> bool:
    return any(RELATIONS_TAG in _tags(cell) for cell in read_notebook(chapter.path).cells)
