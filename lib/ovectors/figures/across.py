"""Chapter 6's figures: verdicts, values over size, and the depth of function application."""

from __future__ import annotations

import textwrap
from itertools import product

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullFormatter

from ovectors.experiments.across.judge import LANGUAGE_MODEL, MINIATURE, OWN
from ovectors.experiments.stages.judge import ANSWER, APPLICATION
from ovectors.figures.style import (
    BLUE,
    GREY,
    ORANGE,
    PALETTE,
    YELLOW,
    apply_style,
    empty,
    legend,
    name_axes,
    panels,
)
from ovectors.prose.across import FEW_ITEMS, MANY_RELATIONS, size
from ovectors.prose.common import title
from ovectors.prose.front import claim_name
from ovectors.studies import all_rules

# How a state is drawn: marker, how it is filled, colour. Shapes alone tell them apart.
STATES = {
    "supported": ("o", "full", BLUE),
    "partly": ("o", "left", BLUE),
    "not supported": ("o", "none", ORANGE),
    "not testable here": ("_", "full", GREY),
    "failed": ("x", "full", ORANGE),
    "refused": ("X", "none", ORANGE),
    "broken": ("*", "none", ORANGE),
    "does not fit": ("^", "none", YELLOW),
    "not run": (".", "full", GREY),
}
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
TOKENS = ("argument", "answer")
MANY = {"marker": "o", "fillstyle": "none", "color": GREY, "linestyle": "none", "markersize": 4}
LINES = {LANGUAGE_MODEL: "-", MINIATURE: "--", OWN: ":"}
NOTHING = "no chapter has left a result yet"


def verdict_matrix(verdicts: pd.DataFrame) -> Figure:
    """Claims by models, a sign for every verdict and for every way to have none.

    `verdicts` as made by `across.judge.verdicts`: models in its order.
    """
    if verdicts.empty:
        return empty(NOTHING)
    apply_style()
    names = list(dict.fromkeys(verdicts["model"]))
    claims = list(dict.fromkeys(verdicts["claim"]))
    sizes = verdicts.drop_duplicates("model").set_index("model")["parameters"]
    figure, axis = plt.subplots(
        figsize=(max(4.5, 2.6 + 0.75 * len(names)), 1.6 + 0.42 * len(claims)), layout="constrained"
    )
    for row in verdicts.itertuples():
        marker, fill, color = STATES[row.state]
        place = [names.index(row.model)], [claims.index(row.claim)]
        axis.plot(*place, **_sign(marker, fill, color))
    axis.set(xlim=(-0.6, len(names) - 0.4), ylim=(len(claims) - 0.5, -0.5))
    # Long names are broken, so that neighbours do not run into each other.
    told = {name: name if len(name) < 11 else "-\n".join(name.rsplit("-", 1)) for name in names}
    labels = [f"{told[name]}\n{size(sizes[name])}" for name in names]
    turned = {"rotation": 45, "ha": "right"} if len(names) > 6 else {}
    axis.set_xticks(range(len(names)), labels, fontsize=8, **turned)
    axis.set_yticks(range(len(claims)), map(claim_name, claims))
    shown = [state for state in STATES if state in set(verdicts["state"])]
    handles = [Line2D([], [], label=state, **_sign(*STATES[state])) for state in shown]
    figure.legend(handles=handles, loc="outside upper center", ncols=min(3, len(shown)))
    return figure


def _sign(marker: str, fill: str, color: str) -> dict:
    return {
        "marker": marker,
        "fillstyle": fill,
        "color": color,
        "markerfacecoloralt": "white",
        "markersize": 12 if marker != "." else 6,
        "markeredgewidth": 1.8,
        "linestyle": "none",
    }


def value_over_size(headlines: pd.DataFrame) -> Figure:
    """The main criterion of each claim over the models' sizes, a panel a claim, a line a relation.

    Bars are the claims' own intervals, the dotted line what has to be exceeded. Lines join models
    of one kind only: solid for language models, dashed for miniatures, dotted for a user's own.
    More than MANY_RELATIONS relations are small circles that are not told apart.
    """
    shown = headlines[headlines["value"].notna() & headlines["parameters"].notna()]
    claims = [claim for claim in all_rules() if claim in set(shown["claim"])]
    if not claims:
        return empty("no claim has a value on a model of known size")
    figure, axes = panels(len(claims), width=4.4, height=3.0)
    styles = _relation_styles(shown)
    for axis, claim in zip(axes, claims, strict=True):
        panel = shown[shown["claim"] == claim]
        named = [relation for relation in dict.fromkeys(panel["relation"]) if relation in styles]
        for number, relation in enumerate(named):
            aside = 1.05 ** (number - (len(named) - 1) / 2)  # so that bars do not hide each other
            _line(axis, panel[panel["relation"] == relation], *styles[relation], aside=aside)
        many = panel[~panel["relation"].isin(named)]
        axis.plot(many["parameters"], many["value"], **MANY)
        for bound in panel["bound"].dropna().unique():
            axis.axhline(bound, color=GREY, linestyle=":", linewidth=1.4)
        name = textwrap.fill(panel["name"].iloc[0], 50)
        axis.set_title(f"{claim_name(claim)}\n{name}", fontsize=9, loc="left")
    _size_axis(axes, shown["parameters"])
    figure.supxlabel("parameters", fontsize=10)
    handles = [
        Line2D([], [], marker=marker, color=color, linestyle="none", label=title(relation))
        for relation, (marker, color) in styles.items()
    ]
    if set(shown["relation"]) - set(styles):
        handles.append(Line2D([], [], **MANY, label="one of many relations"))
    figure.legend(handles=handles, loc="outside upper center", ncols=min(3, len(handles)))
    return figure


