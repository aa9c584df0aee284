"""Tables of top tokens, layer by layer, as HTML; a cell is coloured where its token is followed."""

from __future__ import annotations

import html
from collections.abc import Mapping

import pandas as pd

from ovectors.figures.style import COLORS
from ovectors.prose.common import title

CELL = "padding: 0.15em 0.6em"


def token_table(head: str, rows: Mapping[int, str]) -> str:
    """A `<table>` of the head's rows, and a row of cells for each layer."""
    body = "".join(f'<tr><th scope="row">{layer}</th>{cells}</tr>' for layer, cells in rows.items())
    return f'<table class="top-tokens"><thead>{head}</thead><tbody>{body}</tbody></table>'


def followed(relation: str, part: pd.DataFrame) -> str:
    """The head of a relation's columns: its title, and the argument and answer of its item."""
    argument, answer = (shown(part[name].iloc[0]) for name in ("argument", "answer"))
    return f"{html.escape(title(relation))}<br><small>{argument} → {answer}</small>"


def mark_of(row: pd.Series) -> str:
    """Which of the two is on top: `answer`, `argument` or ""."""
    marks = {"answer": row["rank_answer"] == 1, "argument": row["rank_argument"] == 1}
    return next((name for name, is_top in marks.items() if is_top), "")


def token_cell(inside: str, mark: str = "") -> str:
    """A cell in the colour of its mark, translucent, so that it reads on any page."""
    if not mark:
        return f'<td style="{CELL}">{inside}</td>'
    red, green, blue = (int(COLORS[mark][at : at + 2], 16) for at in (1, 3, 5))
    tint = f"background: rgba({red}, {green}, {blue}, 0.28)"
    return f'<td class="is-{mark}" style="{CELL}; {tint}">{inside}</td>'


def shown(token: str) -> str:
    """A token as it can be seen: its leading space is dropped, a line break is written out."""
    text = token.replace("\n", "↵")
    text = text[1:] if text.startswith(" ") and len(text) > 1 else text
    return html.escape(text)
