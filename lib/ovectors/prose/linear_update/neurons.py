"""How many neurons are enough."""

from __future__ import annotations

import pandas as pd

from ovectors.prose.common import title
from ovectors.prose.linear_update.names import (
    NO_NEURONS,
)


def neuron_sentences(needed: pd.DataFrame) -> str:
    """How many neurons are enough, and how many are missed, a sentence per relation."""
    if needed.empty:
        return NO_NEURONS
    sentences = []
    for row in needed.itertuples():
        half, most, rest = (
            largest(k, row.neurons) for k in (row.half, row.nine_tenths, row.rest_fails)
        )
        lost = (
            "half of the items keep it however many are left out"
            if row.rest_fails < 0
            else f"less than half of the items keep it without {rest}"
        )
        sentences.append(
            f"**{title(row.relation)}** (n = {row.n}): the answer comes to the top of half of the "
            f"items with {half} of {row.neurons:,} neurons, of nine tenths with {most}; {lost}."
        )
    return "\n\n".join(sentences)


def largest(k: int, neurons: int) -> str:
    """How many of the largest neurons, in words; a negative number: none of those tried."""
    if k < 0:
        return "none of the numbers tried"
    if k <= 1:
        return ("no neuron", "the largest one")[k]
    return f"all {k:,}" if k == neurons else f"the largest {k:,}"
