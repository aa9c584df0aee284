"""What vectors did to the answer: means over vectors and items, from the tables of `replacing`."""

from __future__ import annotations

import numpy as np
import pandas as pd
from jaxtyping import Float

from ovectors.experiments.shared.replacing import CONTROL, OWN
from ovectors.statistics import Interval, crossed_mean, nothing


def reciprocal(
    table: pd.DataFrame, condition: str, token: str = "answer"
) -> Float[np.ndarray, "source item"]:
    """Reciprocal ranks under one condition after the last layer, a row for each vector.

    No rows where the condition was not run.
    """
    last = table[(table["condition"] == condition) & (table["layer"] == table["layer"].max())]
    ranks = last.pivot(index="number", columns="item", values=f"rank_{token}")
    return 1.0 / ranks.to_numpy(dtype=np.float64)


def paired(
    one: Float[np.ndarray, "source item"],
    other: Float[np.ndarray, "source item"],
    *,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Mean of `one - other` over items and vectors, vectors taken in pairs in their order.

    A single row (a control run) stands beside every row of the other. `nothing()` where either was
    not measured.
    """
    if not (one.size and other.size) or np.isnan(one).any() or np.isnan(other).any():
        return nothing()
    count = min(len(one), len(other)) if min(len(one), len(other)) > 1 else None
    difference = one[:count] - other[:count]
    return crossed_mean(difference, confidence=confidence, seed=seed)


def effects(table: pd.DataFrame, *, confidence: float = 0.95, seed: int = 0) -> dict[str, Interval]:
    """What a table's own vectors do to the answer in the last layer, over vectors and items.

    Change: mean reciprocal rank after minus before. Ranks are 1 / mean reciprocal rank, as the
    paper states them. No effect: the answer ranks no better than in the control run. Items about
    the same argument count as one.
    """
    before, after = reciprocal(table, CONTROL), reciprocal(table, OWN)
    measured = {
        "mean reciprocal rank before": before,
        "mean reciprocal rank after": after,
        "change": after - before,
        "answer on top before": before == 1,
        "answer on top after": after == 1,
        "no effect": after <= before,
    }
    found = {
        name: crossed_mean(_per_argument(values, table), confidence=confidence, seed=seed)
        for name, values in measured.items()
    }
    for when in ("before", "after"):
        found[f"answer's rank {when}"] = _as_rank(found[f"mean reciprocal rank {when}"])
    return found


def _per_argument(
    values: Float[np.ndarray, "source item"], table: pd.DataFrame
) -> Float[np.ndarray, "source argument"]:
    """Means over the items of one argument, which are not independent of each other.

    Coloured objects ask for the same colours again and again; elsewhere nothing changes.
    """
    arguments = table.drop_duplicates("item").sort_values("item")["argument"]
    if arguments.is_unique:
        return np.asarray(values, dtype=np.float64)
    columns = pd.DataFrame(values, columns=arguments.to_numpy(), dtype=np.float64)
    return columns.T.groupby(level=0, sort=False).mean().T.to_numpy()


def _as_rank(mean: Interval) -> Interval:
    return Interval(value=1 / mean.value, low=1 / mean.high, high=1 / mean.low, n=mean.n)
