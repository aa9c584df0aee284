"""Chapter 7's figure: for each relation how well it is answered, and what its o vectors do."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from ovectors.experiments.beyond.judge import (
    CONTROL_BEATEN,
    ITEM_BEATEN,
    MEAN_BEATEN,
    NOT_ANSWERED,
    NOT_MEASURED,
    OBEYS,
    OTHER_BEATEN,
    RANDOM_BEATEN,
)
from ovectors.experiments.survey import LEAST_ACCURACY
from ovectors.figures.style import BLUE, GREEN, GREY, ORANGE, PINK, apply_style, empty
from ovectors.prose.common import title

MARKS = {  # the difference to each control: marker, colour, label
    CONTROL_BEATEN: ("o", BLUE, "own vector minus control run"),
    RANDOM_BEATEN: ("^", PINK, "minus random vector"),
    OTHER_BEATEN: ("s", ORANGE, "minus another relation's vector"),
    MEAN_BEATEN: ("v", GREY, "minus mean FFN output"),
    ITEM_BEATEN: ("D", GREEN, "rise minus that of another item's answer"),
}
NUDGE = dict(zip(MARKS, (-0.32, -0.16, 0.0, 0.16, 0.32), strict=True))


def relation_dots(overview: pd.DataFrame, gains: pd.DataFrame) -> Figure:
    """A row a relation: one-shot accuracy on the left, what the own vectors gain on the right.

    `overview` and `gains` as made by `beyond.judge`. Bars: their intervals. A filled mark
    holds (its whole interval is above its bound), a hollow one does not. Relations that are not
    answered have no mark on the right.
    """
    if overview.empty:
        return empty("no relation was asked about")
    order = _order(overview, gains)
    places = {name: place for place, name in enumerate(order)}
    apply_style()
    height = 1.4 + 0.36 * len(order)
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(8.2, height), sharey=True, width_ratios=(1, 1.7), layout="constrained"
    )
    _accuracy(left, overview.set_index("relation").loc[order])
    for criterion, (marker, color, _) in MARKS.items():
        part = gains[gains["criterion"] == criterion]
        for row in part[part["mean"].notna()].itertuples():
            _dot(right, row, places[row.relation] + NUDGE[criterion], marker, color)
    right.axvline(0, color="black", linewidth=1)
    right.set_xlabel("difference in mean reciprocal rank")
    right.xaxis.set_major_locator(MaxNLocator(7))
    left.set_yticks(range(len(order)), [title(name) for name in order])
    left.set_ylim(len(order) - 0.4, -0.6)
    handles = [
        Line2D([], [], marker=marker, color=color, linestyle="", label=label)
        for marker, color, label in MARKS.values()
    ]
    hollow = Line2D([], [], marker="o", color=GREY, markerfacecolor="white", linestyle="")
    figure.legend(
        [*handles, hollow],
        [*(label for _, _, label in MARKS.values()), "hollow: does not hold"],
        loc="outside upper center",
        ncols=2,
        fontsize=9,
    )
    return figure


def _order(overview: pd.DataFrame, gains: pd.DataFrame) -> list[str]:
    """Those that obey first, then by gain over the control run; last those not answered."""
    gained = gains[gains["criterion"] == CONTROL_BEATEN].set_index("relation")["mean"]
    rows = overview.assign(
        gain=overview["relation"].map(gained).astype(float),
        last=overview["obeys"].isin([NOT_ANSWERED, NOT_MEASURED]),
        first=overview["obeys"] == OBEYS,
    )
    rows = rows.sort_values(
        ["last", "first", "gain", "accuracy"], ascending=[True, False, False, False]
    )
    return rows["relation"].tolist()


def _accuracy(axis: plt.Axes, rows: pd.DataFrame) -> None:
    for place, row in enumerate(rows.itertuples()):
        if np.isnan(row.accuracy):
            axis.text(0.02, place, "no item can be measured", va="center", fontsize=7, color=GREY)
            continue
        axis.plot([row.accuracy_low, row.accuracy_high], [place, place], color=BLUE, linewidth=1.5)
        answered = row.obeys != NOT_ANSWERED
        axis.plot(
            row.accuracy,
            place,
            marker="D",
            markersize=5,
            color=BLUE,
            markerfacecolor=BLUE if answered else "white",
        )
    axis.axvline(LEAST_ACCURACY, color=GREY, linestyle=":", linewidth=1)
    axis.set(xlabel="one-shot accuracy", xlim=(-0.03, 1.03))


def _dot(axis: plt.Axes, row, place: float, marker: str, color: str) -> None:
    axis.plot([row.low, row.high], [place, place], color=color, linewidth=1.5)
    face = color if row.holds else "white"
    axis.plot(row.mean, place, marker=marker, markersize=4.5, color=color, markerfacecolor=face)
