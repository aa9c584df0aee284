"""Every layer's vectors, put in from every layer on: what layers are chosen from (appendix D)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from jaxtyping import Float
from torch import Tensor

from ovectors.experiments.shared.layers import PAPER_DEPTH, Layers, around, choose_layers, grid_of
from ovectors.experiments.shared.sources import (
    Sources,
    Task,
    at_most,
    find_sources,
    o_vectors,
    patterns,
)
from ovectors.experiments.shared.vector_sweeps import Trial, replace_each

if TYPE_CHECKING:
    from ovectors.encoding import EncodedPrompts
    from ovectors.models import LanguageModel
    from ovectors.relations import Relation


def layer_map(
    model: LanguageModel,
    relation: Relation | str,
    *,
    group: str = "",
    vectors_from: Relation | str = "",
    vectors_group: str = "",
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

    Items and vectors are those of the `Task`.

    Tried are, of at most `max_layers` layers evenly spread (0: all), either `every_pair`, or each
    layer's vector from its own layer on and from PAPER_DEPTH on, and then the best layer's from
    every layer on. At last, where layers were left out, all pairs around the best one.

    One row for each pair of layers, source and item, an item never with the vector of its own
    example: model, relation, positions, item, argument, vector, source_layer, start_layer,
    rank_before, rank_answer, on_grid (whether both layers are of those evenly spread).
    """
    drawn = {"n_items": n_items, "seed": seed}
    named = {"vectors_from": vectors_from, "vectors_group": vectors_group}
    task = Task(relation=relation, group=group, **named)
    sources = find_sources(model, task, n_sources=n_sources, **drawn)
    development, _ = patterns(model, relation, group, **drawn)
    search = _Search(
        model=model,
        items=at_most(development, max_items, seed=seed),
        sources=sources,
        vectors=o_vectors(model, sources.prompts),
        positions=positions,
        progress=progress,
    )
    grid = grid_of(model.n_layers, max_layers)
    best = search.attempt(_first_pairs(grid, model.n_layers, every_pair=every_pair))
    best = search.attempt(Layers(source=best.source, start=start) for start in grid)
    search.attempt(_pairs(around(best.source, grid), around(best.start, grid)))
    table = search.table
    spread = table["source_layer"].isin(grid) & table["start_layer"].isin(grid)
    return table.assign(on_grid=spread)


def _first_pairs(grid: Sequence[int], n_layers: int, *, every_pair: bool) -> Iterator[Layers]:
    if every_pair:
        return _pairs(grid, grid)
    late = min(grid, key=lambda layer: abs(layer - PAPER_DEPTH * n_layers))
    return (Layers(source=source, start=start) for source in grid for start in (source, late))


def _pairs(sources: Iterable[int], starts: Sequence[int]) -> Iterator[Layers]:
    return (Layers(source=source, start=start) for source in sources for start in starts)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Search:
    """Pairs of layers tried one lot after the other, none of them twice."""

    model: LanguageModel
    items: EncodedPrompts
    sources: Sources
    vectors: Float[Tensor, "layer source d_model"]
    positions: str
    progress: bool
    tables: dict[Layers, pd.DataFrame] = field(default_factory=dict)

    @property
    def table(self) -> pd.DataFrame:
        """Everything tried so far, in its order."""
        return pd.concat(self.tables.values(), ignore_index=True)

    def attempt(self, pairs: Iterable[Layers]) -> Layers:
        """Try those that are new; the best of all so far."""
        new = [pair for pair in dict.fromkeys(pairs) if pair not in self.tables]
        if new:
            self.tables.update(self._mapped(new))
        return choose_layers(self.table)

    def _mapped(self, pairs: Sequence[Layers]) -> dict[Layers, pd.DataFrame]:
        """Each item with every source's vector, for each pair a table."""
        last = self.model.n_layers
        before, *found = replace_each(
            self.model,
            self.items,
            [
                Trial(layers=range(pair.start, last), vectors=self.vectors[pair.source])
                for pair in pairs
            ],
            positions=self.positions,
            wanted={"answer": self.items.answer_ids},
            progress=self.progress,
            title="source and start layers",
        )
        rows = self._rows().assign(rank_before=np.tile(before["answer"][0], len(self.sources)))
        # A vector says little on the example that it was taken from.
        elsewhere = rows["argument"].str.strip() != rows["vector"]
        return {
            pair: rows.assign(
                source_layer=pair.source,
                start_layer=pair.start,
                rank_answer=ranks["answer"].ravel(),
            )[elsewhere if elsewhere.any() else slice(None)]
            for pair, ranks in zip(pairs, found, strict=True)
        }

    def _rows(self) -> pd.DataFrame:
        """What is known of each run before it is made: source outside, item inside."""
        prompts, n_sources = self.items.prompts, len(self.sources)
        return pd.DataFrame(
            {
                "model": self.model.name,
                "relation": prompts[0].relation,
                "positions": self.positions,
                "item": np.tile(np.arange(len(prompts)), n_sources),
                "argument": [prompt.argument for prompt in prompts] * n_sources,
                "vector": np.repeat(self.sources.arguments, len(prompts)),
            }
        )
