"""The record: what is kept of runs, and committed for models that are not run here.

book/results/<model>/record.json          how the runs were made, and the hashes of the files
book/results/<model>/claims/<id>.json     their verdicts
book/results/<model>/<table>.parquet      the small tables that chapters across models read
book/results/<model>/pages/               the chapters' pages (`published`)
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from ovectors import paths, published, results, runs
from ovectors.catalogue import model_spec
from ovectors.errors import UserError
from ovectors.notebooks import find_chapters
from ovectors.results import BrokenResult, Manifest

TABLES = {"01_stages_of_processing": ("reciprocal-ranks", "stage-shares")}
"""What chapters across models read beside the claims, by the chapter that saves it."""

RECORD = "record.json"


class Kept(runs.Made):
    """What is kept of a run: how it was made, and the hashes of its claims and a few tables.

    A run by hand has no key and no parts.
    """

    provenance: dict[str, Any]


class Record(BaseModel):
    """The committed results of one model, as they are written to `record.json`.

    `pages` holds the hashes of the files of each chapter's page, by chapter and by path below the
    folder of pages.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal[1] = 1
    chapters: list[Kept]
    pages: dict[str, dict[str, str]] = {}


def kept_of(place: runs.Place, sidecar: runs.Sidecar) -> Kept:
    """What is kept of a whole run of the batch."""
    made = sidecar.model_dump(include=set(runs.Made.model_fields))
    provenance = results.read_manifest(place.results).provenance
    return Kept(**{**made, "files": _wanted(place.chapter, sidecar.files)}, provenance=provenance)


def kept_by_hand(manifest: Manifest) -> Kept:
    """What is kept of a run without the batch, of which only the manifest is known."""
    files = {saved.file: saved.sha256 for saved in manifest.files}
    loaded = manifest.provenance.get("model", {})
    return Kept(
        chapter=manifest.chapter,
        model=str(loaded.get("name", manifest.model)),
        asked=manifest.model,
        key="",
        parts={},
        parameters=manifest.parameters,
        files=_wanted(manifest.chapter, files),
        started="",
        seconds=0,
        peak_memory_bytes=0,
        environment={},
        provenance=manifest.provenance,
    )


def _wanted(chapter: str, files: Mapping[str, str]) -> dict[str, str]:
    """Claims, and the tables of those chapters alone that `TABLES` names: others, a fork of one of
    them too, may save something else under the same name."""
    tables = {f"{name}.parquet" for name in TABLES.get(chapter, ())}
    chosen = (n for n in files if n in tables or n.startswith(f"{results.CLAIMS}/"))
    return {name: files[name] for name in sorted(chosen)}


def models_with_record() -> list[str]:
    """The names of the models' folders below `book/results/`, sorted."""
    return sorted(path.parent.name for path in paths.PUBLISHED.glob(f"*/{RECORD}"))


def read_record(folder: Path) -> Record:
    """The record of a model's committed results; an empty one where there is none."""
    try:
        return Record.model_validate_json((folder / RECORD).read_bytes())
    except FileNotFoundError:
        return Record(chapters=[])
    except ValidationError:
        raise BrokenResult(f"{RECORD} is broken") from None


def committed(place: runs.Place) -> Kept | None:
    """What was committed of a chapter's run on a model, every file checked; None for nothing."""
    folder = paths.PUBLISHED / place.model
    kept = _kept(read_record(folder), place.chapter)
    if kept is not None:
        _check(folder, kept.files)
    return kept


def committed_page(place: published.PublishedPlace) -> Kept | None:
    """How the run was made whose page was committed, every file of the page and of the run checked;
    None where there is no such page."""
    record = read_record(place.saved)
    if place.chapter not in record.pages:
        return None
    _check(place.folder, record.pages[place.chapter])
    return committed(place)


def _kept(record: Record, chapter: str) -> Kept | None:
    return next((one for one in record.chapters if one.chapter == chapter), None)


def _check(folder: Path, files: Mapping[str, str]) -> None:
    for name, digest in files.items():
        if not (folder / name).is_file() or results.sha256_of(folder / name) != digest:
            raise BrokenResult(f"{name} is missing or not what {RECORD} says")


def publish(name: str) -> Path:
    """Write what is kept of a model's runs to `book/results/`, to be committed; returns the folder.

    Chapters without a run here keep what was committed of them before. UserError for a run that is
    broken or stale, and where there is none at all: nothing is written then.
    """
    spec = model_spec(name)
    again = f"`ovectors run --model {name}`"
    new: list[tuple[runs.Place, Kept]] = []
    for chapter in (one for one in find_chapters() if not one.across):
        place = runs.place_of(chapter, spec)
        state = runs.recorded_state(place, chapter)
        if state.kind in ("broken", "stale"):
            why = f"{chapter.name} on {spec.name} is {state.kind} ({state.reason})"
            raise UserError(f"{why}: {again} makes it new")
        if state.sidecar is not None:
            new.append((place, kept_of(place, state.sidecar)))
    if not new:
        raise UserError(f"no chapter has a run on {spec.name}: {again} makes one")
    folder = paths.PUBLISHED / new[0][0].model
    try:
        _write(folder, new)
    except BrokenResult as error:
        raise UserError(f"{folder}: {error}; mend or remove it first") from None
    return folder


def _write(folder: Path, new: list[tuple[runs.Place, Kept]]) -> None:
    """Put files in place, the record last. Who finds it with files that it does not tell of (this
    was killed on the way) sees that by their hashes, and the same again mends it."""
    old = read_record(folder)
    chapters, pages = {one.chapter: one for one in old.chapters}, {**old.pages}
    folder.mkdir(parents=True, exist_ok=True)
    for place, kept in new:
        chapters[kept.chapter] = kept
        for name in kept.files:
            (folder / name).parent.mkdir(exist_ok=True)
            with results.atomic_path(folder / name) as temporary:
                shutil.copyfile(place.results / name, temporary)
        pages[kept.chapter] = published.write_page(place)
    record = Record(chapters=[chapters[name] for name in sorted(chapters)], pages=pages)
    results.write_json(folder / RECORD, record.model_dump())
    listed = {folder / name for kept in chapters.values() for name in kept.files}
    listed |= {folder / published.PAGES / name for files in pages.values() for name in files}
    for path in {*folder.rglob("*")} - {*listed, folder / RECORD}:
        if path.is_file():
            path.unlink()
