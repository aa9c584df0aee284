"""What the book's pages need of Sphinx beyond settings: nothing in them may lead off the page.

`_config.yml` names this module among the book's extensions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sphinx.application import Sphinx


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.connect("html-page-context", drop_thebe, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def drop_thebe(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any
) -> None:
    """Take Thebe off every page: Jupyter Book always adds it, from a CDN and twice over.

    Declared twice it is an error in the browser's console, and nothing here uses it.
    """
    for files in ("script_files", "css_files"):
        context[files] = [file for file in context.get(files, []) if not _is_thebe(file)]


def _is_thebe(file: Any) -> bool:
    body = getattr(file, "attributes", {}).get("body") or ""
    return "sphinx-thebe" in str(getattr(file, "filename", file)) or "THEBE_JS_URL" in body
