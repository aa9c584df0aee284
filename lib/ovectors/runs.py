"""The folder of executed chapters, `book/runs/`: what lies where, and whether it can be trusted.

    <model>/<chapter>.ipynb          the executed notebook
    <model>/<chapter>/               what it saved, with its manifest
    <model>/<chapter>.json           the sidecar: key and hash of everything, written last
    <model>/failed/<chapter>.ipynb   the last failed run, with its error at the top
    <model>/.store/                  the tables that the model's chapters share (`store`)

Chapters that compare models lie in `all/`, where the others have their model.

A run counts when its sidecar is there and every hash in it is right, whatever was killed when.
"""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import nbformat
import psutil
from pydantic import BaseModel, ConfigDict, ValidationError

from ovectors import keys, paths, results
from ovectors.catalogue import ModelSpec, is_here, model_spec
from ovectors.errors import UserError
from ovectors.notebooks import Chapter
from ovectors.results import BrokenResult
from ovectors.uses import TableUse

FAILURE, REFUSAL = "ovectors_failure", "ovectors_refusal"
ALL = "all"
"""The folder of chapters that are run once for all models, in place of a model's."""
# A page may be shown when what it was made from is unchanged; on which machine, with which versions
# and parameters it ran is part of what it says.
_SOURCE_PARTS = {"chapter", "library", "data", "results"}


class Made(BaseModel):
    """How a run was made, and the hash of every file that it saved."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    chapter: str
    model: str
    asked: str
    key: str
    parts: dict[str, Any]
    parameters: dict[str, Any]
    files: dict[str, str]
    started: str
    seconds: float
    peak_memory_bytes: int
    environment: dict[str, Any]


class Sidecar(Made):
    """What the batch knows of a whole run: the notebook's hash, the tables that it asked for, and
    how often it loaded weights."""

    schema_version: Literal[1] = 1
    notebook: str
    tables: list[TableUse] = []
    weights_loaded: int = 0


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where the run of one chapter on one model lies; `model` is a folder's name."""

    model: str
    chapter: str

    @property
    def folder(self) -> Path:
        """The model's folder."""
        return paths.RUNS / self.model

    @property
    def notebook(self) -> Path:
        """The executed notebook."""
        return self.folder / f"{self.chapter}.ipynb"

    @property
    def results(self) -> Path:
        """The folder of what the chapter saved."""
        return self.folder / self.chapter

    @property
    def saved(self) -> Path:
        """The folder from which `Made.files` are named."""
        return self.results

    @property
    def sidecar(self) -> Path:
        """The file whose presence makes a run count."""
        return self.folder / f"{self.chapter}.json"

    @property
    def store(self) -> Path:
        """The folder of the tables that the model's chapters share."""
        return self.folder / ".store"

    @property
    def lock(self) -> Path:
        """The file that is locked while the chapter runs."""
        return self.folder / f".{self.chapter}@lock"

    @property
    def failed(self) -> Path:
        """The notebook of the last run, if that one failed."""
        return self.folder / "failed" / f"{self.chapter}.ipynb"


@dataclass(frozen=True, kw_only=True)
class State:
    """How a run stands.

    Attributes:
        kind: "current"; "stale": whole, but made from something else than would be used now;
            "broken": not what its sidecar says; "missing".
        reason: one line on why it is not current.
        changed: the parts of the key that have changed since.
        failure: the error of the last run, where that one failed.
        refused: whether that error was a UserError: the chapter refused what it was given.
        sidecar: what is known of the run, where it is whole.
        shown: whether its page may be shown: whole, and its sources are unchanged.
    """

    kind: Literal["current", "stale", "broken", "missing"]
    reason: str = ""
    changed: tuple[str, ...] = ()
    failure: str = ""
    refused: bool = False
    sidecar: Sidecar | None = None
    shown: bool = False


def place_of(chapter: Chapter, spec: ModelSpec) -> Place:
    """Where a chapter's run on a model goes."""
    return Place(model=folder_of(spec), chapter=chapter.name)


def folder_of(spec: ModelSpec) -> str:
    """The name of the folder of a model's runs.

    A folder that is in no catalogue keeps its name and gets six letters of its path's hash, or of
    the hash of the GGUF file that it was converted from: it must not share results with another
    folder of that name, or stand in for a catalogue model.
    """
    name = results.folder_name(spec.name)
    if spec.folder is not None and spec.group == "other":
        path = keys.text_hash(str(spec.folder.resolve()))
        name += "-" + (spec.gguf.sha256 if spec.gguf else path)[:6]
    return name


def read_sidecar(place: Place) -> Sidecar:
    """The sidecar of a whole run, after checking every file; BrokenResult says what is wrong."""
    try:
        sidecar = Sidecar.model_validate_json(place.sidecar.read_bytes())
    except FileNotFoundError:
        raise BrokenResult("it has no sidecar: it was never finished") from None
    except ValidationError:
        raise BrokenResult("its sidecar is broken") from None
    if not place.notebook.is_file() or results.sha256_of(place.notebook) != sidecar.notebook:
        raise BrokenResult("its notebook is missing or was changed")
    if hashes_below(place.results) != sidecar.files:
        raise BrokenResult("its saved files are not the ones that were published")
    results.read_manifest(place.results)
    return sidecar


