"""One example's vector in place of late FFN outputs, beside the vectors that it has to beat."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd

from ovectors.experiments.content_independence.measure.bench import prepare
from ovectors.experiments.content_independence.measure.controls import LAST, mean_ffn_output
from ovectors.experiments.content_independence.tasks import other_condition
from ovectors.experiments.shared.replacing import Vector, random_vectors, source_vectors
from ovectors.experiments.shared.sources import Task, find_sources

if TYPE_CHECKING:
    from ovectors.models import LanguageModel
    from ovectors.relations import Relation


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

    On items of the report split without the sources' arguments, at most `max_items` (0: all), at
    "all" positions, as the authors' code does, or only the "last", decoded after `layers` (None:
    all). The vectors are those of `examples` (arguments), else of `n_sources` development items of
    the `Task`; random ones of the norms of `n_controls`; as many of each of the `others`, which
    are relations with their group ("" for all) and source layer; and, where there are any controls,
    what the FFN of the source layer adds on average at the last tokens of the development items'
    patterns. One row for each vector, item and layer: see `replacing.measure`.
    """
    names = {"vectors_from": vectors_from, "vectors_group": vectors_group}
    drawn = {"n_items": n_items, "seed": seed}
    put_in = {"source_layer": source_layer, "start_layer": start_layer, "positions": positions}
    chosen = {"n_sources": n_sources, "max_items": max_items, "examples": examples}
    task = Task(relation=relation, group=group, **names)
    bench = prepare(model, task, progress=progress, **put_in, **chosen, **drawn)
    vectors = [*bench.own, *random_vectors(bench.own[:n_controls], seed=seed)]
    for name, other_group, layer in others:
        other = Task(relation=name, group=other_group)
        found = find_sources(model, other, n_sources=n_controls, **drawn)
        vectors += source_vectors(model, found, layer, condition=other_condition(name))
    if n_controls:
        values = mean_ffn_output(model, bench.used.development, source_layer, last_only=True)
        vectors.append(Vector(condition=LAST, name="", values=values, layer=source_layer))
    return bench.measure(vectors, layers=layers)
