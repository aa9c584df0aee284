"""Every group that a model can take part in, measured through the store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from ovectors.experiments.content_independence.gather import chosen_layers
from ovectors.experiments.content_independence.tasks import IN_DOMAIN, task_of
from ovectors.experiments.function_specificity.groups import CANDIDATES, Group, find_groups
from ovectors.experiments.function_specificity.measure import COLUMNS, confusion
from ovectors.experiments.shared.layers import Layers
from ovectors.experiments.survey import LEAST_ACCURACY, layers_of, survey
from ovectors.statistics import Interval

if TYPE_CHECKING:
    from ovectors.store import Store


@dataclass(frozen=True, kw_only=True, eq=False)
class Specificity:
    """Everything that was measured on one model.

    Attributes:
        accuracies: one-shot accuracy of every candidate relation.
        groups: relations that share arguments, of those that the model answers.
        layers: where each of their vectors comes from and goes in, chosen on development items.
        table: the tables of `confusion` for all groups.
        least_accuracy: only relations with a higher accuracy took part.
    """

    accuracies: Mapping[str, Interval]
    groups: tuple[Group, ...]
    layers: Mapping[str, Layers]
    table: pd.DataFrame
    least_accuracy: float = LEAST_ACCURACY


def measure_all(
    store: Store, *, n_items: int = 0, seed: int = 0, least_accuracy: float = LEAST_ACCURACY
) -> Specificity:
    """Measure every group that the model can take part in, each table once, through the store.

    `least_accuracy`: a relation takes part where its one-shot accuracy is above it.
    """
    drawn = {"n_items": n_items, "seed": seed}
    asked = {name: task_of(name).origin.relation for name in CANDIDATES}
    known = survey(store, asked, least_accuracy=least_accuracy, **drawn)
    groups = find_groups(store.model, known.answered, seed=seed)
    used = {name for group in groups for name in group.relations}
    papers = {name: task for name, task in IN_DOMAIN.items() if name in used}
    further = {name: name for name in CANDIDATES if name in used - set(papers)}
    layers = chosen_layers(store, papers, **drawn) | layers_of(store, further, **drawn)
    tables = [
        store.table(
            confusion,
            kind=group.kind,
            relations=tuple((n, layers[n].source, layers[n].start) for n in group.relations),
            **drawn,
        )
        for group in groups
    ]
    table = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=COLUMNS)
    return Specificity(
        accuracies=known.accuracies,
        groups=groups,
        layers=layers,
        table=table,
        least_accuracy=least_accuracy,
    )
