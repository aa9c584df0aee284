"""Whether a model fits: what was measured of every run, and what is calculated for the others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from ovectors import comparison, costing, fitting
from ovectors.catalogue import ModelSpec, catalogue
from ovectors.comparison import Finding
from ovectors.fitting import Fit
from ovectors.machines import TYPICAL, Machine
from ovectors.terminal import count, duration, size

NOTHING = "No chapter has been run yet.\n"
SHOWN = ("gpt2-xl", "gpt-j-6b", "bloom")
"""Models whose needs are shown chapter by chapter."""


def measured_costs(findings: Iterable[Finding] | None = None) -> str:
    """A table of measured time and memory, a row a chapter, a column a model; and where."""
    whole = [
        one for one in findings or comparison.gather() if one.condition == "whole" and one.claims
    ]
    if not whole:
        return NOTHING
    models = [*dict.fromkeys(one.name for one in whole)]
    by_place = {(one.chapter, one.name): _cost(one) for one in whole}
    rows = [
        [f"{{chapter}}`{chapter}`", *(by_place.get((chapter, model), "") for model in models)]
        for chapter in dict.fromkeys(one.chapter for one in whole)
    ]
    heads = ["measured", *(f"`{model}`" for model in models)]
    return "\n".join([*table(heads, rows), "", *_machines(whole), ""])


def _cost(one: Finding) -> str:
    """Seconds of all tables of a chapter, and the most memory that a process held."""
    costs = [claim.cost for claim in one.claims if claim.cost]
    if not costs:
        return ""
    memory = max(one.kept.peak_memory_bytes, *(cost.peak_memory_bytes for cost in costs))
    return f"{duration(max(cost.seconds for cost in costs))}, {size(memory)}"


def _machines(whole: Sequence[Finding]) -> list[str]:
    """Where each model was run, a line each."""
    lines = {}
    for one in whole:
        made, loaded = one.kept.provenance, one.kept.provenance.get("model", {})
        device = one.kept.parts.get("device", "cpu")
        parameters = count(loaded.get("parameters"))
        dtype, torch = loaded.get("dtype", "?"), made.get("versions", {}).get("torch", "?")
        line = f"- `{one.name}`: {parameters} parameters in {dtype}, on {device} "
        line += f"({made.get('machine', '?')}), PyTorch {torch}."
        lines.setdefault(line, None)
    return [*lines]


def fits_table(machines: Mapping[str, Machine] = TYPICAL) -> str:
    """What every model of the catalogue takes, and how it fits these machines."""
    rows = [_fits_row(spec, machines.values()) for spec in catalogue().values()]
    lines = table(["calculated", "weights", "in all", *machines], rows)
    return "\n".join([*lines, "", *_free(machines), ""])


def _fits_row(spec: ModelSpec, machines: Iterable[Machine]) -> list[str]:
    needs = fitting.needs_of(spec)
    if needs is None:
        return [f"`{spec.name}`", *("?" for _ in ("weights", "in all", *machines))]
    found = [_short(fitting.fit(spec, machine, here=False)) for machine in machines]
    weights = f"{size(needs.in_dtype)}, {needs.dtype}"
    return [f"`{spec.name}`", weights, size(needs.total), *found]


def _short(found: Fit) -> str:
    """`yes`, `no`, or what has to be done for it."""
    if found.where in ("gpus", "memory"):
        return "yes"
    moving = found.offload.seconds if found.offload else None
    slow = "offloaded" if moving is None else f"offloaded, {duration(moving)}"
    ways = [slow] if found.offload else []
    ways += [f"in {found.narrower}"] if found.narrower else []
    return " or ".join(ways) or "no"


def _free(machines: Mapping[str, Machine]) -> Iterator[str]:
    """What is taken to be free on each machine."""
    for name, machine in machines.items():
        gpus = f"{size(machine.gpus)} on GPUs, " if machine.gpus else ""
        yield f"- *{name}*: {gpus}{size(machine.memory)} of memory, {size(machine.disk)} of disk"


def where(found: Fit) -> str:
    """How a model fits, in a few words."""
    narrower = f"in {found.narrower}" if found.narrower else ""
    if found.offload is None:
        if found.where == "no":
            return narrower or "no"
        return {"gpus": "on GPUs", "memory": "in memory"}.get(found.where, found.where)
    return "; ".join(part for part in (f"offloaded: {found.offload}", narrower) if part)


def chapter_needs(models: Sequence[str] = SHOWN) -> str:
    """What each chapter holds beside the weights, for a few models of unlike size."""
    if (told := costing.with_all_items()) is None:
        return (
            "The chapters' work has not been counted with all items yet (`python -m "
            "benchmarks.chapter_costs` does); the table above takes the same upper bound for all.\n"
        )
    rows = []
    for chapter in (name for name in told["chapters"] if name != costing.EVERY):
        cells = [f"{{chapter}}`{chapter}`"]
        for model in models:
            needs = fitting.needs_of(catalogue()[model], chapter=chapter)
            batch = f"{needs.rows}, with {size(needs.keys_values)}"
            cells.append(f"{batch}; {size(needs.stream)}")
        rows.append(cells)
    heads = ["calculated: prompts a batch, with keys and values; stream"]
    return "\n".join([*table([*heads, *(f"`{model}`" for model in models)], rows), ""])


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a Markdown table."""
    lines = [heads, ["---"] * len(heads), *rows]
    return [f"| {' | '.join(cells)} |" for cells in lines]
