"""Equations as MathML, made when the book is built: browsers draw them without any script.

A page then weighs two megabytes less than with MathJax, prints well, and reads aloud. Docutils
turns TeX into MathML; a command that it does not know is a warning, which fails the build.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.util import logging
from sphinx.util.math import get_node_equation_number

if TYPE_CHECKING:
    from sphinx.application import Sphinx
    from sphinx.writers.html import HTML5Translator

RENDERER = "mathml"
_LOG = logging.getLogger(__name__)
_UNKNOWN_TO_DOCUTILS = {r"\dots": r"\ldots"}


def register(app: Sphinx) -> None:
    """Add the renderer; the setting `html_math_renderer: mathml` chooses it."""
    app.add_html_math_renderer(RENDERER, (visit_inline, None), (visit_block, None))


def as_mathml(tex: str, *, block: bool) -> str:
    """TeX as a `<math>` element; MathError where Docutils cannot read it."""
    for unknown, known in _UNKNOWN_TO_DOCUTILS.items():
        tex = tex.replace(unknown, known)
    if r"\\" in tex and r"\begin" not in tex:
        tex = rf"\begin{{aligned}}{tex}\end{{aligned}}"
    return tex2mathml(tex, as_block=block)


def visit_inline(self: HTML5Translator, node: nodes.math) -> None:
    """A formula in a line."""
    self.body.append(self.starttag(node, "span", "", CLASS="math notranslate nohighlight"))
    self.body.append(f"{_converted(node, block=False)}</span>")
    raise nodes.SkipNode


def visit_block(self: HTML5Translator, node: nodes.math_block) -> None:
    """An equation of its own, with its number and a link to it where it has a label."""
    # To be scrolled by keyboard, what may be too wide has to take the focus.
    attributes: dict[str, Any] = {"tabindex": "0", "role": "group", "aria-label": "Equation"}
    self.body.append(self.starttag(node, "div", CLASS="math notranslate nohighlight", **attributes))
    if node["number"]:
        self.body.append(f'<span class="eqno">({get_node_equation_number(self, node)})')
        self.add_permalink_ref(node, "Link to this equation")
        self.body.append("</span>")
    self.body.append(f"{_converted(node, block=True)}</div>\n")
    raise nodes.SkipNode


def _converted(node: nodes.Element, *, block: bool) -> str:
    try:
        return as_mathml(node.astext(), block=block)
    except MathError as error:
        _LOG.warning("cannot draw the equation %r: %s", node.astext(), error, location=node)
        return f"<code>{node.astext()}</code>"
