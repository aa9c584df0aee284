"""Whether a model fits this machine: told from what is known of it, no weights are looked at."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ovectors import paths
from ovectors.catalogue import BYTES, HEADROOM, ModelSpec, is_here, parameters_in

# What a chapter holds at a time beside the weights, at most: the recorded stream of the largest
# relation (before, attention and FFN, in float32), and the keys and values of a batch of prompts.
PROMPTS, PARTS = 2_000, 3
ROWS, TOKENS = 128, 64


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What is free now, in bytes: main memory, the memory of all GPUs together, and disk."""

    memory: int
    gpus: int
    disk: int


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What a model takes, in bytes.

    Attributes:
        dtype: what it is loaded in; weights: in that dtype, and in each other of `BYTES`.
        keys_values: of `ROWS` prompts of `TOKENS` tokens; an upper bound where heads share them.
        stream: of `PROMPTS` prompts, `PARTS` parts of it.
    """

    dtype: str
    weights: dict[str, int]
    keys_values: int
    stream: int

    @property
    def in_dtype(self) -> int:
        """The weights as they are loaded."""
        return self.weights[self.dtype]

    @property
    def total(self) -> int:
        """All of it, with headroom for activations and libraries on the weights."""
        return round(self.in_dtype * HEADROOM) + self.keys_values + self.stream


@dataclass(frozen=True, kw_only=True)
class Fit:
    """How a model fits: wholly on the "gpus", in main "memory", "offloaded" (on GPUs, with the rest
    in memory and on disk: slow), not at all ("no"), or "unknown". `reason` tells a no in a line."""

    where: str
    reason: str = ""


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


def needs_of(spec: ModelSpec, *, dtype: str = "auto") -> Needs | None:
    """What a model takes; None where nobody has counted its parameters or layers.

    From the catalogue; for a folder from its config, and from the weights' headers if they are
    there.
    """
    parameters, layers, width = spec.parameters, spec.layers, spec.d_model
    if spec.folder is not None and not parameters:
        parameters = parameters_in(spec.folder)
    if spec.folder is not None and not (parameters and layers and width):
        told = _from_config(spec.folder)
        parameters, layers, width = (
            known or found for known, found in zip((parameters, layers, width), told, strict=True)
        )
    if not (parameters and layers and width):
        return None
    chosen = dtype if dtype in BYTES else spec.dtype or "float32"
    return Needs(
        dtype=chosen,
        weights={name: parameters * size for name, size in BYTES.items()},
        keys_values=2 * layers * width * BYTES[chosen] * ROWS * TOKENS,
        stream=PARTS * layers * width * PROMPTS * 4,
    )


def _from_config(folder: Path) -> Sequence[int | None]:
    """Parameters, layers and width of a local model; None for what cannot be told."""
    if not (folder / "config.json").is_file():
        return None, None, None
    try:
        import torch
        from transformers import AutoConfig, AutoModelForCausalLM

        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        layers, width = config.num_hidden_layers, config.hidden_size
        with torch.device("meta"):  # shapes without numbers
            model = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
        return sum(one.numel() for one in model.parameters()), layers, width
    except Exception:  # whatever is wrong with it, loading it tells that better
        return None, None, None


def fit(spec: ModelSpec, machine: Machine, *, device: str = "auto", dtype: str = "auto") -> Fit:
    """How a model fits a machine on a device, as `load_model` would place it there."""
    on_gpus = device != "cpu" and machine.gpus > 0
    if spec.group == "other" and spec.folder is not None and _is_small(spec.folder, machine):
        return Fit(where="gpus" if on_gpus else "memory")  # whatever its config says
    needs = needs_of(spec, dtype=dtype)
    if needs is None:
        return Fit(where="unknown")
    if not is_here(spec) and machine.disk < needs.in_dtype:
        return Fit(where="no", reason=_lacking("disk", needs.in_dtype, machine.disk, needs))
    if on_gpus and needs.total <= machine.gpus:
        return Fit(where="gpus")
    if on_gpus and device == "auto":
        if needs.total <= machine.gpus + machine.memory + machine.disk:
            return Fit(where="offloaded")
        every = machine.gpus + machine.memory + machine.disk
        reason = _lacking("memory and disk together", needs.total, every, needs)
        return Fit(where="no", reason=reason)
    if on_gpus:
        reason = _lacking("GPU memory", needs.total, machine.gpus, needs)
        return Fit(where="no", reason=reason)
    if needs.total <= machine.memory:
        return Fit(where="memory")
    return Fit(where="no", reason=_lacking("memory", needs.total, machine.memory, needs))


def _is_small(folder: Path, machine: Machine) -> bool:
    """Whether the files are so small that no reading of the config is needed."""
    stored = sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
    return 50 * stored < machine.memory


def _lacking(what: str, wanted: int, free: int, needs: Needs) -> str:
    smaller = min(needs.weights.values()) < needs.in_dtype
    advice = ", --dtype bfloat16 takes less" if smaller else ""
    return (
        f"it needs {wanted / 1e9:.3g} GB of {what} (weights {needs.in_dtype / 1e9:.3g} GB in "
        f"{needs.dtype}), {free / 1e9:.3g} GB are free{advice}"
    )
