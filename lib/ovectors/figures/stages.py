"""Chapter 1's figures: reciprocal ranks over layers, and the top tokens of one item."""

from __future__ import annotations

import html

import pandas as pd
from matplotlib.figure import Figure

from ovectors.figures.style import COLORS, DASHES, band, empty, panels
from ovectors.prose.common import title

CELL = "padding: 0.15em 0.6em"


def reciprocal_rank_panels(curves: pd.DataFrame, *, form: str = "one_shot") -> Figure:
    """Reciprocal rank of argument and answer over layers, a panel per relation (figure 3).

    `curves` as made by `experiments.stages.reciprocal_rank_curves`: the line is the mean over
    correctly answered items, the band its 95% bootstrap interval.
    """
    shown = curves[curves["form"] == form]
    relations = list(dict.fromkeys(shown["relation"]))
    if not relations:
        return empty("no item was answered correctly")
    figure, axes = panels(len(relations), sharex=True, sharey=True)
    for axis, relation in zip(axes, relations, strict=True):
        panel = shown[shown["relation"] == relation]
        for token, line in panel.groupby("token", sort=False):
            band(axis, line, x="layer", label=token, color=COLORS[token], dashes=DASHES[token])
        axis.set(title=f"{title(relation)} (n = {panel['n'].iloc[0]})", ylim=(-0.02, 1.04))
        axis.xaxis.get_major_locator().set_params(integer=True)
    figure.supxlabel("layer")
    figure.supylabel("mean reciprocal rank")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return figure


def top_token_table(examples: pd.DataFrame) -> str:
    """Top tokens after each layer for one item of each relation, as HTML (figure 2, table 1).

    `examples` as made by `experiments.stages.example_items`, of a single form. A cell is coloured
    where its top token is the argument or the answer; the colours are translucent, so that they
    read on a light and on a dark page. Returns a `<table>`, or a line that says there is no item.
    """
    if examples.empty:
        return "<p>There is no such item.</p>"
    columns = {
        name: part.set_index("layer") for name, part in examples.groupby("relation", sort=False)
    }
    head = "".join(
        f'<th scope="col">{html.escape(title(name))}<br>'
        f"<small>{_token(part['argument'].iloc[0])} → {_token(part['answer'].iloc[0])}</small></th>"
        for name, part in columns.items()
    )
    body = ""
    for layer in sorted(examples["layer"].unique()):
        cells = "".join(_top_cell(part.loc[layer]) for part in columns.values())
        body += f'<tr><th scope="row">{layer}</th>{cells}</tr>'
    return (
        '<table class="top-tokens"><thead><tr><th scope="col">layer</th>'
        f"{head}</tr></thead><tbody>{body}</tbody></table>"
    )


def _top_cell(row: pd.Series) -> str:
    marks = {"answer": row["rank_answer"] == 1, "argument": row["rank_argument"] == 1}
    mark = next((name for name, is_top in marks.items() if is_top), None)
    style = f' style="{CELL}"'
    if mark:
        red, green, blue = (int(COLORS[mark][i : i + 2], 16) for i in (1, 3, 5))
        style = f' class="is-{mark}" style="{CELL}; background: rgba({red}, {green}, {blue}, 0.28)"'
    first, *rest = (_token(token) for token in list(row["top_tokens"])[:3])
    return f"<td{style}><b>{first}</b> <small>{' '.join(rest)}</small></td>"


def _token(text: str) -> str:
    """A token as it can be seen: its leading space is dropped, a line break is written out."""
    shown = text.replace("\n", "↵")
    shown = shown[1:] if shown.startswith(" ") and len(shown) > 1 else shown
    return html.escape(shown)
