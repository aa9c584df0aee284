"""The batch: chapters x models, planned before anything starts, and run so that it can be ended at
any moment and started again."""

from __future__ import annotations

import contextlib
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, replace
from typing import Any, Literal

from ovectors import comparison, fitting, keys, leftovers, locks, made_on, paths, runs
from ovectors.catalogue import ModelSpec, model_spec
from ovectors.errors import UserError
from ovectors.notebooks import Chapter, check_parameters, default_parameters
from ovectors.running import Job, Outcome
from ovectors.workers import Worker, choose

__all__ = ["Event", "Job", "Outcome", "alone", "check_model", "plan", "run_jobs"]


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happened in a batch; `str()` tells it in a line.

    Attributes:
        kind: "started", "cell" (one more is done), or what became of a job.
        number, total: which job of how many, from 1.
        why: why a job runs; outcome: for a job that has ended; cells: done, and of how many.
    """

    kind: Literal["started", "cell", "done", "current", "failed", "not started", "skipped"]
    job: Job
    number: int
    total: int
    why: str = ""
    outcome: Outcome | None = None
    cells: tuple[int, int] = (0, 0)

    def __str__(self) -> str:
        return f"[{self.number}/{self.total}] {self.job}: {self._said()}"

    def _said(self) -> str:
        if self.outcome is None:
            return f"cell {self.cells[0]} of {self.cells[1]}" if self.cells[1] else "running"
        told = {"current": "already whole and current, not run again", "not started": "not started"}
        if self.kind in told:
            return told[self.kind]
        if self.kind == "skipped":
            return f"skipped: {self.outcome.reason}"
        took = f"{self.outcome.seconds:.0f} s"
        if self.kind == "failed":
            return f"FAILED after {took}: {self.outcome.reason}"
        return "; ".join([took, *self._of_tables()])

    def _of_tables(self) -> Iterator[str]:
        tables = self.outcome.tables
        if self.outcome.loads:
            yield "weights loaded"
        computed = sum(use.how == "computed" for use in tables)
        if tables:
            yield f"tables: {computed} computed, {len(tables) - computed} known"
        yield from (f"{use.name} computed again: {use.damage}" for use in tables if use.damage)


@contextlib.contextmanager
def alone(*, beside: bool = False) -> Iterator[None]:
    """Keep other batches away from the folder of runs while the block runs.

    UserError where one is running, or nothing can be written. With `beside`, others that say so too
    may run at the same time; each chapter of a model is locked for itself then as always. What
    killed batches left is removed.
    """
    with contextlib.ExitStack() as held:
        try:
            paths.RUNS.mkdir(parents=True, exist_ok=True)
            path = paths.RUNS / ".lock"
            lock = locks.lock(path, wait=False, shared=beside, about="batch")
            leftovers.remove(alone=held.enter_context(lock) and not beside)
        except locks.Busy as busy:
            raise UserError(
                f"another batch is running in {paths.RUNS} ({busy}): wait for it, or end it; "
                "the same command then goes on from where it was"
            ) from None
        except OSError as error:
            raise UserError(f"cannot write to {paths.RUNS}: {error.strerror}") from None
        yield


def plan(
    models: Iterable[str],
    chapters: Iterable[Chapter],
    given: Mapping[str, Any],
    *,
    force: bool = False,
    dry: bool = False,
    unfit_too: bool = False,
) -> tuple[Job, ...]:
    """Every job of a batch, model by model; raises UserError for anything wrong in any of them.

    Nothing has been started then: names, types of parameters, models and the folder that is
    written to are all checked first; `dry`, neither models nor the folder are. A model whose every
    chapter is whole and current is not looked at; `force` makes all jobs needed. What does not fit
    this machine is told so and not checked, unless `unfit_too`. Chapters for all models together
    come last, once.
    """
    if "model" in given:
        raise UserError("the model is not given as a parameter: use --model")
    chapters = tuple(chapters)
    own = [chapter for chapter in chapters if not chapter.across]
    jobs: list[Job] = []
    for name in dict.fromkeys(models):
        spec = model_spec(name)
        mine = [_job(chapter, spec, given, force=force) for chapter in own]
        # What works from kept tables alone loads no weights, wherever it runs.
        needed = [job for job in mine if job.needed and not made_on.device()]
        if needed and not unfit_too and (unfit := _unfit(needed[0])):
            mine = [replace(job, unfit=unfit) for job in mine]
        elif needed and not dry:
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
    own = spec.source if spec.hub_id else str(spec.folder)
    asked = spec.name if spec.group != "other" else own
    parameters = check_parameters(chapter, {**fitting.settled(asked, given), "model": asked})
    parts = _parts(chapter, parameters, spec)
    return Job(
        chapter=chapter, spec=spec, asked=asked, parameters=parameters, parts=parts, forced=force
    )


def _unfit(job: Job) -> str:
    """Why this machine cannot run the job's model now; empty where it can, or nobody knows."""
    choice = {name: str(job.parameters.get(name, "auto")) for name in ("device", "dtype")}
    return fitting.fit(job.spec, fitting.this_machine(), **choice).reason


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
    at_once: int = 1,
    report: Callable[[Event], None] = print,
) -> list[Outcome]:
    """Run the jobs, `at_once` of them at a time; one outcome for each.

    The chapters of a model run one after the other in one kernel, which loads the weights at most
    once; each begins as in a new process (`fresh`). A kernel is replaced when a chapter has failed
    in it or it has died. Where there are more workers than models, a second kernel joins a model
    whose weights take no more than `workers.SMALL` bytes; otherwise workers stay idle.

    A job that is not needed is not run again. After a failure no further one is started unless
    `keep_going`. `report` gets every event, from several threads.
    """
    batch = _Batch(jobs, keep_going=keep_going, at_once=at_once, report=report)
    batch.run([place for place, job in enumerate(jobs) if not job.chapter.across])
    # These read what the jobs before them have left.
    batch.run([place for place, job in enumerate(jobs) if job.chapter.across])
    return [batch.outcomes[place] for place in range(len(jobs))]


