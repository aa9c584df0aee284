"""What jobs ask a scheduler for: memory, GPUs and time, told from what is known of a model.

Nothing here looks at the machine that it runs on: the jobs run on others.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ovectors.catalogue import BYTES, ModelSpec
from ovectors.fitting import LIBRARIES, needs_of

# Python, torch and the tables in memory, beside the model: 1.7 GB is the most that a chapter was
# seen to hold on a model of six million parameters.
BASE_MB = 4_000
# Below this many parameters a job gets no GPU: it would spend its time waiting for it.
SMALLEST_ON_GPU = 50_000_000
# Most of the time goes to interventions at every layer, so it grows as parameters times layers.
# Two cores took 873 s for all tables of mini-6m: 6.45 million parameters in 16 layers.
CPU_SECONDS = 873 / (6.45e6 * 16)
# How much faster a GPU is taken to be. Not measured: a small part of what the hardware can do.
GPU_SPEED = 300
# A limit that is too short costs more than one that is too long. An hour covers start and loading.
MINUTES, SAFETY = 60, 2
# Taken where nobody has counted: a model that fills a GPU, and as deep as the deepest but one.
UNKNOWN_BYTES, UNKNOWN_LAYERS = 64_000_000_000, 64


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What a job asks for: main memory in megabytes, GPUs, and its time limit in minutes."""

    mem_mb: int
    gpus: int
    runtime: int

    @property
    def device(self) -> str:
        """The kind of device that its tables are made on: "cpu" or "cuda"."""
        return "cuda" if self.gpus else "cpu"


LIGHT = Resources(mem_mb=BASE_MB, gpus=0, runtime=MINUTES)
"""What a job asks for that loads no weights: executing from kept tables, building the book."""


def of_model(spec: ModelSpec, *, gpu_gb: float) -> Resources:
    """What the job asks for that computes all tables of a model.

    `gpu_gb` is the memory of one GPU, in gigabytes; 0 where there are none. Weights pass through
    main memory on their way to a GPU, so it is asked for in either case.
    """
    needs = needs_of(spec)
    on_device = needs.on_device if needs else UNKNOWN_BYTES
    stream = needs.beside - LIBRARIES if needs else 0
    parameters = needs.weights["float32"] // BYTES["float32"] if needs else on_device // 2
    on_gpu = gpu_gb > 0 and parameters >= SMALLEST_ON_GPU
    seconds = parameters * (spec.layers or UNKNOWN_LAYERS) * CPU_SECONDS
    return Resources(
        mem_mb=BASE_MB + math.ceil((on_device + stream) / 1e6),
        gpus=math.ceil(on_device / (gpu_gb * 1e9)) if on_gpu else 0,
        runtime=MINUTES + math.ceil(SAFETY * seconds / (GPU_SPEED if on_gpu else 1) / 60),
    )
