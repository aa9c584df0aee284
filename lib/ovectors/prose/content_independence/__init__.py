"""Chapter 3's sentences: what a vector did, beside its controls, and what came out instead.

All that the chapter says is imported from here.
"""

from ovectors.prose.content_independence.effects import (
    curve_sentences,
    effect_sentences,
    effect_table,
    example_lines,
    factor_table,
    layer_sentences,
)
from ovectors.prose.content_independence.findings import summary
from ovectors.prose.content_independence.names import condition_title, task_title
from ovectors.prose.content_independence.paper import authors_lines, published_table
from ovectors.prose.content_independence.vectors import (
    control_sentences,
    map_sentences,
    outcome_rules,
    outcome_sentences,
    scale_sentences,
    spread_sentences,
)

__all__ = [
    "authors_lines",
    "condition_title",
    "control_sentences",
    "curve_sentences",
    "effect_sentences",
    "effect_table",
    "example_lines",
    "factor_table",
    "layer_sentences",
    "map_sentences",
    "outcome_rules",
    "outcome_sentences",
    "published_table",
    "scale_sentences",
    "spread_sentences",
    "summary",
    "task_title",
]
