"""How linear the FFN update is: what simpler things in its place explain, gain and decode to."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float

from ovectors.experiments.linear_update.measure.answered import NO_SWITCH
from ovectors.experiments.linear_update.measure.linearity import (
    AFFINE,
    MEAN,
    NOTHING,
    OTHERS,
    REMAINDER,
    WHOLE,
)
from ovectors.experiments.shared.rows import layer_rows, row_of
from ovectors.statistics import Interval, mean, nothing, per_cluster, share

BAND_COLUMNS = ["relation", "added", "layer", "mean", "low", "high", "n"]


def fitted_on(table: pd.DataFrame) -> dict[str, int]:
    """On how many development items each relation's mean vectors and affine maps were fitted."""
    return table.groupby("relation", sort=False)["fitted_on"].first().astype(int).to_dict()


def explained(table: pd.DataFrame) -> pd.DataFrame:
    """The share of the FFN outputs' squared length that is explained, per layer, 95% intervals.

    1 - (sum of squared errors) / (sum of squared lengths) over the report items: 1 where what was
    added is the FFN's output on every item, 0 where it is no better than nothing, below 0 where it
    is worse. For the mean vector, the affine map and the other tasks' mean vector.
    """
    rows = []
    for (relation, added), part in table.groupby(["relation", "added"], sort=False):
        if added not in (MEAN, AFFINE, OTHERS):
            continue
        for layer, at in part.groupby("layer"):
            parts = at["squared_error"].to_numpy(), at["squared_norm"].to_numpy()
            found = ratio(*parts, clusters=at["argument"])
            row = {"relation": relation, "added": added, "layer": int(layer)}
            rows.append(row | row_of(found))
    return pd.DataFrame(rows, columns=BAND_COLUMNS)


def ratio(
    errors: Float[np.ndarray, " item"],
    totals: Float[np.ndarray, " item"],
    *,
    clusters: Collection[Hashable] | None = None,
) -> Interval:
    """1 - sum of errors / sum of totals, with a 95% interval: that of the mean of what each item
    adds to it (linearised, as for any ratio of sums)."""
    if not totals.sum():
        return nothing()
    errors, totals = per_cluster(np.column_stack([errors, totals]), clusters).T
    left = errors.sum() / totals.sum()
    return mean(1 - left + (left * totals - errors) / totals.mean())


def _bands(table: pd.DataFrame, values: pd.Series, added: Sequence[str]):
    """Means over items per relation, kind and layer, items kept whole over layers."""
    rows: list[dict] = []
    shown = table.assign(value=values)[table["added"].isin(added)]
    for (relation, name), part in shown.groupby(["relation", "added"], sort=False):
        wide = part.pivot(index=["item", "argument"], columns="layer", values="value")
        arguments = wide.index.get_level_values("argument")
        named = {"relation": relation, "added": name}
        rows += [named | row for row in layer_rows(wide, clusters=arguments)]
    return pd.DataFrame(rows, columns=BAND_COLUMNS)


def gains(table: pd.DataFrame) -> pd.DataFrame:
    """By how much each thing raises the answer's lead over the argument, in logits, per layer.

    The lead with it minus the lead with nothing, mean over report items with 95% intervals. The
    lens normalises each state, so the parts need not add up to the whole.
    """
    key = ["relation", "item", "layer"]
    bare = table[table["added"] == NOTHING].set_index(key)["lead"]
    before = bare.reindex(pd.MultiIndex.from_frame(table[key])).to_numpy()
    gained = table["lead"] - before
    return _bands(table, gained, (WHOLE, MEAN, REMAINDER, OTHERS))


def faithfulness(table: pd.DataFrame) -> pd.DataFrame:
    """Share of report items whose top token is that of the true state after the layer, per layer.

    With nothing added, with the mean vector, with the affine map; 95% intervals.
    """
    return _bands(table, table["same_top"], (NOTHING, MEAN, AFFINE))


def at_switch(table: pd.DataFrame) -> pd.DataFrame:
    """The same at the items' own switching layers, where the answer is not on top without the FFN.

    One row per relation and kind: share of items with the answer on top, low, high, n.
    """
    rows = []
    there = table[(table["layer"] == table["switch"]) & (table["switch"] != NO_SWITCH)]
    bare = there[there["added"] == NOTHING]
    needed = bare[bare["rank_answer"] != 1].set_index(["relation", "item"]).index
    shown = there[pd.MultiIndex.from_frame(there[["relation", "item"]]).isin(needed)]
    for (relation, added), part in shown.groupby(["relation", "added"], sort=False):
        found = share(part["rank_answer"] == 1, clusters=part["argument"])
        rows.append({"relation": relation, "added": added} | row_of(found, "share"))
    return pd.DataFrame(rows, columns=["relation", "added", "share", "low", "high", "n"])
