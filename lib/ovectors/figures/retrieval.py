"""Chapter 4's figures: accuracy as layers go, the X beside its absence, memory against context."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from ovectors.figures.style import (
    BLUE,
    COLORS,
    DASHES,
    GREEN,
    GREY,
    ORANGE,
    PINK,
    band,
    each_panel,
    empty,
    legend,
    name_axes,
    panels,
    whole_numbers,
)
from ovectors.prose.common import title
from ovectors.prose.retrieval import CONDITIONS, DIFFERENCE, KINDS

SOLID, LONG, SHORT, DOTS = (None, None), (6, 2), (3, 1.5), (1, 1.5)
PROMPTS = {"one_shot": (BLUE, SOLID, "o"), "extractive": (ORANGE, LONG, "s")}
LOOKS = {
    "zero": (BLUE, SOLID, "o"),
    "mean": (GREEN, LONG, "s"),
    "attention": (PINK, SHORT, "^"),
    "random": (GREY, DOTS, "D"),
}
SIDES = {
    "context": (ORANGE, LONG, "s"),
    "memory": (BLUE, SOLID, "o"),
    "argument": (GREEN, SHORT, "v"),
    "something else": (GREY, DOTS, "^"),
}


def ablation_panels(curves: pd.DataFrame, *, third: int, condition: str = "zero") -> Figure:
    """Accuracy over the number of layers removed, abstractive beside extractive.

    `curves` as made by `retrieval.judge.accuracy_curves`; the top `third` is marked.
    """
    shown = curves[curves["condition"] == condition]
    figure, parts = each_panel(shown, sharey=True)
    for axis, relation, panel in parts:
        for form, look in PROMPTS.items():
            line = panel[panel["form"] == form]
            _marked(axis, line, "removed", KINDS[form], *look)
        n = int(panel["n"].max())
        axis.set(title=f"{title(relation)} (n = {n})", ylim=(-0.02, 1.04))
        _mark_third(axis, third)
    name_axes(figure, "FFNs removed, from the top down", "accuracy", size="medium")
    legend(figure, columns=3)
    return figure


def kept_panels(costs: pd.DataFrame, *, sixths: Sequence[int]) -> Figure:
    """The share of answered items that is kept, by sixths of the FFNs removed (figure 6).

    `costs` as made by `retrieval.judge.costs`: what is not lost is kept, and all of it at first.
    """
    shown = costs[(costs["condition"] == "zero") & costs["removed"].isin(sixths)]
    if shown.empty:
        return empty("no task has both kinds of prompt answered")
    kept = shown.assign(mean=1 - shown["mean"], low=1 - shown["high"], high=1 - shown["low"])
    whole = kept.drop_duplicates(["relation", "prompts"])
    whole = whole.assign(removed=0, mean=1.0, low=1.0, high=1.0)
    figure, parts = each_panel(pd.concat([kept, whole]), sharey=True)
    for axis, relation, panel in parts:
        for form, look in PROMPTS.items():
            line = panel[panel["prompts"] == KINDS[form]]
            _marked(axis, line, "removed", f"{KINDS[form]} (n = {int(line['n'].max())})", *look)
        axis.set(title=title(relation), ylim=(-0.02, 1.04))
        axis.legend(fontsize="small")
        whole_numbers(axis)
    name_axes(figure, "FFNs removed, from the top down", "share still answered", size="medium")
    return figure


def cost_panels(costs: pd.DataFrame, *, third: int) -> Figure:
    """How much more is lost on abstractive than on extractive prompts, by what is removed.

    `costs` as made by `retrieval.judge.costs`: the rows of the difference are drawn.
    """
    shown = costs[costs["prompts"] == DIFFERENCE]
    if shown.empty:
        return empty("no task has both kinds of prompt answered")
    figure, parts = each_panel(shown, sharey=True, height=3.3)
    for axis, relation, panel in parts:
        for condition, look in LOOKS.items():
            line = panel[panel["condition"] == condition]
            _marked(axis, line, "removed", CONDITIONS[condition], *look, errors=True)
        axis.axhline(0, color="black", linewidth=0.8)
        axis.set(title=f"{title(relation)} (n = {int(panel['n'].max())})")
        _mark_third(axis, third)
    name_axes(figure, "layers changed", "extra loss on abstractive prompts", size="medium")
    legend(figure, columns=2)
    return figure


def stage_panels(curves: pd.DataFrame) -> Figure:
    """Reciprocal ranks of argument and answer, abstractive beside extractive (figures 3 and 7).

    `curves` as made by `stages.judge.reciprocal_rank_curves` for both forms: a row of panels
    per relation. Where the prompt asks for its argument, the two lines are one.
    """
    relations = list(dict.fromkeys(curves["relation"]))
    if not relations:
        return empty("no item was answered correctly")
    figure, axes = panels(2 * len(relations), sharex=True, sharey=True)
    places = [(relation, form) for relation in relations for form in KINDS]
    for axis, (relation, form) in zip(axes, places, strict=True):
        panel = curves[(curves["relation"] == relation) & (curves["form"] == form)]
        n = int(panel["n"].max()) if len(panel) else 0
        for token in ("answer", "argument"):
            line = panel[panel["token"] == token]
            band(axis, line, x="layer", label=token, color=COLORS[token], dashes=DASHES[token])
        axis.set(ylim=(-0.02, 1.04))
        axis.set_title(f"{title(relation)}, {KINDS[form]} (n = {n})", fontsize="medium")
        whole_numbers(axis)
        if not n:
            axis.text(0.5, 0.5, "no item answered", ha="center", transform=axis.transAxes)
    name_axes(figure, "layer", "mean reciprocal rank", size="medium")
    legend(figure, columns=2)
    return figure


def contest_panels(curves: pd.DataFrame, outcomes: pd.DataFrame) -> Figure:
    """Counterfactual prompts: both answers over layers, and whose is on top as FFNs go.

    `curves` and `outcomes` as made by `retrieval.judge.contest_curves` and
    `contest_outcomes`.
    """
    if curves.empty:
        return empty("no item is known from memory, so nothing can contradict it")
    figure, (left, right) = panels(2, sharey=True, height=3.3)
    for name in ("context", "memory", "argument"):
        _marked(left, curves[curves["shown"] == name], "layer", name, *SIDES[name])
    for name in ("context", "memory", "something else"):
        _marked(right, outcomes[outcomes["winner"] == name], "removed", name, *SIDES[name])
    n = int(curves["n"].iloc[0])
    left.set(title=f"Whole model (n = {n})", xlabel="layer", ylabel="mean reciprocal rank")
    right.set(title="As FFNs are removed", ylabel="share of items with it on top")
    right.set(xlabel="FFNs removed, from the top down", ylim=(-0.02, 1.04))
    for axis in (left, right):
        whole_numbers(axis)
    legend(figure, columns=len(SIDES))
    return figure


def _marked(
    axis: plt.Axes,
    line: pd.DataFrame,
    x: str,
    label: str,
    color: str,
    dashes: tuple,
    marker: str,
    *,
    errors: bool = False,
) -> None:
    """A line of means with markers, its interval as a band, or as bars where lines overlap."""
    line = line.sort_values(x)
    look: Mapping[str, object] = {"color": color, "marker": marker, "markersize": 4.5}
    if errors:
        axis.plot(line[x], line["mean"], dashes=dashes, label=label, linewidth=1.6, **look)
        axis.vlines(line[x], line["low"], line["high"], color=color, linewidth=1, alpha=0.7)
    else:
        axis.plot(line[x], line["mean"], dashes=dashes, label=label, linewidth=2, **look)
        axis.fill_between(line[x], line["low"], line["high"], color=color, alpha=0.2, linewidth=0)


def _mark_third(axis: plt.Axes, third: int) -> None:
    axis.axvline(third, color="black", linewidth=1, linestyle=":", label="top third")
    whole_numbers(axis)
