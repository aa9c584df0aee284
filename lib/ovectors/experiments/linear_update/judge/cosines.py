"""How alike what FFNs add is, relation by relation."""

from __future__ import annotations

import pandas as pd

from ovectors.experiments.linear_update.measure.cosines import OWN_LAYERS, SAME_LAYER
from ovectors.experiments.shared.rows import row_of
from ovectors.experiments.shared.tables import together
from ovectors.statistics import mean

CELL_COLUMNS = ["relation", "other", "centred", "cosine", "low", "high", "n"]


def cosine_cells(table: pd.DataFrame, *, layer: int | None = None, centred: bool) -> pd.DataFrame:
    """Mean cosine for each pair of relations, over arguments, with its 95% interval.

    At the items' own switching layers, or at one layer for all.
    """
    at = (table["at"] == OWN_LAYERS) if layer is None else (table["at"] == SAME_LAYER)
    part = table[at & (table["centred"] == centred)].dropna(subset=["cosine"])
    if layer is not None:
        part = part[part["layer"] == layer]
    rows = []
    for (name, other), cell in part.groupby(["relation", "other"], sort=False):
        found = mean(cell["cosine"], clusters=cell["argument"])
        row = {"relation": name, "other": other, "centred": centred}
        rows.append(row | row_of(found, "cosine"))
    return pd.DataFrame(rows, columns=CELL_COLUMNS)


def cosine_panels(table: pd.DataFrame, *, layer: int) -> pd.DataFrame:
    """`cosine_cells` at the own switching layers and at `layer`, as they are and centred.

    One table, with a column `panel` that names each of the four.
    """
    panels = {
        "own switching layers": {"centred": False},
        "own switching layers, centred": {"centred": True},
        f"layer {layer}": {"layer": layer, "centred": False},
        f"layer {layer}, centred": {"layer": layer, "centred": True},
    }
    cells = [cosine_cells(table, **asked).assign(panel=name) for name, asked in panels.items()]
    return together(cells)
