"""The batch: chapters x models through papermill, each run whole or not there at all."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import nbformat

from ovectors import comparison, keys, paths, results, runs, store
from ovectors.catalogue import ModelSpec, model_spec
from ovectors.errors import UserError
from ovectors.execution import ChapterFailed, execute
from ovectors.notebooks import Chapter, check_parameters, default_parameters
from ovectors.results import BrokenResult


@dataclass(frozen=True, kw_only=True)
class Job:
    """One chapter on one model: everything that is settled before it starts.

    Attributes:
        asked: how the chapter is told which model: a name, a hub id or an absolute folder.
        parameters: all of them, checked, defaults included.
        parts: what its key is made of (`keys.key_parts`).
        forced: whether it runs even where it is whole and current.
    """

    chapter: Chapter
    spec: ModelSpec
    asked: str
    parameters: Mapping[str, Any]
    parts: Mapping[str, Any]
    forced: bool = False

    @property
    def place(self) -> runs.Place:
        """Where the run goes."""
        return runs.place_of(self.chapter, self.spec)

    @property
    def needed(self) -> bool:
        """Whether it has to run: it is not whole and current, or it is forced."""
        return self.forced or runs.state_of(self.place, self.parts).kind != "current"

    def __str__(self) -> str:
        return f"{self.chapter.name} on {self.spec.name}"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a job: `reason` tells a failure in one line; `by_user` means bad input."""

    job: Job
    kind: Literal["done", "current", "failed", "not started"]
    seconds: float = 0.0
    reason: str = ""
    by_user: bool = False


def plan(
    models: Iterable[str],
    chapters: Iterable[Chapter],
    given: Mapping[str, Any],
    *,
    force: bool = False,
) -> tuple[Job, ...]:
    """Every job of a batch, model by model; raises UserError for anything wrong in any of them.

    Nothing has been started then: names, types of parameters, models and the folder that is
    written to are all checked first. A model whose every chapter is whole and current is not
    looked at; `force` makes all jobs needed. Chapters for all models together come last, once.
    """
    if "model" in given:
        raise UserError("the model is not given as a parameter: use --model")
    chapters = tuple(chapters)
    own = [chapter for chapter in chapters if not chapter.across]
    jobs: list[Job] = []
    for name in dict.fromkeys(models):
        spec = model_spec(name)
        mine = [_job(chapter, spec, given, force=force) for chapter in own]
        needed = [job for job in mine if job.needed]
        if needed:
            check_model(needed[0])
            shutil.rmtree(runs.workspace(needed[0].place))
        jobs += mine
    for chapter in (one for one in chapters if one.across):
        # Beside other chapters, what is given may be meant for those.
        known = default_parameters(chapter) if own else given
        told = {name: value for name, value in given.items() if name in known}
        jobs.append(_job(chapter, comparison.ALL_MODELS, told, force=force))
    return tuple(jobs)


def _job(chapter: Chapter, spec: ModelSpec, given: Mapping[str, Any], *, force: bool) -> Job:
    asked = spec.name if spec.group != "other" else str(spec.folder or spec.hub_id)
    parameters = check_parameters(chapter, {**given, "model": asked})
    parts = _parts(chapter, parameters, spec)
    return Job(
        chapter=chapter, spec=spec, asked=asked, parameters=parameters, parts=parts, forced=force
    )


def _parts(chapter: Chapter, parameters: Mapping[str, Any], spec: ModelSpec) -> dict[str, Any]:
    if chapter.across:
        return comparison.key_parts(chapter, parameters)
    return keys.key_parts(chapter, parameters, spec)


def check_model(job: Job) -> None:
    """Open the job's model without its weights: UserError for what its chapter would refuse."""
    from ovectors.models import load_model

    choice = {name: str(job.parameters.get(name, "auto")) for name in ("device", "dtype")}
    load_model(job.asked, **choice, check=False)


