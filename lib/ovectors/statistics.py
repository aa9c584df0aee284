"""Intervals for means and shares: thin over SciPy, always with their n."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy import stats

N_RESAMPLES = 2000


@dataclass(frozen=True, kw_only=True)
class Interval:
    """An estimate with the bounds of its confidence interval and the number of items."""

    value: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}], n = {self.n}"


def bootstrap_bands(
    values: Float[np.ndarray, "item column"], *, confidence: float = 0.95, seed: int = 0
) -> list[Interval]:
    """Mean over items with a percentile bootstrap interval, one per column (say, per layer).

    Items are resampled as whole rows, so that the layers of an item stay together. A single item
    gives the interval (nan, nan); no item at all raises ValueError.
    """
    values = np.asarray(values, dtype=np.float64)
    n_items = len(values)
    if n_items == 0:
        raise ValueError("no items to average")
    means = values.mean(axis=0)
    if n_items == 1:
        low = high = np.full_like(means, np.nan)
    else:
        found = stats.bootstrap(
            (values,),
            np.mean,
            axis=0,
            vectorized=True,
            paired=True,
            n_resamples=N_RESAMPLES,
            batch=max(1, 4_000_000 // values.size),
            confidence_level=confidence,
            method="percentile",
            rng=np.random.default_rng(seed),
        ).confidence_interval
        low, high = found.low, found.high
    return [
        Interval(value=float(m), low=float(lo), high=float(hi), n=n_items)
        for m, lo, hi in zip(means, low, high, strict=True)
    ]


def bootstrap_mean(
    values: Sequence[float] | Float[np.ndarray, " item"], *, confidence: float = 0.95, seed: int = 0
) -> Interval:
    """Mean over items with a percentile bootstrap interval; see `bootstrap_bands`."""
    column = np.asarray(values, dtype=np.float64)[:, None]
    return bootstrap_bands(column, confidence=confidence, seed=seed)[0]


def share(
    outcomes: Sequence[bool] | Bool[np.ndarray, " item"], *, confidence: float = 0.95
) -> Interval:
    """Share of true outcomes with Wilson's interval, which keeps its width at 0 and at 1."""
    outcomes = np.asarray(outcomes, dtype=bool)
    if len(outcomes) == 0:
        raise ValueError("no items to count")
    test = stats.binomtest(int(outcomes.sum()), len(outcomes))
    bounds = test.proportion_ci(confidence, method="wilson")
    low, high = float(bounds.low), float(bounds.high)
    return Interval(value=float(outcomes.mean()), low=low, high=high, n=len(outcomes))
