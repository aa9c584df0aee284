"""Which layer to take a vector from, and from which layer on to put it in (appendix D)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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


PAPER_DEPTH = 0.75
"""The paper's vectors go in from three quarters of the depth on (layer 18 of 24)."""


def layer_map(
    model: LanguageModel,
    relation: Relation | str,
    *,
    group: str = "",
    positions: str = "all",
    every_pair: bool = False,
    n_sources: int = 3,
    max_items: int = 30,
    max_layers: int = 12,
    n_items: int = 0,
    seed: int = 0,
    progress: bool = False,
) -> pd.DataFrame:
    """The answer's rank over source and start layers, on development items alone (appendix D).

    Tried are, of at most `max_layers` layers evenly spread (0: all), either `every_pair`, or each
    layer's vector from its own layer on and from PAPER_DEPTH on, and then the best layer's from
    every layer on. At last, where layers were left out, all pairs around the best one.

    One row for each pair of layers, source and item, an item never with the vector of its own
    example: model, relation, positions, item, argument, vector, source_layer, start_layer,
    rank_before, rank_answer, on_grid (whether both layers are of those evenly spread).
    """
    task = Task(relation=relation, group=group)
    sources = find_sources(model, task, n_sources=n_sources, n_items=n_items, seed=seed)
    development, _ = patterns(model, relation, group, n_items=n_items, seed=seed)
    development = at_most(development, max_items, seed=seed)
    grid = grid_of(model.n_layers, max_layers)
    late = min(grid, key=lambda layer: abs(layer - PAPER_DEPTH * model.n_layers))
    starts = {source: grid if every_pair else (source, late) for source in grid}
    tables: list[pd.DataFrame] = []
    tried: set[Layers] = set()

    def attempt(pairs: Iterable[Layers]) -> Layers:
        new = [pair for pair in dict.fromkeys(pairs) if pair not in tried]
        if new:
            options = {"positions": positions, "progress": progress}
            tables.append(_mapped(model, development, sources, new, **options))
            tried.update(new)
        return choose_layers(pd.concat(tables, ignore_index=True))

    best = attempt(Layers(source=one, start=start) for one in grid for start in starts[one])
    best = attempt(Layers(source=best.source, start=start) for start in grid)
    attempt(
        Layers(source=source, start=start)
        for source in _around(best.source, grid)
        for start in _around(best.start, grid)
    )
    table = pd.concat(tables, ignore_index=True)
    spread = table["source_layer"].isin(grid) & table["start_layer"].isin(grid)
    return table.assign(on_grid=spread)


def grid_of(n_layers: int, most: int = 0) -> tuple[int, ...]:
    """At most so many layers from the first to the last, evenly spread; all of them for 0."""
    count = min(most or n_layers, n_layers)
    return tuple(int(one) for one in np.linspace(0, n_layers - 1, count).round())


def _around(layer: int, grid: Sequence[int]) -> range:
    """The layers between a layer's neighbours on the grid, these left out."""
    below = max((one for one in grid if one < layer), default=layer - 1)
    above = min((one for one in grid if one > layer), default=layer + 1)
    return range(below + 1, above)


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
