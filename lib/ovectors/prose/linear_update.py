"""Chapter 2's sentences: who makes the switch, what the o vector does, how much of it is shared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pandas as pd

from ovectors.experiments.linear_update import ADD, OWN, RANDOM, SUBTRACT
from ovectors.experiments.linearity import AFFINE, MEAN, OTHERS, REMAINDER, WHOLE
from ovectors.experiments.switches import ATTENTION, EITHER, FFN, PARALLEL_RULES, RULES
from ovectors.prose.common import accuracy_of, interval, listed, title

if TYPE_CHECKING:
    from ovectors.statistics import Interval

RULE = 0.5  # more than half of the items
STRONGEST = 4.0  # the largest of the demo's scales
NOTHING_CORRECT = "No item was answered correctly, so there is no switch to look for."
NOTHING_TRIED = "No item has an o vector, so there is nothing to subtract."
NOTHING_FITTED = "Too few items were answered correctly to fit a mean vector and to measure it."
NO_NEURONS = "No switch needs an FFN's output, so there are no neurons to look at."
NO_PAPER_LAYER = (
    "The paper names no layer of its own for this model, so the o vectors above, each from its "
    "item's own switching layer, are the only ones."
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
        cells = [_cell(rows.loc[r]) if r in rows.index else "0.00" for r in relations]
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


def _cell(row: pd.Series) -> str:
    return interval(row["share"], row["low"], row["high"])


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
        cells = [_cell(rows.loc[v]) if v in rows.index else "none" for v in (OWN, RANDOM)]
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
            f"subtracting its output puts the argument back above the answer on {_cell(back)}, and "
            f"scaled by {STRONGEST:g} on {_quoted(table, SUBTRACT, OWN, STRONGEST)}"
        )
        if (up := _at(table, ADD, OWN, 1.0)) is not None:
            said += (
                "; adding it where the argument was on top before brings the answer above it on "
                f"{_cell(up)} (n = {up['n']})"
            )
        sentences.append(said + ".")
    return "\n\n".join(sentences) or NO_PAPER_LAYER


def _at(effects: pd.DataFrame, operation: str, vector: str, scale: float) -> pd.Series | None:
    wanted = (effects["operation"] == operation) & (effects["vector"] == vector)
    rows = effects[wanted & (effects["scale"] == scale)]
    return None if rows.empty else rows.iloc[0]


def _quoted(effects: pd.DataFrame, operation: str, vector: str, scale: float) -> str:
    row = _at(effects, operation, vector, scale)
    return "none" if row is None else _cell(row)


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
        cells = [_cell(rows.loc[one]) if one in rows.index else "none" for one in kinds]
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
    own = [f"{row.cosine:.2f} on {_lower(row.relation)}" for row in within.itertuples()]
    said = (
        f"At layer {layer}, where development items of all tasks together switch most often, and "
        "with the tasks' common mean taken away, the mean cosine between two items of a task is "
        f"{listed(own)}"
    )
    if across.empty:
        return f"{said}."
    lowest, highest = across["cosine"].min(), across["cosine"].max()
    said += f"; between items of two tasks it lies between {lowest:.2f} and {highest:.2f}."
    apart = [_lower(row.relation) for row in within.itertuples() if row.low > highest]
    if apart:
        said += (
            f" Two items of {listed(apart)} are thus more alike than the items of any two tasks, "
            "interval included."
        )
    return said


def neuron_sentences(needed: pd.DataFrame) -> str:
    """How many neurons are enough, and how many are missed, a sentence per relation."""
    if needed.empty:
        return NO_NEURONS
    sentences = []
    for row in needed.itertuples():
        half, most, rest = (
            _largest(k, row.neurons) for k in (row.half, row.nine_tenths, row.rest_fails)
        )
        lost = (
            "half of the items keep it however many are left out"
            if row.rest_fails < 0
            else f"less than half of the items keep it without {rest}"
        )
        sentences.append(
            f"**{title(row.relation)}** (n = {row.n}): the answer comes to the top of half of the "
            f"items with {half} of {row.neurons:,} neurons, of nine tenths with {most}; {lost}."
        )
    return "\n\n".join(sentences)


def _largest(k: int, neurons: int) -> str:
    if k < 0:
        return "none of the numbers tried"
    if k <= 1:
        return ("no neuron", "the largest one")[k]
    return f"all {k:,}" if k == neurons else f"the largest {k:,}"


def _lower(relation: str) -> str:
    name = title(relation)
    return name if name.startswith("US") else name.lower()


def maker_sentence(shares: pd.DataFrame) -> str:
    """Who makes the last switch, and whether it is the FFN's rule on any task."""
    parts, rule, other = [], [], []
    for relation, part in shares.groupby("relation", sort=False):
        rows = part.set_index("made_by")
        parts.append(f"{_cell(rows.loc[FFN])} of {_lower(relation)} (n = {rows.loc[FFN, 'n']})")
        if rows.loc[FFN, "low"] > RULE:
            rule.append(_lower(relation))
        for maker in (ATTENTION, EITHER):
            if maker in rows.index and rows.loc[maker, "low"] > RULE:
                other.append(f"{_lower(relation)} ({maker})")
    said = f"The FFN makes the last switch to the answer on {listed(parts)}."
    if rule:
        said += f" That is more than half of the items of {listed(rule)}, interval included."
    if other:
        said += f" More than half of the switches are made otherwise on {listed(other)}."
    return said