def recorded_sidecar(place: Place) -> Sidecar | None:
    """The sidecar of a run as it stands there, files unchecked; None where it cannot be read."""
    try:
        return Sidecar.model_validate_json(place.sidecar.read_bytes())
    except (OSError, ValidationError):
        return None


def hashes_below(folder: Path) -> dict[str, str]:
    """The SHA-256 of every file below a folder, by its path inside."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): results.sha256_of(path) for path in files}


def state_of(place: Place, parts: Mapping[str, Any]) -> State:
    """How a run stands against the parts of the key that a run now would have."""
    last = {"failure": failure_of(place.failed), "refused": was_refused(place.failed)}
    try:
        sidecar = read_sidecar(place)
    except BrokenResult as error:
        if not any(p.exists() for p in (place.sidecar, place.notebook, place.results)):
            return State(kind="missing", reason="never run", **last)
        return State(kind="broken", reason=str(error), **last)
    return state_of_whole(sidecar, parts, sidecar=sidecar, **last)


def state_of_whole(made: Made, parts: Mapping[str, Any], **known: Any) -> State:
    """How a whole run stands, by the parts of its key and those that a run now would have."""
    changed = keys.changed_parts(made.parts, parts)
    return State(
        kind="stale" if changed else "current",
        reason=f"changed since: {', '.join(changed)}" if changed else "",
        changed=tuple(changed),
        shown=not _SOURCE_PARTS.intersection(changed),
        **known,
    )


def recorded_state(place: Place, chapter: Chapter) -> State:
    """How a run stands against running it again with the parameters it was run with."""
    sidecar = recorded_sidecar(place)
    return state_of(place, parts_now(chapter, sidecar) if sidecar else {})


def parts_now(chapter: Chapter, made: Made) -> dict[str, Any]:
    """The parts of the key that a run would have if it were made again now.

    Where its model is not on this machine (any more), the recorded one is taken for it.
    """
    try:
        spec, identity = model_spec(made.asked), None
    except UserError:
        spec, identity = ModelSpec(name=made.model), made.parts["model"]
    if identity is None and not is_here(spec):
        identity = made.parts["model"]
    return keys.key_parts(chapter, made.parameters, spec, identity=identity)


def models_with_runs() -> list[str]:
    """The names of the models' folders below `book/runs/`, sorted."""
    if not paths.RUNS.is_dir():
        return []
    names = (path.name for path in paths.RUNS.iterdir() if path.is_dir())
    return sorted(name for name in names if not name.startswith(".") and name != ALL)


def workspace(place: Place) -> Path:
    """A new folder beside the run to work in, after removing what killed runs left of theirs.

    The name tells machine and process, so that a run that is still going is left alone.
    UserError where nothing can be written.
    """
    host = socket.gethostname()
    try:
        place.folder.mkdir(parents=True, exist_ok=True)
        for old in place.folder.glob(f".{place.chapter}@{host}@*"):
            if not psutil.pid_exists(int(old.name.rpartition("@")[2])):
                shutil.rmtree(old, ignore_errors=True)
        folder = place.folder / f".{place.chapter}@{host}@{os.getpid()}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
    except OSError as error:
        raise UserError(f"cannot write to {place.folder}: {error.strerror}") from None
    return folder


def publish(place: Place, work: Path, sidecar: Sidecar) -> None:
    """Put a verified run (`notebook.ipynb` and `results/` of a workspace) in its place.

    The old sidecar goes first and the new one comes last: at no moment does one vouch for files
    that are not its own.
    """
    place.sidecar.unlink(missing_ok=True)
    if place.results.exists():
        os.replace(place.results, work / "old")
    os.replace(work / "results", place.results)
    os.replace(work / "notebook.ipynb", place.notebook)
    results.write_json(place.sidecar, sidecar.model_dump())
    place.failed.unlink(missing_ok=True)


def keep_failed(
    place: Place, notebook: nbformat.NotebookNode, reason: str, *, refused: bool
) -> None:
    """Keep a failed run's notebook, its error at the top; an earlier whole run stays as it is."""
    text = f"# This run failed\n\n`{reason}`\n\nNothing of it counts as a result."
    cell = nbformat.v4.new_markdown_cell(text, metadata={"tags": ["ovectors-failure"]})
    notebook.cells.insert(0, cell)
    notebook.metadata[FAILURE], notebook.metadata[REFUSAL] = reason, refused
    place.failed.parent.mkdir(parents=True, exist_ok=True)
    with results.atomic_path(place.failed) as temporary:
        nbformat.write(notebook, temporary)


def failure_of(notebook: Path) -> str:
    """The one-line error that a kept failed notebook carries; empty where there is none."""
    try:
        return str(nbformat.read(notebook, as_version=4).metadata.get(FAILURE, "it failed"))
    except FileNotFoundError:
        return ""
    except Exception:  # whatever is wrong with the file, the run it kept has failed
        return "it failed"


def was_refused(notebook: Path) -> bool:
    """Whether a kept failed notebook failed by a UserError."""
    try:
        return bool(nbformat.read(notebook, as_version=4).metadata.get(REFUSAL, False))
    except Exception:  # not there, or no notebook any more
        return False
