"""What vectors did to the answer: means over vectors and items, from the tables of `replacing`."""

from __future__ import annotations

import numpy as np
import pandas as pd
from jaxtyping import Float

from ovectors.experiments.shared.replacing import CONTROL, OWN
from ovectors.statistics import Interval, crossed_mean, nothing, per_cluster


def reciprocal(
    table: pd.DataFrame, condition: str, token: str = "answer"
) -> Float[np.ndarray, "source argument"]:
    """Reciprocal ranks under one condition after the last layer, a row for each vector.

    Each argument counts by the mean over its items: coloured objects ask for the same colours again
    and again. No rows where the condition was not run.
    """
    return per_cluster(_by_item(table, condition, token).T, _arguments(table)).T


def _by_item(
    table: pd.DataFrame, condition: str, token: str = "answer"
) -> Float[np.ndarray, "source item"]:
    last = table[(table["condition"] == condition) & (table["layer"] == table["layer"].max())]
    ranks = last.pivot(index="number", columns="item", values=f"rank_{token}")
    return 1.0 / ranks.reindex(columns=_items(table)["item"]).to_numpy(dtype=np.float64)


def _items(table: pd.DataFrame) -> pd.DataFrame:
    return table.drop_duplicates("item").sort_values("item")


def _arguments(table: pd.DataFrame) -> list[str]:
    return _items(table)["argument"].tolist()


def paired(
    one: Float[np.ndarray, "source argument"],
    other: Float[np.ndarray, "source argument"],
    *,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Mean of `one - other` over arguments and vectors, vectors taken in pairs in their order.

    A single row (a control run) stands beside every row of the other. `nothing()` where either was
    not measured.
    """
    if not (one.size and other.size) or np.isnan(one).any() or np.isnan(other).any():
        return nothing()
    count = min(len(one), len(other)) if min(len(one), len(other)) > 1 else None
    difference = one[:count] - other[:count]
    return crossed_mean(difference, confidence=confidence)


def effects(table: pd.DataFrame, *, confidence: float = 0.95, seed: int = 0) -> dict[str, Interval]:
    """What a table's own vectors do to the answer in the last layer, over vectors and items.

    Change: mean reciprocal rank after minus before. Ranks are 1 / mean reciprocal rank, as the
    paper states them; none is worse than the worst that was measured. No effect: the answer ranks
    no better than in the control run. Items about the same argument count as one.
    """
    before, after = _by_item(table, CONTROL), _by_item(table, OWN)
    measured = {
        "mean reciprocal rank before": before,
        "mean reciprocal rank after": after,
        "change": after - before,
        "answer on top before": before == 1,
        "answer on top after": after == 1,
        "no effect": after <= before,
    }
    clusters = _arguments(table)
    found = {
        name: crossed_mean(values, clusters=clusters, confidence=confidence)
        for name, values in measured.items()
    }
    for when, values in (("before", before), ("after", after)):
        mean = found[f"mean reciprocal rank {when}"]
        bounds = {"low": 1 / mean.high, "high": 1 / max(mean.low, values.min())}
        found[f"answer's rank {when}"] = Interval(value=1 / mean.value, n=mean.n, **bounds)
    return found
