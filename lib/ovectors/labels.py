"""Labels of a chapter's figures, tables and equations, made distinct for each model it ran on.

The same chapter on two models defines the same labels, which Sphinx takes for an error. So the
pages of every model but the reference one get labels of their own, and their own references follow:
a sentence that names a figure means the figure of its own page.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import nbformat

_DEFINITIONS = (
    re.compile(r"^(\()([^()\s]+)(\)=\s*)$", re.MULTILINE),  # (label)=
    re.compile(r"^(.*\$\$\s*\()([^()\s]+)(\)\s*)$", re.MULTILINE),  # $$ (label)
    re.compile(r"^(\s*:(?:name|label):\s*)(\S+)(\s*)$", re.MULTILINE),  # :name: label
    re.compile(r"(\{#)([\w:.-]+)([^{}]*\})"),  # {#label}
    re.compile(r"(\\label\{)([^{}]+)(\})"),  # \label{label}
)
_REFERENCES = (
    re.compile(r"(\{(?:ref|numref|eq|any|math:numref)\}`(?:[^`<>]*<)?)([^`<>]+)(>?`)"),
    re.compile(r"(\]\(#?)([^()\s]+)(\))"),  # [text](label), [text](#label)
    re.compile(r"(<(?:project:)?#)([^<>\s]+)(>)"),  # <#label>
)


def own_labels(notebook: nbformat.NotebookNode) -> set[str]:
    """Every label that a notebook's page would define."""
    found = {node["name"] for node in _named(notebook)}
    for text, _ in _texts(notebook):
        for pattern in _DEFINITIONS:
            found.update(match[2] for match in pattern.finditer(text))
    return found


def rename_labels(notebook: nbformat.NotebookNode, suffix: str) -> None:
    """Add `suffix` to every label that the notebook defines, and to its references to them."""
    own = own_labels(notebook)

    def renamed(match: re.Match[str]) -> str:
        """A label or a mention of one; those of other pages stay."""
        label = match[2] + suffix if match[2] in own else match[2]
        return f"{match[1]}{label}{match[3]}"

    for text, put in _texts(notebook):
        for pattern in (*_DEFINITIONS, *_REFERENCES):
            text = pattern.sub(renamed, text)
        put(text)
    for node in _named(notebook):
        node["name"] += suffix


def _texts(notebook: nbformat.NotebookNode) -> Iterator[tuple[str, Any]]:
    """Every piece of MyST Markdown in a notebook, with the function that replaces it.

    Cells, captions of figures in the metadata, and Markdown that code cells printed.
    """

    def setter(holder: Any, key: str) -> Any:
        """Puts a text where it was found."""
        return lambda text: holder.__setitem__(key, text)

    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            yield cell.source, setter(cell, "source")
        figure = cell.metadata.get("mystnb", {}).get("figure", {})
        if "caption" in figure:
            yield figure["caption"], setter(figure, "caption")
        for output in cell.get("outputs", []):
            if "text/markdown" in output.get("data", {}):
                yield output.data["text/markdown"], setter(output.data, "text/markdown")


def _named(notebook: nbformat.NotebookNode) -> Iterator[Any]:
    """Every figure and image that a code cell's metadata gives a name."""
    for cell in notebook.cells:
        for kind in ("figure", "image"):
            node = cell.metadata.get("mystnb", {}).get(kind, {})
            if "name" in node:
                yield node
