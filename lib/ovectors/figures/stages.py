"""Chapter 1's figures: reciprocal ranks over layers, and the top tokens of one item."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from ovectors.figures.style import (
    COLORS,
    DASHES,
    band,
    each_panel,
    empty,
    legend,
    name_axes,
    whole_numbers,
)
from ovectors.figures.tokens import followed, mark_of, shown, token_cell, token_table
from ovectors.prose.common import title


def reciprocal_rank_panels(curves: pd.DataFrame, *, form: str = "one_shot") -> Figure:
    """Reciprocal rank of argument and answer over layers, a panel per relation (figure 3).

    `curves` as made by `stages.judge.reciprocal_rank_curves`: the line is the mean over correctly
    answered items, the band its 95% interval.
    """
    drawn = curves[curves["form"] == form]
    if drawn.empty:
        return empty("no item was answered correctly")
    figure, parts = each_panel(drawn, sharex=True, sharey=True)
    for axis, relation, panel in parts:
        for token, line in panel.groupby("token", sort=False):
            band(axis, line, x="layer", label=token, color=COLORS[token], dashes=DASHES[token])
        axis.set(title=f"{title(relation)} (n = {panel['n'].iloc[0]})", ylim=(-0.02, 1.04))
        whole_numbers(axis)
    name_axes(figure, "layer", "mean reciprocal rank")
    legend(figure, columns=2)
    return figure


def top_token_table(examples: pd.DataFrame) -> str:
    """Top tokens after each layer for one item of each relation, as HTML (figure 2, table 1).

    `examples` as made by `stages.judge.example_items`, of a single form. A cell is coloured where
    its top token is the argument or the answer. Returns a `<table>`, or a line that says there is
    no item.
    """
    if examples.empty:
        return "<p>There is no such item.</p>"
    columns = {
        name: part.set_index("layer") for name, part in examples.groupby("relation", sort=False)
    }
    head = "".join(f'<th scope="col">{followed(name, part)}</th>' for name, part in columns.items())
    rows = {
        layer: "".join(_top_cell(part.loc[layer]) for part in columns.values())
        for layer in sorted(examples["layer"].unique())
    }
    return token_table(f'<tr><th scope="col">layer</th>{head}</tr>', rows)


def _top_cell(row: pd.Series) -> str:
    first, *rest = (shown(token) for token in list(row["top_tokens"])[:3])
    return token_cell(f"<b>{first}</b> <small>{' '.join(rest)}</small>", mark_of(row))
