"""Who makes the last switch to the answer."""

from __future__ import annotations

import pandas as pd

from ovectors.experiments.linear_update.judge.switches import (
    ATTENTION,
    EITHER,
    FFN,
    PARALLEL_RULES,
    RULES,
)
from ovectors.prose.common import listed, title
from ovectors.prose.linear_update.names import (
    NOTHING_CORRECT,
    RULE,
    cell,
    lower,
)


def rules(*, parallel: bool) -> str:
    """How a switch is found and put down to a sublayer, as Markdown, for this model's blocks."""
    found = {"last switch": RULES["last switch"]} | (PARALLEL_RULES if parallel else RULES)
    lines = [f"- **{name}**: {rule}." for name, rule in found.items()]
    if parallel:
        lines += [
            "",
            "In this model attention and FFN of a layer run in parallel: both read the same state, "
            "and there is none between them. So each contribution is added to the incoming state "
            "by itself.",
        ]
    return "\n".join(lines)


def maker_table(shares: pd.DataFrame, items: pd.DataFrame, layers: pd.DataFrame) -> str:
    """Markdown table: who makes the last switch, a column per relation, and where."""
    if shares.empty:
        return NOTHING_CORRECT
    relations = list(dict.fromkeys(shares["relation"]))
    sizes = shares.groupby("relation")["n"].first()
    lines = [
        "| last switch made by | " + " | ".join(f"{title(r)} (n = {sizes[r]})" for r in relations),
        "|---" * (len(relations) + 1),
    ]
    for maker, part in shares.groupby("made_by", sort=False):
        rows = part.set_index("relation")
        cells = [cell(rows.loc[r]) if r in rows.index else "0.00" for r in relations]
        lines.append(f"| {maker} | {' | '.join(cells)}")
    correct = items[items["correct"]].groupby("relation")["argument_before"].mean()
    cells = [f"{correct[r]:.2f}" for r in relations]
    lines.append(f"| *argument on top before the switching layer* | {' | '.join(cells)}")
    chosen = layers.set_index("relation")
    cells = [
        f"{chosen.loc[r, 'layer']} (n = {chosen.loc[r, 'n']})" if r in chosen.index else "none"
        for r in relations
    ]
    lines.append(f"| *commonest switching layer, development items* | {' | '.join(cells)}")
    return "\n".join(f"{line} |" for line in lines)


def maker_sentence(shares: pd.DataFrame) -> str:
    """Who makes the last switch, and whether it is the FFN's rule on any task."""
    parts, rule, other = [], [], []
    for relation, part in shares.groupby("relation", sort=False):
        rows = part.set_index("made_by")
        parts.append(f"{cell(rows.loc[FFN])} of {lower(relation)} (n = {rows.loc[FFN, 'n']})")
        if rows.loc[FFN, "low"] > RULE:
            rule.append(lower(relation))
        for maker in (ATTENTION, EITHER):
            if maker in rows.index and rows.loc[maker, "low"] > RULE:
                other.append(f"{lower(relation)} ({maker})")
    said = f"The FFN makes the last switch to the answer on {listed(parts)}."
    if rule:
        said += f" That is more than half of the items of {listed(rule)}, interval included."
    if other:
        said += f" More than half of the switches are made otherwise on {listed(other)}."
    return said
