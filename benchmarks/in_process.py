"""A chapter's cells run in this process, where they can be watched."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.pyplot

from ovectors import notebooks
from ovectors.execution import told_where


def run_chapter(chapter: notebooks.Chapter, given: Mapping[str, Any], folder: Path) -> Path:
    """Run a chapter with these parameters; gives the folder of what it saved, below `folder`.

    Chapters that are run in the same folder share their tables. What they print is left out.
    """
    output = folder / chapter.name
    values = notebooks.check_parameters(chapter, given)
    parameters, *cells = notebooks.code_of(chapter.path)
    names: dict[str, Any] = {}
    with _environment(told_where(output=output, tables=folder / "store")):
        exec(compile(parameters, chapter.name, "exec"), names)
        names |= values
        for source in cells:
            exec(compile(source, chapter.name, "exec"), names)
    return output


@contextlib.contextmanager
def _environment(named: Mapping[str, str]) -> Iterator[None]:
    """These variables and no window for figures, while the block runs."""
    before, backend = dict(os.environ), matplotlib.get_backend()
    os.environ.update(named)
    matplotlib.use("Agg")
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        os.environ.clear()
        os.environ.update(before)
        matplotlib.pyplot.close("all")
        matplotlib.use(backend)
