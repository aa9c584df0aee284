"""Which layer a vector comes from, and from which layer on it is put in: pairs and their choice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

PAPER_DEPTH = 0.75
"""The paper's vectors go in from three quarters of the depth on (layer 18 of 24)."""


@dataclass(frozen=True, kw_only=True)
class Layers:
    """Where a vector is taken from, and from which layer to the last it is put in."""

    source: int
    start: int

    @property
    def settings(self) -> dict[str, int]:
        """As the keyword arguments that experiments take."""
        return {"source_layer": self.source, "start_layer": self.start}


def grid_of(n_layers: int, most: int = 0) -> tuple[int, ...]:
    """At most so many layers from the first to the last, evenly spread; all of them for 0."""
    count = min(most or n_layers, n_layers)
    return tuple(int(one) for one in np.linspace(0, n_layers - 1, count).round())


def around(layer: int, grid: Sequence[int]) -> range:
    """The layers between a layer's neighbours on the grid, these left out."""
    below = max((one for one in grid if one < layer), default=layer - 1)
    above = min((one for one in grid if one > layer), default=layer + 1)
    return range(below + 1, above)


def choose_layers(table: pd.DataFrame, *, least_start: float = 0) -> Layers:
    """The pair of layers with the best mean reciprocal rank in a `layer_map`, the first of ties.

    Of those whose vector goes in from no earlier layer than `least_start`.
    """
    means = layer_means(table[table["start_layer"] >= least_start])
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
