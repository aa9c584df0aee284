"""What the chapters would take on BLOOM-176B: arithmetic on counts of a small model, and commands.

Every table says in its head, column by column, what was counted or measured, what is calculated
from that, and what is assumed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ovectors import budget, costing, fitting
from ovectors.catalogue import HEADROOM, ModelSpec, catalogue
from ovectors.costing import ACCELERATORS, SHARE, Shape, Work
from ovectors.fitting import Needs
from ovectors.machines import TYPICAL
from ovectors.prose.common import listed
from ovectors.prose.fits import table
from ovectors.terminal import duration, size

MODEL = "bloom"
NOTHING = (
    "The chapters' work has not been counted yet: `python -m benchmarks.chapter_costs` does.\n"
)
BUDGETS = (budget.DEFAULT, 16 * 10**9)
"""What a batch may take: as it is unless it is said otherwise, and as this plan says."""
NODE = 8
"""GPUs in a node."""


TAKEN = 0.1
"""How much of its memory is not there for a model."""


def plan() -> str:
    """The page's generated part; says so where nothing has been counted."""
    told = costing.counted()
    if told is None:
        return NOTHING
    spec = catalogue()[MODEL]
    needs = fitting.needs_of(spec, budget=budget.DEFAULT)
    shape = Shape.of(parameters=spec.parameters, layers=spec.layers, width=spec.d_model)
    work = costing.work(told, shape)
    parts = [
        "## Memory",
        shape_sentence(spec, shape),
        memory(needs),
        nodes(needs),
        "## Operations",
        how_counted(told),
        operations(told, work),
        foretold(told),
        "## Time",
        time_words(spec),
        times(told, spec, work),
        offload(needs),
    ]
    return "\n\n".join(parts) + "\n"


def shape_sentence(spec: ModelSpec, shape: Shape) -> str:
    """Where the sizes come from."""
    return (
        f"`{spec.name}` has {spec.parameters:,} parameters in {spec.layers} layers of width "
        f"{spec.d_model:,} (*from its config*). A layer's matrices have "
        f"12 x {spec.d_model:,}² = {shape.block:,} weights; what is in no layer makes a vocabulary "
        f"of {shape.vocabulary:,} tokens (*calculated*)."
    )


def memory(needs: Needs) -> str:
    """What lies where, in bytes."""
    rows = [
        [f"weights in {needs.dtype}", size(needs.in_dtype), "on GPUs"],
        [
            f"headroom, {HEADROOM - 1:.0%} of them",
            size(round(needs.in_dtype * (HEADROOM - 1))),
            "on GPUs",
        ],
        [
            f"keys and values of a batch ({needs.rows} of {needs.tokens} tokens)",
            size(needs.keys_values),
            "on GPUs",
        ],
        ["activations, and logits of a chunk of states", size(needs.activations), "on GPUs"],
        ["the largest recorded stream, in float32", size(needs.stream), "main memory"],
        ["Python, its libraries, tables (*assumed*)", size(fitting.LIBRARIES), "main memory"],
        [f"the weights in {needs.dtype}, to load from", size(needs.in_dtype), "disk"],
    ]
    return "\n".join(table(["what", "bytes, calculated", "where"], rows))


def nodes(needs: Needs) -> str:
    """How many GPUs hold it."""
    said = []
    for one in dict.fromkeys(gpu.memory for gpu in ACCELERATORS):
        least = math.ceil(needs.on_device / (one * (1 - TAKEN)))
        said.append(
            f"{size(round(needs.on_device))} fit on {least} GPUs of {size(round(one))}, of which "
            f"{TAKEN:.0%} are taken to be lost to the system: {_nodes(least)}"
        )
    return f"{listed(said)}. This is calculated; nothing of it has been run."


def _nodes(gpus: int) -> str:
    count_of = math.ceil(gpus / NODE)
    return f"one node of {NODE}" if count_of == 1 else f"{count_of} nodes of {NODE}"


def how_counted(told: Mapping[str, Any]) -> str:
    """What was run, with which versions."""
    versions = listed([f"{name} {version}" for name, version in told["versions"].items()])
    return (
        f"Every chapter was run on `{told['model']}` with {_items(told)}, and every matrix product "
        f"was counted by PyTorch's own formulas ({told['date']}, {versions}). Divided by what one "
        "token costs in one block, one state in the head, and one token at which another looks, "
        "this gives numbers that no longer depend on the width; how they grow with depth was "
        "counted on the "
        f"same model with idle blocks in between ({listed(_depths(told))} layers, "
        f"{told['few_items']} items of each task)."
    )


def _depths(told: Mapping[str, Any]) -> list[str]:
    return sorted(told["by_layers"], key=int)


