"""A run as Markdown: the table of goals, and what it was measured on."""

from __future__ import annotations

from benchmarks import plan

BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
_MIB = 2**20
_WAYS = {
    plan.PLAIN: "a plain pass",
    "slow": "itself with hooks, a pass a point",
    "by hand": "the loop by hand",
    "TransformerLens": "TransformerLens",
    "nnsight": "nnsight",
}


def markdown(run: dict) -> str:
    """Everything of one run, to stand between the markers of a README."""
    parts = [_where(run), _models(run), _goals(run), *_missed(run)]
    parts += [_memory(run), _scaling(run), _rates(run), _agreement(run)]
    return "\n\n".join(part for part in parts if part)


def replaced(text: str, device: str, new: str) -> str:
    """`text` with what stands between the markers of this device replaced, or set at its end."""
    begin, end = (marker.replace("measured", f"measured on {device}") for marker in (BEGIN, END))
    if begin not in text:
        text = f"{text.rstrip()}\n\n{begin}\n{end}\n"
    before, _, rest = text.partition(begin)
    _, _, after = rest.partition(end)
    return f"{before}{begin}\n\n{new}\n\n{end}{after}"


def _where(run: dict) -> str:
    machine, versions, commit = run["machine"], run["versions"], run["commit"]
    cores = f"{machine['cores']} cores, {machine['threads']} threads"
    memory = f"{machine['memory_bytes'] / 2**30:,.0f} GiB"
    kind = f"{machine['system']} {machine['processor']}, {cores}, {memory}"
    if machine["device"] != "cpu":
        kind = f"{machine['device']}; {kind}"
    made = ", ".join(f"{name} {versions[name]}" for name in ("torch", "transformers"))
    made += "".join(
        f", {name} {versions[name]}" for name in ("transformer-lens", "nnsight") if name in versions
    )
    state = (commit["commit"] or "unknown")[:12] + (
        " with local changes" if commit["dirty"] else ""
    )
    return (
        f"Measured on {run['date']} in {run['minutes']:g} minutes on {kind}; {made}; commit "
        f"{state}. Each ratio is the median of {run['repeats']} paired timings (their range), the "
        "two ways in turn and in both orders."
    )


def _models(run: dict) -> str:
    rows = [
        f"| {name} | {one['weights']} | {one['parameters'] / 1e6:,.1f} M | {one['layers']} | "
        f"{one['width']:,} | {one['vocabulary']:,} | {one['dtype']} | {one['rows']} |"
        for name, one in run["shapes"].items()
    ]
    head = "| model | weights | parameters | layers | width | vocabulary | dtype | batch |"
    return _table(head, rows)


def _goals(run: dict) -> str:
    rows = []
    for row in run["ratios"]:
        against = _WAYS[row["against"]]
        if row["sense"] == plan.AT_MOST:
            what = f"{row['what']}: time against {against}"
        else:
            what = f"{row['what']}: times as fast as {against}"
        if "missing" in row:
            rows.append(f"| {what} | {row['shape']} | | not measured | {_goal(row)} | | |")
            continue
        found = f"{factor(row['ratio']['median'])} ({_range(row['ratio'])})"
        rows.append(
            f"| {what} | {row['shape']} | {row['prompts']:,} | {found} | {_goal(row)} | "
            f"{_met(row['met'])} | {factor(row['counted'])} |"
        )
    head = "| measure | model | prompts | ratio (range) | goal | met | by arithmetic alone |"
    return _table(head, rows)


def _goal(row: dict) -> str:
    if row["goal"] is None:
        return ""
    sign = {plan.AT_MOST: "≤", plan.AT_LEAST: "≥"}[row["sense"]]
    return f"{sign} {factor(row['goal'])}"


def _missed(run: dict) -> list[str]:
    """For each missed goal where the floor lies: what counting operations leaves to be had."""
    said = []
    for row in run["ratios"]:
        if row.get("met") is not False:
            continue
        against, share = _WAYS[row["against"]], row["ratio"]["median"] / row["counted"]
        share = share if row["sense"] == plan.AT_MOST else 1 / share
        reach = "reach" if _reachable(row) else "not reach"
        said.append(
            f"- *{row['what']} against {against} on {row['shape']}* misses its goal. Counted "
            f"operations alone would give {factor(row['counted'])}, which would {reach} it; "
            f"{share:.1f} times the counted time was taken, the rest goes to small matrix "
            "products, to memory and to what is not counted."
        )
    return ["\n".join(said)] if said else []


