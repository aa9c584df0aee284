"""Which model leads the first page: picture, verdicts, cards and findings there are of this one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd

from ovectors import runs
from ovectors.catalogue import catalogue
from ovectors.results import load_table, read_manifest

if TYPE_CHECKING:
    from ovectors.pages import Page

STAGES_CHAPTER, CURVES = "01_stages_of_processing", "reciprocal-ranks"


def leading_model(pages: Sequence[Page]) -> str:
    """The folder of the language model on which the argument is seen best.

    That is the one whose argument's mean reciprocal rank, at its highest layer on each relation of
    chapter 1, is highest on average; a relation on which no item was answered counts as 0. Without
    a language model that has chapter 1, the reference model leads.
    """
    peaks = {}
    for page in pages:
        if page.place.chapter == STAGES_CHAPTER and _is_language_model(page):
            found = _argument_peaks(page)
            peaks |= {page.place.model: found} if len(found) else {}
    if peaks:
        return str(pd.DataFrame(peaks).fillna(0).mean().idxmax())
    reference = (page.place.model for page in pages if page.is_reference)
    return next((model for model in reference if model != runs.ALL), "")


def _is_language_model(page: Page) -> bool:
    """Whether its model is neither a miniature nor a user's own: of the catalogue, or the hub."""
    known = catalogue().get(page.place.model)
    if known is not None:
        return known.group != "miniature"
    return bool(read_manifest(page.place.results).provenance.get("model", {}).get("commit"))


def _argument_peaks(page: Page) -> pd.Series:
    """By relation, the highest of the argument's mean reciprocal ranks; empty without a table."""
    if all(file.name != CURVES for file in read_manifest(page.place.results).files):
        return pd.Series(dtype=float)
    table = load_table(page.place.results, CURVES)
    argument = table[(table["form"] == "one_shot") & (table["token"] == "argument")]
    return argument.groupby("relation")["mean"].max()
