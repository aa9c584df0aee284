"""Chapter 5's figures: accuracy over layer and scale, by condition, and what comes out on top."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ovectors.figures.style import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PINK,
    SKY,
    YELLOW,
    each_panel,
    empty,
    legend,
    name_axes,
    whole_numbers,
)
from ovectors.prose.common import title

if TYPE_CHECKING:
    from ovectors.experiments.zero_shot.settings import Setting

SCALES = (
    (SKY, (1, 1.5), "v"),
    (BLUE, (None, None), "o"),
    (ORANGE, (6, 2), "s"),
    (PINK, (3, 1.5), "^"),
    (GREEN, (5, 1, 1, 1), "D"),
)
LABELS = {
    "none": "nothing added",
    "random": "random vector",
    "other": "other relation's vector",
    "own": "own o vector",
    "one-shot": "a demonstration",
}
LOOKS = {"none": (GREY, "D"), "random": (PINK, "^"), "other": (YELLOW, "v")}
LOOKS |= {"own": (BLUE, "o"), "one-shot": (GREEN, "s")}
OUTCOMES = {
    "the answer": (BLUE, ""),
    "the argument": (ORANGE, "//"),
    "another answer of the relation": (SKY, ".."),
    "something else": ("#DDDDDD", ""),
}


def map_panels(means: pd.DataFrame, settings: Sequence[tuple[str, Setting]]) -> Figure:
    """Accuracy on development items over the layer, a line per scale, a panel per relation.

    `means` as made by `zero_shot.judge.map_means`; `settings`: the first of a relation was
    chosen, and is marked with a star. The horizontal line is the accuracy without a vector.
    """
    figure, parts = each_panel(means, sharex=True, sharey=True)
    for axis, relation, panel in parts:
        bare = panel.loc[panel["scale"] == 0, "mean"]
        axis.axhline(bare.iloc[0], color=GREY, linewidth=1.5, label="no vector")
        scales = sorted(set(panel["scale"]) - {0.0})
        for scale, (color, dashes, marker) in zip(scales, SCALES, strict=False):
            line = panel[panel["scale"] == scale].sort_values("layer")
            look = {"color": color, "dashes": dashes, "marker": marker, "markersize": 4}
            axis.plot(line["layer"], line["mean"], label=f"scale {scale:g}", **look)
        chosen = next(one for name, one in settings if name == relation)
        at = panel[(panel["layer"] == chosen.layer) & (panel["scale"] == chosen.scale)]
        star = {"color": "black", "marker": "*", "markersize": 11, "linestyle": ""}
        axis.plot(at["layer"], at["mean"], label="chosen", **star)
        axis.set(title=f"{title(relation)} (n = {panel['n'].max()})")
        axis.set(ylim=(-0.04, 1.06))
        whole_numbers(axis)
    name_axes(figure, "layer", "accuracy on development items", size="medium")
    legend(figure, columns=3)
    return figure


def accuracy_panels(accuracies: pd.DataFrame, *, setting: str = "chosen") -> Figure:
    """Accuracy on the reported items in every condition, a panel per relation.

    `accuracies` as made by `zero_shot.judge.accuracies`. The thin line behind a mean reaches from
    the vector that did worst to the one that did best.
    """
    shown = accuracies[accuracies["setting"] == setting]
    if shown.empty:
        return empty("nothing was measured in this setting")
    figure, parts = each_panel(shown, sharex=True, sharey=True, height=2.2)
    names = [name for name in LABELS if name in set(shown["condition"])][::-1]
    for axis, relation, panel in parts:
        rows = panel.set_index("condition")
        for height, name in enumerate(names):
            if name in rows.index:
                row, (color, marker) = rows.loc[name], LOOKS[name]
                if row["n_sources"] > 1:
                    axis.hlines(height, row["worst"], row["best"], color=color, alpha=0.35)
                axis.hlines(height, row["low"], row["high"], color=color, linewidth=4, alpha=0.6)
                axis.plot(row["mean"], height, color=color, marker=marker, markersize=7)
        axis.set_title(f"{title(relation)} (n = {int(rows['n'].max())})")
        axis.set(yticks=range(len(names)), yticklabels=[LABELS[name] for name in names])
        axis.set(xlim=(-0.03, 1.03), ylim=(-0.6, len(names) - 0.4))
    name_axes(figure, "accuracy", size="medium")
    figure.get_layout_engine().set(wspace=0.08)  # or ticks of two panels meet
    return figure


def outcome_panels(shares: pd.DataFrame, *, setting: str = "chosen") -> Figure:
    """What the top token is in every condition, as stacked shares, a panel per relation.

    `shares` as made by `zero_shot.judge.outcome_shares`.
    """
    shown = shares[shares["setting"] == setting]
    if shown.empty:
        return empty("nothing was measured in this setting")
    figure, parts = each_panel(shown, sharex=True, sharey=True, height=2.2)
    names = [name for name in LABELS if name in set(shown["condition"])][::-1]
    for axis, relation, panel in parts:
        wide = panel.pivot(index="condition", columns="outcome", values="mean").reindex(names)
        left = np.zeros(len(names))
        for outcome, (color, hatch) in OUTCOMES.items():
            width = wide[outcome].fillna(0).to_numpy()
            look = {"color": color, "hatch": hatch, "edgecolor": "white", "linewidth": 0.5}
            axis.barh(range(len(names)), width, left=left, height=0.7, label=outcome, **look)
            left += width
        axis.set_title(title(relation))
        axis.set(yticks=range(len(names)), yticklabels=[LABELS[name] for name in names])
        axis.set(xlim=(0, 1))
        axis.grid(visible=False)
    figure.get_layout_engine().set(wspace=0.08)  # or ticks of two panels meet
    name_axes(figure, "share of runs", size="medium")
    legend(figure, columns=2)
    return figure
