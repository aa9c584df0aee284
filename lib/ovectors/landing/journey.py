"""One prompt's way through the layers, as a picture: the paper's Poland turning into Warsaw."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

import numpy as np

from ovectors.experiments.stages.judge import detect_stages, example_items
from ovectors.prompts import TEMPLATES

if TYPE_CHECKING:
    import pandas as pd

RELATIONS = ("world_capitals", "past_tense", "uppercase")
MOST_ROWS = 10
ROW, TOP, WIDTH = 24, 44, 340
_WORD, _BARS, _BAR = 44, 170, 78  # where the words and the bars begin, and the width of a bar


def shown_item(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of the item that the picture is of, by layer; no row where nothing was run.

    `table` has the columns of `experiments.stages.measure`. Of each of RELATIONS there is one item:
    the paper's own where it is in the table. The first is taken whose argument is on top before its
    answer, which stays to the end; where there is none, the capital.
    """
    part = table[table["form"] == "one_shot"]
    found = [part[part["relation"] == name] for name in RELATIONS]
    shown = [example_items(one).sort_values("layer") for one in found if len(one)]
    for one in shown:
        stages = detect_stages(one["rank_argument"].to_numpy(), one["rank_answer"].to_numpy())
        if stages.argument_formed and one["rank_answer"].iloc[-1] == 1:
            return one
    return shown[0] if shown else part.iloc[:0]


def drawing(item: pd.DataFrame) -> str:
    """The item as inline SVG: for each layer its top token, and reciprocal ranks as bars.

    Of more than MOST_ROWS layers as many are shown, evenly spread. "" where there is no item.
    """
    if item.empty:
        return ""
    layers = item["layer"].to_numpy()
    places = np.linspace(0, len(layers) - 1, min(len(layers), MOST_ROWS)).round().astype(int)
    argument, answer = (html.escape(item[name].iloc[0].strip()) for name in ("argument", "answer"))
    height = TOP + ROW * len(places) + 6
    head = (
        f'<text class="small" x="0" y="{TOP - 10}">after layer</text>'
        f'<text class="small argument" x="{_BARS}" y="{TOP - 24}">▰ {argument}</text>'
        f'<text class="small answer" x="{WIDTH}" y="{TOP - 24}" text-anchor="end">▰ {answer}</text>'
        f'<text class="small" x="{_BARS}" y="{TOP - 10}">reciprocal rank of each</text>'
    )
    rows = "".join(_row(item.iloc[at], TOP + ROW * row) for row, at in enumerate(places))
    return (
        f'<svg class="journey" viewBox="0 0 {WIDTH} {height}" role="img" '
        f'aria-label="{html.escape(in_words(item))}">{head}{rows}</svg>'
    )


def _row(row: pd.Series, y: int) -> str:
    stage = stage_of(row["rank_argument"], row["rank_answer"])
    bars = "".join(
        f'<rect class="track" x="{x}" y="{y + 6}" width="{_BAR}" height="9"/>'
        f'<rect class="{name}" x="{x}" y="{y + 6}" '
        f'width="{_BAR / row[f"rank_{name}"]:.1f}" height="9"/>'
        for name, x in (("argument", _BARS), ("answer", _BARS + _BAR + 10))
    )
    token = _visible(row["top_token"])
    return (
        f'<text class="small" x="12" y="{y + 15}">{int(row["layer"])}</text>'
        f'<rect class="cell {stage}" x="{_WORD - 6}" y="{y + 1}" width="118" '
        f'height="{ROW - 4}" rx="4"/>'
        f'<text class="token" x="{_WORD}" y="{y + 15}">{html.escape(token)}</text>{bars}'
    )


def stage_of(rank_argument: float, rank_answer: float) -> str:
    """`argument` or `answer` where that is on top, otherwise `neither`."""
    if rank_answer == 1:
        return "answer"
    return "argument" if rank_argument == 1 else "neither"


def _visible(token: str, most: int = 13) -> str:
    shown = token.strip() or "↵"
    return shown if len(shown) <= most else f"{shown[: most - 1]}…"


def in_words(item: pd.DataFrame) -> str:
    """What the picture shows, as a sentence for whatever happened on this item."""
    if item.empty:
        return "Chapter 1 has not been run, so there is no item to show."
    argument, answer = (item[name].iloc[0].strip() for name in ("argument", "answer"))
    stages = [stage_of(*ranks) for ranks in item[["rank_argument", "rank_answer"]].to_numpy()]
    layers, last = item["layer"].to_list(), item["top_token"].iloc[-1].strip()
    parts = [_when(argument, stages, "argument", layers), _when(answer, stages, "answer", layers)]
    end = f"The model ends on {last}." if stages[-1] != "answer" else f"The model answers {last}."
    return f"{' '.join(parts)} {end}"


def _when(word: str, stages: list[str], wanted: str, layers: list[int]) -> str:
    found = [layer for layer, stage in zip(layers, stages, strict=True) if stage == wanted]
    if not found:
        return f"{word} is never on top."
    if len(found) == 1:
        return f"{word} is on top after layer {found[0]} alone."
    first, last = found[0], found[-1]
    if found == layers[layers.index(first) : layers.index(last) + 1]:
        return f"{word} is on top after layers {first} to {last}."
    return f"{word} is on top after {len(found)} of the layers, first {first}, last {last}."


def caption(item: pd.DataFrame, model: str) -> str:
    """Markdown below the picture: the model, and the picture in words."""
    if item.empty:
        return in_words(item)
    asked = TEMPLATES[item["relation"].iloc[0]].question.removeprefix("Q: ").split("\n")[0]
    question = asked.format(argument=item["argument"].iloc[0].strip())
    return f"*{question}* asked of `{model}`, with one example before it. {in_words(item)}"
