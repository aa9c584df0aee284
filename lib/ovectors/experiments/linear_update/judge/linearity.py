"""How linear the FFN update is: what simpler things in its place explain, gain and decode to."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

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
from ovectors.statistics import N_RESAMPLES, Interval, nothing, share

BAND_COLUMNS = ["relation", "added", "layer", "mean", "low", "high", "n"]


def fitted_on(table: pd.DataFrame) -> dict[str, int]:
    """On how many development items each relation's mean vectors and affine maps were fitted."""
    return table.groupby("relation", sort=False)["fitted_on"].first().astype(int).to_dict()


def explained(table: pd.DataFrame, *, seed: int = 0) -> pd.DataFrame:
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
            found = ratio(at["squared_error"].to_numpy(), at["squared_norm"].to_numpy(), seed=seed)
            row = {"relation": relation, "added": added, "layer": int(layer)}
            rows.append(row | row_of(found))
    return pd.DataFrame(rows, columns=BAND_COLUMNS)


def ratio(
    errors: Float[np.ndarray, " item"], totals: Float[np.ndarray, " item"], *, seed: int = 0
) -> Interval:
    """1 - sum of errors / sum of totals, with a 95% percentile bootstrap over items."""
    if not totals.sum():
        return nothing()
    value = float(1 - errors.sum() / totals.sum())
    if len(errors) == 1:
        return Interval(value=value, low=np.nan, high=np.nan, n=1)
    counts = _resamples(len(errors), seed)
    low, high = np.percentile(1 - (counts @ errors) / (counts @ totals), [2.5, 97.5])
    return Interval(value=value, low=float(low), high=float(high), n=len(errors))


@cache
def _resamples(n: int, seed: int) -> Float[np.ndarray, "resample item"]:
    """How often each of n items is drawn in each resample; the same for all layers."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(n, np.full(n, 1 / n), size=N_RESAMPLES).astype(np.float64)


def _bands(table: pd.DataFrame, values: pd.Series, added: Sequence[str], *, seed: int):
    """Means over items per relation, kind and layer, items kept whole over layers."""
    rows: list[dict] = []
    shown = table.assign(value=values)[table["added"].isin(added)]
    for (relation, name), part in shown.groupby(["relation", "added"], sort=False):
        wide = part.pivot(index="item", columns="layer", values="value").astype(np.float64)
        named = {"relation": relation, "added": name}
        rows += [named | row for row in layer_rows(wide, seed=seed)]
    return pd.DataFrame(rows, columns=BAND_COLUMNS)


def gains(table: pd.DataFrame, *, seed: int = 0) -> pd.DataFrame:
    """By how much each thing raises the answer's lead over the argument, in logits, per layer.

    The lead with it minus the lead with nothing, mean over report items with 95% intervals. The
    lens normalises each state, so the parts need not add up to the whole.
    """
    key = ["relation", "item", "layer"]
    bare = table[table["added"] == NOTHING].set_index(key)["lead"]
    before = bare.reindex(pd.MultiIndex.from_frame(table[key])).to_numpy()
    gained = table["lead"] - before
    return _bands(table, gained, (WHOLE, MEAN, REMAINDER, OTHERS), seed=seed)


def faithfulness(table: pd.DataFrame, *, seed: int = 0) -> pd.DataFrame:
    """Share of report items whose top token is that of the true state after the layer, per layer.

    With nothing added, with the mean vector, with the affine map; 95% intervals.
    """
    return _bands(table, table["same_top"].astype(float), (NOTHING, MEAN, AFFINE), seed=seed)


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
        found = share((part["rank_answer"] == 1).to_numpy())
        rows.append({"relation": relation, "added": added} | row_of(found, "share"))
    return pd.DataFrame(rows, columns=["relation", "added", "share", "low", "high", "n"])
