"""Chapter 3's figures: by layer, by source, by control, by pair of layers, by scale, by outcome."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from ovectors.experiments.content_independence.measure.controls import WRONG
from ovectors.experiments.shared.outcomes import (
    ANSWER,
    ARGUMENT,
    ELSE,
    OTHER,
    OUTCOMES,
    SOURCE,
    UNMOVED,
)
from ovectors.experiments.shared.replacing import CONTROL, OWN, RANDOM
from ovectors.figures.style import (
    BLUE,
    COLORS,
    DASHES,
    GREY,
    ORANGE,
    PALETTE,
    PINK,
    SKY,
    YELLOW,
    band,
    each_panel,
    empty,
    legend,
    name_axes,
    panels,
    whole_numbers,
)
from ovectors.figures.tokens import mark_of, shown, token_cell, token_table
from ovectors.prose.content_independence import condition_title, task_title
from ovectors.prose.content_independence.names import sorted_out

MARKERS = ("o", "s", "^", "D", "v", "P")
LINES = ((None, None), (4, 1.5), (1, 1), (6, 1, 1, 1), (2, 2), (5, 1, 1, 1, 1, 1))
ENDS = {  # what a run ends on: its colour and its hatching
    ANSWER: (BLUE, ""),
    UNMOVED: ("#D9D9D9", ""),
    SOURCE: (ORANGE, "///"),
    OTHER: (YELLOW, "..."),
    ARGUMENT: (SKY, "\\\\\\"),
    ELSE: (GREY, "xxx"),
}


def layer_panels(curves: pd.DataFrame) -> Figure:
    """Reciprocal ranks over layers with and without the vectors, a column per task (figure 4).

    `curves` as made by `content_independence.judge.layer_curves`. Upper row: as the model is; lower
    row: with the vectors.
    """
    tasks = list(dict.fromkeys(curves["task"]))
    if not tasks:
        return empty("no item was measured")
    figure, axes = panels(
        2 * len(tasks), columns=len(tasks), width=3.4, height=2.4, sharex=True, sharey=True
    )
    for row, (condition, name) in enumerate(((CONTROL, "as it is"), (OWN, "with the vector"))):
        for column, task in enumerate(tasks):
            axis = axes[row * len(tasks) + column]
            panel = curves[(curves["task"] == task) & (curves["condition"] == condition)]
            for token, line in panel.groupby("token", sort=False):
                band(axis, line, x="layer", label=token, color=COLORS[token], dashes=DASHES[token])
            axis.set(ylim=(-0.02, 1.04), title=f"{task_title(task)}, {name}")
            axis.title.set_fontsize(9.5)
            whole_numbers(axis)
    name_axes(figure, "layer", "mean reciprocal rank")
    legend(figure, columns=2)
    return figure


def example_table(example: pd.DataFrame) -> str:
    """Top token after each layer without and with the vector, as HTML.

    `example` as made by `content_independence.judge.example`. Coloured where the top token is the
    argument or the answer, in colours that read on a light and on a dark page.
    """
    columns = {name: part.set_index("layer") for name, part in example.groupby("condition")}
    titles = {CONTROL: "as it is", OWN: "with the vector"}
    head = "".join(f'<th scope="col">{titles[name]}</th>' for name in titles)
    rows = {
        layer: "".join(_top_cell(columns[name].loc[layer]) for name in titles)
        for layer in sorted(example["layer"].unique())
    }
    return token_table(f'<tr><th scope="col">layer</th>{head}</tr>', rows)


def _top_cell(row: pd.Series) -> str:
    ranks = f"argument {row['rank_argument']:g}, answer {row['rank_answer']:g}"
    return token_cell(f"<b>{shown(row['top_token'])}</b> <small>{ranks}</small>", mark_of(row))


def source_dots(spread: pd.DataFrame) -> Figure:
    """What each source's vector does, a panel per task, the best on top.

    `spread` as made by `content_independence.judge.source_spread`. Filled: the model answers the
    source's own prompt; hollow: it does not.
    """
    if spread.empty:
        return empty("no source was measured")
    height = 1.3 + 0.22 * spread.groupby("task").size().max()
    figure, parts = each_panel(spread, "task", columns=3, width=3.4, height=height, sharex=True)
    for axis, task, rows in parts:
        part = rows.sort_values("mean")
        for place, row in enumerate(part.itertuples()):
            face = BLUE if row.correct else "white"
            axis.plot([row.low, row.high], [place, place], color=BLUE, linewidth=1.5)
            axis.plot(row.mean, place, "o", color=BLUE, markerfacecolor=face, markersize=5)
        axis.axvline(0, color=GREY, linewidth=1, linestyle="--")
        axis.set_yticks(range(len(part)), [_short(name) for name in part["vector"]], fontsize=10)
        axis.set_title(f"{task_title(task)} (n = {part['n'].iloc[0]})", fontsize=10)
        axis.grid(axis="y", visible=False)
    name_axes(figure, "change of the answer's mean reciprocal rank")
    return figure


def _short(text: str, most: int = 20) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def control_points(means: pd.DataFrame) -> Figure:
    """The answer's mean reciprocal rank under every kind of vector, a panel per task.

    `means` as made by `content_independence.judge.condition_means`. The dashed line is the control
    run. Hollow: the own vector is not above it, by the interval of the difference.
    """
    if means.empty:
        return empty("no vector was tried")
    kinds = sorted(dict.fromkeys(means["condition"]), key=_place)
    size = {"width": 3.0, "height": 0.9 + 0.3 * len(kinds)}
    figure, parts = each_panel(means, "task", columns=means["task"].nunique(), sharey=True, **size)
    for axis, task, rows in parts:
        part = rows.set_index("condition")
        left = set(sorted_out(rows)[1]["condition"])
        for place, kind in enumerate(reversed(kinds)):
            if kind not in part.index:
                continue
            row, color, marker = part.loc[kind], *_look(kind)
            axis.plot([row["low"], row["high"]], [place, place], color=color, linewidth=2)
            face = "white" if kind in left else color
            axis.plot(row["mean"], place, marker, color=color, markerfacecolor=face, markersize=6)
        axis.axvline(part.loc[CONTROL, "mean"], color=GREY, linewidth=1, linestyle="--")
        axis.set_yticks(range(len(kinds)), [condition_title(kind) for kind in reversed(kinds)])
        axis.set_title(f"{task_title(task)}\n(n = {int(part['n'].iloc[0])})", fontsize=10)
        axis.set_xlim(left=min(0, axis.get_xlim()[0]))
        axis.grid(axis="y", visible=False)
    name_axes(figure, "answer's mean reciprocal rank")
    return figure


def _place(kind: str) -> int:
    """Where a condition stands: from the control run over ours to those of no task."""
    order = (CONTROL, OWN, "mean of", "vector of", WRONG, RANDOM, "mean FFN")
    return next((at for at, start in enumerate(order) if kind.startswith(start)), len(order))


def _look(kind: str) -> tuple[str, str]:
    """Colour and marker of a condition: ours, made of ours, another's, none of a task."""
    if kind == OWN:
        return BLUE, "o"
    if kind.startswith("mean of"):
        return SKY, "s"
    if kind.startswith("vector of") or kind == WRONG:
        return ORANGE, "^"
    return (PINK, "D") if kind == RANDOM else (GREY, "v")


