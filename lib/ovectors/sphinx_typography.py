"""What makes numbers, names and tables read well on a page, set when the book is built.

Chapters print numbers as Python does: `-0.00 [-0.02, 0.01], n = 20`. On a page a minus is a minus
sign, zero has none, and an interval stays in one line where there is room. Short names in code do
not break, and the long cells of a table are wide enough to be read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from docutils import nodes

if TYPE_CHECKING:
    from sphinx.application import Sphinx

WHOLE, LONG = "ov-whole", "ov-long"  # classes that the style sheet knows
MOST_WHOLE = 24  # letters of code that stay in one line; no screen is narrower
LONG_CELL = 60  # letters from which on a cell asks for room
ROOMY_COLUMNS = 6  # tables of more columns may break their intervals

_MINUS = re.compile(r"(?<![^\s\[(])-(?=\d)")
_NO_ZERO = re.compile(r"−(0\.0+)(?!\d)")
_INTERVAL = re.compile(r"(\[−?[\d.]+,) (−?[\d.]+\])")
_COUNT = re.compile(r"\bn = (?=\d)")
_KEPT = (nodes.literal, nodes.literal_block, nodes.math, nodes.math_block, nodes.raw)


def register(app: Sphinx) -> None:
    """Set every page once its outputs and references are in place."""
    app.connect("doctree-resolved", lambda _app, doctree, _document: set_page(doctree))


def set_page(doctree: nodes.document) -> None:
    """Change a page's words, code and tables in place."""
    for text in [*doctree.findall(nodes.Text)]:
        if not any(isinstance(one, _KEPT) for one in _above(text)):
            shown = numbers(str(text), together=_has_room(text))
            if shown != str(text):
                text.parent.replace(text, nodes.Text(shown))
    for code in doctree.findall(nodes.literal):
        words = code.astext()
        if len(words) <= MOST_WHOLE and " " not in words:
            code["classes"].append(WHOLE)
    for cell in doctree.findall(nodes.entry):
        if len(cell.astext()) >= LONG_CELL:
            cell["classes"].append(LONG)


def numbers(text: str, *, together: bool = True) -> str:
    """Text with signs as they are printed; with `together` an interval and `n = 5` do not break."""
    shown = _NO_ZERO.sub(r"\1", _MINUS.sub("−", text))
    if not together:
        return shown
    return _COUNT.sub("n\u00a0=\u00a0", _INTERVAL.sub("\\1\u00a0\\2", shown))


def _above(node: nodes.Node) -> Iterator[nodes.Node]:
    while node.parent is not None:
        node = node.parent
        yield node


def _has_room(text: nodes.Text) -> bool:
    groups = (one for one in _above(text) if isinstance(one, nodes.tgroup))
    return all(group["cols"] <= ROOMY_COLUMNS for group in groups)
