"""The buttons at the top of a chapter's page lead to its notebook in `chapters/`.

The theme takes a page's source for its notebook. That is an executed copy with the book's own
additions, which is nothing to fork, and lies in no repository.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sphinx.application import Sphinx


def lead_to_chapters(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any
) -> None:
    """Point the theme's buttons of a chapter's page to the notebook that people read and fork.

    `ovectors_notebooks` names it for each page, as its path in the repository and in the book.
    """
    notebook = app.config.ovectors_notebooks.get(page)
    for group in context.get("header_buttons", []):
        if group.get("label") == "launch-buttons":
            for button in group["buttons"]:
                button["url"] = _elsewhere(button["url"], page, notebook)
        if group.get("label") == "download-buttons":
            kept = [one for one in group["buttons"] if one["label"] == "download-pdf-button"]
            group["buttons"] = [*_downloads(page, notebook, context["pathto"]), *kept]


def _elsewhere(url: str, page: str, notebook: str | None) -> str:
    return url.replace(f"/{page}.ipynb", f"/{notebook}") if notebook else url


def _downloads(page: str, notebook: str | None, pathto: Any) -> list[dict[str, str]]:
    """The notebook without and with its outputs; nothing for a page that is none."""
    if not notebook:
        return []
    offered = [
        (notebook, "Notebook (.ipynb)", "The notebook to run, read and change", "source"),
        (f"{page}.ipynb", "With results (.ipynb)", "The notebook as run for this page", "executed"),
    ]
    return [
        {
            "type": "link",
            "url": pathto(path, 1),
            "text": text,
            "tooltip": tooltip,
            "icon": "fas fa-file",
            "label": f"download-{kind}-button",
        }
        for path, text, tooltip, kind in offered
    ]
