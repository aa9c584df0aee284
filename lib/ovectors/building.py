"""Building the book with Jupyter Book: all of it or not at all, and only when something changed."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

from ovectors import paths
from ovectors.errors import UserError
from ovectors.pages import assemble, collect_pages, read_yaml

STAMP = ".made-from"
_TOOLS = ("jupyter-book", "sphinx", "myst-nb", "sphinx-book-theme")
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_TROUBLE = re.compile(r"\b(WARNING|ERROR|CRITICAL|\w+Error|\w+Exception)\b")


class BookFailed(Exception):
    """Sphinx warned or failed; the message holds its lines and where the whole log is."""


def build_book(*, report: Callable[[str], None] = print, verbose: bool = False) -> Path:
    """Assemble and build the book; returns the page to open, `_build/html/index.html`.

    The build starts from nothing every time, so that no page of an earlier book survives, and it
    replaces the earlier book only when it ended without a warning. When nothing it is made from has
    changed, it is not built again. Raises BookFailed with Sphinx's own lines, and UserError when
    there is nothing to show.
    """
    toc = read_yaml("_toc.yml")
    pages = collect_pages(toc, report)
    source, work, html = (paths.BUILD / name for name in ("source", "work", "html"))
    try:
        assemble(source, pages, toc)
        made_from = _digest(source)
        if _is_made_from(html, made_from, [page.document for page in pages]):
            report("Nothing has changed: the book is as it was built")
            return html / "index.html"
        models = ", ".join(dict.fromkeys(page.model for page in pages))
        report(f"Building the book from {len(pages)} run{'s' * (len(pages) > 1)}, on {models}")
        shutil.rmtree(work, ignore_errors=True)
        _sphinx(source, work, paths.BUILD / "book.log", verbose=verbose)
        new = work / "_build" / "html"
        (new / STAMP).write_text(made_from)
        if html.exists():
            os.replace(html, work / "old")
        os.replace(new, html)
        shutil.rmtree(work, ignore_errors=True)
    except OSError as error:
        raise UserError(f"cannot write {error.filename}: {error.strerror}") from None
    return html / "index.html"


def _is_made_from(html: Path, made_from: str, documents: list[str]) -> bool:
    """Whether the built book is there, with every page, and was made from this very source."""
    stamp = html / STAMP
    pages = [html / f"{document}.html" for document in ("index", *documents)]
    return stamp.is_file() and stamp.read_text() == made_from and all(p.is_file() for p in pages)


def _digest(source: Path) -> str:
    """SHA-256 over the assembled source and the versions of the tools that build it."""
    digest = hashlib.sha256()
    for tool in _TOOLS:
        digest.update(f"{tool}=={metadata.version(tool)}\0".encode())
    extensions = [*sorted(paths.PACKAGE.glob("sphinx_*.py")), paths.PACKAGE / "siblings.py"]
    for path in (*extensions, *sorted(p for p in source.rglob("*") if p.is_file())):
        content = path.read_bytes()
        name = path.name if path in extensions else path.relative_to(source).as_posix()
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def _sphinx(source: Path, work: Path, log: Path, *, verbose: bool) -> None:
    """Run Jupyter Book on the source, every warning an error; BookFailed with what it said."""
    command = [
        *(sys.executable, "-c", "from jupyter_book.cli.main import main; main()"),
        *("build", str(source), "--path-output", str(work)),
        *("--config", str(source / "_config.yml"), "--toc", str(source / "_toc.yml")),
        *("-W", "-n", "--keep-going"),
    ]
    work.mkdir(parents=True)
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    )
    lines = []
    try:
        for line in process.stdout or ():
            lines.append(_COLOURS.sub("", line))
            if verbose:
                print(line, end="", flush=True)
        code = process.wait()
    except BaseException:  # Ctrl-C
        process.kill()
        process.wait()
        raise
    log.write_text("".join(lines), "utf-8")
    if code != 0:
        trouble = [line.strip() for line in lines if _TROUBLE.search(line)] or lines[-20:]
        said = "\n".join(f"  {line}" for line in dict.fromkeys(trouble))
        raise BookFailed(f"the book was not built; {log} has it all\n{said}")
