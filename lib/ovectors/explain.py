"""Why something would run again: a chapter's run, and each stored table that it asks for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from ovectors import batch, keys, runs, store, uses
from ovectors.catalogue import ModelSpec
from ovectors.errors import UserError
from ovectors.notebooks import Chapter


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """How a run or a table stands.

    Attributes:
        what: "run", or the table's name.
        settings: the table's, as it was asked for.
        state: "current": it is not made again; "stale", "broken", "missing": it is.
        reasons: why, one line for each thing that changed.
    """

    what: str
    state: Literal["current", "stale", "broken", "missing"]
    reasons: tuple[str, ...] = ()
    settings: Mapping[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """The run of a chapter on a model, and the tables that it asked for when it last ran.

    `tables_of` tells whose tables are meant: those of this "run", or, where it left no list, of the
    whole "model".
    """

    chapter: str
    model: str
    run: Verdict
    tables: tuple[Verdict, ...]
    tables_of: Literal["run", "model"]


def explain(model: str, chapter: Chapter, given: Mapping[str, Any]) -> Explanation:
    """How a run with these parameters stands. Nothing is run or written, no weights are loaded.

    UserError for a model or parameter that does not exist. For a chapter across models the model is
    "all".
    """
    if chapter.across != (model == runs.ALL):
        wanted = f"{runs.ALL!r}" if chapter.across else "a model's name"
        raise UserError(f"{chapter.name} is explained for {wanted}, not for {model!r}")
    (job,) = batch.plan([] if chapter.across else [model], [chapter], given, dry=True)
    recorded = runs.recorded_sidecar(job.place)
    if recorded is not None:
        tables_of, asked = "run", recorded.tables
    else:
        tables_of, asked = "model", [*_kept(job.place.store)]
    unique = {(use.name, use.key): use for use in asked}
    return Explanation(
        chapter=chapter.name,
        model=job.spec.name,
        run=_of_run(job, recorded),
        tables=tuple(_of_table(use, job.place.store, job.spec) for use in unique.values()),
        tables_of=tables_of,
    )


def _of_run(job: batch.Job, recorded: runs.Sidecar | None) -> Verdict:
    state = runs.state_of(job.place, job.parts)
    reasons = [state.reason] if state.kind in ("broken", "missing") else []
    if recorded is not None and state.kind == "stale":
        reasons = keys.differences(recorded.parts, job.parts)
    if state.failure:
        reasons.append(f"its last run failed: {state.failure}")
    return Verdict(what="run", state=state.kind, reasons=tuple(reasons))


def _of_table(use: uses.TableUse, folder: Path, spec: ModelSpec) -> Verdict:
    named = {"what": use.name, "settings": use.settings}
    if not store.is_ours(use.function):
        said = f"{use.function} is not of this library: only a run can tell"
        return Verdict(**named, state="stale", reasons=(said,))
    parts = keys.table_parts(use.function, use.settings, spec, device=use.device, dtype=use.dtype)
    now = store.table_path(folder, use.name, keys.key_of(parts))
    if store.read_sidecar(now) is not None:
        return Verdict(**named, state="current")
    if damage := store.damage_of(now):
        return Verdict(**named, state="broken", reasons=(damage,))
    before = _parts_of(store.table_path(folder, use.name, use.key))
    if before is None:
        return Verdict(**named, state="missing", reasons=("it is not in the store",))
    return Verdict(**named, state="stale", reasons=tuple(keys.differences(before, parts)))


def _parts_of(table: Path) -> dict[str, Any] | None:
    try:
        content = store.sidecar_path(table).read_bytes()
        return store.TableSidecar.model_validate_json(content).parts
    except (OSError, ValidationError):
        return None


def _kept(folder: Path) -> Iterator[uses.TableUse]:
    """Every table in a store, as if it had just been asked for; the newest of like settings."""
    found = {}
    for path in sorted(folder.glob("*.json"), key=lambda path: path.stat().st_mtime):
        try:
            sidecar = store.TableSidecar.model_validate_json(path.read_bytes())
        except (OSError, ValidationError):
            continue
        parts = sidecar.parts
        found[sidecar.experiment, str(parts["settings"]), parts["dtype"]] = uses.TableUse(
            name=sidecar.experiment,
            function=parts["experiment"],
            settings=parts["settings"],
            device=parts["device"],
            dtype=parts["dtype"],
            key=sidecar.key,
            how="known",
        )
    yield from found.values()
