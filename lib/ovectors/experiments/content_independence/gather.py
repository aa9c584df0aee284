"""The settings of chapter 3's tables, and the tables of several tasks from the store."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from ovectors import authors
from ovectors.experiments.content_independence.measure.authors_vectors import authors_vectors
from ovectors.experiments.content_independence.measure.content_independence import (
    content_independence,
)
from ovectors.experiments.content_independence.measure.controls import control_vectors, scales
from ovectors.experiments.content_independence.tasks import IN_DOMAIN, task_of
from ovectors.experiments.shared.layer_maps import layer_map
from ovectors.experiments.shared.layers import Layers, choose_layers
from ovectors.experiments.shared.paper import EXAMPLES
from ovectors.experiments.stages.measure import stages

if TYPE_CHECKING:
    from ovectors.catalogue import ModelSpec
    from ovectors.experiments.shared.sources import Task
    from ovectors.store import Store

Settings = Mapping[str, Mapping[str, Any]]
"""An experiment's settings, by the name of a task."""


def development_maps(
    store: Store, tasks: Mapping[str, Task], *, positions: str = "all", **settings: int
) -> dict[str, pd.DataFrame]:
    """The `layer_map` that chooses each task's layers, on development items.

    `settings` are n_items, seed and others of `layer_map`. For a further task it is that of the
    vectors' relation. For the tasks of `IN_DOMAIN` at all positions every pair of layers is tried.
    """
    found = {}
    for name, task in tasks.items():
        known = IN_DOMAIN.get(name) or IN_DOMAIN.get(str(task.origin.relation))
        asked = (known or task.origin).settings | {"positions": positions}
        if known and positions == "all":
            asked["every_pair"] = True
        found[name] = store.table(layer_map, **asked, **settings)
    return found


def chosen_layers(
    store: Store, tasks: Mapping[str, Task], *, positions: str = "all", **settings: int
) -> dict[str, Layers]:
    """The layers of each task's vectors, chosen from its `development_maps`."""
    return choose_each(development_maps(store, tasks, positions=positions, **settings))


def choose_each(maps: Mapping[str, pd.DataFrame]) -> dict[str, Layers]:
    """The layers that each task's map chooses."""
    return {name: choose_layers(table) for name, table in maps.items()}


def interventions(store: Store, settings: Settings, **shared: Any) -> dict[str, pd.DataFrame]:
    """`content_independence` with each task's own settings and those that all share."""
    return _each(store, content_independence, settings, shared)


def in_last_half(
    store: Store,
    found: Mapping[str, pd.DataFrame],
    maps: Mapping[str, pd.DataFrame],
    layers: Mapping[str, Layers],
    **shared: Any,
) -> dict[str, pd.DataFrame]:
    """`interventions` whose vectors go in no earlier than half-way, as the paper's do.

    `found` are those with the `layers` that the `maps` chose of all pairs; here they choose of the
    pairs with such a start layer. Where that is the same pair, the table is the same.
    """
    tables = {}
    for name, table in found.items():
        half = (maps[name]["start_layer"].max() + 1) / 2
        late = choose_layers(maps[name], least_start=half)
        if late != layers[name]:
            settings = IN_DOMAIN[name].settings | late.settings | {"n_controls": 0}
            table = store.table(content_independence, **settings, **shared)
        tables[name] = table
    return tables


def controls(store: Store, settings: Settings, **shared: Any) -> dict[str, pd.DataFrame]:
    """`control_vectors` in the same way."""
    return _each(store, control_vectors, settings, shared)


def scaled(store: Store, settings: Settings, **shared: Any) -> dict[str, pd.DataFrame]:
    """`scales` in the same way."""
    return _each(store, scales, settings, shared)


def published(store: Store, settings: Settings, **shared: Any) -> dict[str, pd.DataFrame]:
    """`authors_vectors` in the same way."""
    return _each(store, authors_vectors, settings, shared)


def one_shot(store: Store, tasks: Mapping[str, Task], **drawn: int) -> dict[str, pd.DataFrame]:
    """The stages of each task's relation, with one demonstration: all of its groups."""
    named = {name: {"relation": task.relation} for name, task in tasks.items()}
    return _each(store, stages, named, drawn)


def _each(
    store: Store, experiment: Callable[..., pd.DataFrame], settings: Settings, shared: Mapping
) -> dict[str, pd.DataFrame]:
    return {name: store.table(experiment, **{**own, **shared}) for name, own in settings.items()}


def in_domain_settings(layers: Mapping[str, Layers]) -> dict[str, dict[str, Any]]:
    """Items, vectors and layers of each in-domain task."""
    return {name: task.settings | layers[name].settings for name, task in IN_DOMAIN.items()}


def with_layers(
    tasks: Mapping[str, Task],
    layers: Mapping[str, Layers],
    others: Sequence[str] = tuple(IN_DOMAIN),
) -> dict[str, dict]:
    """The settings of `content_independence` for each task: relation, layers, other relations.

    `others` are names in `layers`; a task's own relation is not among its others.
    """
    settings = {}
    for name, task in tasks.items():
        own = (name, task.relation, task.origin.relation)
        origins = {other: task_of(other).origin for other in others if other not in own}
        against = [
            (origin.relation, origin.group, layers[other].source)
            for other, origin in origins.items()
        ]
        settings[name] = task.settings | layers[name].settings | {"others": tuple(against)}
    return settings


def paper_layers(spec: ModelSpec, relation: str) -> Layers | None:
    """The layers that the paper names for a relation; None where it names none for this model.

    Where it names the source alone (GPT-J), the vector goes in from its own layer on: which layers
    were replaced there is not known, and this start is an assumption of ours.
    """
    name = "uppercase" if relation == "colored_objects" else relation
    source = spec.o_layers.get(name)
    if source is None:
        return None
    return Layers(source=source, start=spec.replaced[0] if spec.replaced else source)


def paper_settings(spec: ModelSpec, tasks: Mapping[str, Task]) -> dict[str, dict]:
    """`content_independence`'s settings as in the paper, with its layers and its one example.

    For those tasks that it names a layer for on this model: none on most models.
    """
    found = {}
    for name, task in tasks.items():
        origin = str(task.origin.relation)
        layers = paper_layers(spec, origin)
        if layers is not None and origin in EXAMPLES:
            found[name] = task.settings | layers.settings | {"examples": (EXAMPLES[origin],)}
    return found


def published_settings(spec: ModelSpec, tasks: Mapping[str, Task]) -> dict[str, dict]:
    """`authors_vectors`' settings for the authors' vectors that are on this computer."""
    found = {}
    for one in authors.present(spec.name):
        layers, task = paper_layers(spec, one.relation), tasks.get(one.relation)
        if layers is not None and task is not None:
            chosen = {"start_layer": layers.start, "sha256": one.sha256}
            found[one.relation] = {"relation": task.relation, "group": task.group} | chosen
    return found
