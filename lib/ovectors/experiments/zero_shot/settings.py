"""At which layer and how many times a vector is added: as development items chose, or the paper."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

CHOSEN, PAPER = "chosen", "paper"


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Which layer's vector is added at that layer, how many times, and who says so."""

    layer: int
    scale: float
    name: str = CHOSEN

    @property
    def arguments(self) -> dict[str, int | float | str]:
        """As `zero_shot` takes them."""
        return {"layer": self.layer, "scale": self.scale, "setting": self.name}


def choose(table: pd.DataFrame, *, n_layers: int) -> Setting:
    """The layer and scale of a `layer_map` with the best accuracy on development items.

    Ties go to the better mean reciprocal rank, then to the smaller scale and the earlier layer.
    Where no vector met another item: two thirds of the depth, where the paper finds function
    application, and scale 1.
    """
    tried = table[table["scale"] > 0]
    if tried.empty:
        return Setting(layer=max(0, round(2 * n_layers / 3) - 1), scale=1.0)
    tried = tried.assign(reciprocal=1 / tried["rank_answer"])
    means = tried.groupby(["layer", "scale"], as_index=False)[["correct", "reciprocal"]].mean()
    order = ["correct", "reciprocal", "scale", "layer"]
    best = means.sort_values(order, ascending=[False, False, True, True]).iloc[0]
    return Setting(layer=int(best["layer"]), scale=float(best["scale"]))


def settings_of(
    maps: Mapping[str, pd.DataFrame], *, n_layers: int, paper: Mapping[str, int]
) -> list[tuple[str, Setting]]:
    """For each relation what its `layer_map` chooses, and the paper's layer where it gives one."""
    chosen = [(name, choose(table, n_layers=n_layers)) for name, table in maps.items()]
    given = [(name, paper[name]) for name in maps if name in paper]
    return chosen + [(name, Setting(layer=at, scale=1.0, name=PAPER)) for name, at in given]
