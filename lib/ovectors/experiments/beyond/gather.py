"""The book's measurements on any relations, every table once, through the store."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from ovectors.experiments.content_independence.gather import with_layers
from ovectors.experiments.content_independence.measure.content_independence import (
    content_independence,
)
from ovectors.experiments.content_independence.tasks import IN_DOMAIN, task_of
from ovectors.experiments.linear_update.judge.switches import per_item
from ovectors.experiments.linear_update.measure.switches import switches
from ovectors.experiments.shared.kinds import kind_of
from ovectors.experiments.shared.layers import Layers
from ovectors.experiments.survey import LEAST_ACCURACY, layers_of, survey
from ovectors.relations import MORE_RELATIONS, Relation
from ovectors.statistics import Interval

if TYPE_CHECKING:
    from ovectors.store import Store

MOST_ITEMS = 100
N_SOURCES = 5


@dataclass(frozen=True, kw_only=True, eq=False)
class Beyond:
    """Everything that was measured on one model, by the relation's name.

    Attributes:
        stages: the one-shot table of `stages.stages`; None where it is not testable.
        accuracies: one-shot accuracy.
        layers: source and start layer of the o vectors, of the relations that are answered.
        tables: the table of `content_independence`, of the same.
        switches: which sublayer makes the last switch, item by item, of the same.
    """

    stages: Mapping[str, pd.DataFrame | None]
    accuracies: Mapping[str, Interval]
    layers: Mapping[str, Layers]
    tables: Mapping[str, pd.DataFrame]
    switches: Mapping[str, pd.DataFrame]

    @property
    def table(self) -> pd.DataFrame:
        """The tables of content independence as one."""
        filled = list(self.tables.values())
        return pd.concat(filled, ignore_index=True) if filled else pd.DataFrame({"relation": []})


def measure_all(
    store: Store,
    relations: Iterable[Relation | str] = MORE_RELATIONS,
    *,
    n_items: int = 0,
    seed: int = 0,
    least_accuracy: float = LEAST_ACCURACY,
) -> Beyond:
    """Run the book's measurements on each relation, every table once, through the store.

    A relation is a name of the library or one of your own. Only those with a one-shot accuracy
    above `least_accuracy` are intervened on: with at most `MOST_ITEMS` items and `N_SOURCES`
    vectors each.
    """
    drawn = {"n_items": n_items, "seed": seed}
    named = {one if isinstance(one, str) else one.name: one for one in relations}
    known = survey(store, named, least_accuracy=least_accuracy, **drawn)
    told = known.answered
    other = {name: other_relation(name, [*told, *IN_DOMAIN], named) for name in told}
    used = {name: named.get(name, name) for name in (*told, *other.values())}
    layers = layers_of(store, used, **drawn)
    few = {"n_sources": N_SOURCES, "n_controls": N_SOURCES, "max_items": MOST_ITEMS}
    tables = {}
    for name in told:
        task = {name: task_of(named[name])}
        asked = with_layers(task, layers, others=(other[name],))[name]
        tables[name] = store.table(content_independence, **asked, **few, **drawn)
    fewer = {"n_items": min(n_items or MOST_ITEMS, MOST_ITEMS), "seed": seed}
    makers = {name: per_item(store.table(switches, relation=named[name], **fewer)) for name in told}
    return Beyond(
        stages=known.stages,
        accuracies=known.accuracies,
        layers={name: layers[name] for name in told},
        tables=tables,
        switches=makers,
    )


def other_relation(
    name: str, pool: Sequence[str], named: Mapping[str, Relation | str] | None = None
) -> str:
    """Whose vectors are the control: the next of the library's relations in the pool whose
    arguments are of another kind."""
    place = pool.index(name)
    return next(
        one
        for one in (*pool[place + 1 :], *pool[:place])
        if isinstance((named or {}).get(one, one), str) and (kind_of(one) != kind_of(name))
    )