def effect_sentence(effects: pd.DataFrame) -> str:
    """How often subtracting the o vector at the switching layer brings the argument back."""
    parts = []
    for relation, part in effects.groupby("relation", sort=False):
        own, chance = (_quoted(part, SUBTRACT, vector, 1.0) for vector in (OWN, RANDOM))
        scaled = _quoted(part, SUBTRACT, OWN, STRONGEST)
        parts.append(f"{own} of {_lower(relation)} (random vector: {chance}; scaled: {scaled})")
    return (
        "Subtracting the o vector at the switching layer puts the argument back above the answer "
        f"on {listed(parts)}; scaled means {STRONGEST:g} times the o vector."
    )


def shared_sentence(at_switch: pd.DataFrame) -> str:
    """Whether the shared part or the item's own brings up the answer at the switching layers."""
    parts, shared, own = [], [], []
    for relation, part in at_switch.groupby("relation", sort=False):
        rows = part.set_index("added")
        name = _lower(relation)
        mean, rest = rows.loc[MEAN], rows.loc[REMAINDER]
        parts.append(f"{_cell(mean)} of {name} (own remainder: {_cell(rest)}; n = {mean['n']})")
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


def summary(
    name: str,
    accuracies: Mapping[str, Interval],
    shares: pd.DataFrame,
    effects: pd.DataFrame,
    at_switch: pd.DataFrame,
    needed: pd.DataFrame,
) -> str:
    """The findings of chapter 2 in a short list, for whatever model was run."""
    known = [f"{accuracy_of(found)} on {_lower(r)}" for r, found in accuracies.items()]
    lines = [f"- `{name}` answers with one demonstration, as accuracy: {listed(known)}."]
    lines.append(f"- {NOTHING_CORRECT if shares.empty else maker_sentence(shares)}")
    if len(effects):
        lines.append(f"- {effect_sentence(effects)}")
    if len(at_switch):
        lines.append(f"- {shared_sentence(at_switch)}")
    if len(needed):
        found = [
            f"{_largest(row.half, row.neurons)} on {_lower(row.relation)}"
            for row in needed.itertuples()
        ]
        lines.append(
            f"- Of the {needed['neurons'].iloc[0]:,} neurons of the switching layer's FFN, "
            f"these bring the answer to the top of half of the items: {listed(found)}."
        )
    return "\n".join(lines)