def _reachable(row: dict) -> bool:
    if row["sense"] == plan.AT_MOST:
        return row["counted"] <= row["goal"]
    return row["counted"] >= row["goal"]


def _memory(run: dict) -> str:
    rows = [
        f"| {row['experiment']} | {row['shape']} | {row['prompts']:,} | "
        f"{row['peak_bytes'] / _MIB:,.0f} MiB | ≤ {row['goal_bytes'] / _MIB:,.0f} MiB | "
        f"{_met(row['met'])} |"
        for row in run["memory"]
    ]
    head = "| peak memory above the weights | model | prompts | peak | goal | met |"
    return _table(head, rows)


def _scaling(run: dict) -> str:
    parts = []
    for shape in dict.fromkeys(row["shape"] for row in run["scaling"]):
        mine = [row for row in run["scaling"] if row["shape"] == shape]
        rows = [
            f"| {row['prompts']:,} | {1000 * row['seconds_per_prompt']['median']:,.1f} | "
            f"{row['peak_bytes'] / _MIB:,.0f} MiB |"
            for row in mine
        ]
        head = f"| prompts, {plan.LAST}, {shape} | ms a prompt | peak above the weights |"
        time, memory = spread(mine)
        parts.append(
            f"{_table(head, rows)}\n\nTime a prompt from {mine[0]['prompts']:,} prompts to "
            f"{mine[-1]['prompts']:,}: within a factor of {time:.2f} (goal: {plan.FLAT:g}, "
            f"{_met(time <= plan.FLAT)}). Memory, weights and all: times {memory:.2f} (goal: "
            f"{plan.FLAT:g}, {_met(memory <= plan.FLAT)})."
        )
    return "\n\n".join(parts)


def spread(rows: list[dict]) -> tuple[float, float]:
    """Largest over smallest: of the time a prompt takes, and of weights and peak together."""
    times = [row["seconds_per_prompt"]["median"] for row in rows]
    bytes_held = [row["peak_bytes"] + row["weight_bytes"] for row in rows]
    return max(times) / min(times), max(bytes_held) / min(bytes_held)


def _rates(run: dict) -> str:
    rows = []
    for name, one in run["shapes"].items():
        passes, product = one["rates"]["plain_pass"], one["rates"]["matrix_product"]
        rows.append(
            f"| {name} | {one['dtype']} | {passes / 1e9:,.0f} | {product / 1e9:,.0f} | "
            f"{passes / product:.0%} |"
        )
    head = "| model | dtype | plain pass, GFLOP/s | matrix product, GFLOP/s | share |"
    return _table(head, rows)


def _agreement(run: dict) -> str:
    """How near all contestants came to the truth, in one sentence a model."""
    said = []
    for shape in run["shapes"]:
        rows = [row for row in run["agreement"] if row["shape"] == shape]
        gap = max(row["logit_gap"] for row in rows if row["logit_gap"] is not None)
        allowed = max(row["allowed"] for row in rows)
        equal = min(row["ranks_equal"] for row in rows if "ranks_equal" in row)
        ways = len({row["contestant"] for row in rows})
        said.append(
            f"- {shape}: {len(rows)} answers of {ways} ways; largest gap of a logit {gap:.1g}, "
            f"allowed {allowed:.1g}; {equal:.1%} or more of the ranks equal"
        )
    return "Before anything was timed, all ways gave the same numbers:\n\n" + "\n".join(said)


def factor(value: float) -> str:
    """`0.72x`, `8.1x`, `43x`."""
    return f"{value:.2f}x" if value < 5 else f"{value:.1f}x" if value < 20 else f"{value:,.0f}x"


def _range(found: dict) -> str:
    return f"{factor(found['low'])} to {factor(found['high'])}"


def _met(met: bool | None) -> str:
    return {True: "yes", False: "**no**", None: ""}[met]


def _table(head: str, rows: list[str]) -> str:
    """A Markdown table; nothing where there is no row."""
    return "\n".join([head, "|---" * (head.count("|") - 1) + "|", *rows]) if rows else ""
