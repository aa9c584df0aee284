"""Which function a vector names: vectors by answers, one heat map for each group of relations."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from ovectors.experiments.shared.replacing import CONTROL
from ovectors.figures.style import ORANGE, each_panel, empty, name_axes
from ovectors.prose.function_specificity import kind_title, short

CELL = 0.78  # inches a cell, which holds two lines


def confusion_panels(matrix: pd.DataFrame) -> Figure:
    """Mean reciprocal rank and top-1 share, a row for each relation's vectors (no paper figure).

    `matrix` as made by `function_specificity.judge.confusion_matrix`. The first row is the
    control run; a frame marks each relation's own answer under its own vectors.
    """
    if matrix.empty:
        return empty("no two relations that the model answers share enough arguments")
    largest = matrix.groupby("kind")["answer_of"].nunique().max()
    figure, parts = each_panel(
        matrix,
        "kind",
        width=1.3 + CELL * largest * 1.15,
        height=1.0 + CELL * 0.5 * (largest + 1),
    )
    for axis, kind, part in parts:
        image = _heat_map(axis, part)
        n = int(part["n"].iloc[0])
        axis.set_title(f"{kind_title(kind)} (n = {n})", fontsize=11)
    axes = [axis for axis, *_ in parts]
    figure.colorbar(image, ax=axes, shrink=0.5, label="mean reciprocal rank of the answer")
    name_axes(figure, "answer of", "vector of", size=12)
    return figure


def _heat_map(axis: plt.Axes, part: pd.DataFrame):
    """One group's cells: colour and upper number the mean, lower number the share on top."""
    answers, vectors = list(part["answer_of"].unique()), list(part["vector"].unique())
    cells = part.set_index(["vector", "answer_of"])
    means = [[cells.loc[(v, a), "mean"] for a in answers] for v in vectors]
    image = axis.imshow(means, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    axis.grid(visible=False)
    for row, vector in enumerate(vectors):
        for column, answer in enumerate(answers):
            cell = cells.loc[(vector, answer)]
            axis.text(
                column,
                row,
                f"{cell['mean']:.2f}\n{cell['top1']:.0%}",
                ha="center",
                va="center",
                fontsize=9.5,
                color="white" if cell["mean"] > 0.55 else "black",
            )
            if vector == answer:
                box = Rectangle((column - 0.46, row - 0.46), 0.92, 0.92, fill=False)
                box.set(edgecolor=ORANGE, linewidth=2.2)
                axis.add_patch(box)
    names = ["none" if vector == CONTROL else short(vector) for vector in vectors]
    axis.set_xticks(range(len(answers)), [_in_lines(answer) for answer in answers], fontsize=9)
    axis.set_yticks(range(len(vectors)), names, fontsize=9)
    axis.axhline(0.5, color="black", linewidth=1)  # below it, the vectors
    return image


def _in_lines(answer: str) -> str:
    """A relation's short name, a word a line: so it stays in the width of its cells."""
    return short(answer).replace(" ", "\n")