class _Batch:
    """A batch that is running: what has ended, what goes on, whether anything more is started."""

    def __init__(
        self,
        jobs: Sequence[Job],
        *,
        keep_going: bool,
        at_once: int,
        report: Callable[[Event], None],
    ) -> None:
        self.jobs, self.keep_going, self.at_once, self.report = jobs, keep_going, at_once, report
        self.workers: list[Worker] = []
        self.outcomes: dict[int, Outcome] = {}
        self.running: dict[Future[Outcome], tuple[int, Worker]] = {}
        self.stopped = False
        self.stop = threading.Event()

    def run(self, places: Iterable[int]) -> None:
        """Run these jobs to their ends; whatever interrupts it ends their kernels first."""
        waiting = [*places]
        self.workers = [Worker() for _ in range(self.at_once)]
        try:
            while waiting or self.running:
                self._start_what_can(waiting)
                ended, _ = wait(self.running, return_when=FIRST_COMPLETED)
                for future in ended:
                    place, worker = self.running.pop(future)
                    worker.job = None
                    self._ended(place, future.result())
        finally:
            self._end_all()

    def _start_what_can(self, waiting: list[int]) -> None:
        """Give idle workers something to do; take what is done with out of those that wait."""
        while chosen := choose(self.workers, [self.jobs[place].spec for place in waiting]):
            worker, at = chosen
            self._start(waiting.pop(at), worker)
        wanted = {self.jobs[place].spec.name for place in waiting}
        for worker in self.workers:
            if worker.idle and worker.model not in wanted:
                worker.release()

    def _start(self, place: int, worker: Worker) -> None:
        job = self.jobs[place]
        if job.chapter.across:
            job = replace(job, parts=_parts(job.chapter, job.parameters, job.spec))
        if self.stopped:
            self._ended(place, Outcome(job=job, kind="not started"))
        elif not (why := job.why):
            self._ended(place, Outcome(job=job, kind="current"))
        elif job.unfit:
            self._ended(place, Outcome(job=job, kind="skipped", reason=job.unfit))
        else:
            self._tell(place, job, "started", why=why)

            def on_cell(done: int, of: int) -> None:
                """Tells how far the job is."""
                self._tell(place, job, "cell", cells=(done, of))

            future = worker.start(job, stop=self.stop, on_cell=on_cell)
            self.running[future] = (place, worker)

    def _ended(self, place: int, outcome: Outcome) -> None:
        self.outcomes[place] = outcome
        self.stopped |= outcome.kind == "failed" and not self.keep_going
        self._tell(place, outcome.job, outcome.kind, outcome=outcome)

    def _tell(self, place: int, job: Job, kind: Any, **more: Any) -> None:
        self.report(Event(kind=kind, job=job, number=place + 1, total=len(self.jobs), **more))

    def _end_all(self) -> None:
        """End the workers and what still runs, as after Ctrl-C: no kernel is left."""
        running = [worker.job for worker in self.workers if worker.job is not None]
        if running:
            from ovectors.kernel import kill_all

            self.stop.set()
            while any(not job.done() for job in running):
                with contextlib.suppress(KeyboardInterrupt):  # it is being done
                    kill_all()
                    time.sleep(0.1)
        for worker in self.workers:
            worker.end()
