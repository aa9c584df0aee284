"""What the book's pages need of Sphinx beyond settings.

Nothing in them may lead off the page; and hand-written pages point to chapters, which may not have
been run, by two roles: {chapter}`words <01_stages_of_processing>` and {fig}`fig-reciprocal-ranks`.

`_config.yml` names this module among the book's extensions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from docutils import nodes
from sphinx import addnodes
from sphinx.util.docutils import ReferenceRole, SphinxRole

from ovectors import (
    sphinx_buttons,
    sphinx_icons,
    sphinx_math,
    sphinx_search,
    sphinx_typography,
)

if TYPE_CHECKING:
    from sphinx.application import Sphinx

NOT_RUN = "not run here"


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx. `ovectors_documents`: the page of each chapter, "" where none is shown;
    `ovectors_labels`: the chapter that defines each label; `ovectors_notebooks`: the notebook in
    `chapters/` of each page that has one."""
    app.add_config_value("ovectors_documents", {}, "env")
    app.add_config_value("ovectors_labels", {}, "env")
    app.add_config_value("ovectors_notebooks", {}, "env")
    sphinx_math.register(app)
    sphinx_typography.register(app)
    app.add_role("chapter", ChapterRole())
    app.add_role("fig", FigureRole())
    app.connect("html-page-context", drop_thebe, priority=900)
    app.setup_extension("ovectors.siblings")
    app.connect("html-page-context", call_bibliography_no_list, priority=900)
    app.connect("html-page-context", sphinx_buttons.lead_to_chapters, priority=900)
    app.connect("build-finished", sphinx_icons.keep_used_icons)
    app.connect("build-finished", sphinx_search.name_words)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


class ChapterRole(ReferenceRole):
    """A chapter's page for the reference model; words that say so where it was not run."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        """What stands in the page in place of the role, and what Sphinx is to complain about."""
        documents = self.config.ovectors_documents
        if self.target not in documents:
            return _unknown(self, f"there is no chapter {self.target!r}")
        explicit = self.has_explicit_title
        words = self.title if explicit else self.target[3:].replace("_", " ")
        if not documents[self.target]:
            return [nodes.Text(f"{words} ({NOT_RUN})")], []
        return [_reference(self, "doc", f"/{documents[self.target]}", words, explicit=explicit)], []


class FigureRole(SphinxRole):
    """A figure of a chapter by its number; words that say so where the chapter was not run."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        """What stands in the page in place of the role, and what Sphinx is to complain about."""
        chapter = self.config.ovectors_labels.get(self.text)
        if chapter is None:
            return _unknown(self, f"no chapter has a figure {self.text!r}")
        if not self.config.ovectors_documents.get(chapter):
            return [nodes.Text(f"a figure of chapter {int(chapter[:2])} ({NOT_RUN})")], []
        return [_reference(self, "numref", self.text, self.text, explicit=False)], []


def _reference(
    role: SphinxRole, kind: str, target: str, words: str, *, explicit: bool
) -> addnodes.pending_xref:
    """A reference that Sphinx resolves like one of its own roles', with its warnings."""
    reference = addnodes.pending_xref(
        role.rawtext,
        refdomain="std",
        reftype=kind,
        reftarget=target,
        refexplicit=explicit,
        refwarn=True,
        refdoc=role.env.docname,
    )
    reference += nodes.inline(role.rawtext, words, classes=["std", f"std-{kind}"])
    role.set_source_info(reference)
    return reference


def _unknown(role: SphinxRole, said: str) -> tuple[list[nodes.Node], list[nodes.system_message]]:
    message = role.inliner.reporter.error(said, line=role.lineno)
    return [role.inliner.problematic(role.rawtext, role.rawtext, message)], [message]


def drop_thebe(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any
) -> None:
    """Take Thebe off every page: Jupyter Book always adds it, from a CDN and twice over.

    Declared twice it is an error in the browser's console, and nothing here uses it.
    """
    for files in ("script_files", "css_files"):
        context[files] = [file for file in context.get(files, []) if not _is_thebe(file)]


def call_bibliography_no_list(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any
) -> None:
    """Docutils marks a bibliography as a list, but not its entries as members of it."""
    marked, plain = '<div role="list" class="citation-list">', '<div class="citation-list">'
    context["body"] = context.get("body", "").replace(marked, plain)


def _is_thebe(file: Any) -> bool:
    body = getattr(file, "attributes", {}).get("body") or ""
    return "sphinx-thebe" in str(getattr(file, "filename", file)) or "THEBE_JS_URL" in body
