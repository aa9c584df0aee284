"""What a sweep costs, told from the benchmark's JSON: the generated part of a book page."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from ovectors import paths
from ovectors.errors import UserError
from ovectors.prose.common import listed

RESULTS = Path("benchmarks") / "results.json"  # below the project's root
NOTHING = "No measurement is here yet: `python -m benchmarks` makes one.\n"
_SWEEP, _ALL, _STAGES = "sweep, last position", "sweep, all positions", "stages"
_PLAIN = "plain pass"
_WAYS = {
    "slow": "the same with hooks, a pass a start layer",
    "by hand": "a loop by hand, prompt by prompt",
    "TransformerLens": "TransformerLens",
    "nnsight": "nnsight",
}


def costs(*, root: Path | None = None) -> str:
    """Markdown for the page "What it costs", from the committed measurement; never a typed number.

    Without a measurement it says so. UserError when the file is there and broken.
    """
    path = (root or paths.ROOT) / RESULTS
    if not path.exists():
        return NOTHING
    try:
        runs = json.loads(path.read_text("utf-8"))["runs"]
        return "\n".join(_told(run) for run in runs.values()) or NOTHING
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path} is no result of `python -m benchmarks` ({type(error).__name__}: {error}): "
            "run it again"
        ) from None


def _told(run: Mapping) -> str:
    """One run: machine, the main sentences for its largest model, tables for all of them."""
    parts = [f"## On {machine(run)}", measured(run), *sentences(run), table(run)]
    parts += [memory(run), scaling(run), gpu(run)]
    return "\n\n".join(part for part in parts if part) + "\n"


def machine(run: Mapping) -> str:
    """`2 x86_64 cores`, or the GPU's name."""
    told = run["machine"]
    if told["device"] != "cpu":
        return f"a GPU ({told['device']})"
    return f"{told['cores']} {told['processor']} cores"


def measured(run: Mapping) -> str:
    """When, with what, and how."""
    versions, told = run["versions"], run["machine"]
    return (
        f"Measured on {run['date']}, with {told['threads']} threads and "
        f"{told['memory_bytes'] / 2**30:,.0f} GiB of memory, PyTorch {versions['torch']} and "
        f"transformers {versions['transformers']}. Each comparison was timed {run['repeats']} "
        "times in turn, in both orders; the numbers are medians."
    )


def sentences(run: Mapping) -> list[str]:
    """What the sweep, the same at all positions, and the stages cost on the largest model."""
    shape, model = max(run["shapes"].items(), key=lambda one: one[1]["parameters"])
    rows = {(r["what"], r["against"]): r for r in run["ratios"] if r["shape"] == shape}
    rows = {key: row for key, row in rows.items() if "missing" not in row}
    said = [_sweep_sentence(shape, model, rows)] if (_SWEEP, _PLAIN) in rows else []
    if row := rows.get((_ALL, "slow")):
        said.append(
            "Where the vector goes in at every token, earlier keys and values change too, and only "
            "the layers below the start can be saved: that is "
            f"{factor(row['ratio']['median'])} times as fast as a pass a start layer."
        )
    if row := rows.get((_STAGES, _PLAIN)):
        said.append(
            "Decoding every layer, as chapter 1 does, takes "
            f"{factor(row['ratio']['median'])} times a plain pass."
        )
    return said


def _sweep_sentence(shape: str, model: Mapping, rows: Mapping) -> str:
    plain = rows[_SWEEP, _PLAIN]
    ratio, ours = plain["ratio"]["median"], plain["seconds"]["ours"]["median"]
    size = "less than" if ratio < 1 else "as much as" if ratio == 1 else "more than"
    weights = {"random": "with random weights, which cost the same as trained ones"}
    kind = weights.get(model["weights"], "trained")
    others = [
        f"{factor(rows[_SWEEP, way]['ratio']['median'])} times as long ({name})"
        for way, name in _WAYS.items()
        if (_SWEEP, way) in rows
    ]
    text = (
        f"On `{shape}` ({model['parameters'] / 1e6:,.0f} million parameters, {model['layers']} "
        f"layers, {kind}), trying one vector from each of the {model['layers']} start layers on "
        f"{plain['prompts']:,} prompts takes {ours:,.1f} seconds. That is {size} one plain forward "
        f"pass over the same prompts: {factor(ratio)} times its time."
    )
    return text + (f" Other ways to the same numbers take {listed(others)}." if others else "")


def table(run: Mapping) -> str:
    """Milliseconds a prompt: a plain pass, and the sweep in each of the ways, by model."""
    lines = []
    for shape in run["shapes"]:
        rows = {
            r["against"]: r
            for r in run["ratios"]
            if r["shape"] == shape and r["what"] == _SWEEP and "missing" not in r
        }
        if _PLAIN not in rows:
            continue
        cells = [each(rows[_PLAIN], "other"), each(rows[_PLAIN], "ours")]
        cells += [each(rows[way], "other") if way in rows else "" for way in _WAYS]
        lines.append(f"| {shape} | {' | '.join(cells)} |")
    head = f"| model | a plain pass | the sweep | {' | '.join(_WAYS.values())} |"
    rule = "|---" * (head.count("|") - 1) + "|"
    note = "Milliseconds for one prompt; slow ways were timed on fewer prompts."
    return "\n".join([head, rule, *lines, "", note]) if lines else ""


def each(row: Mapping, who: str) -> str:
    """Milliseconds that one prompt takes."""
    return f"{1000 * row['seconds'][who]['median'] / row['prompts']:,.1f}"


def memory(run: Mapping) -> str:
    """The most that any experiment held above the weights."""
    if not run["memory"]:
        return ""
    most = max(run["memory"], key=lambda row: row["peak_bytes"])
    return (
        f"Memory: at most {most['peak_bytes'] / 2**20:,.0f} MiB above the weights of "
        f"{most['weight_bytes'] / 2**20:,.0f} MiB ({most['experiment']}, {most['shape']}, "
        f"{most['prompts']:,} prompts)."
    )


def scaling(run: Mapping) -> str:
    """Time a prompt from few prompts to many."""
    said = []
    for shape in dict.fromkeys(row["shape"] for row in run["scaling"]):
        rows = [row for row in run["scaling"] if row["shape"] == shape]
        steps = [
            f"{1000 * row['seconds_per_prompt']['median']:,.1f} ms with {row['prompts']:,}"
            for row in rows
        ]
        said.append(f"More prompts on `{shape}`: each takes {listed(steps)}.")
    return "\n\n".join(said)


def gpu(run: Mapping) -> str:
    """How much of the machine's arithmetic a plain pass uses, where a GPU was measured."""
    if run["machine"]["device"] == "cpu":
        return ""
    said = [
        f"`{shape}`: {one['rates']['plain_pass'] / 1e12:,.0f} of "
        f"{one['rates']['matrix_product'] / 1e12:,.0f} TFLOP/s"
        for shape, one in run["shapes"].items()
    ]
    return f"A plain pass against a large matrix product in the same numbers: {'; '.join(said)}."


def factor(value: float) -> str:
    """`0.72`, `8.1`, `43`."""
    return f"{value:.2f}" if value < 5 else f"{value:.1f}" if value < 20 else f"{value:,.0f}"
