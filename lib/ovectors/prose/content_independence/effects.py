"""What a vector did: from which layers it came, how far it brought the answer, layer by layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pandas as pd

from ovectors.experiments.shared.replacing import CONTROL, OWN
from ovectors.prose.common import interval
from ovectors.prose.content_independence.names import (
    count,
    moved,
    number,
    ranks,
    task_title,
)

if TYPE_CHECKING:
    from ovectors.experiments.shared.layers import Layers

EFFECTS = (
    ("mean reciprocal rank before", "RR before"),
    ("mean reciprocal rank after", "RR after"),
    ("answer's rank before", "rank before"),
    ("answer's rank after", "rank after"),
    ("answer on top after", "on top after"),
    ("no effect", "no effect"),
)


def layer_sentences(layers: Mapping[str, Layers], maps: Mapping[str, pd.DataFrame]) -> str:
    """Which layers were chosen, on how many development items and with which sources."""
    lines = []
    for task, chosen in layers.items():
        table = maps[task]
        items, sources = table["item"].nunique(), table["vector"].nunique()
        pairs = len(table.groupby(["source_layer", "start_layer"]))
        last = int(table["start_layer"].max())
        place = f"from layer {chosen.start} to {last}"
        if chosen.start == last:
            place = f"at layer {last}, the last"
        lines.append(
            f"- **{task_title(task)}:** vector from layer {chosen.source}, put in {place}; chosen "
            f"among {count(pairs, 'pair')} of layers on {count(items, 'development item')} with "
            f"the vectors of {count(sources, 'example')}."
        )
    return "\n".join(lines)


def effect_table(effects: pd.DataFrame) -> str:
    """Markdown table: what the own vectors did, a row for each task, setting and positions."""
    head = [short for _, short in EFFECTS]
    lines = [
        "| task | layers | positions | vectors (answered) | n | " + " | ".join(head) + " |",
        "|---" * (5 + len(head)) + "|",
    ]
    keys = ["task", "setting", "positions"]
    for (task, setting, positions), part in effects.groupby(keys, sort=False):
        rows = part.set_index("measure")
        first = rows.iloc[0]
        layers = f"{first['source_layer']}, from {first['start_layer']} on"
        name = task_title(task) + ("" if setting == "chosen" else f", {setting}")
        cells = [cell(rows.loc[measure]) for measure, _ in EFFECTS]
        lines.append(
            f"| {name} | {layers} | {positions} | {first['vectors']} ({first['correct']}) | "
            f"{rows['n'].iloc[0]} | {' | '.join(cells)} |"
        )
    return "\n".join(lines)


def cell(row: pd.Series) -> str:
    """A measure of `effects` with its interval; ranks with one decimal."""
    if row.name.startswith("answer's rank"):
        return f"{row['value']:.1f} [{row['low']:.1f}, {row['high']:.1f}]"
    return interval(row["value"], row["low"], row["high"])


def effect_sentences(effects: pd.DataFrame) -> str:
    """Whether the vectors bring the answer up, a sentence for each task: words follow intervals."""
    sentences = []
    for task, part in effects.groupby("task", sort=False):
        rows = part.set_index("measure")
        before, after = (rows.loc[f"mean reciprocal rank {when}"] for when in ("before", "after"))
        top, none = rows.loc["answer on top after"], rows.loc["no effect"]
        change = rows.loc["change"]
        sentences.append(
            f"**{task_title(task)}:** with one example's vector the answer's mean reciprocal rank "
            f"{moved(change['low'], change['high'])}, from {number(before['value'])} to "
            f"{number(after['value'])} ({ranks(rows)}); the answer is then on top in "
            f"{top['value']:.1%} of the runs, and ranks no better than before in "
            f"{none['value']:.1%}."
        )
    return "\n\n".join(sentences)


def curve_sentences(curves: pd.DataFrame) -> str:
    """From which layer on the vectors have the answer clearly above the control run, by task."""
    sentences = []
    answers = curves[curves["token"] == "answer"]
    for task, part in answers.groupby("task", sort=False):
        own = part[part["condition"] == OWN].set_index("layer").sort_index()
        lifted = own["lead_low"] > 0
        below = lifted.index[~lifted]
        first = int(below.max()) + 1 if len(below) else int(lifted.index.min())
        if lifted.iloc[-1]:
            said = f"the answer stands clearly above the control run's from layer {first} to the "
            said += "last"
        else:
            said = "after the last layer the answer stands not clearly above the control run's"
        top = own["top"]
        highest = f"most often after layer {top.idxmax()} ({top.max():.1%} of the runs)"
        said += f"; with the vectors it is on top {highest if top.max() > 0 else 'nowhere'}"
        sentences.append(f"**{task_title(task)}:** {said}.")
    return "\n\n".join(sentences)


def example_lines(example: pd.DataFrame, text: str) -> str:
    """The pattern of the example, and what the two runs end on."""
    last = example[example["layer"] == example["layer"].max()].set_index("condition")
    control, own = last.loc[CONTROL], last.loc[OWN]
    return (
        f"`{text}`\n\nWithout the intervention the model goes on with "
        f"`{_shown(control['top_token'])}`, with the vector of *{own['vector']}* it says "
        f"`{_shown(own['top_token'])}`. The answer looked for is `{own['answer'].strip()}`."
    )


def _shown(token: str) -> str:
    return token.strip().replace("`", "'") or "↵"


def factor_table(found: pd.DataFrame) -> str:
    """Markdown table: effects on two kinds of items, beside each other."""
    lines = [
        "| task | items | n | RR before | RR after | change [95% interval] | on top after |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in found.itertuples():
        if row.n:
            cells = f"{row.before:.2f} | {row.after:.2f} | "
            cells += f"{interval(row.mean, row.low, row.high)} | {row.top:.1%}"
        else:
            cells = "none | none | none | none"
        lines.append(f"| {task_title(row.task)} | {row.level} | {row.n} | {cells} |")
    return "\n".join(lines)
