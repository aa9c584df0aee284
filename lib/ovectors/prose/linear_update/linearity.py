"""How much of what FFNs add is shared: mean vectors, affine maps, cosines."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from ovectors.experiments.linear_update.measure.linearity import (
    AFFINE,
    MEAN,
    OTHERS,
    REMAINDER,
    WHOLE,
)
from ovectors.prose.common import interval, listed, title
from ovectors.prose.linear_update.names import (
    NOTHING_FITTED,
    cell,
    lower,
)


def linearity_table(
    explained: pd.DataFrame,
    gains: pd.DataFrame,
    layers: pd.DataFrame,
    fitted: Mapping[str, int],
) -> str:
    """Markdown table: what is shared of the FFN's outputs, at each relation's chosen layer.

    `fitted` has, by relation, on how many items mean and map were fitted.
    """
    if explained.empty:
        return NOTHING_FITTED
    lines = [
        "| task | layer | fitted on | measured on | explained by: mean vector | affine map | "
        "other tasks' mean | gain in logits: whole output | mean vector | own remainder |",
        "|---" * 10 + "|",
    ]
    for row in layers.itertuples():
        there = [
            table[(table["relation"] == row.relation) & (table["layer"] == row.layer)]
            for table in (explained, gains)
        ]
        if there[0].empty:
            continue
        share, gain = (table.set_index("added") for table in there)
        cells = [_band(share, one) for one in (MEAN, AFFINE, OTHERS)]
        cells += [_band(gain, one) for one in (WHOLE, MEAN, REMAINDER)]
        n = f"{fitted[row.relation]} | {int(share['n'].iloc[0])}"
        lines.append(f"| {title(row.relation)} | {row.layer} | {n} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _band(rows: pd.DataFrame, added: str) -> str:
    if added not in rows.index:
        return "none"
    return interval(*rows.loc[added, ["mean", "low", "high"]])


def switch_table(at_switch: pd.DataFrame) -> str:
    """Markdown table: what brings the answer to the top in place of the o vector."""
    if at_switch.empty:
        return NOTHING_FITTED
    kinds = [MEAN, OTHERS, REMAINDER, AFFINE]
    lines = [
        "| task | n | " + " | ".join(kinds) + " |",
        "|---|---" + "|---" * len(kinds) + "|",
    ]
    for relation, part in at_switch.groupby("relation", sort=False):
        rows = part.set_index("added")
        cells = [cell(rows.loc[one]) if one in rows.index else "none" for one in kinds]
        lines.append(f"| {title(relation)} | {rows['n'].iloc[0]} | {' | '.join(cells)} |")
    return "\n".join(lines)


def cosine_sentence(cells: pd.DataFrame, layer: int) -> str:
    """Whether outputs of one layer's FFN are more alike within a relation than across relations.

    `cells` as made by `cosine_panels`; the sentence is about the last of its panels.
    """
    if cells.empty:
        return NOTHING_FITTED
    cells = cells[cells["panel"] == cells["panel"].iloc[-1]]
    within = cells[cells["relation"] == cells["other"]]
    across = cells[cells["relation"] != cells["other"]]
    own = [f"{row.cosine:.2f} on {lower(row.relation)}" for row in within.itertuples()]
    said = (
        f"At layer {layer}, where development items of all tasks together switch most often, and "
        "with the tasks' common mean taken away, the mean cosine between two items of a task is "
        f"{listed(own)}"
    )
    if across.empty:
        return f"{said}."
    lowest, highest = across["cosine"].min(), across["cosine"].max()
    said += f"; between items of two tasks it lies between {lowest:.2f} and {highest:.2f}."
    apart = [lower(row.relation) for row in within.itertuples() if row.low > highest]
    if apart:
        said += (
            f" Two items of {listed(apart)} are thus more alike than the items of any two tasks, "
            "interval included."
        )
    return said


def shared_sentence(at_switch: pd.DataFrame) -> str:
    """Whether the shared part or the item's own brings up the answer at the switching layers."""
    parts, shared, own = [], [], []
    for relation, part in at_switch.groupby("relation", sort=False):
        rows = part.set_index("added")
        name = lower(relation)
        mean, rest = rows.loc[MEAN], rows.loc[REMAINDER]
        parts.append(f"{cell(mean)} of {name} (own remainder: {cell(rest)}; n = {mean['n']})")
        if mean["low"] > rest["high"]:
            shared.append(name)
        if rest["low"] > mean["high"]:
            own.append(name)
    said = (
        "Where the answer needs the switching layer's FFN, the task's mean vector in place of the "
        f"o vector brings the answer to the top on {listed(parts)}."
    )
    if shared:
        said += f" What all items share does so more often than the remainder on {listed(shared)}."
    if own:
        said += f" The remainder does so more often than what all items share on {listed(own)}."
    return said
