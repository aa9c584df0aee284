"""The findings of chapter 2, in short."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pandas as pd

from ovectors.prose.common import accuracy_of, listed
from ovectors.prose.linear_update.arithmetic import effect_sentence
from ovectors.prose.linear_update.linearity import shared_sentence
from ovectors.prose.linear_update.names import (
    NOTHING_CORRECT,
    lower,
)
from ovectors.prose.linear_update.neurons import largest
from ovectors.prose.linear_update.switches import maker_sentence

if TYPE_CHECKING:
    from ovectors.statistics import Interval


def summary(
    name: str,
    accuracies: Mapping[str, Interval],
    shares: pd.DataFrame,
    effects: pd.DataFrame,
    at_switch: pd.DataFrame,
    needed: pd.DataFrame,
) -> str:
    """The findings of chapter 2 in a short list, for whatever model was run."""
    known = [f"{accuracy_of(found)} on {lower(r)}" for r, found in accuracies.items()]
    lines = [f"- `{name}` answers with one demonstration, as accuracy: {listed(known)}."]
    lines.append(f"- {NOTHING_CORRECT if shares.empty else maker_sentence(shares)}")
    if len(effects):
        lines.append(f"- {effect_sentence(effects)}")
    if len(at_switch):
        lines.append(f"- {shared_sentence(at_switch)}")
    if len(needed):
        found = [
            f"{largest(row.half, row.neurons)} on {lower(row.relation)}"
            for row in needed.itertuples()
        ]
        lines.append(
            f"- Of the {needed['neurons'].iloc[0]:,} neurons of the switching layer's FFN, "
            f"these bring the answer to the top of half of the items: {listed(found)}."
        )
    return "\n".join(lines)
