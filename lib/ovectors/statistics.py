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


def nothing() -> Interval:
    """What is known of a mean over no items: n = 0, and no number."""
    return Interval(value=np.nan, low=np.nan, high=np.nan, n=0)


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


def paired_difference(
    after: Sequence[float] | Float[np.ndarray, " item"],
    before: Sequence[float] | Float[np.ndarray, " item"],
    *,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Mean of `after - before` over the same items, with a percentile bootstrap interval."""
    differences = np.asarray(after, dtype=np.float64) - np.asarray(before, dtype=np.float64)
    return bootstrap_mean(differences, confidence=confidence, seed=seed)


def crossed_mean(
    values: Float[np.ndarray, "source item"], *, confidence: float = 0.95, seed: int = 0
) -> Interval:
    """Mean over sources and items, its interval from resampling both, each as a whole.

    For a measurement made with every source (a vector of one example) on every item: items share
    their sources, so neither axis alone carries the uncertainty. `n` counts items. With a single
    source the interval is over items only. ValueError where there is nothing to average.
    """
    values = np.asarray(values, dtype=np.float64)
    n_sources, n_items = values.shape
    if not values.size:
        raise ValueError("no sources or no items to average")
    if n_items == 1:
        return Interval(value=float(values.mean()), low=np.nan, high=np.nan, n=1)
    rng = np.random.default_rng(seed)
    sources = rng.multinomial(n_sources, np.full(n_sources, 1 / n_sources), size=N_RESAMPLES)
    items = rng.multinomial(n_items, np.full(n_items, 1 / n_items), size=N_RESAMPLES)
    means = ((sources @ values) * items).sum(axis=1) / (n_sources * n_items)
    tail = 100 * (1 - confidence) / 2
    low, high = np.percentile(means, [tail, 100 - tail])
    return Interval(value=float(values.mean()), low=float(low), high=float(high), n=n_items)


def corrected(comparisons: int, *, confidence: float = 0.95) -> float:
    """The confidence of each of several intervals that shall hold together (Bonferroni)."""
    return 1 - (1 - confidence) / max(1, comparisons)
