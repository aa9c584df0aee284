"""Chapter 2's figures: who makes the switch, what the o vector does, how linear it all is."""

from __future__ import annotations

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from ovectors.experiments.linear_update.judge.switches import ATTENTION, EITHER, FFN, NEITHER
from ovectors.experiments.linear_update.measure.arithmetic import ADD, OWN, RANDOM, SUBTRACT
from ovectors.experiments.linear_update.measure.linearity import (
    AFFINE,
    MEAN,
    NOTHING,
    OTHERS,
    REMAINDER,
    WHOLE,
)
from ovectors.experiments.linear_update.measure.neurons import KEPT, LARGEST, REST
from ovectors.experiments.linear_update.measure.neurons import RANDOM as BY_CHANCE
from ovectors.figures.style import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PINK,
    SKY,
    band,
    each_panel,
    empty,
    legend,
    name_axes,
    whole_numbers,
)
from ovectors.figures.tokens import followed, shown, token_cell, token_table
from ovectors.prose.common import title

NO_SWITCH = "no item was answered correctly, so there is no switch to look at"
NOT_FITTED = "too few items were answered correctly to fit and to measure"
SOLID, DASHED, DOTTED, MIXED = (None, None), (4, 1.5), (1, 1.5), (6, 1.5, 1, 1.5)
BARS = {FFN: (BLUE, ""), ATTENTION: (ORANGE, "//"), EITHER: (SKY, "xx"), NEITHER: (GREY, "..")}
LINES = {
    WHOLE: (GREY, SOLID),
    NOTHING: (GREY, DOTTED),
    MEAN: (BLUE, SOLID),
    REMAINDER: (ORANGE, DASHED),
    AFFINE: (GREEN, MIXED),
    OTHERS: (PINK, DOTTED),
}
EFFECTS = {
    (SUBTRACT, OWN): ("subtract: argument back above the answer", ORANGE, SOLID),
    (SUBTRACT, RANDOM): ("subtract a random vector", ORANGE, DOTTED),
    (ADD, OWN): ("add: answer above the argument", BLUE, SOLID),
    (ADD, RANDOM): ("add a random vector", BLUE, DOTTED),
}
KEPT_LINES = {LARGEST: (BLUE, SOLID), REST: (ORANGE, DASHED), BY_CHANCE: (GREY, DOTTED)}


def switch_layers(by_layer: pd.DataFrame) -> Figure:
    """At which layer the last switch is made, and by what: stacked bars, a panel per relation.

    `by_layer` as made by `linear_update.judge.makers_by_layer`.
    """
    if by_layer.empty:
        return empty(NO_SWITCH)
    figure, parts = each_panel(by_layer, sharex=True)
    for axis, relation, part in parts:
        floor = np.zeros(part["layer"].max() + 1)
        for maker, bars in part.groupby("made_by", sort=False):
            color, hatch = BARS[maker]
            heights = bars.sort_values("layer")["share"].to_numpy()
            axis.bar(
                np.arange(len(heights)),
                heights,
                bottom=floor,
                color=color,
                hatch=hatch,
                edgecolor="white",
                linewidth=0.5,
                label=maker,
            )
            floor += heights
        axis.set(title=f"{title(relation)} (n = {part['n'].iloc[0]})")
        axis.grid(axis="x", visible=False)
        whole_numbers(axis)
    name_axes(figure, "layer of the last switch to the answer", "share of items answered correctly")
    legend(figure, columns=4)
    return figure


def effect_panels(effects: pd.DataFrame) -> Figure:
    """What subtracting and adding a vector does, over its scale: a panel per relation.

    `effects` as made by `linear_update.judge.effects`.
    """
    if effects.empty:
        return empty(NO_SWITCH)
    renamed = effects.rename(columns={"share": "mean"})
    figure, parts = each_panel(renamed, sharex=True, sharey=True)
    for axis, relation, part in parts:
        for (operation, vector), (label, color, dashes) in EFFECTS.items():
            line = part[(part["operation"] == operation) & (part["vector"] == vector)]
            if len(line):
                band(axis, line, x="scale", label=label, color=color, dashes=dashes)
        sizes = part.groupby("operation")["n"].max()
        tried = ", ".join(f"{name}: n = {n}" for name, n in sizes.items())
        axis.axvline(1, color=GREY, linewidth=0.8)
        axis.set_title(f"{title(relation)} ({tried})", fontsize=10)
        axis.set_ylim(-0.02, 1.04)
    name_axes(figure, "scale of the vector", "share of items")
    legend(figure, columns=2)
    return figure


