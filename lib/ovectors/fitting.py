"""Whether a model fits a machine, and how: told from what is known of it, no weights looked at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ovectors import costing
from ovectors.budget import budget_bytes
from ovectors.catalogue import BYTES, HEADROOM, ModelSpec, is_here, model_spec, parameters_in
from ovectors.machines import Machine, this_machine
from ovectors.terminal import duration, size

# What a chapter holds at a time, at most, where nobody has counted it: the recorded stream of the
# largest relation (before, attention and FFN), and prompts of so many tokens.
PROMPTS, PARTS, TOKENS = 2_000, 3, 64
ROW = 10 + 6 * 4
"""Vectors of the stream's width that a token takes in a block (`forward.bytes_per_token`)."""
LIBRARIES = 10**9
"""Python, PyTorch and the tables in memory: what the chapters hold on the smallest models."""
LINK, DISK = 12e9, 1e9
"""Bytes a second from main memory to a GPU (half of PCIe 4.0) and from a disk: assumed."""
FITTING = "fit"
"""In place of a dtype: one that fits. It has to be asked for: numbers depend on the dtype."""


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What a model takes while a chapter runs, in bytes.

    Attributes:
        dtype: what it is loaded in; weights: in that dtype, and in each other of `BYTES`.
        layers: how many blocks share the weights.
        rows: prompts in a batch; tokens: of each, what many prompts start with counted for each.
        keys_values: of a batch; an upper bound where heads share them.
        activations: of a batch, and of decoding.
        stream: the largest that is recorded, kept in main memory in float32.
    """

    dtype: str
    weights: dict[str, int]
    layers: int
    rows: int
    tokens: int
    keys_values: int
    activations: int
    stream: int

    @property
    def in_dtype(self) -> int:
        """The weights as they are loaded."""
        return self.weights[self.dtype]

    @property
    def on_device(self) -> int:
        """What lies where the model computes, with headroom on the weights."""
        return round(self.in_dtype * HEADROOM) + self.keys_values + self.activations

    @property
    def beside(self) -> int:
        """What lies in main memory wherever the model computes."""
        return self.stream + LIBRARIES

    @property
    def total(self) -> int:
        """All of it."""
        return self.on_device + self.beside


@dataclass(frozen=True, kw_only=True)
class Offload:
    """Weights spread over GPUs, main memory and disk, in bytes.

    Attributes:
        seconds: an estimate for all chapters, of moving weights alone; None where nobody has
            counted the chapters' work.
    """

    gpus: int
    memory: int
    disk: int
    seconds: float | None

    def __str__(self) -> str:
        parts = {"in memory": self.memory, "on disk": self.disk}
        held = " and ".join(f"{size(part)} {place}" for place, part in parts.items() if part)
        moving = "" if self.seconds is None else f", {duration(self.seconds)} of moving weights"
        return held + moving


@dataclass(frozen=True, kw_only=True)
class Fit:
    """How a model fits: wholly on the "gpus", in main "memory", "offloaded" (on GPUs, with the rest
    in memory and on disk: slow), not at all ("no"), or "unknown".

    Attributes:
        reason: why it is not run unless that is asked for, in a line.
        rows: prompts in a batch.
        narrower: the dtype in which it would fit wholly, where it does not in its own; else "".
        offload: where the weights would lie, where that is possible.
    """

    where: str
    reason: str = ""
    rows: int = 0
    narrower: str = ""
    offload: Offload | None = None


def needs_of(
    spec: ModelSpec,
    *,
    dtype: str = "auto",
    chapter: str = costing.EVERY,
    budget: int | None = None,
) -> Needs | None:
    """What a model takes in a chapter, or in the one that takes most (the default); None where
    nobody has counted its parameters or layers.

    From the catalogue; for a folder from its config, and from the weights' headers if they are
    there. `budget` is what a batch may take (None: `budget_bytes`), half of it in a clean pass;
    decoding a chunk of states may take as much once more.
    """
    budget = budget_bytes() if budget is None else budget
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
    vectors, tokens = _held(layers, chapter)
    vector = width * BYTES[chosen]
    keys_values, activations = 2 * layers * vector * tokens, ROW * vector * tokens
    rows = max(1, min(budget // 2 // (keys_values + activations), PROMPTS))
    return Needs(
        dtype=chosen,
        weights={name: parameters * size for name, size in BYTES.items()},
        layers=layers,
        rows=rows,
        tokens=tokens,
        keys_values=rows * keys_values,
        activations=max(budget, rows * activations) + budget,
        stream=vectors * width * 4,
    )


def _held(layers: int, chapter: str) -> tuple[int, int]:
    """Vectors in the largest recorded stream, and tokens of the longest prompt."""
    if (told := costing.with_all_items()) is None:
        return PARTS * layers * PROMPTS, TOKENS
    shape = costing.Shape(layers=layers, width=1, vocabulary=1)
    done = costing.work_of(told, chapter, shape)
    return round(done.stream), done.tokens


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


def fit(
    spec: ModelSpec,
    machine: Machine,
    *,
    device: str = "auto",
    dtype: str = "auto",
    here: bool | None = None,
) -> Fit:
    """How a model fits a machine on a device, as `load_model` would place it there.

    `here` says whether it is on the machine's disk already; None: whether it is on this one's.
    """
    on_gpus = device != "cpu" and machine.gpus > 0
    if spec.group == "other" and spec.folder is not None and _is_small(spec.folder, machine):
        return Fit(where="gpus" if on_gpus else "memory")  # whatever its config says
    needs = needs_of(spec, dtype=dtype)
    if needs is None:
        return Fit(where="unknown")
    if not (is_here(spec) if here is None else here) and machine.disk < needs.in_dtype:
        return Fit(where="no", reason=_lacking("disk", needs.in_dtype, machine.disk, needs))
    if _wholly(needs, machine, on_gpus=on_gpus):
        return Fit(where="gpus" if on_gpus else "memory", rows=needs.rows)
    narrower = _narrower(spec, needs, machine, on_gpus=on_gpus)
    if on_gpus and device == "auto":
        return _offloaded(needs, machine, narrower)
    what = "GPU memory" if on_gpus else "memory"
    wanted, free = (needs.on_device, machine.gpus) if on_gpus else (needs.total, machine.memory)
    return Fit(where="no", reason=_lacking(what, wanted, free, needs, narrower), narrower=narrower)


def settled(asked: str, given: Mapping[str, Any]) -> Mapping[str, Any]:
    """What is given for a run on the model `asked`, with the dtype FITTING looked up.

    That is the model's own where this machine holds it, else the widest that it does; its own too
    where none fits, so that the reason can be told.
    """
    if given.get("dtype") != FITTING:
        return given
    return {**given, "dtype": _fitting_dtype(asked, str(given.get("device", "auto")))}


@cache  # all chapters of a batch are to run in one, however much is free by then
def _fitting_dtype(asked: str, device: str) -> str:
    return fit(model_spec(asked), this_machine(), device=device).narrower or "auto"


def _wholly(needs: Needs, machine: Machine, *, on_gpus: bool) -> bool:
    if on_gpus:
        return needs.on_device <= machine.gpus and needs.beside <= machine.memory
    return needs.total <= machine.memory


def _narrower(spec: ModelSpec, needs: Needs, machine: Machine, *, on_gpus: bool) -> str:
    """The widest dtype below its own in which it fits; bfloat16 before float16, which overflows."""
    for dtype in ("float32", "bfloat16", "float16"):
        other = needs_of(spec, dtype=dtype)
        if BYTES[dtype] < BYTES[needs.dtype] and _wholly(other, machine, on_gpus=on_gpus):
            return dtype
    return ""


def _offloaded(needs: Needs, machine: Machine, narrower: str) -> Fit:
    """On GPUs what they can hold, the rest in main memory, what is left on disk."""
    every = machine.gpus + machine.memory + machine.disk
    if needs.total > every:
        reason = _lacking("memory and disk together", needs.total, every, needs, narrower)
        return Fit(where="no", reason=reason, narrower=narrower)
    spread = spread_of(needs, machine)
    reason = f"it fits no GPU here but by offloading ({spread}){_advice(narrower)}"
    return Fit(
        where="offloaded",
        reason=f"{reason}; --unfit-too runs it so",
        rows=needs.rows,
        narrower=narrower,
        offload=spread,
    )


def spread_of(needs: Needs, machine: Machine) -> Offload:
    """Where the weights of a model that fits no GPU would lie, and what moving them costs.

    A block's weights are moved for every batch that goes through it: as many batches as the tokens
    of all chapters fill.
    """
    room = machine.gpus - needs.keys_values - needs.activations
    gpus = min(max(0, int(room / HEADROOM)), needs.in_dtype)
    memory = min(max(0, machine.memory - needs.beside), needs.in_dtype - gpus)
    disk = needs.in_dtype - gpus - memory
    seconds = None
    if told := costing.with_all_items():
        shape = costing.Shape(layers=needs.layers, width=1, vocabulary=1)
        passes = costing.work_of(told, costing.EVERY, shape).passes / needs.layers
        batches = passes / (needs.rows * needs.tokens)
        seconds = batches * (memory / LINK + disk / DISK)
    return Offload(gpus=gpus, memory=memory, disk=disk, seconds=seconds)


def _is_small(folder: Path, machine: Machine) -> bool:
    """Whether the files are so small that no reading of the config is needed."""
    stored = sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
    return 50 * stored < machine.memory


def _lacking(what: str, wanted: int, free: int, needs: Needs, narrower: str = "") -> str:
    return (
        f"it needs {wanted / 1e9:.3g} GB of {what} (weights {needs.in_dtype / 1e9:.3g} GB in "
        f"{needs.dtype}), {free / 1e9:.3g} GB are free{_advice(narrower)}"
    )


def _advice(narrower: str) -> str:
    return f", --dtype {narrower} fits" if narrower else ""
