"""Content independence: one example's o vector on arguments that it never met (section 4).

The vector is what an FFN added at the last token of a one-shot prompt. It takes the place of the
outputs of the FFNs from a start layer to the last, while the model reads a nonsense pattern that
ends where the argument would come next: `table mug free China table mug free China table mug free`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from ovectors import claims
from ovectors.claims import Claim, Evidence, Measured, Published
from ovectors.experiments.effects import effects, paired, reciprocal
from ovectors.experiments.layer_maps import Layers, choose_layers, layer_map
from ovectors.experiments.replacing import (
    CONTROL,
    OWN,
    RANDOM,
    measure,
    random_vectors,
    source_vectors,
)
from ovectors.experiments.sources import Task, find_sources, material
from ovectors.relations import TITLES, describe
from ovectors.statistics import corrected

if TYPE_CHECKING:
    from ovectors.models import LanguageModel
    from ovectors.relations import Relation
    from ovectors.store import Store

RAISES = "answer's mean reciprocal rank: own vector minus control run"
ABOVE_RANDOM = "own vector minus a random vector of equal norm"
MORE_THAN_OTHER = "rise of the answer minus rise of another item's answer"
IN_DOMAIN = {
    "world_capitals": Task(relation="world_capitals"),
    "past_tense": Task(relation="past_tense", group="regular"),
    "uppercase": Task(relation="uppercase"),
}
"""The relations that the claim is judged on."""
FURTHER = {
    "us_state_capitals": Task(relation="us_state_capitals", vectors_from="world_capitals"),
    "irregular_verbs": Task(
        relation="past_tense",
        group="irregular",
        vectors_from="past_tense",
        vectors_group="regular",
    ),
    "words": Task(
        relation="uppercase", group="word", vectors_from="uppercase", vectors_group="colour"
    ),
    "colored_objects": Task(relation="colored_objects"),
}
"""The paper's sets out of domain, with the vectors of another set, and its colours."""
SHOWN_AS = {
    "irregular_verbs": ("past_tense", ", irregular verbs"),
    "words": ("uppercase", ", words that are no colours"),
}
"""The relation of a further task, and what its numbers are called beside those of the relation."""
PRINTED = ("answer's rank before", "answer's rank after", "answer on top after", "no effect")
"""The measures of `effects` that the paper prints numbers for."""


def other_condition(relation: str) -> str:
    """The condition's name for vectors of another relation."""
    return f"vector of {relation}"


def content_independence(
    model: LanguageModel,
    relation: Relation | str,
    *,
    source_layer: int,
    start_layer: int,
    group: str = "",
    vectors_from: Relation | str = "",
    vectors_group: str = "",
    others: Sequence[tuple[str, str, int]] = (),
    examples: Sequence[str] = (),
    positions: str = "all",
    layers: Sequence[int] | None = (-1,),
    n_sources: int = 20,
    n_controls: int = 10,
    n_items: int = 0,
    max_items: int = 0,
    seed: int = 0,
    progress: bool = False,
) -> pd.DataFrame:
    """Put o vectors in place of the FFN outputs of `start_layer` to the last (section 4).

    Args:
        relation, group, vectors_from, vectors_group: as in `sources.Task`.
        source_layer, start_layer: as `choose_layers` finds them on the development items.
        others: relations whose vectors are tried as a control, each with its group ("" for all) and
            its own source layer.
        examples: arguments of the examples to take the vectors from, instead of `n_sources`
            development items.
        positions: "all" tokens, as the authors' code does, or only the "last".
        layers: after which layers to decode; None for all.
        n_controls: how many random vectors (each of the norm of one own vector), and how many
            vectors of each other relation.
        max_items: report at most so many items, drawn by the seed; 0 for all.

    Items are those of the report split, without the arguments of the sources. One row for each
    vector, item and layer: see `measure`.
    """
    task = Task(
        relation=relation, group=group, vectors_from=vectors_from, vectors_group=vectors_group
    )
    drawn = {"n_items": n_items, "seed": seed}
    used = material(
        model, task, n_sources=n_sources, max_items=max_items, examples=examples, **drawn
    )
    own = source_vectors(model, used.sources, source_layer, condition=OWN)
    vectors = [*own, *random_vectors(own[:n_controls], seed=seed)]
    for name, other_group, layer in others:
        other = Task(relation=name, group=other_group)
        found = find_sources(model, other, n_sources=n_controls, **drawn)
        vectors += source_vectors(model, found, layer, condition=other_condition(name))
    return measure(
        model,
        used.report,
        vectors,
        start_layer=start_layer,
        positions=positions,
        layers=layers,
        answers=used.answers,
        seed=seed,
        progress=progress,
    )


