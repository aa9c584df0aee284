"""What early decoding shows layer by layer, and the map that layers were chosen from."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from ovectors.experiments.shared.effects import paired, reciprocal
from ovectors.experiments.shared.layers import Layers, layer_means
from ovectors.experiments.shared.replacing import CONTROL, OWN
from ovectors.experiments.shared.rows import row_of
from ovectors.statistics import crossed_mean

Tables = Mapping[str, pd.DataFrame]


def layer_curves(tables: Tables, *, seed: int = 0) -> pd.DataFrame:
    """What early decoding shows after each layer, with and without the vectors (figure 4).

    Columns: task, condition, token (argument or answer), layer, mean reciprocal rank with low and
    high, n, rank (1 / mean), top (share of runs with the token on top), no_effect (share of runs in
    which the answer ranks no better than in the control run) and lead_low, lead_high (the interval
    of the answer's mean minus the control run's), both NaN elsewhere. The tables hold all layers.
    """
    rows = []
    for task, table in tables.items():
        for layer, part in table.groupby("layer"):
            before = reciprocal(part, CONTROL)
            for condition in (CONTROL, OWN):
                for token in ("argument", "answer"):
                    values = reciprocal(part, condition, token)
                    found = crossed_mean(values, seed=seed)
                    row = {"task": task, "condition": condition, "token": token, "layer": layer}
                    row |= row_of(found) | {"rank": 1 / found.value, "top": (values == 1).mean()}
                    row |= dict.fromkeys(("no_effect", "lead_low", "lead_high"), np.nan)
                    if (condition, token) == (OWN, "answer"):
                        lead = paired(values, before, seed=seed)
                        row |= {"no_effect": (values <= before).mean()}
                        row |= {"lead_low": lead.low, "lead_high": lead.high}
                    rows.append(row)
    return pd.DataFrame(rows)


def map_cells(maps: Tables, layers: Mapping[str, Layers]) -> pd.DataFrame:
    """Start and source layers: answer's mean reciprocal rank minus the control run's, a cell a row.

    Of the pairs that are evenly spread. Columns: task, source_layer, start_layer, mean, before,
    difference, n, chosen (the pair that the chapter uses).
    """
    frames = []
    for task, table in maps.items():
        cells = layer_means(table[table["on_grid"]]).assign(task=task)
        chosen = layers[task]
        cells["difference"] = cells["mean"] - cells["before"]
        cells["chosen"] = (cells["source_layer"] == chosen.source) & (
            cells["start_layer"] == chosen.start
        )
        frames.append(cells)
    return pd.concat(frames, ignore_index=True)
