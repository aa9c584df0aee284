"""Which layer to take a vector from, and from which layer on to put it in (appendix D)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ovectors.experiments.sources import Sources, Task, at_most, find_sources, o_vectors, patterns
from ovectors.interventions import Replace
from ovectors.sweeps import sweep

if TYPE_CHECKING:
    from ovectors.encoding import EncodedPrompts
    from ovectors.models import LanguageModel
    from ovectors.relations import Relation


@dataclass(frozen=True, kw_only=True)
class Layers:
    """Where a vector is taken from, and from which layer to the last it is put in."""

    source: int
    start: int


def layer_map(
    model: LanguageModel,
    relation: Relation | str,
    *,
    group: str = "",
    positions: str = "all",
    every_pair: bool = False,
    n_sources: int = 4,
    max_items: int = 60,
    max_layers: int = 0,
    n_items: int = 0,
    seed: int = 0,
    progress: bool = False,
) -> pd.DataFrame:
    """The answer's rank over source and start layers, on development items alone (appendix D).

    First each layer's vector is put in from its own layer on; then the best of these is put in from
    every other layer on. With `every_pair`, all starts are tried with all sources instead, of at
    most `max_layers` layers (0 for all), evenly spread. One row for each pair of layers, source and
    item, an item never with the vector of its own example: model, relation, source_layer,
    start_layer, positions, vector, item, argument, rank_before, rank_answer.
    """
    task = Task(relation=relation, group=group)
    sources = find_sources(model, task, n_sources=n_sources, n_items=n_items, seed=seed)
    development, _ = patterns(model, relation, group, n_items=n_items, seed=seed)
    development = at_most(development, max_items, seed=seed)
    count = min(max_layers or model.n_layers, model.n_layers)
    layers = [int(one) for one in np.linspace(0, model.n_layers - 1, count).round()]
    if every_pair:
        pairs = [Layers(source=one, start=other) for one in layers for other in layers]
        return _mapped(model, development, sources, pairs, positions=positions, progress=progress)
    diagonal = [Layers(source=one, start=one) for one in layers]
    first = _mapped(model, development, sources, diagonal, positions=positions, progress=progress)
    best = choose_layers(first).source
    rest = [Layers(source=best, start=other) for other in layers if other != best]
    more = _mapped(model, development, sources, rest, positions=positions, progress=progress)
    return pd.concat([first, more], ignore_index=True)


def _mapped(
    model: LanguageModel,
    encoded: EncodedPrompts,
    sources: Sources,
    pairs: Sequence[Layers],
    *,
    positions: str,
    progress: bool,
) -> pd.DataFrame:
    """Each item once for every source, so that one pass serves all sources of a pair of layers."""
    vectors = o_vectors(model, sources.prompts)
    each = encoded.select(list(range(len(encoded))) * len(sources))
    points = [[]] + [
        [
            Replace(
                layers=range(pair.start, model.n_layers),
                positions=positions,
                vector=vectors[pair.source].repeat_interleave(len(encoded), dim=0),
            )
        ]
        for pair in pairs
    ]
    found = sweep(
        model,
        each,
        points,
        wanted={"answer": each.answer_ids},
        progress=progress,
        title="source and start layers",
    )
    ranks = found.final("answer")
    rows = {
        "model": model.name,
        "relation": encoded.prompts[0].relation,
        "positions": positions,
        "item": np.tile(np.arange(len(encoded)), len(sources)),
        "argument": [prompt.argument for prompt in each.prompts],
        "vector": np.repeat(sources.arguments, len(encoded)),
        "rank_before": ranks[0],
    }
    columns = [*rows, "source_layer", "start_layer", "rank_answer"]
    frames = [
        pd.DataFrame(rows | {"source_layer": pair.source, "start_layer": pair.start}).assign(
            rank_answer=ranks[number]
        )
        for number, pair in enumerate(pairs, start=1)
    ]
    table = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=columns)
    # A vector says little on the example that it was taken from.
    elsewhere = table[table["argument"].str.strip() != table["vector"]].reset_index(drop=True)
    return elsewhere if len(elsewhere) else table


def choose_layers(table: pd.DataFrame) -> Layers:
    """The pair of layers with the best mean reciprocal rank in a `layer_map`, the first of ties."""
    means = layer_means(table)
    best = means.loc[means["mean"].idxmax()]
    return Layers(source=int(best["source_layer"]), start=int(best["start_layer"]))


def layer_means(table: pd.DataFrame) -> pd.DataFrame:
    """Mean reciprocal rank of the answer for each pair of layers of a `layer_map`, in its order.

    Columns: source_layer, start_layer, mean, before (that of the control run), n (items).
    """
    scored = table.assign(mean=1 / table["rank_answer"], before=1 / table["rank_before"])
    pairs = scored.groupby(["source_layer", "start_layer"], sort=False)
    means = pairs[["mean", "before"]].mean()
    return means.assign(n=pairs["item"].nunique()).reset_index()