def run_jobs(
    jobs: Sequence[Job],
    *,
    keep_going: bool = False,
    report: Callable[[str], None] = print,
) -> list[Outcome]:
    """Run the jobs one after another, each in a kernel of its own; one outcome for each.

    A job that is not needed is not run again. After a failure the rest is not started unless
    `keep_going`. `report` gets one line for every start and every end.
    """
    outcomes: list[Outcome] = []
    stopped = False
    for number, job in enumerate(jobs, start=1):
        if job.chapter.across:  # it reads what the jobs before it have left
            job = replace(job, parts=_parts(job.chapter, job.parameters, job.spec))
        head = f"[{number}/{len(jobs)}] {job}"
        if stopped:
            outcomes.append(Outcome(job=job, kind="not started"))
        elif not job.needed:
            report(f"{head}: already whole and current, not run again")
            outcomes.append(Outcome(job=job, kind="current"))
        else:
            report(f"{head}: running")
            outcome = run_job(job)
            outcomes.append(outcome)
            took = f"{outcome.seconds:.0f} s"
            failed = outcome.kind == "failed"
            report(f"{head}: " + (f"FAILED after {took}: {outcome.reason}" if failed else took))
            stopped = failed and not keep_going
    return outcomes


def run_job(job: Job) -> Outcome:
    """Run one job to the end and publish it, or keep its notebook under `failed/`.

    Work is done in a temporary folder that is removed in every case, Ctrl-C included.
    """
    work = runs.workspace(job.place)
    began = time.monotonic()
    try:
        try:
            sidecar = _execute(job, work)
            runs.publish(job.place, work, sidecar)
        except ChapterFailed as failure:
            if failure.notebook is not None:
                notebook, refused = failure.notebook, failure.by_user
                runs.keep_failed(job.place, notebook, failure.reason, refused=refused)
            reason, by_user = failure.reason, failure.by_user
        else:
            return Outcome(job=job, kind="done", seconds=time.monotonic() - began)
    except OSError as error:
        reason, by_user = f"cannot write {error.filename or job.place.folder}: {error}", False
    finally:
        shutil.rmtree(work, ignore_errors=True)
    seconds = time.monotonic() - began
    return Outcome(job=job, kind="failed", seconds=seconds, reason=reason, by_user=by_user)


def _execute(job: Job, work: Path) -> runs.Sidecar:
    """Execute the chapter into the workspace and verify what it left; ChapterFailed otherwise."""
    (work / "results").mkdir()
    environment = {
        results.OUTPUT_VARIABLE: str(work / "results"),
        store.FOLDER_VARIABLE: str(job.place.store),
        "OVECTORS_ROOT": str(paths.ROOT),
        "PYTHONHASHSEED": "0",
        "TOKENIZERS_PARALLELISM": "false",
    }
    output = work / "notebook.ipynb"
    executed = execute(
        job.chapter, job.parameters, output=output, environment=environment, title=str(job)
    )
    try:
        manifest = results.read_manifest(work / "results")
    except BrokenResult as error:
        raise ChapterFailed(str(error), executed.notebook) from None
    if manifest.chapter != job.chapter.name:
        reason = f"its results call themselves {manifest.chapter!r}"
        raise ChapterFailed(reason, executed.notebook)
    nbformat.write(executed.notebook, output)
    parts = _parts_after(job)
    return runs.Sidecar(
        chapter=job.chapter.name,
        model=job.spec.name,
        asked=job.asked,
        key=keys.key_of(parts),
        parts=parts,
        parameters=dict(job.parameters),
        notebook=results.sha256_of(output),
        files=runs.hashes_below(work / "results"),
        started=executed.started.isoformat(timespec="seconds"),
        seconds=round(executed.seconds, 3),
        peak_memory_bytes=executed.peak_memory,
        environment=results.environment(),
    )


def _parts_after(job: Job) -> dict[str, Any]:
    """The key's parts after the run: a hub model's commit may have become known by it."""
    if job.spec.hub_id is not None and job.spec.folder is None:
        return {**job.parts, "model": keys.model_identity(job.spec)}
    return dict(job.parts)
