"""Chapter 2's figures: who makes the switch, what the o vector does, how linear it all is."""

from __future__ import annotations

import html

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from ovectors.experiments.linear_update import ADD, OWN, RANDOM, SUBTRACT
from ovectors.experiments.linearity import AFFINE, MEAN, NOTHING, OTHERS, REMAINDER, WHOLE
from ovectors.experiments.neurons import KEPT, LARGEST, REST
from ovectors.experiments.neurons import RANDOM as BY_CHANCE
from ovectors.experiments.switches import ATTENTION, EITHER, FFN, NEITHER
from ovectors.figures.style import (
    BLUE,
    COLORS,
    GREEN,
    GREY,
    ORANGE,
    PINK,
    SKY,
    band,
    empty,
    panels,
)
from ovectors.prose.common import title

CELL = "padding: 0.15em 0.6em"
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

    `by_layer` as made by `experiments.switches.makers_by_layer`.
    """
    if by_layer.empty:
        return empty(NO_SWITCH)
    relations = list(dict.fromkeys(by_layer["relation"]))
    figure, axes = panels(len(relations), sharex=True)
    for axis, relation in zip(axes, relations, strict=True):
        part = by_layer[by_layer["relation"] == relation]
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
        axis.xaxis.get_major_locator().set_params(integer=True)
    figure.supxlabel("layer of the last switch to the answer")
    figure.supylabel("share of items answered correctly")
    _legend(figure, axes, columns=4)
    return figure


def effect_panels(effects: pd.DataFrame) -> Figure:
    """What subtracting and adding a vector does, over its scale: a panel per relation.

    `effects` as made by `experiments.linear_update.effects`.
    """
    if effects.empty:
        return empty(NO_SWITCH)
    relations = list(dict.fromkeys(effects["relation"]))
    figure, axes = panels(len(relations), sharex=True, sharey=True)
    for axis, relation in zip(axes, relations, strict=True):
        part = effects[effects["relation"] == relation].rename(columns={"share": "mean"})
        for (operation, vector), (label, color, dashes) in EFFECTS.items():
            line = part[(part["operation"] == operation) & (part["vector"] == vector)]
            if len(line):
                band(axis, line, x="scale", label=label, color=color, dashes=dashes)
        sizes = part.groupby("operation")["n"].max()
        tried = ", ".join(f"{name}: n = {n}" for name, n in sizes.items())
        axis.axvline(1, color=GREY, linewidth=0.8)
        axis.set_title(f"{title(relation)} ({tried})", fontsize=10)
        axis.set_ylim(-0.02, 1.04)
    figure.supxlabel("scale of the vector")
    figure.supylabel("share of items")
    _legend(figure, axes, columns=2)
    return figure


def layer_maps(by_layer: pd.DataFrame) -> Figure:
    """The same over layers, counted from the one the o vector comes from: heat maps.

    `by_layer` as made by `experiments.linear_update.effects_by_layer`. Left of the line the o
    vector is added, from the line on it is subtracted.
    """
    own = by_layer[by_layer["vector"] == OWN] if len(by_layer) else by_layer
    if own.empty:
        return empty(NO_SWITCH)
    relations = list(dict.fromkeys(own["relation"]))
    figure, axes = panels(len(relations), height=2.4)
    offsets = list(range(int(own["offset"].min()), int(own["offset"].max()) + 1))
    zero, step = offsets.index(0), max(1, len(offsets) // 10)
    shown = [one for one in offsets if one % step == 0]
    for axis, relation in zip(axes, relations, strict=True):
        part = own[own["relation"] == relation]
        grid = part.pivot_table(index="scale", columns="offset", values="share")
        grid = grid.reindex(columns=offsets).sort_index(ascending=False)
        axis.set_facecolor("#E4E4E4")
        sns.heatmap(grid, ax=axis, vmin=0, vmax=1, cmap="cividis", cbar=False)
        axis.grid(visible=False)
        axis.axvline(zero, color="white", linewidth=3)
        axis.axvline(zero, color="black", linewidth=1)
        axis.set(title=title(relation), xlabel="", ylabel="")
        axis.set_yticks(np.arange(len(grid)) + 0.5, [f"{one:g}" for one in grid.index], rotation=0)
        axis.set_xticks([offsets.index(one) + 0.5 for one in shown], shown, rotation=0)
    figure.colorbar(axes[-1].collections[0], ax=axes, shrink=0.7, label="share of items")
    figure.supxlabel("← added earlier | layers from the switch | subtracted from there on →")
    figure.supylabel("scale of the o vector")
    return figure


def curves(bands: pd.DataFrame, *, ylabel: str, ylim: tuple | None = None) -> Figure:
    """A line over layers for each thing that is added in place of the FFN's output.

    `bands` as made by `explained`, `gains` or `faithfulness` of `experiments.linearity`.
    """
    if bands.empty:
        return empty(NOT_FITTED)
    relations = list(dict.fromkeys(bands["relation"]))
    figure, axes = panels(len(relations), sharex=True, sharey=ylim is not None)
    for axis, relation in zip(axes, relations, strict=True):
        panel = bands[bands["relation"] == relation]
        for added, (color, dashes) in LINES.items():
            line = panel[panel["added"] == added]
            if len(line):
                band(axis, line, x="layer", label=added, color=color, dashes=dashes)
        axis.axhline(0, color=GREY, linewidth=0.8)
        axis.set(title=f"{title(relation)} (n = {panel['n'].iloc[0]})")
        if ylim is not None:
            axis.set_ylim(*ylim)
        axis.xaxis.get_major_locator().set_params(integer=True)
    figure.supxlabel("layer")
    figure.supylabel(ylabel)
    _legend(figure, axes, columns=2)
    return figure


def cosine_maps(cells: pd.DataFrame) -> Figure:
    """Mean cosines between what FFNs add, relation by relation: a heat map for each panel.

    `cells` as made by `experiments.linearity.cosine_panels`.
    """
    if cells.empty:
        return empty(NOT_FITTED)
    shown = dict(list(cells.groupby("panel", sort=False)))
    figure, axes = panels(len(shown), width=4.4, height=3.6)
    for axis, (name, part) in zip(axes, shown.items(), strict=True):
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
    figure.colorbar(axes[-1].collections[0], ax=axes, shrink=0.6, label="mean cosine")
    return figure


def neuron_panels(shares: pd.DataFrame) -> Figure:
    """Share of items with the answer on top, over how many neurons are kept or left out.

    `shares` as made by `experiments.neurons.neuron_shares`; k = 0 has no place on a log axis.
    """
    if shares.empty:
        return empty("no switch needs an FFN's output, so there are no neurons to look at")
    relations = list(dict.fromkeys(shares["relation"]))
    figure, axes = panels(len(relations), sharex=True, sharey=True)
    for axis, relation in zip(axes, relations, strict=True):
        panel = shares[(shares["relation"] == relation) & (shares["k"] > 0)]
        panel = panel.rename(columns={"share": "mean"})
        for kept in KEPT:
            color, dashes = KEPT_LINES[kept]
            line = panel[panel["kept"] == kept]
            band(axis, line, x="k", label=kept, color=color, dashes=dashes)
        axis.set_xscale("log", base=2)
        axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axis.set(title=f"{title(relation)} (n = {panel['n'].iloc[0]})", ylim=(-0.02, 1.04))
    figure.supxlabel(f"k, of {shares['neurons'].iloc[0]:,} neurons")
    figure.supylabel("share of items with the answer on top")
    _legend(figure, axes, columns=3)
    return figure


def _legend(figure: Figure, axes: list, *, columns: int) -> None:
    """One legend above all panels, with every label that occurs in any."""
    named: dict = {}
    for axis in axes:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            named.setdefault(label, handle)
    columns = min(columns, len(named))
    figure.legend(named.values(), named.keys(), loc="outside upper center", ncols=columns)


def example_table(example: pd.DataFrame) -> str:
    """One item of each relation: the token on top, as it is and with the o vector, as HTML.

    `example` as made by `experiments.linear_update.example`. Cells are coloured where the token is
    the argument or the answer; the colours are translucent, so that they read on any page.
    """
    if example.empty:
        return "<p>There is no such item.</p>"
    parts = {
        name: part.set_index("layer") for name, part in example.groupby("relation", sort=False)
    }
    head = "".join(
        f'<th scope="colgroup" colspan="2">{html.escape(title(name))}<br>'
        f"<small>{_token(part['argument'].iloc[0])} → {_token(part['answer'].iloc[0])}</small></th>"
        for name, part in parts.items()
    )
    second = '<th scope="col">as it is</th><th scope="col">± o vector</th>' * len(parts)
    body = ""
    for layer in sorted(example["layer"].unique()):
        cells = "".join(_example_cells(part.loc[layer]) for part in parts.values())
        body += f'<tr><th scope="row">{layer}</th>{cells}</tr>'
    return (
        '<table class="top-tokens"><thead><tr><th scope="col" rowspan="2">layer</th>'
        f"{head}</tr><tr>{second}</tr></thead><tbody>{body}</tbody></table>"
    )


def _example_cells(row: pd.Series) -> str:
    sign = {ADD: "+ ", SUBTRACT: "− "}.get(row["operation"], "")
    return _cell(row["plain"], row["plain_is"]) + _cell(row["changed"], row["changed_is"], sign)


def _cell(token: str, what: str, sign: str = "") -> str:
    if not token:
        return f'<td style="{CELL}"></td>'
    style, name = CELL, ""
    if what:
        red, green, blue = (int(COLORS[what][i : i + 2], 16) for i in (1, 3, 5))
        style, name = f"{CELL}; background: rgba({red}, {green}, {blue}, 0.28)", f"is-{what}"
    return f'<td class="{name}" style="{style}">{sign}<b>{_token(token)}</b></td>'


def _token(text: str) -> str:
    """A token as it can be seen: its leading space is dropped, a line break is written out."""
    shown = text.replace("\n", "↵")
    shown = shown[1:] if shown.startswith(" ") and len(shown) > 1 else shown
    return html.escape(shown)
