"""The findings of chapter 3, in short."""

from __future__ import annotations

import pandas as pd

from ovectors.experiments.shared.outcomes import ANSWER
from ovectors.prose.common import interval, listed
from ovectors.prose.content_independence.names import (
    condition_title,
    lead,
    moved,
    named,
    number,
    ranks,
    sorted_out,
)


def summary(
    name: str,
    effects: pd.DataFrame,
    means: pd.DataFrame,
    spread: pd.DataFrame,
    shares: pd.DataFrame,
    by_formation: pd.DataFrame,
) -> str:
    """The findings of chapter 3 in a short list, for whatever model was run."""
    main = effects[(effects["setting"] == "chosen") & (effects["positions"] == "all")]
    changes = [_changed(main, task) for task in means["task"].unique()]
    lines = [
        f"- On `{name}`, one example's vector in place of the late FFN outputs takes the answer's "
        f"mean reciprocal rank from {listed(changes)}."
    ]
    lines.append(f"- {_controls_passed(means)}")
    reach = [
        f"{int((part['low'] > 0).sum())} of {len(part)} for {named(task)}"
        for task, part in spread.groupby("task", sort=False)
    ]
    lines.append(f"- Sources that raise the answer, their interval clear of zero: {listed(reach)}.")
    ends = [
        f"{part.set_index('outcome')['share'].drop(ANSWER).idxmax()} for {named(task)}"
        for task, part in shares.groupby("task", sort=False)
    ]
    lines.append(f"- What comes out most often where the answer does not: {listed(ends)}.")
    lines.append(f"- {_formation_sentence(by_formation)}")
    return "\n".join(lines)


def _changed(effects: pd.DataFrame, task: str) -> str:
    """From which mean reciprocal rank and rank to which, and whether that is a change."""
    rows = effects[effects["task"] == task].set_index("measure")
    before, after = (
        number(rows.loc[f"mean reciprocal rank {when}", "value"]) for when in ("before", "after")
    )
    change = rows.loc["change"]
    said = f"{ranks(rows)}: {moved(change['low'], change['high'])}"
    return f"{before} to {after} for {named(task)} ({said})"


def _controls_passed(means: pd.DataFrame) -> str:
    """On which tasks the own vectors are above every control, and else which does as well."""
    beaten, held = [], []
    for task, part in means.groupby("task", sort=False):
        _, left = sorted_out(part)
        if left.empty:
            beaten.append(named(task))
        else:
            strongest = left.iloc[0]
            held.append(
                f"for {named(task)}, where the strongest that does as well is the "
                f"{condition_title(strongest['condition'])} (the own vector minus it: "
                f"{lead(strongest)})"
            )
    every = "The own vector is above the control run and every control vector"
    said = f"{every} for {listed(beaten)}." if beaten else ""
    if held:
        who = "It" if beaten else "The own vector"
        said += f" {who} is not above all of its controls {listed(held)}."
    return said.strip()


def _formation_sentence(found: pd.DataFrame) -> str:
    parts = []
    for task, part in found.groupby("task", sort=False):
        formed, unformed = part.iloc[0], part.iloc[1]
        if formed["n"] and unformed["n"]:
            parts.append(
                f"{interval(formed['mean'], formed['low'], formed['high'])} with and "
                f"{interval(unformed['mean'], unformed['low'], unformed['high'])} without "
                f"for {named(task)}"
            )
    if not parts:
        return "Items with and without argument formation cannot be compared here."
    return f"Change on items with argument formation on their one-shot prompt: {listed(parts)}."