def layer_maps(cells: pd.DataFrame) -> Figure:
    """Change of the answer's reciprocal rank over start and source layer, a panel per task.

    `cells` as made by `content_independence.judge.map_cells`. The frame marks the pair in use.
    """
    if cells.empty:
        return empty("no pair of layers was tried")
    figure, parts = each_panel(cells, "task", columns=3, width=3.4, height=3.1)
    bound = max(0.05, float(np.nanmax(np.abs(cells["difference"]))))
    for axis, task, part in parts:
        grid = part.pivot(index="start_layer", columns="source_layer", values="difference")
        image = axis.imshow(
            grid.to_numpy(), origin="lower", cmap="PuOr_r", vmin=-bound, vmax=bound, aspect="auto"
        )
        axis.set_xticks(range(len(grid.columns)), grid.columns, fontsize=8)
        axis.set_yticks(range(len(grid.index)), grid.index, fontsize=8)
        axis.grid(visible=False)
        axis.set_title(f"{task_title(task)} (n = {part['n'].iloc[0]})", fontsize=10)
        for row in part[part["chosen"]].itertuples():
            column = list(grid.columns).index(row.source_layer)
            line = list(grid.index).index(row.start_layer)
            corner = (column - 0.45, line - 0.45)
            look = {"fill": False, "edgecolor": "black", "linewidth": 2}
            axis.add_patch(Rectangle(corner, 0.9, 0.9, **look))
    name_axes(figure, "layer that the vector comes from", "first layer that it is put in")
    axes = [axis for axis, *_ in parts]
    figure.colorbar(image, ax=axes, label="change of mean reciprocal rank", shrink=0.9)
    return figure


