"""One job, from its start to its publication: a run is whole or not there at all."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import nbformat

from ovectors import keys, locks, made_on, results, runs, uses
from ovectors.catalogue import ModelSpec
from ovectors.errors import UserError
from ovectors.execution import ChapterFailed, Execution, execute, told_where
from ovectors.notebooks import Chapter
from ovectors.results import BrokenResult

if TYPE_CHECKING:
    from ovectors.kernel import KernelSlot

CHANGED = "changed while it ran"
"""Stands in a key for a source that was edited during the run: the run is stale at once."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One chapter on one model: everything that is settled before it starts.

    Attributes:
        asked: how the chapter is told which model: a name, a hub id or an absolute folder.
        parameters: all of them, checked, defaults included.
        parts: what its key is made of (`keys.key_parts`).
        forced: whether it runs even where it is whole and current.
        unfit: why this machine cannot run it, in one line; empty where it can.
        tables_only: whether it is executed for its tables alone, which are kept, and not published.
    """

    chapter: Chapter
    spec: ModelSpec
    asked: str
    parameters: Mapping[str, Any]
    parts: Mapping[str, Any]
    forced: bool = False
    unfit: str = ""
    tables_only: bool = False

    @property
    def place(self) -> runs.Place:
        """Where the run goes."""
        return runs.place_of(self.chapter, self.spec)

    @property
    def why(self) -> str:
        """Why it has to run, in a few words; empty where it is whole and current, and not
        forced."""
        state = runs.state_of(self.place, self.parts)
        forced = "forced" if self.forced else ""
        return forced if state.kind == "current" else state.reason

    @property
    def needed(self) -> bool:
        """Whether it has to run."""
        return bool(self.why)

    def __str__(self) -> str:
        return f"{self.chapter.name} on {self.spec.name}"


Kind = Literal["done", "current", "failed", "not started", "skipped"]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a job.

    Attributes:
        reason: one line on why it failed or was skipped.
        by_user: whether that is bad input.
        tables: the stored tables that it asked for.
        loads: how often it loaded weights: not at all where all its tables are known, or where an
            earlier chapter in the same kernel had them loaded.
    """

    job: Job
    kind: Kind
    seconds: float = 0.0
    reason: str = ""
    by_user: bool = False
    tables: tuple[uses.TableUse, ...] = ()
    loads: int = 0


def run_job(
    job: Job,
    *,
    slot: KernelSlot,
    stop: threading.Event | None = None,
    on_cell: Callable[[int, int], None] | None = None,
) -> Outcome:
    """Run one job in the slot's kernel to the end and publish it, or keep its notebook under
    `failed/`.

    Work is done in a temporary folder that is removed in every case. What fails once `stop` is set
    was ended with the batch: it counts as not started. Where tables are only read (`made_on`), what
    failed when they were computed has failed for good. `on_cell` gets how many cells are done, and
    of how many.
    """
    began = time.monotonic()
    asked: list[uses.TableUse] = []
    if made_on.device() and (before := runs.failure_of(job.place.failed)):
        by_user = runs.was_refused(job.place.failed)
        return Outcome(job=job, kind="failed", reason=before, by_user=by_user)
    try:
        with _work_on(job) as work:
            try:
                return _run(job, work, asked, began=began, slot=slot, on_cell=on_cell)
            except ChapterFailed as failure:
                if stop is not None and stop.is_set():
                    return Outcome(job=job, kind="not started")
                reason, by_user = failure.reason, failure.by_user
                if failure.notebook is not None:
                    runs.keep_failed(job.place, failure.notebook, reason, refused=by_user)
    except locks.Busy as busy:
        reason, by_user = f"it is being run by {busy}", True
    except UserError as error:
        reason, by_user = str(error), True
    except OSError as error:
        reason, by_user = f"cannot write {error.filename or job.place.folder}: {error}", False
    seconds = time.monotonic() - began
    return Outcome(
        job=job,
        kind="failed",
        seconds=seconds,
        reason=reason,
        by_user=by_user,
        tables=tuple(asked),
    )


@contextmanager
def _work_on(job: Job) -> Iterator[Path]:
    """A folder to work in while no other process runs this job; gone afterwards in every case."""
    work = runs.workspace(job.place)
    try:
        with locks.lock(job.place.lock, wait=False, about=str(job)):
            for file in (job.place.sidecar, job.place.failed):
                results.remove_unfinished(file)
            yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _run(
    job: Job,
    work: Path,
    asked: list[uses.TableUse],
    *,
    began: float,
    slot: KernelSlot,
    on_cell: Callable[[int, int], None] | None,
) -> Outcome:
    """Execute and publish; the tables that were asked for are added to `asked` in every case."""
    log = work / "tables.jsonl"
    try:
        executed = _execute(job, work, log=log, slot=slot, on_cell=on_cell)
    finally:
        asked += uses.read_uses(log)
    loads = uses.count_loads(log)
    if job.tables_only:
        job.place.failed.unlink(missing_ok=True)
    else:
        runs.publish(job.place, work, _sidecar(job, work, executed, asked, loads=loads))
    seconds = time.monotonic() - began
    return Outcome(job=job, kind="done", seconds=seconds, tables=tuple(asked), loads=loads)


def _execute(
    job: Job,
    work: Path,
    *,
    log: Path,
    slot: KernelSlot,
    on_cell: Callable[[int, int], None] | None,
) -> Execution:
    """Execute the chapter into the workspace and verify what it left; ChapterFailed otherwise."""
    (work / "results").mkdir()
    environment = {
        **told_where(output=work / "results", tables=job.place.store),
        uses.LOG_VARIABLE: str(log),
        "TOKENIZERS_PARALLELISM": "false",
    }
    output = work / "notebook.ipynb"
    executed = execute(
        job.chapter,
        job.parameters,
        output=output,
        environment=environment,
        slot=slot,
        on_cell=on_cell,
    )
    try:
        manifest = results.read_manifest(work / "results")
    except BrokenResult as error:
        raise ChapterFailed(str(error), executed.notebook) from None
    if manifest.chapter != job.chapter.name:
        reason = f"its results call themselves {manifest.chapter!r}"
        raise ChapterFailed(reason, executed.notebook)
    nbformat.write(executed.notebook, output)
    return executed


def _sidecar(
    job: Job, work: Path, executed: Execution, asked: list[uses.TableUse], *, loads: int
) -> runs.Sidecar:
    parts = _parts_after(job)
    return runs.Sidecar(
        chapter=job.chapter.name,
        model=job.spec.name,
        asked=job.asked,
        key=keys.key_of(parts),
        parts=parts,
        parameters=dict(job.parameters),
        notebook=results.sha256_of(work / "notebook.ipynb"),
        files=runs.hashes_below(work / "results"),
        started=executed.started.isoformat(timespec="seconds"),
        seconds=round(executed.seconds, 3),
        peak_memory_bytes=executed.peak_memory,
        environment=results.environment(),
        tables=asked,
        weights_loaded=loads,
    )


def _parts_after(job: Job) -> dict[str, Any]:
    """The key's parts after the run: a hub model's commit may have become known by it; and what was
    edited meanwhile may or may not be what ran."""
    parts = dict(job.parts)
    if job.spec.hub_id is not None and job.spec.folder is None:
        parts["model"] = keys.model_identity(job.spec)
    for name, now in keys.source_parts(job.chapter).items():
        if isinstance(now, dict):
            edited = keys.changed_parts(parts[name], now)
            parts[name] = {**parts[name], **dict.fromkeys(edited, CHANGED)}
        elif parts[name] != now:
            parts[name] = CHANGED
    return parts
