"""Chapter 1's sentences: where argument and answer stand, and which items show the stages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pandas as pd

from ovectors.experiments.stages.judge import place
from ovectors.prose.common import accuracy_of, interval, listed, title

if TYPE_CHECKING:
    from ovectors.statistics import Interval


RULE, EXCEPTION = 0.5, 0.1  # more than half of the items; fewer than one in ten
COMMON = 0.05  # the share of prompts from which on a top token is worth naming
NO_COMMON_TOKEN = f"Without, no token is on top of {COMMON:.0%} of the prompts or more."
NOTHING_CORRECT = "No item was answered correctly, so there are no stages to look for."


def stage_table(stages: pd.DataFrame) -> str:
    """Markdown table: share of correctly answered items with each stage, a column per relation."""
    if stages.empty:
        return NOTHING_CORRECT
    relations = list(dict.fromkeys(stages["relation"]))
    sizes = stages.groupby("relation")["n"].first()
    lines = [
        "| stage | " + " | ".join(f"{title(r)} (n = {sizes[r]})" for r in relations) + " |",
        "|---" * (len(relations) + 1) + "|",
    ]
    for stage, part in stages.groupby("stage", sort=False):
        rows = part.set_index("relation")
        cells = [interval(*rows.loc[r, ["share", "low", "high"]]) for r in relations]
        lines.append(f"| {stage} | {' | '.join(cells)} |")
        if rows["median_layer"].notna().any():
            cells = [_depth(rows.loc[relation]) for relation in relations]
            lines.append(f"| {stage}: median layer | {' | '.join(cells)} |")
    return "\n".join(lines)


def _depth(row: pd.Series) -> str:
    if pd.isna(row["median_layer"]):
        return "none"
    return f"{row['median_layer']:g} (relative depth {row['relative_depth']:.2f})"


def curve_sentences(curves: pd.DataFrame) -> str:
    """Where the argument peaks and where the answer takes over, a sentence per relation.

    `curves` may hold half layers, the states between attention and FFN.
    """
    if curves.empty:
        return NOTHING_CORRECT
    sentences = []
    n_layers = int(curves["layer"].max()) + 1
    for relation, part in curves.groupby("relation", sort=False):
        means = part.pivot(index="layer", columns="token", values="mean")
        peak = means["argument"].idxmax()
        below = means["answer"] <= means["argument"]
        stays = means.index[~below[::-1].cummax()[::-1]]
        passed = means.index[means["answer"] > 0.5]
        sentence = (
            f"**{title(relation)}:** the argument's mean reciprocal rank is highest after "
            f"{place(peak)} ({means['argument'].max():.2f})"
        )
        if len(stays):
            sentence += f"; the answer's is above it from {place(stays[0])} on"
        if len(passed):
            depth = (passed[0] + 1) / n_layers
            sentence += (
                f" and first above 0.5 after {place(passed[0])} (relative depth {depth:.2f})"
            )
        sentences.append(sentence + ".")
    return "\n\n".join(sentences)


def signature_sentence(stages: pd.DataFrame) -> str:
    """How many items show all three stages, and whether that makes them the rule on any task."""
    whole = stages[stages["stage"] == "whole signature"]
    parts = [
        f"{interval(row.share, row.low, row.high)} of {title(row.relation).lower()} (n = {row.n})"
        for row in whole.itertuples()
    ]
    rule = [title(row.relation).lower() for row in whole.itertuples() if row.low > RULE]
    absent = [title(row.relation).lower() for row in whole.itertuples() if row.high < EXCEPTION]
    said = f"all three stages, in their order, show on {listed(parts)}."
    if rule:
        said += f" That is more than half of the items of {listed(rule)}, interval included."
    if absent:
        said += (
            f" The paper's signature is all but absent (below {EXCEPTION:g}) on {listed(absent)}."
        )
    return said


def zero_shot_sentences(
    one_shot: Mapping[str, Interval], zero_shot: Mapping[str, Interval], tokens: pd.DataFrame
) -> str:
    """Accuracy with and without the demonstration, and what the model says without it."""
    sentences = []
    for relation, found in zero_shot.items():
        common = tokens[(tokens["relation"] == relation) & (tokens["share"] >= COMMON)]
        said = [
            f"`{row.top_token.strip() or '↵'}` ({row.share:.0%})" for row in common.itertuples()
        ]
        with_one = accuracy_of(one_shot[relation])
        sentences.append(
            f"**{title(relation)}:** accuracy {accuracy_of(found)} without a demonstration, "
            f"{with_one} with one (n = {found.n}). "
            + (f"Commonest top tokens without: {listed(said)}." if said else NO_COMMON_TOKEN)
        )
    return "\n\n".join(sentences)


def stages_summary(
    name: str,
    accuracies: Mapping[str, Interval],
    curves: pd.DataFrame,
    stages: pd.DataFrame,
    zero_shot: Mapping[str, Interval],
) -> str:
    """The findings of chapter 1 in a short list, for whatever model was run."""
    known = [f"{accuracy_of(found)} on {title(r).lower()}" for r, found in accuracies.items()]
    lines = [f"- `{name}` answers with one demonstration, as accuracy: {listed(known)}."]
    peaks = curves[curves["token"] == "argument"].groupby("relation", sort=False)["mean"].max()
    if len(peaks):
        highest = [f"{peak:.2f} for {title(r).lower()}" for r, peak in peaks.items()]
        lines.append(
            "- The argument's mean reciprocal rank, on items answered correctly, reaches at most "
            f"{listed(highest)}."
        )
        stricter = "Item by item, which is stricter than the rule:"
        lines.append(f"- {stricter} {signature_sentence(stages)}")
    bare = [f"{a.value:.2f} on {title(r).lower()}" for r, a in zero_shot.items()]
    lines.append(f"- Without the demonstration accuracy is {listed(bare)}.")
    return "\n".join(lines)