def scale_lines(curve: pd.DataFrame) -> Figure:
    """Answer's mean reciprocal rank over the vectors' scale; thin lines: the control runs.

    `curve` as made by `content_independence.judge.scale_curve`.
    """
    tasks = list(dict.fromkeys(curve["task"]))
    if not tasks:
        return empty("no scale was tried")
    figure, (axis,) = panels(1, width=6.5, height=3.3)
    for task, color, marker, dashes in zip(tasks, PALETTE, MARKERS, LINES, strict=False):
        part = curve[curve["task"] == task].sort_values("scale")
        band(axis, part, x="scale", label=task_title(task), color=color, dashes=dashes)
        axis.plot(part["scale"], part["mean"], marker, color=color)
        axis.axhline(part["before"].iloc[0], color=color, linewidth=0.9, dashes=dashes, alpha=0.8)
    axis.set_xscale("log", base=2)
    ticks = sorted(curve["scale"].unique())
    axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axis.set_ylim(bottom=0)
    axis.set(xlabel="scale of the vector", ylabel="answer's mean reciprocal rank")
    legend(figure, columns=3)
    return figure


def outcome_bars(shares: pd.DataFrame) -> Figure:
    """What intervened runs end on, a bar per task.

    `shares` as made by `content_independence.judge.outcome_shares`.
    """
    tasks = list(dict.fromkeys(shares["task"]))
    if not tasks:
        return empty("no run was measured")
    figure, (axis,) = panels(1, width=8.0, height=1.0 + 0.42 * len(tasks))
    left = np.zeros(len(tasks))
    for outcome in OUTCOMES:
        part = shares[shares["outcome"] == outcome].set_index("task")["share"].loc[tasks]
        color, hatch = ENDS[outcome]
        axis.barh(
            range(len(tasks)),
            part,
            left=left,
            color=color,
            hatch=hatch,
            edgecolor="white",
            label=outcome,
            height=0.7,
        )
        _write_shares(axis, part.to_numpy(), left)
        left = left + part.to_numpy()
    axis.set_yticks(range(len(tasks)), [task_title(task) for task in tasks])
    axis.invert_yaxis()
    axis.set(xlim=(0, 1), xlabel="share of runs")
    axis.grid(visible=False)
    legend(figure, columns=3)
    return figure


def _write_shares(axis: plt.Axes, shares: np.ndarray, left: np.ndarray) -> None:
    """Each share on its piece of the bar, where there is room for it."""
    box = {"facecolor": "white", "edgecolor": "none", "pad": 1, "alpha": 0.85}
    middle = {"ha": "center", "va": "center", "fontsize": 8, "bbox": box}
    for place, share in enumerate(shares):
        if share >= 0.06:
            axis.text(left[place] + share / 2, place, f"{share:.0%}", **middle)
