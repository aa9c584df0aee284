"""What a chapter's page says of its claims on the other models of the book.

A run knows its own model only. So this is added when the book is built, from the claims that every
model's run of the chapter left, and names what rises and falls with size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import nbformat

from ovectors.comparison import Finding
from ovectors.experiments.across import judge
from ovectors.prose import across as say

if TYPE_CHECKING:
    from ovectors.pages import Page

_VERDICT = "claim_block("
_AFTERWARDS = (
    "{chapter}`Across models <06_across_models>` has all claims side by side, and figures."
)


def add(notebook: nbformat.NotebookNode, page: Page, findings: Sequence[Finding]) -> None:
    """Put the verdicts and values of all models behind the cell that shows the page's own verdict.

    Nothing is added where the chapter has claims on fewer than two models, or shows no verdict.
    """
    places = [
        number
        for number, cell in enumerate(notebook.cells)
        if cell.cell_type == "code" and _VERDICT in cell.source
    ]
    told = in_words(page.place.chapter, findings)
    if places and told:
        cell = nbformat.v4.new_markdown_cell(told)
        cell["id"] = "model-by-model"
        notebook.cells.insert(places[-1] + 1, cell)


def in_words(chapter: str, findings: Sequence[Finding]) -> str:
    """Markdown: a chapter's verdicts and main criteria on the models, and what size does to them.

    Empty where fewer than two models have a verdict. `findings` are of all chapters.
    """
    known = judge.verdicts(findings)
    verdicts = known[(known["chapter"] == chapter) & known["state"].isin(say.VERDICTS)]
    if verdicts["model"].nunique() < 2:
        return ""
    headlines = judge.headlines(judge.measured(findings))
    headlines = headlines[headlines["claim"].isin(verdicts["claim"])]
    trends = judge.trends(headlines)
    parts = ["## Model by model", say.verdict_table(verdicts), say.value_tables(headlines)]
    if not trends.empty:
        parts.append(say.trend_sentences(trends, judge.models(findings)))
    return "\n\n".join([*parts, _AFTERWARDS])
