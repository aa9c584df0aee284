"""Many relations at once: which ones a model answers, and which layers their o vectors use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pandas as pd

from ovectors.encoding import encode_relation
from ovectors.errors import UserError
from ovectors.experiments.content_independence import IN_DOMAIN
from ovectors.experiments.layer_maps import Layers, choose_layers, layer_map
from ovectors.experiments.sources import Task
from ovectors.experiments.stages import accuracy, stages
from ovectors.statistics import Interval, nothing

if TYPE_CHECKING:
    from ovectors.models import LanguageModel
    from ovectors.relations import Relation
    from ovectors.store import Store

LEAST_ACCURACY = 0.1
"""A relation counts as answered where its one-shot accuracy is above this."""
SMALLER = {"n_sources": 3, "max_items": 20}
"""With how many vectors and development items the layers of a further relation are chosen."""


def is_measurable(
    model: LanguageModel, relation: Relation | str, *, n_items: int = 0, seed: int = 0
) -> bool:
    """Whether any of the items drawn can be measured with the model's tokenizer."""
    try:
        encode_relation(model, relation, "one_shot", n_items=n_items, seed=seed)
    except UserError:
        return False
    return True


def stage_tables(
    store: Store, relations: Mapping[str, Relation | str], *, n_items: int = 0, seed: int = 0
) -> dict[str, pd.DataFrame | None]:
    """The one-shot table of `stages.stages` for each relation; None where none can be measured."""
    drawn = {"n_items": n_items, "seed": seed}
    return {
        name: store.table(stages, relation=relation, **drawn)
        if is_measurable(store.model, relation, **drawn)
        else None
        for name, relation in relations.items()
    }


def accuracies(tables: Mapping[str, pd.DataFrame | None]) -> dict[str, Interval]:
    """One-shot accuracy of each relation; n = 0 where no item can be measured."""
    return {name: nothing() if table is None else accuracy(table) for name, table in tables.items()}


def answered(found: Mapping[str, Interval], *, least: float = LEAST_ACCURACY) -> tuple[str, ...]:
    """The relations with an accuracy above `least`, in their order."""
    return tuple(name for name, one in found.items() if one.value > least)


def task_of(relation: Relation | str) -> Task:
    """Which items a relation's vectors come from: chapter 3's where it has the relation."""
    return IN_DOMAIN.get(str(relation), Task(relation=relation))


def layers_of(
    store: Store, relations: Mapping[str, Relation | str], *, n_items: int = 0, seed: int = 0
) -> dict[str, Layers]:
    """Source and start layer of each relation's vectors, chosen on its development items.

    With fewer vectors, items and pairs of layers than chapter 3 has for its own: see `SMALLER`.
    """
    found = {}
    for name, relation in relations.items():
        task = task_of(relation)
        settings = {"relation": task.relation, "group": task.group, "n_items": n_items} | SMALLER
        found[name] = choose_layers(store.table(layer_map, **settings, seed=seed))
    return found
