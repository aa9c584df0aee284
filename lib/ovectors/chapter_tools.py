"""Each chapter's page: its notebook to download, and ways to run it elsewhere.

What a reader downloads or opens is the notebook of `chapters/`, whose address follows from the
repository that `_config.yml` names; the notebook as it was executed for the page lies beside it.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nbformat

from ovectors import made, paths
from ovectors.results import read_manifest

if TYPE_CHECKING:
    from ovectors.pages import Page

SOURCES = "chapters"
"""The folder of the notebooks that people fork: in the repository, and in the built book."""
_COLAB_NEEDS = "github.com"
_TITLE = re.compile(r"^# .+", re.MULTILINE)


def add(notebook: nbformat.NotebookNode, page: Page, config: Mapping[str, Any], root: Path) -> None:
    """Say below a page's title how to run the chapter, and copy its two notebooks below `root`.

    `root` is the folder whose content is copied to the root of the built book.
    """
    name = f"{page.place.chapter}.ipynb"
    executed = root / f"{page.document}.ipynb"
    for source, target in (
        (page.place.notebook, executed),
        (paths.CHAPTERS / name, root / SOURCES / name),
    ):
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    first = next((cell for cell in notebook.cells if cell.cell_type == "markdown"), None)
    if first is not None:
        told = how_to_run(made.command(read_manifest(page.place.results)), config)
        first.source = _TITLE.sub(lambda title: f"{title[0]}\n\n{told}\n", first.source, count=1)


def how_to_run(command: str, config: Mapping[str, Any]) -> str:
    """MyST, folded: the command for a clone, and the first cell that Colab needs."""
    repository = config.get("repository", {})
    url, branch = repository.get("url", ""), repository.get("branch", "main")
    lines = [
        ":::{dropdown} Run this chapter yourself\n:class-container: run-chapter",
        "The arrow at the top of the page downloads the notebook; the rocket opens it on Binder, "
        "which sets everything up by itself. In a clone of the repository this makes the page's "
        "results again:",
        f"```{{code-block}} sh\n{command}\n```",
    ]
    if _COLAB_NEEDS in url:
        clone = f"!git clone --quiet --depth 1 --branch {branch} {url} study"
        cell = f"{clone}\n%pip install --quiet ./study\n%cd study"
        lines += [
            "On Colab, which the rocket opens too, put this into a new first cell:",
            f"```{{code-block}} ipython\n{cell}\n```",
        ]
    return "\n\n".join([*lines, ":::"])


def settings(config: Mapping[str, Any], pages: Sequence[Page]) -> dict[str, Any]:
    """`config` with what the buttons at the top of a page need; Colab opens GitHub alone."""
    launch = dict(config.get("launch_buttons", {}))
    if _COLAB_NEEDS not in config.get("repository", {}).get("url", ""):
        launch.pop("colab_url", None)
    sphinx = dict(config.get("sphinx", {}))
    notebooks = {page.document: f"{SOURCES}/{page.place.chapter}.ipynb" for page in pages}
    sphinx["config"] = {**sphinx.get("config", {}), "ovectors_notebooks": notebooks}
    return {**config, "launch_buttons": launch, "sphinx": sphinx}
