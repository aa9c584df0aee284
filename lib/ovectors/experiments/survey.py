"""Many relations at once: which ones a model answers, and which layers their o vectors use."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from ovectors import claims
from ovectors.claims import Measured
from ovectors.encoding import encode_relation
from ovectors.errors import UserError
from ovectors.experiments.content_independence.tasks import task_of
from ovectors.experiments.shared.layer_maps import layer_map
from ovectors.experiments.shared.layers import Layers, choose_layers
from ovectors.experiments.stages.judge import accuracy
from ovectors.experiments.stages.measure import stages
from ovectors.statistics import Interval, nothing

if TYPE_CHECKING:
    from ovectors.models import LanguageModel
    from ovectors.relations import Relation
    from ovectors.store import Store

LEAST_ACCURACY = 0.1
"""A relation counts as answered where its one-shot accuracy is above this."""
SMALLER = {"n_sources": 3, "max_items": 20}
"""With how many vectors and development items the layers of a further relation are chosen."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Survey:
    """Which of some relations a model answers with one demonstration.

    Attributes:
        stages: by name the one-shot table of `stages`; None where it is not testable.
        accuracies: one-shot accuracy, n = 0 where it is not testable.
        answered: the names of those whose accuracy is above what was asked for.
    """

    stages: Mapping[str, pd.DataFrame | None]
    accuracies: Mapping[str, Interval]
    answered: tuple[str, ...]


def survey(
    store: Store,
    relations: Mapping[str, Relation | str],
    *,
    n_items: int = 0,
    seed: int = 0,
    least_accuracy: float = LEAST_ACCURACY,
) -> Survey:
    """Ask every relation with one demonstration, each table once, through the store."""
    drawn = {"n_items": n_items, "seed": seed}
    tables = {
        name: store.table(stages, relation=relation, **drawn)
        if is_measurable(store.model, relation, **drawn)
        else None
        for name, relation in relations.items()
    }
    known = {name: nothing() if one is None else accuracy(one) for name, one in tables.items()}
    above = tuple(name for name, one in known.items() if one.value > least_accuracy)
    return Survey(stages=tables, accuracies=known, answered=above)


def is_measurable(
    model: LanguageModel, relation: Relation | str, *, n_items: int = 0, seed: int = 0
) -> bool:
    """Whether the relation can be tested with the model's tokenizer: `encode_relation` takes it."""
    try:
        encode_relation(model, relation, "one_shot", n_items=n_items, seed=seed)
    except UserError:
        return False
    return True


def layers_of(
    store: Store, relations: Mapping[str, Relation | str], *, n_items: int = 0, seed: int = 0
) -> dict[str, Layers]:
    """Source and start layer of each relation's vectors, chosen on its development items.

    With fewer vectors, items and pairs of layers than chapter 3 has for its own: see `SMALLER`.
    """
    found = {}
    for name, relation in relations.items():
        settings = task_of(relation).settings | {"n_items": n_items} | SMALLER
        found[name] = choose_layers(store.table(layer_map, **settings, seed=seed))
    return found


def not_judged(accuracies: Mapping[str, Interval], judged: Iterable[str]) -> list[Measured]:
    """The accuracies of all other relations, to stand beside a claim's evidence."""
    named = set(judged)
    return [
        claims.context(name, "one-shot accuracy (not judged)", found)
        for name, found in accuracies.items()
        if name not in named
    ]
