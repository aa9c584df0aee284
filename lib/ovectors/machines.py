"""What machines have: this one now, and those that the book calculates for."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from dataclasses import dataclass

from ovectors import paths


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What is free now, in bytes: main memory, the memory of all GPUs together, and disk."""

    memory: int
    gpus: int
    disk: int


def _sold(*, memory: float, gpus: float = 0, disk: float) -> Machine:
    """A machine of which the system and other programs keep a tenth; in gigabytes."""
    sizes = {"memory": memory, "gpus": gpus, "disk": disk}
    return Machine(**{name: round(0.9e9 * size) for name, size in sizes.items()})


TYPICAL = {
    "16 GB laptop": _sold(memory=16, disk=250),
    "24 GB GPU": _sold(memory=64, gpus=24, disk=1000),
    "80 GB GPU": _sold(memory=256, gpus=80, disk=2000),
    "8 x 80 GB GPUs": _sold(memory=1000, gpus=8 * 80, disk=4000),
}
"""Machines that the book calculates for."""


def this_machine() -> Machine:
    """What is free here now. No library that uses the GPU is loaded."""
    import psutil

    folder = next(path for path in (paths.RUNS, *paths.RUNS.parents) if path.exists())
    return Machine(
        memory=psutil.virtual_memory().available,
        gpus=_free_on_gpus(),
        disk=shutil.disk_usage(folder).free,
    )


def _free_on_gpus() -> int:
    command = ["nvidia-smi", "--query-gpu=memory.free", "--format=csv,noheader,nounits"]
    with contextlib.suppress(OSError, subprocess.SubprocessError, ValueError):
        told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
        return sum(int(line) << 20 for line in told.stdout.splitlines())
    return 0
