"""Every figure of the book, in one style; nothing is computed here but positions and colours."""

from __future__ import annotations

import html

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from ovectors.prose import title

# Okabe and Ito's palette: told apart by readers with any of the common colour-vision deficiencies.
COLORS = {"argument": "#D55E00", "answer": "#0072B2", "loss": "#0072B2"}
CELL = "padding: 0.15em 0.6em"
LINES = {"argument": (4, 1.5), "answer": ""}  # dashes, so that print in grey works too


def apply_style() -> None:
    """Set the book's style for every figure drawn afterwards."""
    sns.set_theme(context="notebook", style="whitegrid", palette="colorblind", font_scale=0.9)
    plt.rcParams.update({"svg.fonttype": "none", "figure.facecolor": "white"})


def reciprocal_rank_panels(curves: pd.DataFrame, *, form: str = "one_shot") -> Figure:
    """Reciprocal rank of argument and answer over layers, a panel per relation (figure 3).

    `curves` as made by `experiments.stages.reciprocal_rank_curves`: the line is the mean over
    correctly answered items, the band its 95% bootstrap interval.
    """
    apply_style()
    shown = curves[curves["form"] == form]
    relations = list(dict.fromkeys(shown["relation"]))
    if not relations:
        return _empty("no item was answered correctly")
    columns = min(2, len(relations))
    rows = -(-len(relations) // columns)
    figure, axes = plt.subplots(
        rows,
        columns,
        figsize=(4 * columns, 2.9 * rows),
        sharex=True,
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for spare in axes.flat[len(relations) :]:
        spare.remove()
    for axis, relation in zip(axes.flat, relations, strict=False):
        panel = shown[shown["relation"] == relation]
        for token, line in panel.groupby("token", sort=False):
            _band(axis, line, token)
        axis.set(title=f"{title(relation)} (n = {panel['n'].iloc[0]})", ylim=(-0.02, 1.04))
        axis.xaxis.get_major_locator().set_params(integer=True)
    figure.supxlabel("layer")
    figure.supylabel("mean reciprocal rank")
    figure.legend(*axes[0][0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return figure


def _empty(reason: str) -> Figure:
    """A figure that says why there is nothing to draw, rather than a hole in the page."""
    figure = plt.figure(figsize=(4, 1))
    figure.text(0.5, 0.5, reason, ha="center", va="center")
    return figure


def _band(axis: plt.Axes, line: pd.DataFrame, token: str) -> None:
    line = line.sort_values("layer")
    color = COLORS[token]
    dashes = (None, None) if not LINES[token] else LINES[token]
    axis.plot(line["layer"], line["mean"], color=color, dashes=dashes, label=token, linewidth=2)
    axis.fill_between(line["layer"], line["low"], line["high"], color=color, alpha=0.2, linewidth=0)


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


def loss_curve(log: pd.DataFrame) -> Figure:
    """Training loss over tokens, one point per step and its running median."""
    apply_style()
    figure, axis = plt.subplots(figsize=(6, 3), layout="constrained")
    millions = log["tokens"] / 1e6
    axis.plot(millions, log["loss"], color=COLORS["loss"], alpha=0.25, linewidth=0.8)
    window = max(1, len(log) // 60)
    smooth = log["loss"].rolling(window, center=True, min_periods=1).median()
    axis.plot(millions, smooth, color=COLORS["loss"], linewidth=2)
    axis.set(xlabel="tokens seen (millions)", ylabel="loss (nats)")
    axis.set(ylim=(0, float(np.nanmax(smooth)) * 1.05))
    return figure
