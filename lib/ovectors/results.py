"""What a chapter leaves behind: tables, numbers, figures, and a manifest that proves them whole."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import re
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from ovectors import paths

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from ovectors.claims import Claim, Cost

MANIFEST = "manifest.json"
CLAIMS = "claims"
OUTPUT_VARIABLE = "OVECTORS_OUTPUT"
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
_RECORDED_PACKAGES = ("ovectors", "torch", "transformers", "tokenizers", "numpy", "pandas", "scipy")


class BrokenResult(Exception):
    """A result that is missing, half-written, or not what its manifest says."""


class SavedFile(BaseModel):
    """One file of a result: what it is, and the SHA-256 that shows it is unchanged.

    `rows` and `columns` are a table's; `data` names the tables that a figure was drawn from.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    file: str
    kind: Literal["table", "numbers", "figure", "claim"]
    about: str
    sha256: str
    bytes: int
    rows: int | None = None
    columns: list[str] | None = None
    data: list[str] | None = None


class Manifest(BaseModel):
    """The list of everything a chapter saved. It is written last: without it there is no result.

    It holds no time and no duration, so that the same work gives the same bytes; those are in the
    sidecar that the batch writes, and in a claim, whose cost is that of the tables it rests on.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal[1] = 1
    chapter: str
    model: str
    parameters: dict[str, Any]
    files: list[SavedFile]
    provenance: dict[str, Any]

    def file(self, name: str) -> SavedFile:
        """The (first) file saved under `name`; BrokenResult where there is none."""
        for saved in self.files:
            if saved.name == name:
                return saved
        known = ", ".join(dict.fromkeys(saved.name for saved in self.files))
        raise BrokenResult(f"no result is called {name!r}; there are: {known}")


class ChapterRun:
    """Where one chapter saves its results for one model.

    The folder is the one the batch names in OVECTORS_OUTPUT, otherwise
    `results/<model>/<chapter>/` below the current folder. A manifest of an earlier run in the same
    folder is removed at once, since it would vouch for files that are about to change.
    """

    def __init__(
        self,
        *,
        chapter: str,
        model: str,
        parameters: Mapping[str, Any],
        folder: Path | None = None,
    ) -> None:
        self.chapter, self.model = chapter, model
        self.parameters = plain(dict(parameters))
        self.folder = Path(folder or output_folder(chapter=chapter, model=model))
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / MANIFEST).unlink(missing_ok=True)
        self._files: list[SavedFile] = []

    def save(self, name: str, frame: pd.DataFrame, *, about: str) -> Path:
        """Write a tidy table as `<name>.parquet`; returns its path.

        Raises ValueError for a table without columns or with an index of its own: a tidy table
        keeps everything in named columns (`frame.reset_index()`). It may have no rows: that no item
        qualified is a result.
        """
        self._check_new(name)
        if not len(frame.columns):
            raise ValueError(f"the table {name!r} has no columns")
        if list(frame.index) != list(range(len(frame))):
            raise ValueError(f"the table {name!r} has an index of its own: reset_index() first")
        path = self.folder / f"{name}.parquet"
        with atomic_path(path) as temporary:
            frame.to_parquet(temporary, index=False)
        columns = [str(column) for column in frame.columns]
        self._add(name, path, kind="table", about=about, rows=len(frame), columns=columns)
        return path

    def save_json(self, name: str, numbers: Any, *, about: str = "") -> Path:
        """Write numbers that the prose quotes as `<name>.json`; NaN and infinity are refused."""
        self._check_new(name)
        path = self.folder / f"{name}.json"
        write_json(path, numbers)
        self._add(name, path, kind="numbers", about=about)
        return path

    def save_figure(
        self, name: str, figure: Figure, *, about: str = "", data: Sequence[str] = ()
    ) -> tuple[Path, Path]:
        """Write a figure as `<name>.svg` and `<name>.png`; returns both paths.

        `about` says in a few words what it shows, `data` names the saved tables that it was drawn
        from: the book offers them beside it. A figure without a panel says that there is nothing to
        draw. ValueError for a name that no saved table has. The
        same figure gives the same bytes: no date, no random ids, no program name inside.
        """
        import matplotlib as mpl

        self._check_new(name)
        tables = [saved.name for saved in self._files if saved.kind == "table"]
        if unknown := [one for one in data if one not in tables]:
            raise ValueError(f"the figure {name!r} is drawn from {unknown[0]!r}, not saved before")
        if not figure.axes:  # a page has to say so where no panel had anything to show
            figure.set_size_inches(6, 0.6)
            axis = figure.add_subplot()  # Jupyter shows no figure without one
            axis.axis("off")
            axis.text(0.5, 0.5, "Nothing to draw: too few items for it.", ha="center", va="center")
        vector, raster = self.folder / f"{name}.svg", self.folder / f"{name}.png"
        with mpl.rc_context({"svg.hashsalt": name}):
            for path, inside in ((vector, {"Date": None}), (raster, {"Software": None})):
                with atomic_path(path) as temporary:
                    kind = path.suffix.removeprefix(".")
                    figure.savefig(
                        temporary, format=kind, metadata=inside, bbox_inches="tight", dpi=160
                    )
                self._add(name, path, kind="figure", about=about, data=list(data))
        return vector, raster

    def save_claim(self, claim: Claim, *, cost: Cost) -> Path:
        """Write a verdict as `claims/<id>.json`, with what its tables cost; returns its path."""
        name = f"claim-{claim.id}"
        self._check_new(name)
        path = self.folder / CLAIMS / f"{claim.id}.json"
        path.parent.mkdir(exist_ok=True)
        write_json(path, claim.model_copy(update={"cost": cost}).model_dump())
        self._add(name, path, kind="claim", about=claim.question)
        return path

    def finish(self, *, provenance: Mapping[str, Any] | None = None) -> Manifest:
        """Write the manifest, read everything back and check it; the last line of a chapter.

        `provenance` tells which model it was, as `Store.provenance` does; it is kept as `model`.
        """
        if not self._files:
            raise ValueError(f"chapter {self.chapter} saved nothing: there is no result to finish")
        manifest = Manifest(
            chapter=self.chapter,
            model=self.model,
            parameters=self.parameters,
            files=self._files,
            provenance={**environment(), "model": plain(dict(provenance or {}))},
        )
        write_json(self.folder / MANIFEST, manifest.model_dump())
        return read_manifest(self.folder)

    def _check_new(self, name: str) -> None:
        if not _NAME.fullmatch(name):
            raise ValueError(f"a result's name is made of a-z, 0-9, - and _, not {name!r}")
        if any(saved.name == name for saved in self._files):
            raise ValueError(f"the chapter has already saved something called {name!r}")

    def _add(self, name: str, path: Path, *, kind: str, about: str, **more: Any) -> None:
        size, digest = path.stat().st_size, sha256_of(path)
        saved = SavedFile(
            name=name,
            file=path.relative_to(self.folder).as_posix(),
            kind=kind,
            about=about,
            sha256=digest,
            bytes=size,
            **more,
        )
        self._files.append(saved)


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a finished chapter, after checking every file it lists against its hash.

    Raises BrokenResult, in one line, when something is missing, changed or not a manifest.
    """
    path = Path(folder) / MANIFEST
    try:
        manifest = Manifest.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise BrokenResult("the chapter did not finish: it left no manifest") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BrokenResult(f"{MANIFEST} is broken: {where} {first['msg']}".strip()) from None
    for saved in manifest.files:
        file = path.parent / saved.file
        if not file.is_file():
            raise BrokenResult(f"{saved.file} is missing")
        if sha256_of(file) != saved.sha256:
            raise BrokenResult(f"{saved.file} is not what the chapter wrote")
    return manifest


