"""What chapter 4's tables come to; all of it is imported from here."""

from ovectors.experiments.retrieval.judge.contest import (
    REMOVALS,
    argument_stage,
    contest_curves,
    contest_outcomes,
    known_items,
)
from ovectors.experiments.retrieval.judge.costs import (
    DIFFERENCE,
    TASKS,
    accuracy_curves,
    claim,
    costs,
    extra_loss,
)

__all__ = [
    "DIFFERENCE",
    "REMOVALS",
    "TASKS",
    "accuracy_curves",
    "argument_stage",
    "claim",
    "contest_curves",
    "contest_outcomes",
    "costs",
    "extra_loss",
    "known_items",
]
