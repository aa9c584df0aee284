"""What chapter 3's tables come to; all of it is imported from here.

Every function takes tables as `measure` makes them, by the name of their task, and gives a tidy
table to draw and to save. Intervals resample vectors and items alike, where there are several of
each.
"""

from ovectors.experiments.content_independence.judge.items import by_argument_formation, by_tokens
from ovectors.experiments.content_independence.judge.layers import layer_curves, map_cells
from ovectors.experiments.content_independence.judge.tables import example, joined, pattern_of
from ovectors.experiments.content_independence.judge.vectors import (
    condition_means,
    effect_rows,
    outcome_shares,
    scale_curve,
    source_spread,
)
from ovectors.experiments.content_independence.judge.verdict import IN_LAST_HALF, claim, evidence

__all__ = [
    "IN_LAST_HALF",
    "by_argument_formation",
    "by_tokens",
    "claim",
    "condition_means",
    "effect_rows",
    "evidence",
    "example",
    "joined",
    "layer_curves",
    "map_cells",
    "outcome_shares",
    "pattern_of",
    "scale_curve",
    "source_spread",
]
