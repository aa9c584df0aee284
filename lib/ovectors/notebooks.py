"""The chapters as notebooks: finding them, and what their `parameters` cells allow."""

from __future__ import annotations

import ast
import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat

from ovectors import paths
from ovectors.errors import UserError

PARAMETERS_TAG = "parameters"
METADATA, ALL_MODELS = "ovectors", "all models"
_FILE_NAME = re.compile(r"(\d\d)_(\w+)")
# What running or opening a notebook leaves in a cell's metadata; captions and tags are source.
_VOLATILE_METADATA = {"papermill", "execution", "collapsed", "scrolled", "ExecuteTime", "trusted"}


@dataclass(frozen=True, kw_only=True)
class Chapter:
    """One notebook of `chapters/`: its number, its name (`01_stages_of_processing`), its path."""

    number: int
    name: str
    path: Path

    @property
    def across(self) -> bool:
        """Whether it is run once for all models, from what the other chapters left.

        Its notebook says so, in its metadata: `"ovectors": {"scope": "all models"}`.
        """
        told = read_notebook(self.path).metadata.get(METADATA, {})
        return told.get("scope") == ALL_MODELS

    @property
    def own_files(self) -> tuple[Path, ...]:
        """What it brings along (`studies`): the files of a folder of its name beside it."""
        found = self.path.with_suffix("").glob("[!.]*")
        return tuple(sorted(path for path in found if path.is_file()))


def find_chapters(folder: Path | None = None) -> tuple[Chapter, ...]:
    """Every `NN_name.ipynb` of the folder, by number; UserError where there is none."""
    folder = folder or paths.CHAPTERS
    found = []
    for path in sorted(folder.glob("*.ipynb")):
        if match := _FILE_NAME.fullmatch(path.stem):
            found.append(Chapter(number=int(match[1]), name=path.stem, path=path))
    if not found:
        raise UserError(
            f"no chapters in {folder}: run this inside a clone of the project, "
            "or set OVECTORS_ROOT to one"
        )
    return tuple(found)


def choose_chapters(
    wanted: Iterable[str], chapters: Sequence[Chapter] | None = None
) -> tuple[Chapter, ...]:
    """The chapters named by number (`1`, `01`), file name or name without the number; all for none.

    They come in the book's order, each once. Raises UserError for one that does not exist.
    """
    chapters = find_chapters() if chapters is None else chapters
    chosen = set()
    for name in wanted:
        stem = name.removesuffix(".ipynb")
        matches = [c for c in chapters if stem in (c.name, c.name[3:], str(c.number), c.name[:2])]
        if not matches:
            known = ", ".join(f"{c.number} ({c.name[3:]})" for c in chapters)
            raise UserError(f"there is no chapter {name!r}; there are: {known}")
        chosen.update(match.name for match in matches)
    return tuple(c for c in chapters if not chosen or c.name in chosen)


def read_notebook(path: Path) -> nbformat.NotebookNode:
    """The notebook at a path; UserError in one line when it cannot be read as one."""
    try:
        return nbformat.read(path, as_version=4)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    except Exception as error:  # nbformat raises many kinds for files that are no notebooks
        raise UserError(f"{path} is no notebook: {str(error).splitlines()[0]}") from None


def default_parameters(chapter: Chapter) -> dict[str, Any]:
    """The names and default values in a chapter's `parameters` cell.

    The cell holds plain assignments of literals, `n_items = 40`; anything else there, or a
    notebook with no such cell or several, raises UserError.
    """
    cells = [
        cell
        for cell in read_notebook(chapter.path).cells
        if cell.cell_type == "code" and PARAMETERS_TAG in cell.metadata.get("tags", [])
    ]
    if len(cells) != 1:
        raise UserError(
            f"{chapter.path.name} has {len(cells)} cells tagged {PARAMETERS_TAG!r}; it needs one"
        )
    defaults = {}
    try:
        for statement in ast.parse(cells[0].source).body:
            target = statement.targets[0] if isinstance(statement, ast.Assign) else statement.target
            defaults[target.id] = ast.literal_eval(statement.value)
    except (SyntaxError, ValueError, AttributeError):
        raise UserError(
            f"the parameters cell of {chapter.path.name} holds something else than `name = value`"
        ) from None
    return defaults


def check_parameters(chapter: Chapter, given: Mapping[str, Any]) -> dict[str, Any]:
    """All parameters of a run: the chapter's defaults with the given values in their place.

    A value may be text from the command line, which is read as the type of the default. Papermill
    only warns of an unknown parameter and takes any type, so both are refused here, before
    anything starts, with a UserError that names the parameter.
    """
    defaults = default_parameters(chapter)
    for name in given:
        if name not in defaults:
            known = ", ".join(defaults)
            raise UserError(f"chapter {chapter.number} has no parameter {name!r}; it has: {known}")
    values = {**defaults}
    for name, value in given.items():
        values[name] = _as_type_of(defaults[name], value, chapter=chapter, name=name)
    if isinstance(values.get("n_items"), int) and values["n_items"] < 0:
        raise UserError("n_items must be 0 (all items) or more")
    return values


def _as_type_of(default: Any, value: Any, *, chapter: Chapter, name: str) -> Any:
    """`value` as the default's type: text is read as a literal, an int may stand for a float."""
    if isinstance(value, str) and not isinstance(default, str):
        value = _read(value)
    kind = type(default)
    if kind is float and type(value) is int:
        value = float(value)
    unusable = isinstance(value, float) and not math.isfinite(value)
    if unusable or (default is not None and type(value) is not kind):
        raise UserError(
            f"chapter {chapter.number}: {name} must be {_KIND.get(kind, kind.__name__)} "
            f"(like {default!r}), not {value!r}"
        )
    return value


_KIND = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}


def _read(text: str) -> Any:
    """Text from the command line as a JSON or Python literal; as it is when it is neither."""
    for reader in (json.loads, ast.literal_eval):
        try:
            return reader(text)
        except (ValueError, SyntaxError):
            continue
    return {"True": True, "False": False}.get(text.strip().capitalize(), text)


def source_hash(path: Path) -> str:
    """SHA-256 of what an author writes: every cell's kind, text, tags and captions; no outputs."""
    cells = [
        {
            "kind": cell.cell_type,
            "source": cell.source,
            "metadata": {k: v for k, v in cell.metadata.items() if k not in _VOLATILE_METADATA},
        }
        for cell in read_notebook(path).cells
    ]
    return hashlib.sha256(json.dumps(cells, sort_keys=True).encode()).hexdigest()


def code_of(path: Path) -> list[str]:
    """The Python source of every code cell, without IPython's own lines (`%magic`, `!shell`)."""
    cells = [cell.source for cell in read_notebook(path).cells if cell.cell_type == "code"]
    return [re.sub(r"(?m)^[ \t]*[%!].*$", "", source) for source in cells]
