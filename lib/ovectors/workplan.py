"""What is left to do, for an engine that starts many jobs: who computes, and what is executed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ovectors import batch, made_on, runs
from ovectors.catalogue import ModelSpec, model_spec
from ovectors.errors import UserError
from ovectors.explain import explain
from ovectors.notebooks import Chapter, choose_chapters
from ovectors.resources import Resources, of_model


@dataclass(frozen=True, kw_only=True)
class Work:
    """What is to be done on one model.

    Attributes:
        spec: the model; asked: how commands are told which.
        chapters: those whose runs are not whole and current.
        computes: whether any of them may lack a table; kept ones are enough for all otherwise.
        resources: what the job asks for that computes.
    """

    spec: ModelSpec
    asked: str
    chapters: tuple[str, ...]
    computes: bool
    resources: Resources


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The work on each model, by the name of its folder of runs.

    Attributes:
        own: the chapters asked for that are run on each model; across: those that are run once for
            all models, always and last: what they read is known only then.
    """

    models: Mapping[str, Work]
    own: tuple[str, ...]
    across: tuple[str, ...]


def plan(
    models: Iterable[str],
    chapters: Iterable[str] = (),
    given: Mapping[str, Any] | None = None,
    *,
    gpu_gb: float,
    look: bool = True,
) -> Plan:
    """The work left on these models: the chapters asked for (all if none), with these parameters.

    It asks the sidecars, as `ovectors run` does: neither times of files nor what the engine
    remembers count. Where it does not `look`, all work is taken to be done: what a job needs to
    know that an engine has started. UserError for what does not exist.
    """
    chosen = choose_chapters(chapters)
    own = [chapter for chapter in chosen if not chapter.across]
    found: dict[str, Work] = {}
    for name in models:
        spec = model_spec(name)
        folder = runs.folder_of(spec)
        if folder in found:
            raise UserError(f"{name} and {found[folder].asked} are the same model")
        resources = of_model(spec, gpu_gb=gpu_gb)
        left: dict[str, bool] = {}
        if look:
            with made_on.only(resources.device):
                left = _left(name, own, given or {})
        found[folder] = Work(
            spec=spec,
            asked=name,
            chapters=tuple(left),
            computes=any(left.values()),
            resources=resources,
        )
    return Plan(
        models=found,
        own=tuple(chapter.name for chapter in own),
        across=tuple(chapter.name for chapter in chosen if chapter.across),
    )


def _left(name: str, chapters: Iterable[Chapter], given: Mapping[str, Any]) -> dict[str, bool]:
    """The chapters to run on a model, and whether each may have to compute."""
    jobs = batch.plan([name], chapters, given, dry=True)
    return {job.chapter.name: _may_compute(job, name, given) for job in jobs if job.needed}


def _may_compute(job: batch.Job, name: str, given: Mapping[str, Any]) -> bool:
    """Whether tables may be lacking: one of its last run is, or nobody knows which it asks for.

    A chapter that failed may have failed for the lack of one: so what was wrongly taken to be known
    is computed when the work is planned again.
    """
    recorded = runs.recorded_sidecar(job.place)
    if recorded is None or runs.failure_of(job.place.failed):
        return True
    if recorded.parts["parameters"] != job.parts["parameters"]:
        return True
    tables = explain(name, job.chapter, given).tables
    return any(table.state != "current" for table in tables)