def _relation_styles(shown: pd.DataFrame) -> dict[str, tuple[str, str]]:
    """Marker and colour of the relations of claims that have few of them."""
    counts = shown.groupby("claim")["relation"].transform("nunique")
    named = list(dict.fromkeys(shown.loc[counts <= MANY_RELATIONS, "relation"]))
    pairs = [(MARKERS[i % 7], PALETTE[(i + i // 7) % 7]) for i in range(len(named))]
    return dict(zip(named, pairs, strict=True))


def _line(axis: plt.Axes, rows: pd.DataFrame, marker: str, color: str, *, aside: float) -> None:
    """One relation: points with their intervals, joined within a kind of model."""
    for kind, dashes in LINES.items():
        part = rows[rows["kind"] == kind].sort_values("parameters")
        if part.empty:
            continue
        below = (part["value"] - part["low"]).clip(lower=0)
        above = (part["high"] - part["value"]).clip(lower=0)
        axis.errorbar(
            part["parameters"] * aside,
            part["value"],
            yerr=[below, above],
            marker=marker,
            color=color,
            linestyle=dashes,
            linewidth=1.3,
            capsize=2,
            markersize=5,
        )


def _size_axis(axes: list[plt.Axes], parameters: pd.Series) -> None:
    """Ticks at models' own sizes, as far as their labels have room, which is left at the ends."""
    least = (parameters.max() / parameters.min()) ** 0.15
    ticks: list[float] = []
    for one in sorted(parameters.unique()):
        if not ticks or one > least * ticks[-1]:
            ticks.append(one)
    for axis in axes:
        axis.set_xscale("log")
        axis.set_xticks(ticks)
        axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: size(value)))
        axis.xaxis.set_minor_formatter(NullFormatter())
        axis.minorticks_off()
        axis.set_xlim(parameters.min() / 2, parameters.max() * 2)


def curves_by_size(curves: pd.DataFrame) -> Figure:
    """Mean reciprocal ranks over relative depth, a line a model: the larger, the darker and wider.

    A row a relation; left the argument, right the answer. `curves` as made by
    `across.judge.curves`; bands are 95% intervals over items. Lines are solid for
    language models, dashed for miniatures, dotted for a user's own.
    """
    if curves.empty:
        return empty("no model has a table of reciprocal ranks")
    relations = list(dict.fromkeys(curves["relation"]))
    names = curves.drop_duplicates("model").sort_values("parameters", kind="stable")
    shades = sns.color_palette("flare", len(names))
    figure, axes = panels(
        2 * len(relations), width=4.2, height=2.3, columns=2, sharex=True, sharey=True
    )
    for axis, (relation, token) in zip(axes, product(relations, TOKENS), strict=True):
        panel = curves[(curves["relation"] == relation) & (curves["token"] == token)]
        for number, (name, kind) in enumerate(zip(names["model"], names["kind"], strict=True)):
            line = panel[panel["model"] == name]
            x, width = line["relative_depth"], 1.2 + 1.6 * number / len(names)
            style = {"color": shades[number], "linestyle": LINES[kind], "linewidth": width}
            axis.plot(x, line["mean"], label=name, **style)
            axis.fill_between(x, line["low"], line["high"], color=shades[number], alpha=0.15, lw=0)
        axis.set_title(f"{title(relation)}: {token}", fontsize=10)
        axis.set(xlim=(0, 1), ylim=(-0.02, 1.04))
    name_axes(figure, "relative depth: (layer + 1) / layers", "mean reciprocal rank")
    legend(figure, columns=3)
    return figure


def depth_dots(depths: pd.DataFrame, published: float | None) -> Figure:
    """Relative depth of the switch to the answer: a row a model, a sign a task.

    Left: function application, where the argument was on top before. Right: the answer's first
    layer on top, whatever came before. Empty signs stand for fewer than FEW_ITEMS items. The dashed
    line is the paper's number.
    """
    if depths.empty:
        return empty("no model has a table of stages with any item in it")
    names = list(dict.fromkeys(depths["model"]))
    relations = list(dict.fromkeys(depths["relation"]))
    titles = {APPLICATION: "function application", ANSWER: "answer first on top"}
    figure, axes = panels(2, width=4.2, height=1.6 + 0.45 * len(names), sharey=True)
    for axis, stage in zip(axes, titles, strict=True):
        for row in depths[depths["stage"] == stage].itertuples():
            number = relations.index(row.relation)
            offset = 0.5 * ((number + 0.5) / len(relations) - 0.5)
            axis.plot(
                row.relative_depth,
                names.index(row.model) + offset,
                marker=MARKERS[number % 7],
                color=PALETTE[number % 7],
                fillstyle="full" if row.items >= FEW_ITEMS else "none",
                linestyle="none",
            )
        axis.set(title=titles[stage], xlim=(-0.02, 1.03), ylim=(len(names) - 0.5, -0.5))
        axis.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "0.25", "0.5", "0.75", "1"])
    if published is not None:
        axes[0].axvline(published, color=GREY, linestyle="--", linewidth=1.4)
    axes[0].set_yticks(range(len(names)), names)
    figure.supxlabel("relative depth: (median layer + 1) / layers", fontsize=10)
    handles = [
        Line2D(
            [], [], marker=MARKERS[i % 7], color=PALETTE[i % 7], linestyle="none", label=title(r)
        )
        for i, r in enumerate(relations)
    ]
    if published is not None:
        handles.append(Line2D([], [], color=GREY, linestyle="--", label="the paper's number"))
    figure.legend(handles=handles, loc="outside upper center", ncols=3)
    return figure