def operations(told: Mapping[str, Any], work: Mapping[str, Work]) -> str:
    """Operations an item, here and there."""
    rows = []
    for chapter, there in work.items():
        here = told["chapters"][chapter]
        small = sum(here[kind] for kind in ("blocks", "attention", "head"))
        rows.append(
            [
                _chapter(chapter),
                f"{here['items']:,}",
                _number(small / here["items"]),
                _number(there.operations / there.items),
                _number(there.operations),
                f"{there.head / there.operations:.0%}",
            ]
        )
    heads = ["chapter", "items, counted", f"operations an item on {told['model']}, counted"]
    heads += [f"an item on {MODEL}, calculated", "in all, calculated", "of these, for logits"]
    return "\n".join(table(heads, rows))


def _chapter(name: str) -> str:
    return "**all, each table once**" if name == costing.EVERY else f"{{chapter}}`{name}`"


def _number(value: float) -> str:
    """`3.2 x 10^12`, as mathematics."""
    exponent = math.floor(math.log10(value)) if value > 0 else 0
    return f"${value / 10**exponent:.1f} \\times 10^{{{exponent}}}$"


def foretold(told: Mapping[str, Any]) -> str:
    """How far the growth with depth can be trusted: the deepest count against the others."""
    if len(told["by_layers"]) < 3:
        return (
            "Too few depths were counted to test how work grows with depth. It is taken to follow "
            "a line, which is too little where a sweep starts at every layer."
        )
    kinds = ("blocks", "attention", "head")
    apart = {}
    for chapter in told["chapters"]:
        expected, found = costing.held_out(told, chapter, kinds)
        apart[chapter] = expected / found - 1
    worst = max(apart, key=lambda name: abs(apart[name]))
    left_out = told["chapters"][costing.EVERY]
    share = left_out["other"] / sum(left_out[kind] for kind in (*kinds, "other"))
    return (
        f"A test of this: the work at {_depths(told)[-1]} layers, foretold from the other depths, "
        f"is {abs(apart[costing.EVERY]):.1%} off what was counted there for all chapters, at worst "
        f"{abs(apart[worst]):.1%} ({_chapter(worst)}). BLOOM is deeper than any of them, so this "
        "is a guide and no bound. Left out are products outside the model, such as maps fitted "
        f"between layers: {share:.1%} of the operations on `{told['model']}`."
    )


def time_words(spec: ModelSpec) -> str:
    """What the times rest on."""
    return (
        f'With its layers spread over GPUs one after another (`device_map="auto"`), one GPU '
        "works at a time: more of them hold the model, and make nothing faster. Each is *assumed* "
        f"to do {SHARE:.0%} of the operations on its label, and every batch reads all weights "
        "once. The batch is what counts: the library fits batches into a budget of bytes, so that "
        "results depend on no machine's free memory, and what is plenty for small models holds few "
        f"prompts of `{spec.name}`. `{budget.VARIABLE}` raises it."
    )


def times(told: Mapping[str, Any], spec: ModelSpec, work: Mapping[str, Work]) -> str:
    """How long each chapter takes on each GPU with each budget."""
    ways = [
        (gpu, fitting.needs_of(spec, budget=size_of), size_of)
        for gpu in ACCELERATORS
        for size_of in BUDGETS
    ]
    heads = [
        f"{gpu.name}; {size(most)}, {needs.rows} prompt{'s' * (needs.rows > 1)}"
        for gpu, needs, most in ways
    ]
    rows = []
    for chapter, done in work.items():
        took = [
            costing.seconds(
                done,
                gpu,
                weights=needs.in_dtype,
                layers=needs.layers,
                batch=needs.rows * needs.tokens,
            )
            for gpu, needs, _ in ways
        ]
        rows.append([_chapter(chapter), *map(duration, took)])
    lines = table(["chapter, all times calculated", *heads], rows)
    return "\n".join([*lines, "", f"For {_items(told)}, as they were counted."])


def _items(told: Mapping[str, Any]) -> str:
    return f"{told['n_items']} items of each task" if told["n_items"] else "all items"


def offload(needs: Needs) -> str:
    """One GPU and a large memory: what moving weights costs."""
    said = []
    for name, machine in TYPICAL.items():
        if not machine.gpus or needs.on_device <= machine.gpus:
            continue
        spread = fitting.spread_of(needs, machine)
        held = f"{size(spread.gpus)} on GPUs, {size(spread.memory)} in memory, "
        held += f"{size(spread.disk)} on disk"
        took = "" if spread.seconds is None else f"; {duration(spread.seconds)} of moving weights"
        said.append(f"- {name}: {held}{took}.")
    link, disk = (f"{rate / 1e9:.0f} GB" for rate in (fitting.LINK, fitting.DISK))
    return "\n".join(
        [
            f"Where the GPUs cannot hold it, weights are moved for every batch (*calculated*, at "
            f"{link} a second from memory and {disk} from disk, *assumed*, with the smaller "
            "batches):",
            "",
            *said,
        ]
    )
