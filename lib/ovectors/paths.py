"""Every folder of the project, named in one place."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs


def find_root() -> Path:
    """The folder that holds `pyproject.toml` and `chapters/`.

    In order: the environment variable OVECTORS_ROOT, the checkout this file belongs to, the current
    folder or one above it (so that a package installed from a wheel still finds the clone it is
    used in), and at last the current folder itself.
    """
    if named := os.environ.get("OVECTORS_ROOT"):
        return Path(named).resolve()
    here = Path.cwd()
    for folder in (*Path(__file__).resolve().parents, here, *here.parents):
        if (folder / "pyproject.toml").is_file() and (folder / "chapters").is_dir():
            return folder
    return here


ROOT = find_root()
PACKAGE = Path(__file__).resolve().parent
CHAPTERS = ROOT / "chapters"
BOOK = ROOT / "book"
RUNS = BOOK / "runs"
PUBLISHED = BOOK / "results"
MODELS = ROOT / "models"
BUILD = ROOT / "_build"
# What was fetched, outside the checkout: it is large, and other checkouts use it too.
CACHE = Path(os.environ.get("OVECTORS_CACHE") or platformdirs.user_cache_dir("ovectors")).resolve()
