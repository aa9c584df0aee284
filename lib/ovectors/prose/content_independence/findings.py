"""The findings of chapter 3, in short."""

from __future__ import annotations

import pandas as pd

from ovectors.experiments.content_independence.measure.controls import WRONG
from ovectors.experiments.shared.outcomes import ANSWER
from ovectors.experiments.shared.replacing import OWN
from ovectors.prose.common import listed
from ovectors.prose.content_independence.names import (
    moved,
    named,
    number,
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
    """From which mean reciprocal rank to which, and whether that is a change."""
    rows = effects[effects["task"] == task].set_index("measure")
    before, after = (
        number(rows.loc[f"mean reciprocal rank {when}", "value"]) for when in ("before", "after")
    )
    change = rows.loc["change"]
    return f"{before} to {after} for {named(task)} ({moved(change['low'], change['high'])})"


def _controls_passed(means: pd.DataFrame) -> str:
    """On which tasks the own vectors are above every control, by the averages.

    The vector after a wrong demonstration is told apart: its prompt still asks for the relation.
    """
    beaten, wrong = [], []
    for task, part in means.groupby("task", sort=False):
        rows = part.set_index("condition")["mean"]
        rivals = rows[[n for n in rows.index if n not in (OWN, WRONG) and "mean of" not in n]]
        if rows[OWN] > rivals.max():
            beaten.append(named(task))
        if WRONG in rows.index:
            both = f"{number(rows[WRONG])} for {named(task)} (beside {number(rows[OWN])})"
            wrong.append(both)
    where = f"for {listed(beaten)}" if beaten else "on no relation"
    said = f"is above the control run and all control vectors {where}."
    shown = f" After a wrong demonstration it reaches {listed(wrong)}." if wrong else ""
    return f"The own vector {said}{shown}"


def _formation_sentence(found: pd.DataFrame) -> str:
    parts = []
    for task, part in found.groupby("task", sort=False):
        formed, unformed = part.iloc[0], part.iloc[1]
        if formed["n"] and unformed["n"]:
            parts.append(
                f"{formed['mean']:+.2f} with and {unformed['mean']:+.2f} without for {named(task)}"
            )
    if not parts:
        return "Items with and without argument formation cannot be compared here."
    return f"Change on items with argument formation on their one-shot prompt: {listed(parts)}."
