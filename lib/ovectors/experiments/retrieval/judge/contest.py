"""Memory beside context: the X on extractive prompts, and prompts on which the two disagree."""

from __future__ import annotations

from collections import Counter

import pandas as pd

from ovectors.experiments.retrieval.judge.costs import DIFFERENCE
from ovectors.experiments.retrieval.measure import ABSTRACTIVE, COUNTERFACTUAL, EXTRACTIVE
from ovectors.experiments.retrieval.removal import CONTROL
from ovectors.experiments.shared.rows import layer_rows, row_of
from ovectors.experiments.stages.judge import after_layers, detect_stages
from ovectors.statistics import nothing, paired_difference, share

WINS = ("context", "memory", "something else")
REMOVALS = {"relation": "world_capitals", "form": COUNTERFACTUAL, "conditions": ("zero",)}
"""The settings of `retrieval.ablation` that `contest_outcomes` reads the table of."""


def argument_stage(table: pd.DataFrame, *, seed: int = 0) -> pd.DataFrame:
    """Whether the argument comes first, as in the X of figure 3, with and without the context.

    `table` is made by `stages.measure.stages` in the forms `ABSTRACTIVE` and `EXTRACTIVE`. One
    row per relation and form: the share of correctly answered items with the argument on top
    before the answer, and a last row `DIFFERENCE` over the items answered correctly in both forms,
    paired. Where the prompt asks for its argument back (extractive coloured objects) the two are
    one token, so that nothing can come first: no row.
    """
    rows = []
    for relation, part in table[table["correct"]].groupby("relation", sort=False):
        formed = {
            form: _formed(shown)
            for form, shown in part.groupby("form", sort=False)
            if not (shown["argument"] == shown["answer"]).all()
        }
        for form, found in formed.items():
            whole = share(found, clusters=found.index.get_level_values(0).tolist())
            rows.append({"relation": relation, "prompts": form} | row_of(whole))
        if {ABSTRACTIVE, EXTRACTIVE} <= set(formed):
            both = pd.DataFrame(formed).dropna().astype(float)
            found = nothing()
            if len(both):
                level = {"clusters": both.index.get_level_values(0).tolist(), "seed": seed}
                found = paired_difference(both[ABSTRACTIVE], both[EXTRACTIVE], **level)
            rows.append({"relation": relation, "prompts": DIFFERENCE} | row_of(found))
    return pd.DataFrame(rows, columns=["relation", "prompts", "mean", "low", "high", "n"])


def _formed(table: pd.DataFrame) -> pd.Series:
    """For each item whether its argument was on top before its answer was.

    Items are named by their argument, and the how-manieth with it they are: what an item is called
    must not depend on which others a form leaves out.
    """
    found: dict[tuple[str, int], bool] = {}
    met: Counter[str] = Counter()
    for _, item in after_layers(table).sort_values("layer").groupby("item"):
        argument = item["argument"].iloc[0]
        ranks = item["rank_argument"].to_numpy(), item["rank_answer"].to_numpy()
        found[argument, met[argument]] = detect_stages(*ranks).argument_formed
        met[argument] += 1
    return pd.Series(found, dtype=object)


def known_items(table: pd.DataFrame, relation: str) -> set[int]:
    """The items that the whole model answers from memory: abstractive, nothing removed."""
    control = table[(table["condition"] == CONTROL) & (table["form"] == ABSTRACTIVE)]
    right = control[(control["relation"] == relation) & control["correct"]]
    return set(right["item"].tolist())


def contest_curves(table: pd.DataFrame, known: set[int], *, seed: int = 0) -> pd.DataFrame:
    """Where context and memory disagree: how high each one's answer stands after every layer.

    `table` from `contest`, over the items in `known`. Columns: shown, layer, mean, low, high, n.
    `shown` is context, memory or argument, whose mean reciprocal rank it is, or `context ahead`:
    the share of items on which the context's answer ranks above memory's. No rows without items.
    """
    shown = table[table["item"].isin(known)]
    values = {
        "context": 1 / shown["rank_answer"],
        "memory": 1 / shown["rank_true"],
        "argument": 1 / shown["rank_argument"],
        "context ahead": (shown["rank_answer"] < shown["rank_true"]).astype(float),
    }
    rows = []
    for name, column in values.items() if len(shown) else ():
        wide = shown.assign(value=column).pivot(index="item", columns="layer", values="value")
        rows += [{"shown": name} | row for row in layer_rows(wide, seed=seed)]
    return pd.DataFrame(rows, columns=["shown", "layer", "mean", "low", "high", "n"])


def contest_outcomes(table: pd.DataFrame, known: set[int]) -> pd.DataFrame:
    """Where context and memory disagree: whose answer is on top as FFNs go from the top down.

    `table` from `ablation` of counterfactual prompts, over the items in `known`. Columns: winner
    (`WINS`), removed, share_removed, mean (a share), low, high, n. No rows without items.
    """
    shown = table[table["item"].isin(known) & table["condition"].isin([CONTROL, "zero"])]
    rows = []
    for removed, part in shown.groupby("removed"):
        context, memory = part["correct"], (part["rank_true"] == 1) & ~part["correct"]
        for winner, won in zip(WINS, (context, memory, ~context & ~memory), strict=True):
            row = {"winner": winner, "removed": removed}
            row["share_removed"] = removed / int(part["n_layers"].iloc[0])
            rows.append(row | row_of(share(won.to_numpy())))
    columns = ["winner", "removed", "share_removed", "mean", "low", "high", "n"]
    return pd.DataFrame(rows, columns=columns)
