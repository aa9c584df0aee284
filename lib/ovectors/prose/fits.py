"""Whether a model fits: what was measured of every run, and what is calculated for the others."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

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


def fits_table(machines: dict[str, Machine] | None = None) -> str:
    """What every model of the catalogue takes, and how it fits machines as they are sold."""
    machines = machines or TYPICAL
    rows = [_fits_row(spec, machines.values()) for spec in catalogue().values()]
    heads = ["calculated", "dtype", "weights", "in all", *machines]
    return "\n".join([*table(heads, rows), ""])


def _fits_row(spec: ModelSpec, machines: Iterable[Machine]) -> list[str]:
    needs = fitting.needs_of(spec)
    if needs is None:
        return [f"`{spec.name}`", spec.dtype or "as stored", "?", "?", *("?" for _ in machines)]
    found = [where(fitting.fit(spec, machine, here=False)) for machine in machines]
    return [f"`{spec.name}`", needs.dtype, size(needs.in_dtype), size(needs.total), *found]


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
    if (told := costing.counted()) is None:
        return "The chapters' work has not been counted yet.\n"
    rows = []
    for chapter in (name for name in told["chapters"] if name != costing.EVERY):
        cells = [f"{{chapter}}`{chapter}`"]
        for model in models:
            needs = fitting.needs_of(catalogue()[model], chapter=chapter)
            cells += [str(needs.rows), size(needs.keys_values), size(needs.stream)]
        rows.append(cells)
    each = ("prompts a batch", "keys and values", "stream")
    heads = ["calculated", *(f"`{model}`: {what}" for model in models for what in each)]
    return "\n".join([*table(heads, rows), ""])


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a Markdown table."""
    lines = [heads, ["---"] * len(heads), *rows]
    return [f"| {' | '.join(cells)} |" for cells in lines]
