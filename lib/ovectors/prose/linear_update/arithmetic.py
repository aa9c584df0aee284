"""What subtracting and adding the o vector does."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from ovectors.experiments.linear_update.measure.arithmetic import ADD, OWN, RANDOM, SUBTRACT
from ovectors.prose.common import listed, title
from ovectors.prose.linear_update.names import (
    NO_PAPER_LAYER,
    NOTHING_TRIED,
    STRONGEST,
    cell,
    lower,
)


def effect_table(effects: pd.DataFrame) -> str:
    """Markdown table: what subtracting and adding do, unscaled and at the demo's largest scale."""
    if effects.empty:
        return NOTHING_TRIED
    lines = [
        "| task | operation | scale | o vector [95% interval] | random vector [95% interval] | n |",
        "|---|---|---|---|---|---|",
    ]
    shown = effects[effects["scale"].isin([1.0, STRONGEST])]
    for (relation, operation, scale), part in shown.groupby(
        ["relation", "operation", "scale"], sort=False
    ):
        rows = part.set_index("vector")
        cells = [cell(rows.loc[v]) if v in rows.index else "none" for v in (OWN, RANDOM)]
        what = f"{title(relation)} | {operation} | {scale:g}"
        lines.append(f"| {what} | {cells[0]} | {cells[1]} | {rows['n'].iloc[0]} |")
    return "\n".join(lines)


def paper_layers(effects: Mapping[str, pd.DataFrame]) -> str:
    """The same with o vectors from the paper's own layers: a sentence per relation that has one.

    `effects` by a relation and its layer, written `relation@layer`.
    """
    sentences = []
    for name, table in effects.items():
        relation, _, layer = name.partition("@")
        place = f"**{title(relation)}, the paper's layer {layer}:**"
        back = _at(table, SUBTRACT, OWN, 1.0)
        if back is None:
            sentences.append(f"{place} the answer is on top after it on no item.")
            continue
        said = (
            f"{place} on the {back['n']} items answered correctly with the answer on top after it, "
            f"subtracting its output puts the argument back above the answer on {cell(back)}, and "
            f"scaled by {STRONGEST:g} on {_quoted(table, SUBTRACT, OWN, STRONGEST)}"
        )
        if (up := _at(table, ADD, OWN, 1.0)) is not None:
            said += (
                "; adding it where the argument was on top before brings the answer above it on "
                f"{cell(up)} (n = {up['n']})"
            )
        sentences.append(said + ".")
    return "\n\n".join(sentences) or NO_PAPER_LAYER


def _at(effects: pd.DataFrame, operation: str, vector: str, scale: float) -> pd.Series | None:
    wanted = (effects["operation"] == operation) & (effects["vector"] == vector)
    rows = effects[wanted & (effects["scale"] == scale)]
    return None if rows.empty else rows.iloc[0]


def _quoted(effects: pd.DataFrame, operation: str, vector: str, scale: float) -> str:
    row = _at(effects, operation, vector, scale)
    return "none" if row is None else cell(row)


def effect_sentence(effects: pd.DataFrame) -> str:
    """How often subtracting the o vector at the switching layer brings the argument back."""
    parts = []
    for relation, part in effects.groupby("relation", sort=False):
        own, chance = (_quoted(part, SUBTRACT, vector, 1.0) for vector in (OWN, RANDOM))
        scaled = _quoted(part, SUBTRACT, OWN, STRONGEST)
        parts.append(f"{own} of {lower(relation)} (random vector: {chance}; scaled: {scaled})")
    return (
        "Subtracting the o vector at the switching layer puts the argument back above the answer "
        f"on {listed(parts)}; scaled means {STRONGEST:g} times the o vector."
    )
