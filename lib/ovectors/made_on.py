"""Working from kept tables alone, whatever device they were made on.

An engine that starts many jobs computes where the GPUs are, and executes where they are not. There
a chapter finds the tables that were made on the other device, and must compute none: they would be
kept as made on a device that is not here.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from ovectors.errors import UserError

VARIABLE = "OVECTORS_MADE_ON"
DEVICES = ("cpu", "cuda", "mps")


def device() -> str:
    """The kind of device whose kept tables count here; empty where tables may be computed."""
    return os.environ.get(VARIABLE, "")


@contextlib.contextmanager
def only(kind: str | None) -> Iterator[None]:
    """Take the tables made on this kind of device, and compute none, in this process and in those
    that it starts; nothing changes for None."""
    before = os.environ.get(VARIABLE)
    if kind is not None:
        os.environ[VARIABLE] = kind
    try:
        yield
    finally:
        os.environ.pop(VARIABLE, None)
        if before is not None:
            os.environ[VARIABLE] = before


def refuse_to_compute(table: str) -> None:
    """UserError where only kept tables count, and this one is not kept."""
    if kind := device():
        raise UserError(
            f"the table {table} was not computed on {kind} yet, and this run may compute none: "
            "compute it there first, with `ovectors run --tables-only`"
        )