def layer_maps(by_layer: pd.DataFrame) -> Figure:
    """The same over layers, counted from the one the o vector comes from: heat maps.

    `by_layer` as made by `linear_update.judge.effects_by_layer`. Left of the line the o
    vector is added, from the line on it is subtracted.
    """
    own = by_layer[by_layer["vector"] == OWN] if len(by_layer) else by_layer
    if own.empty:
        return empty(NO_SWITCH)
    figure, parts = each_panel(own, height=2.4)
    offsets = list(range(int(own["offset"].min()), int(own["offset"].max()) + 1))
    zero, step = offsets.index(0), max(1, len(offsets) // 10)
    ticks = [one for one in offsets if one % step == 0]
    for axis, relation, part in parts:
        grid = part.pivot_table(index="scale", columns="offset", values="share")
        grid = grid.reindex(columns=offsets).sort_index(ascending=False)
        axis.set_facecolor("#E4E4E4")
        sns.heatmap(grid, ax=axis, vmin=0, vmax=1, cmap="cividis", cbar=False)
        axis.grid(visible=False)
        axis.axvline(zero, color="white", linewidth=3)
        axis.axvline(zero, color="black", linewidth=1)
        axis.set(title=title(relation), xlabel="", ylabel="")
        axis.set_yticks(np.arange(len(grid)) + 0.5, [f"{one:g}" for one in grid.index], rotation=0)
        axis.set_xticks([offsets.index(one) + 0.5 for one in ticks], ticks, rotation=0)
    axes = [axis for axis, *_ in parts]
    figure.colorbar(axes[-1].collections[0], ax=axes, shrink=0.7, label="share of items")
    across = "← added earlier | layers from the switch | subtracted from there on →"
    name_axes(figure, across, "scale of the o vector")
    return figure


def curves(bands: pd.DataFrame, *, ylabel: str, ylim: tuple | None = None) -> Figure:
    """A line over layers for each thing that is added in place of the FFN's output.

    `bands` as made by `explained`, `gains` or `faithfulness` of `linear_update.judge`.
    """
    if bands.empty:
        return empty(NOT_FITTED)
    figure, parts = each_panel(bands, sharex=True, sharey=ylim is not None)
    for axis, relation, panel in parts:
        for added, (color, dashes) in LINES.items():
            line = panel[panel["added"] == added]
            if len(line):
                band(axis, line, x="layer", label=added, color=color, dashes=dashes)
        axis.axhline(0, color=GREY, linewidth=0.8)
        axis.set(title=f"{title(relation)} (n = {panel['n'].iloc[0]})")
        if ylim is not None:
            axis.set_ylim(*ylim)
        whole_numbers(axis)
    name_axes(figure, "layer", ylabel)
    legend(figure, columns=2)
    return figure


def cosine_maps(cells: pd.DataFrame) -> Figure:
    """Mean cosines between what FFNs add, relation by relation: a heat map for each panel.

    `cells` as made by `linear_update.judge.cosine_panels`.
    """
    if cells.empty:
        return empty(NOT_FITTED)
    figure, parts = each_panel(cells, "panel", width=4.4, height=3.6)
    for axis, name, part in parts:
        order = list(dict.fromkeys(part["relation"]))
        grid = part.pivot(index="relation", columns="other", values="cosine")
        grid = grid.reindex(index=order, columns=order)
        names = [title(one).replace(" ", "\n").replace("-", "-\n") for one in order]
        drawn = {"vmin": -1, "vmax": 1, "cmap": "vlag", "annot": True, "fmt": ".2f"}
        sns.heatmap(
            grid, ax=axis, cbar=False, square=True, xticklabels=names, yticklabels=names, **drawn
        )
        axis.set(title=name, xlabel="", ylabel="")
        axis.tick_params(axis="both", rotation=0, labelsize=9)
    axes = [axis for axis, *_ in parts]
    figure.colorbar(axes[-1].collections[0], ax=axes, shrink=0.6, label="mean cosine")
    return figure


def neuron_panels(shares: pd.DataFrame) -> Figure:
    """Share of items with the answer on top, over how many neurons are kept or left out.

    `shares` as made by `linear_update.judge.neuron_shares`; k = 0 has no place on a log axis.
    """
    if shares.empty:
        return empty("no switch needs an FFN's output, so there are no neurons to look at")
    drawn = shares[shares["k"] > 0].rename(columns={"share": "mean"})
    figure, parts = each_panel(drawn, sharex=True, sharey=True)
    for axis, relation, panel in parts:
        for kept in KEPT:
            color, dashes = KEPT_LINES[kept]
            line = panel[panel["kept"] == kept]
            band(axis, line, x="k", label=kept, color=color, dashes=dashes)
        axis.set_xscale("log", base=2)
        axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axis.set(title=f"{title(relation)} (n = {panel['n'].iloc[0]})", ylim=(-0.02, 1.04))
    name_axes(
        figure,
        f"k, of {shares['neurons'].iloc[0]:,} neurons",
        "share of items with the answer on top",
    )
    legend(figure, columns=3)
    return figure


def example_table(example: pd.DataFrame) -> str:
    """One item of each relation: the token on top, as it is and with the o vector, as HTML.

    `example` as made by `linear_update.judge.example`. Cells are coloured where the token is the
    argument or the answer.
    """
    if example.empty:
        return "<p>There is no such item.</p>"
    parts = {
        name: part.set_index("layer") for name, part in example.groupby("relation", sort=False)
    }
    head = "".join(
        f'<th scope="colgroup" colspan="2">{followed(name, part)}</th>'
        for name, part in parts.items()
    )
    second = '<th scope="col">as it is</th><th scope="col">±&nbsp;o&nbsp;vector</th>' * len(parts)
    rows = {
        layer: "".join(_example_cells(part.loc[layer]) for part in parts.values())
        for layer in sorted(example["layer"].unique())
    }
    first = f'<tr><th scope="col" rowspan="2">layer</th>{head}</tr>'
    return token_table(f"{first}<tr>{second}</tr>", rows)


def _example_cells(row: pd.Series) -> str:
    sign = {ADD: "+&nbsp;", SUBTRACT: "−&nbsp;"}.get(row["operation"], "")
    return _cell(row["plain"], row["plain_is"]) + _cell(row["changed"], row["changed_is"], sign)


def _cell(token: str, mark: str, sign: str = "") -> str:
    return token_cell(f"{sign}<b>{shown(token)}</b>" if token else "", mark)
