"""Chapter 2's sentences: who makes the switch, what the o vector does, how much of it is shared.

All that the chapter says is imported from here.
"""

from ovectors.prose.linear_update.arithmetic import effect_sentence, effect_table, paper_layers
from ovectors.prose.linear_update.findings import summary
from ovectors.prose.linear_update.linearity import (
    cosine_sentence,
    linearity_table,
    shared_sentence,
    switch_table,
)
from ovectors.prose.linear_update.names import (
    NO_NEURONS,
    NO_PAPER_LAYER,
    NOTHING_CORRECT,
    NOTHING_FITTED,
    NOTHING_TRIED,
)
from ovectors.prose.linear_update.neurons import neuron_sentences
from ovectors.prose.linear_update.switches import maker_sentence, maker_table, rules

__all__ = [
    "NOTHING_CORRECT",
    "NOTHING_FITTED",
    "NOTHING_TRIED",
    "NO_NEURONS",
    "NO_PAPER_LAYER",
    "cosine_sentence",
    "effect_sentence",
    "effect_table",
    "linearity_table",
    "maker_sentence",
    "maker_table",
    "neuron_sentences",
    "paper_layers",
    "rules",
    "shared_sentence",
    "summary",
    "switch_table",
]
