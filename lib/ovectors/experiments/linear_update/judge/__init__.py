"""What chapter 2's tables come to, a module a table; all of it is imported from here."""

from ovectors.experiments.linear_update.judge.arithmetic import (
    effects,
    effects_by_layer,
    example,
    outcomes,
)
from ovectors.experiments.linear_update.judge.cosines import cosine_cells, cosine_panels
from ovectors.experiments.linear_update.judge.linearity import (
    at_switch,
    explained,
    faithfulness,
    fitted_on,
    gains,
)
from ovectors.experiments.linear_update.judge.neurons import neuron_shares, neurons_needed
from ovectors.experiments.linear_update.judge.switches import (
    accuracy,
    chosen_layers,
    common_layer,
    is_parallel,
    maker_shares,
    makers_by_layer,
    per_item,
)
from ovectors.experiments.linear_update.judge.verdict import claim

__all__ = [
    "accuracy",
    "at_switch",
    "chosen_layers",
    "claim",
    "common_layer",
    "cosine_cells",
    "cosine_panels",
    "effects",
    "effects_by_layer",
    "example",
    "explained",
    "faithfulness",
    "fitted_on",
    "gains",
    "is_parallel",
    "maker_shares",
    "makers_by_layer",
    "neuron_shares",
    "neurons_needed",
    "outcomes",
    "per_item",
]
