"""The workers of a batch: each has a thread and a kernel, which serves one model until all of the
model's chapters have run."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

from ovectors.catalogue import ModelSpec
from ovectors.errors import UserError
from ovectors.running import Job, Outcome, run_job

if TYPE_CHECKING:
    from ovectors.kernel import KernelSlot

SMALL = 1_000_000_000
"""Bytes of weights up to which a second kernel, with a copy of its own, is worth its while."""


class Worker:
    """A thread and a kernel; it works on one job at a time."""

    def __init__(self) -> None:
        self.model = ""
        self.job: Future[Outcome] | None = None
        self._thread = ThreadPoolExecutor(1)  # the kernel's sockets belong to one thread
        self._slot: KernelSlot | None = None

    @property
    def idle(self) -> bool:
        """Whether it has no job."""
        return self.job is None

    def start(self, job: Job, **how: object) -> Future[Outcome]:
        """Begin a job (`run_job`), in the kernel that is there if it serves the job's model."""
        if self.model != job.spec.name:
            self.release()
        self.model = job.spec.name
        self.job = self._thread.submit(self._run, job, **how)
        return self.job

    def _run(self, job: Job, **how: object) -> Outcome:
        from ovectors.kernel import KernelSlot

        if self._slot is None:
            self._slot = KernelSlot()
        return run_job(job, slot=self._slot, **how)

    def release(self) -> None:
        """End the kernel; what it held is free when this returns."""
        if self._slot is not None:
            self._thread.submit(self._slot.close).result()
        self.model = ""

    def end(self) -> None:
        """End kernel and thread."""
        self.release()
        self._thread.shutdown()


def choose(workers: Sequence[Worker], waiting: Sequence[ModelSpec]) -> tuple[Worker, int] | None:
    """An idle worker and the job for it, as its place among those that wait (their models).

    A worker stays with its model. One that is free takes the first model that nobody serves; where
    there is none, it helps with the first whose weights are small. None where nobody can do
    anything.
    """
    names = [spec.name for spec in waiting]
    served = {worker.model for worker in workers}
    idle = [worker for worker in workers if worker.idle]
    for worker in idle:
        if worker.model in names:
            return worker, names.index(worker.model)
    unserved = [at for at, name in enumerate(names) if name not in served]
    shared = (at for at, spec in enumerate(waiting) if is_small(spec))
    at = unserved[0] if unserved else next(shared, None)
    return (idle[0], at) if idle and at is not None else None


def is_small(spec: ModelSpec) -> bool:
    """Whether its weights are known to be so few that they may be in memory twice."""
    with contextlib.suppress(UserError):  # its files are broken: whoever loads them tells that
        return (spec.memory_bytes or SMALL + 1) <= SMALL
    return False
