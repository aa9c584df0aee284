"""What a chapter's page says of its claims on the other models of the book.

A run knows its own model only. So this is added when the book is built, from the claims that every
model's run of the chapter left, and names what rises and falls with size.
"""

from __future__ import annotations

from collections.abc import Sequence

import nbformat
import pandas as pd

from ovectors.comparison import Finding
from ovectors.experiments.across import judge
from ovectors.prose import across as say

_VERDICT = "claim_block("
_AFTERWARDS = (
    "{chapter}`Across models <06_across_models>` has all claims side by side, and figures."
)


def add(notebook: nbformat.NotebookNode, told: str) -> None:
    """Put a chapter's text of `by_chapter` behind the cell that shows the page's own verdict.

    Nothing is added where there is no text, or the chapter shows no verdict.
    """
    places = [
        number
        for number, cell in enumerate(notebook.cells)
        if cell.cell_type == "code" and _VERDICT in cell.source
    ]
    if places and told:
        cell = nbformat.v4.new_markdown_cell(told)
        cell["id"] = "model-by-model"
        notebook.cells.insert(places[-1] + 1, cell)


def by_chapter(findings: Sequence[Finding]) -> dict[str, str]:
    """Markdown: a chapter's verdicts and main criteria on the models, and what size does to them.

    Chapters with a verdict on fewer than two models are left out. `findings` are of all chapters.
    """
    verdicts, models = judge.verdicts(findings), judge.models(findings)
    headlines = judge.headlines(judge.measured(findings))
    given = verdicts[verdicts["state"].isin(say.VERDICTS)]
    return {
        chapter: _in_words(part, headlines[headlines["claim"].isin(part["claim"])], models)
        for chapter, part in given.groupby("chapter", sort=False)
        if part["model"].nunique() > 1
    }


def _in_words(verdicts: pd.DataFrame, headlines: pd.DataFrame, models: pd.DataFrame) -> str:
    trends = judge.trends(headlines)
    parts = ["## Model by model", say.verdict_table(verdicts), say.value_tables(headlines)]
    if not trends.empty:
        parts.append(say.trend_sentences(trends, models))
    return "\n\n".join([*parts, _AFTERWARDS])
