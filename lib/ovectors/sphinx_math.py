"""Equations as MathML, made when the book is built: browsers draw them without any script.

A page then weighs two megabytes less than with MathJax, prints well, and reads aloud. A command
that the converter does not know is a warning, which fails the build.
"""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.util import logging
from sphinx.util.math import get_node_equation_number

if TYPE_CHECKING:
    from sphinx.application import Sphinx
    from sphinx.writers.html import HTML5Translator

RENDERER = "mathml"
_LOG = logging.getLogger(__name__)
_COMMAND = re.compile(r"\\[A-Za-z]+")
"""In the result: the converter leaves what it does not understand as it is."""


def register(app: Sphinx) -> None:
    """Add the renderer; the setting `html_math_renderer: mathml` chooses it."""
    app.add_html_math_renderer(RENDERER, (visit_inline, None), (visit_block, None))


class UnknownCommand(ValueError):
    """TeX that cannot be turned into MathML; the message says why."""


def as_mathml(tex: str, *, block: bool) -> str:
    """TeX as a `<math>` element; UnknownCommand where it holds something that is not understood.

    Lines of a block that end in a double backslash are aligned, as Sphinx lets one write them.
    """
    if r"\\" in tex and r"\begin" not in tex:
        tex = rf"\begin{{split}}{tex}\end{{split}}"
    try:
        made = convert(tex.strip(), display="block" if block else "inline")
    except Exception as error:  # it raises kinds of its own, and IndexError
        raise UnknownCommand(f"{type(error).__name__} {error}".strip()) from error
    if unknown := _COMMAND.search(made):
        raise UnknownCommand(f"unknown command {unknown[0]}")
    return made


def visit_inline(self: HTML5Translator, node: nodes.math) -> None:
    """A formula in a line."""
    self.body.append(self.starttag(node, "span", "", CLASS="math notranslate nohighlight"))
    self.body.append(f"{_converted(node, block=False)}</span>")
    raise nodes.SkipNode


def visit_block(self: HTML5Translator, node: nodes.math_block) -> None:
    """An equation of its own, with its number and a link to it where it has a label."""
    self.body.append(self.starttag(node, "div", CLASS="math notranslate nohighlight"))
    if node["number"]:
        self.body.append(f'<span class="eqno">({get_node_equation_number(self, node)})')
        self.add_permalink_ref(node, "Link to this equation")
        self.body.append("</span>")
    self.body.append(f"{_converted(node, block=True)}</div>\n")
    raise nodes.SkipNode


def _converted(node: nodes.Element, *, block: bool) -> str:
    try:
        return as_mathml(node.astext(), block=block)
    except UnknownCommand as error:
        _LOG.warning("cannot draw the equation %r: %s", node.astext(), error, location=node)
        return f"<code>{html.escape(node.astext())}</code>"
