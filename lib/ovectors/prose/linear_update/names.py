"""What there is to say where nothing was measured, and how names and shares are written."""

from __future__ import annotations

import pandas as pd

from ovectors.prose.common import interval, title

RULE = 0.5  # more than half of the items
STRONGEST = 4.0  # the largest of the demo's scales
NOTHING_CORRECT = "No item was answered correctly, so there is no switch to look for."
NOTHING_TRIED = "No item has an o vector, so there is nothing to subtract."
NOTHING_FITTED = "Too few items were answered correctly to fit a mean vector and to measure it."
NO_NEURONS = "No switch needs an FFN's output, so there are no neurons to look at."
NO_PAPER_LAYER = (
    "The paper names no layer of its own for this model, so the o vectors above, each from its "
    "item's own switching layer, are the only ones."
)


def cell(row: pd.Series) -> str:
    """A share with its interval."""
    return interval(row["share"], row["low"], row["high"])


def lower(relation: str) -> str:
    """A relation's title inside a sentence."""
    name = title(relation)
    return name if name.startswith("US") else name.lower()
