"""Chapter 5's sentences: what was chosen, what adding the vector gains, what comes out on top."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import pandas as pd

from ovectors.prose.common import interval, left_out, listed, title

if TYPE_CHECKING:
    from ovectors.encoding import EncodedPrompts
    from ovectors.experiments.zero_shot.settings import Setting

CONDITIONS = {
    "none": "nothing added",
    "random": "a random vector of equal norm",
    "other": "another relation's vector of equal norm",
    "own": "the relation's own o vector",
    "one-shot": "a demonstration, no vector",
}
CEILING = 0.9  # an accuracy whose interval lies above this leaves little to gain
COMMON = 0.1  # the share of runs from which on a top token is worth naming


def setting_table(
    settings: Sequence[tuple[str, Setting]], means: pd.DataFrame, table: pd.DataFrame
) -> str:
    """Markdown table: layer and scale, who chose them on how much, and the vectors' sources."""
    lines = [
        "| relation | set by | layer | scale | development items | sources | reported items |",
        "|---" * 7 + "|",
    ]
    for relation, chosen in settings:
        tried = means[(means["relation"] == relation) & (means["scale"] > 0)]
        items = f"{tried['n'].max()} ({tried['pairs'].max()} pairs)" if len(tried) else "none"
        by_paper = chosen.name == "paper"
        who, items = ("the paper", "") if by_paper else ("development items", items)
        run = table[(table["relation"] == relation) & (table["setting"] == chosen.name)]
        sources = run[run["condition"] == "own"].drop_duplicates("number")
        answered = f"{len(sources)} ({int(sources['source_correct'].sum())} answered)"
        lines.append(
            f"| {title(relation)} | {who} | {chosen.layer} | {chosen.scale:g} | {items} "
            f"| {answered} | {run['item'].nunique()} |"
        )
    return "\n".join(lines)


def exclusion_table(encoded: Mapping[str, EncodedPrompts]) -> str:
    """Markdown table: zero-shot prompts that can be measured, and those left out, with reasons."""
    lines = ["| relation | prompts | left out |", "|---|---|---|"]
    for relation, prompts in encoded.items():
        lines.append(f"| {title(relation)} | {len(prompts)} | {left_out(prompts)} |")
    return "\n".join(lines)


def accuracy_table(accuracies: pd.DataFrame, *, setting: str = "chosen") -> str:
    """Markdown table: accuracy in every condition, with the worst and the best single vector."""
    shown = accuracies[accuracies["setting"] == setting]
    relations = list(dict.fromkeys(shown["relation"]))
    sizes = shown.groupby("relation")["n"].max()
    lines = [
        "| | " + " | ".join(f"{title(name)} (n = {sizes[name]})" for name in relations) + " |",
        "|---" * (len(relations) + 1) + "|",
    ]
    for condition, label in CONDITIONS.items():
        rows = shown[shown["condition"] == condition].set_index("relation")
        cells = [_accuracy(rows.loc[name]) if name in rows.index else "" for name in relations]
        lines.append(f"| {label} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _accuracy(row: pd.Series) -> str:
    shown = interval(row["mean"], row["low"], row["high"])
    if row["n_sources"] < 2:
        return shown
    return f"{shown}; single vectors {row['worst']:.2f} to {row['best']:.2f}"


def changed(low: float, high: float) -> str:
    """What the interval of a gain says."""
    if low > 0:
        return "a gain"
    if high < 0:
        return "a loss"
    return "no change is shown"


def gain_sentences(
    accuracies: pd.DataFrame, gains: pd.DataFrame, *, setting: str = "chosen"
) -> str:
    """What adding the vector gains on each relation, beside what the controls do."""
    sentences = []
    found = gains[gains["setting"] == setting]
    for relation, part in found.groupby("relation", sort=False):
        level = accuracies[
            (accuracies["relation"] == relation) & (accuracies["setting"] == setting)
        ].set_index("condition")
        rows = part.set_index("against")
        shown = {name: interval(*rows.loc[name, ["mean", "low", "high"]]) for name in rows.index}
        gain = rows.loc["none"]
        said = (
            f"**{title(relation)}:** accuracy is {level.loc['none', 'mean']:.2f} without and "
            f"{level.loc['own', 'mean']:.2f} with the o vector, a difference of {shown['none']} "
            f"(n = {int(gain['n'])}): {changed(gain['low'], gain['high'])}. Less what a random "
            f"vector does it is {shown['random']}, less what another relation's does "
            f"{shown['other']}. The answer's mean reciprocal rank is "
            f"{level.loc['none', 'reciprocal_rank']:.2f} without and "
            f"{level.loc['own', 'reciprocal_rank']:.2f} with it."
        )
        if level.loc["none", "low"] > CEILING:
            said += " Without any vector nearly every item is answered, so there is little to gain."
        sentences.append(said)
    return "\n\n".join(sentences)


def paper_sentences(accuracies: pd.DataFrame, gains: pd.DataFrame) -> str:
    """The same at the layers that the paper takes its vectors from, or that there are none."""
    if gains[gains["setting"] == "paper"].empty:
        return "The paper names no layers for this model, so there is no second setting to report."
    return gain_sentences(accuracies, gains, setting="paper")


def outcome_sentences(
    shares: pd.DataFrame, tokens: pd.DataFrame, *, setting: str = "chosen"
) -> str:
    """What is on top without and with the vector: kinds of tokens, and the commonest ones."""
    sentences = []
    for relation in dict.fromkeys(shares["relation"]):
        parts = []
        for condition, lead in (("none", "without a vector"), ("own", "with it")):
            rows = _chosen(shares, relation, setting, condition)
            kinds = [f"{row.outcome} {row.mean:.2f}" for row in rows.itertuples() if row.mean]
            said = f"{lead}: {listed(kinds)}"
            named = _chosen(tokens, relation, setting, condition)
            common = [
                f"`{row.token.strip() or '↵'}` ({row.share:.0%})"
                for row in named[named["share"] >= COMMON].itertuples()
            ]
            parts.append(said + (f", most often {listed(common)}" if common else ""))
        sentences.append(f"**{title(relation)}**, share of runs: {'; '.join(parts)}.")
    return "\n\n".join(sentences)


def _chosen(table: pd.DataFrame, relation: str, setting: str, condition: str) -> pd.DataFrame:
    named = {"relation": relation, "setting": setting, "condition": condition}
    return table[(table[list(named)] == pd.Series(named)).all(axis=1)]


def summary(name: str, accuracies: pd.DataFrame, gains: pd.DataFrame) -> str:
    """The findings of chapter 5 in a short list, for whatever model was run."""
    lines = []
    chosen = gains[(gains["setting"] == "chosen") & (gains["against"] == "none")]
    above = gains[(gains["setting"] == "chosen") & (gains["against"] == "random")]
    above = above.set_index("relation")
    for row in chosen.itertuples():
        random = above.loc[row.relation]
        bare = _chosen(accuracies, row.relation, "chosen", "none").iloc[0]
        line = (
            f"- {title(row.relation)}, without a demonstration: adding the o vector of one example "
            f"changes the accuracy of `{name}` by {interval(row.mean, row.low, row.high)} "
            f"({changed(row.low, row.high)}); the difference from a random vector of equal norm is "
            f"{interval(random['mean'], random['low'], random['high'])}"
        )
        if bare["low"] > CEILING:
            line += f"; it is {bare['mean']:.2f} without any vector"
        lines.append(line + ".")
    return "\n".join(lines)