def load_table(folder: Path, name: str) -> pd.DataFrame:
    """The table that a finished chapter saved under `name`."""
    import pandas as pd

    return pd.read_parquet(Path(folder) / read_manifest(folder).file(name).file)


def load_json(folder: Path, name: str) -> Any:
    """The numbers that a finished chapter saved under `name`."""
    return json.loads((Path(folder) / read_manifest(folder).file(name).file).read_text())


def output_folder(*, chapter: str, model: str) -> Path:
    """Where a chapter saves: the batch's folder, else `results/<model>/<chapter>/` right here."""
    if named := os.environ.get(OUTPUT_VARIABLE):
        return Path(named)
    return Path.cwd() / "results" / folder_name(model) / chapter


def folder_name(model: str) -> str:
    """A model's name as the name of a folder: `EleutherAI/gpt-j-6b` -> `EleutherAI--gpt-j-6b`."""
    safe = re.sub(r"[^A-Za-z0-9._-]+", "-", model.strip("/").replace("/", "--"))
    return safe.lstrip(".-") or "model"


def environment() -> dict[str, Any]:
    """What a result was made with and on: versions, machine, and the commit of this checkout."""
    machine = f"{platform.system()} {platform.machine()}"
    return {"versions": versions(), "machine": machine, **git_state()}


def versions() -> dict[str, str]:
    """The versions of Python and of every package here that can change a number."""
    return {"python": platform.python_version(), **_package_versions()}


@cache
def _package_versions() -> dict[str, str]:
    found = {}
    for package in _RECORDED_PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


def git_state() -> dict[str, Any]:
    """`{"commit": ..., "dirty": ...}` of the checkout, or None for both outside a git checkout."""

    def git(*arguments: str) -> str:
        """What a git command on this checkout says."""
        command = ["git", "-C", str(paths.ROOT), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.CalledProcessError):
        return {"commit": None, "dirty": None}


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place when the block ends without an error."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)  # mkstemp makes it private; results are there to be read
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def remove_unfinished(path: Path) -> None:
    """Remove what killed processes left of writing `path`; only for who alone may write it now."""
    for old in path.parent.glob(f".{path.stem}-*{path.suffix}"):
        old.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically; NumPy numbers become plain ones, NaN and infinity raise ValueError."""
    text = json.dumps(plain(value), indent=1, allow_nan=False, ensure_ascii=False)
    with atomic_path(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def plain(value: Any) -> Any:
    """The same value made of dicts, lists, strings, numbers and None only."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (set, frozenset)):
        return [plain(item) for item in sorted(value)]
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, (str, bool, int, float)) or value is None:
        return value
    if hasattr(value, "tolist"):  # NumPy scalars and arrays, and tensors
        return value.tolist()
    return str(value)


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, as hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
