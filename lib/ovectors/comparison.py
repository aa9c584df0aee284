"""What chapters across models read: every verdict of every model, whatever run it came from.

A run of the batch comes first, then one by hand (in Jupyter, or with papermill alone), then what
was committed of earlier runs (`record`). What is not there is told apart: failed, refused, broken,
never run.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from ovectors import catalogue, keys, paths, record, results, runs, studies
from ovectors.claims import Claim
from ovectors.notebooks import Chapter, find_chapters
from ovectors.record import Kept
from ovectors.results import BrokenResult

ALL_MODELS = catalogue.ModelSpec(name=runs.ALL, group="all models")
"""Stands in for the model where a chapter is run once for all of them."""

_TOLD = ("chapter", "library", "data", "model")  # what makes another result when it changes

Origin = Literal["run here", "run by hand", "committed", "none"]
Condition = Literal["whole", "failed", "refused", "broken", "not run"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What one chapter left on one model, or why it left nothing.

    Attributes:
        model: the name of its folder; name: the model's name as it is shown.
        condition: "whole"; "failed" or "refused" (its input was bad) when last run, and there is no
            other run; "broken": files are not what their record says; "not run".
        reason: one line, where it is not whole.
        changed: which parts of the key have changed since, of those that make another result.
        files: the SHA-256 of each of its files, by its path below `folder`.
        kept: how it was made.
    """

    model: str
    name: str
    chapter: str
    condition: Condition = "not run"
    reason: str = ""
    origin: Origin = "none"
    changed: tuple[str, ...] = ()
    folder: Path = field(default_factory=Path)
    kept: Kept | None = None

    @property
    def claims(self) -> list[Claim]:
        """Its verdicts."""
        return [
            Claim.model_validate_json((self.folder / name).read_bytes())
            for name in (self.kept.files if self.kept else ())
            if name.startswith(f"{results.CLAIMS}/")
        ]

    def table(self, name: str) -> Path | None:
        """The file of one of `record.TABLES`; None where the chapter saved none."""
        file = f"{name}.parquet"
        return self.folder / file if self.kept and file in self.kept.files else None


def gather(by_hand: Path | None = None) -> list[Finding]:
    """What every chapter left on every model that has anything, the smallest model first.

    A file counts only where its hash is right. `by_hand` is the `results/` folder of runs made
    without the batch, if any.
    """
    wanted = dict.fromkeys(rule.chapter for rule in studies.all_rules().values())
    chapters = {chapter.name: chapter for chapter in find_chapters()}
    models = {*runs.models_with_runs(), *record.models_with_record()}
    if by_hand is not None:
        models |= {path.parts[-3] for path in by_hand.glob(f"*/*/{results.MANIFEST}")}
    return [
        _finding(runs.Place(model=model, chapter=name), chapters.get(name), by_hand)
        for model in catalogue.by_size(models - {runs.ALL})
        for name in wanted
    ]


def by_hand_folder() -> Path | None:
    """Where runs by hand are looked for: `results/` of the current folder; nowhere in a batch."""
    return None if results.OUTPUT_VARIABLE in os.environ else Path.cwd() / "results"


def _finding(place: runs.Place, chapter: Chapter | None, by_hand: Path | None) -> Finding:
    """The first whole run there is, in the order that the module tells; otherwise why none is."""
    state = runs.recorded_state(place, chapter) if chapter else runs.State(kind="missing")
    own = {"model": place.model, "name": place.model, "chapter": place.chapter}
    if state.sidecar is not None:
        kept = record.kept_of(place, state.sidecar)
        return _whole(own, kept, place.results, "run here", state.changed)
    trouble = _trouble(state)
    folders = {"run by hand": by_hand and by_hand / place.model / place.chapter}
    folders["committed"] = paths.PUBLISHED / place.model
    for origin, folder in folders.items():
        try:
            by_batch = origin == "committed"
            kept = record.committed(place) if by_batch else _kept_by_hand(folder)
        except BrokenResult as error:
            trouble = trouble or {"condition": "broken", "reason": str(error)}
        else:
            if kept is not None:
                known = chapter is not None and kept.parts
                now = runs.parts_now(chapter, kept) if known else kept.parts
                changed = keys.changed_parts(kept.parts, now)
                return _whole(own, kept, folder, origin, changed)
    return Finding(**own, **trouble)


def _whole(
    own: Mapping[str, str], kept: Kept, folder: Path, origin: Origin, changed: Iterable[str]
) -> Finding:
    return Finding(
        **{**own, "name": kept.model},
        condition="whole",
        origin=origin,
        changed=tuple(part for part in changed if part in _TOLD),
        folder=folder,
        kept=kept,
    )


def _trouble(state: runs.State) -> dict[str, str]:
    """What became of a run of the batch that left nothing whole."""
    if state.failure:
        return {"condition": "refused" if state.refused else "failed", "reason": state.failure}
    return {"condition": "broken", "reason": state.reason} if state.kind == "broken" else {}


def _kept_by_hand(folder: Path | None) -> Kept | None:
    if folder is None or not (folder / results.MANIFEST).exists():
        return None
    return record.kept_by_hand(results.read_manifest(folder))


def digest(findings: Iterable[Finding]) -> str:
    """A hash over all that a chapter across models gets to see."""
    told = []
    for one in findings:
        kept = one.kept.model_dump() if one.kept else None
        told.append({**asdict(one), "folder": "", "kept": kept})
    return keys.text_hash(json.dumps(told, sort_keys=True))


def key_parts(chapter: Chapter, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """What the key of a chapter across models is made of, in place of `keys.key_parts`.

    `results` is the hash of all that it reads of other runs; `model` tells the catalogue and what
    of it does not fit on this machine.
    """
    unfit = [row["name"] for row in catalogue.catalogue_rows() if not row["fits"]]
    models = keys.text_hash((paths.PACKAGE / "models.toml").read_text("utf-8"))
    return {
        **keys.source_parts(chapter),
        "results": digest(gather()),
        "model": {"name": runs.ALL, "catalogue": models, "does not fit": unfit},
        "parameters": results.plain(parameters),
        "versions": results.versions(),
    }


def recorded_state(place: runs.Place, chapter: Chapter) -> runs.State:
    """`runs.recorded_state`, for chapters of either kind."""
    if not chapter.across:
        return runs.recorded_state(place, chapter)
    sidecar = runs.recorded_sidecar(place)
    return runs.state_of(place, key_parts(chapter, sidecar.parameters) if sidecar else {})


def places(
    models: Iterable[str], chapters: Iterable[Chapter]
) -> Iterator[tuple[runs.Place, Chapter]]:
    """Where the runs of the chapters lie: each model's own, then those for all models."""
    chapters = tuple(chapters)
    for model in (*models, runs.ALL):
        for chapter in chapters:
            if chapter.across == (model == runs.ALL):
                yield runs.Place(model=model, chapter=chapter.name), chapter
