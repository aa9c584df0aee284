"""One style for every figure of the book: colours, bands, and a figure that says it is empty."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

# Okabe and Ito's palette: told apart by readers with any of the common colour-vision deficiencies.
BLUE, ORANGE, GREEN = "#0072B2", "#D55E00", "#009E73"
PINK, SKY, YELLOW, GREY = "#CC79A7", "#56B4E9", "#E69F00", "#6E6E6E"
PALETTE = (BLUE, ORANGE, GREEN, PINK, SKY, YELLOW, GREY)
COLORS = {"argument": ORANGE, "answer": BLUE}
DASHES = {"argument": (4, 1.5), "answer": (None, None)}  # so that print in grey works too


def apply_style() -> None:
    """Set the book's style for every figure drawn afterwards."""
    sns.set_theme(context="notebook", style="whitegrid", palette=PALETTE, font_scale=0.9)
    plt.rcParams.update({"svg.fonttype": "none", "figure.facecolor": "white"})


def panels(
    count: int, *, columns: int = 2, width: float = 4.0, height: float = 2.9, **options: object
) -> tuple[Figure, list[plt.Axes]]:
    """A figure of `count` panels in rows of `columns`, sizes in inches a panel; spare ones go."""
    apply_style()
    columns = min(columns, count)
    rows = -(-count // columns)
    figure, axes = plt.subplots(
        rows,
        columns,
        figsize=(width * columns, height * rows),
        squeeze=False,
        layout="constrained",
        **options,
    )
    for spare in axes.flat[count:]:
        spare.remove()
    return figure, list(axes.flat[:count])


def each_panel(
    table: pd.DataFrame, by: str = "relation", **options: object
) -> tuple[Figure, list[tuple[plt.Axes, str, pd.DataFrame]]]:
    """A figure with a panel for each value of a column, in the table's order: axis, value, rows.

    `options` are those of `panels`.
    """
    parts = list(table.groupby(by, sort=False))
    figure, axes = panels(len(parts), **options)
    return figure, [(axis, name, part) for axis, (name, part) in zip(axes, parts, strict=True)]


def whole_numbers(axis: plt.Axes) -> None:
    """Ticks of the lower axis at whole numbers only, as layers are."""
    axis.xaxis.get_major_locator().set_params(integer=True)


def name_axes(figure: Figure, x: str, y: str = "", *, size: str | float = "large") -> None:
    """What the axes of all panels show, written once."""
    figure.supxlabel(x, fontsize=size)
    if y:
        figure.supylabel(y, fontsize=size)


def legend(figure: Figure, *, columns: int) -> None:
    """One legend above all panels, with every label that occurs in any."""
    named: dict = {}
    for axis in figure.axes:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            named.setdefault(label, handle)
    columns = min(columns, len(named))
    figure.legend(named.values(), named.keys(), loc="outside upper center", ncols=columns)


def band(
    axis: plt.Axes,
    line: pd.DataFrame,
    *,
    x: str,
    label: str,
    color: str,
    dashes: tuple = (None, None),
) -> None:
    """A line of `mean` over the column `x`, with the interval from `low` to `high` as a band."""
    line = line.sort_values(x)
    axis.plot(line[x], line["mean"], color=color, dashes=dashes, label=label, linewidth=2)
    axis.fill_between(line[x], line["low"], line["high"], color=color, alpha=0.2, linewidth=0)


def empty(reason: str) -> Figure:
    """A figure that says why there is nothing to draw, rather than a hole in the page."""
    figure = plt.figure(figsize=(4, 1))
    figure.text(0.5, 0.5, reason, ha="center", va="center")
    return figure