def development_maps(
    store: Store, tasks: Mapping[str, Task], *, positions: str = "all", **settings: int
) -> dict[str, pd.DataFrame]:
    """The `layer_map` that chooses each task's layers, on development items.

    `settings` are n_items, seed and others of `layer_map`. For items out of domain it is that of
    the vectors' relation. For the relations of `IN_DOMAIN` at all positions every pair of layers is
    tried.
    """
    found = {}
    for name, task in tasks.items():
        known = IN_DOMAIN.get(str(task.origin.relation))
        origin = known or task.origin
        asked = {"relation": origin.relation, "group": origin.group, "positions": positions}
        if known and positions == "all":
            asked["every_pair"] = True
        found[name] = store.table(layer_map, **asked, **settings)
    return found


def chosen_layers(
    store: Store, tasks: Mapping[str, Task], *, positions: str = "all", **settings: int
) -> dict[str, Layers]:
    """The layers of each task's vectors, chosen from its `development_maps`."""
    maps = development_maps(store, tasks, positions=positions, **settings)
    return {name: choose_layers(table) for name, table in maps.items()}


def run_each(
    store: Store,
    experiment: Callable[..., pd.DataFrame],
    settings: Mapping[str, Mapping[str, Any]],
    **shared: Any,
) -> dict[str, pd.DataFrame]:
    """The table of an experiment for each task's own settings and those that all share."""
    return {name: store.table(experiment, **{**own, **shared}) for name, own in settings.items()}


def in_domain_settings(layers: Mapping[str, Layers]) -> dict[str, dict[str, Any]]:
    """Relation, group and layers of each in-domain task."""
    return {
        name: {
            "relation": task.relation,
            "group": task.group,
            "source_layer": layers[name].source,
            "start_layer": layers[name].start,
        }
        for name, task in IN_DOMAIN.items()
    }


def with_layers(
    tasks: Mapping[str, Task],
    layers: Mapping[str, Layers],
    others: Sequence[str] = tuple(IN_DOMAIN),
) -> dict[str, dict]:
    """The settings of `content_independence` for each task: relation, layers, other relations.

    `others` are names in `layers`; a task's own relation is not among its others.
    """
    return {
        name: task.settings
        | {"source_layer": layers[name].source, "start_layer": layers[name].start}
        | {
            "others": tuple(
                (other, IN_DOMAIN.get(other, Task(relation=other)).group, layers[other].source)
                for other in others
                if other not in (name, task.relation, task.origin.relation)
            )
        }
        for name, task in tasks.items()
    }


def evidence(
    table: pd.DataFrame, name: str, *, confidence: float = 0.95, seed: int = 0
) -> list[Evidence]:
    """What the rule asks of one relation, in its order: see `claims.RULES`.

    Every relation whose vectors were tried has to be beaten. Where none was, or another item's
    answer could not be told apart, that criterion stands without a number and does not hold.
    """
    options = {"confidence": confidence, "seed": seed}
    before, own = reciprocal(table, CONTROL), reciprocal(table, OWN)
    prefix = other_condition("")
    others = [one for one in table["condition"].unique() if one.startswith(prefix)]
    other_before, other_after = reciprocal(table, CONTROL, "other"), reciprocal(table, OWN, "other")
    found = {
        RAISES: paired(own, before, **options),
        ABOVE_RANDOM: paired(own, reciprocal(table, RANDOM), **options),
    }
    for one in others or [other_condition("another relation")]:
        against = reciprocal(table, one)
        found[f"own vector minus that of {_titled(one.removeprefix(prefix))}"] = paired(
            own, against, **options
        )
    found[MORE_THAN_OTHER] = paired(own - before, other_after - other_before, **options)
    return [
        Evidence(
            relation=name,
            criterion=criterion,
            found=value,
            bound=0,
            paper=criterion == RAISES,
            guard=criterion == MORE_THAN_OTHER,
        )
        for criterion, value in found.items()
    ]


def _titled(relation: str) -> str:
    """A relation's title inside a sentence; the name of one that a user brought along."""
    described = describe(relation)
    shown = described.title if described else TITLES.get(relation, relation)
    return shown if shown.startswith("US ") else shown[:1].lower() + shown[1:]


def claim(
    tables: Mapping[str, pd.DataFrame],
    *,
    model: str,
    further: Mapping[str, pd.DataFrame] | None = None,
    published: Sequence[Published] = (),
    seed: int = 0,
) -> Claim:
    """The verdict by `claims.RULES["content_independence"]` over these relations, name to table.

    `further` are tables of `FURTHER`, whose effects the card shows and the verdict does not use.
    """
    confidence = corrected(len(tables))
    pieces: list[Evidence] = []
    shown: list[Measured] = []
    for name, table in tables.items():
        pieces += evidence(table, name, confidence=confidence, seed=seed)
    for name, table in {**tables, **(further or {})}.items():
        relation, addition = SHOWN_AS.get(name, (name, ""))
        found = effects(table, seed=seed)
        shown += [claims.context(relation, one + addition, found[one]) for one in PRINTED]
    rule = claims.RULES["content_independence"]
    return claims.judge(rule, pieces, model=model, published=published, context=shown)
